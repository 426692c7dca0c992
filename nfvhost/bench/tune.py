"""Alternatives within a plan, each measured against it in one run, taking turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.bench.compare import Comparison, compare
from nfvhost.bench.paths import QUEUE_SIZE
from nfvhost.bench.result import BenchResult
from nfvhost.bench.run import Setup
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host
from nfvhost.model.ovs_keys import key_known, release

AS_PLANNED: Final = "as planned"
# vswitch.xml, emc-insert-inv-prob: one of 100 is the default, 0 turns the cache off, 1 enters every flow.
_EMC: Final = (("0", "no exact match cache"), ("1", "every flow into the exact match cache"))
_ASSIGNMENTS: Final = ("roundrobin", "cycles", "group")
_QUEUE_SIZES: Final = (256, 512)
_SLEEP_US: Final = "50"
_SLEEPS: Final = ("pmd-sleep-max", "pmd-maxsleep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One alternative, and how it did against the plan."""

    name: str
    comparisons: tuple[Comparison, ...]

    @property
    def gain(self) -> float | None:
        """The mean ratio of the partial-drop rates, which are the steadier ones; None where none was found."""
        ratios = [one.ratio for one in self.comparisons if one.rate == "PDR" and one.ratio is not None]
        return sum(ratios) / len(ratios) if ratios else None

    @property
    def proven(self) -> bool:
        """Whether each point is better by more than the noise."""
        rates = [one for one in self.comparisons if one.rate == "PDR"]
        return bool(rates) and all(
            one.more_than_noise is True and one.ratio is not None and one.ratio > 1 for one in rates
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What came of all alternatives, the best one first."""

    winner: str  # "as planned" where none is better by more than the noise
    gain: float  # ratio of the winner to the plan
    candidates: tuple[Candidate, ...]


def alternatives(planned: Setup, host: Host) -> tuple[Setup, ...]:
    """The plan first, then each alternative that this machine, this release and this plan can have."""
    return (replace(planned, name=AS_PLANNED), *_alternatives(planned, host))


def judged(results: tuple[BenchResult, ...]) -> Tuning:
    """The verdict on results of `alternatives`, in their order."""
    planned, *others = results
    candidates = [Candidate(name=one.name, comparisons=compare(planned, one)) for one in others]
    ranked = sorted(candidates, key=lambda one: -(one.gain or 0.0))
    winner = next((one for one in ranked if one.proven), None)
    return Tuning(
        winner=AS_PLANNED if winner is None else winner.name,
        gain=1.0 if winner is None or winner.gain is None else winner.gain,
        candidates=tuple(ranked),
    )


def _alternatives(planned: Setup, host: Host) -> Iterator[Setup]:
    yield from _of_keys(planned)
    for size in (*_QUEUE_SIZES, QUEUE_SIZE):
        if size != planned.queue_size:
            yield replace(planned, name=f"{size} descriptors", queue_size=size)
    alone = _one_thread_a_core(planned.plan.cpus.pmd, host)
    if alone != planned.plan.cpus.pmd:
        yield _with_pmd(planned, "the siblings of poll-mode CPUs idle", alone)
    both = _with_siblings(planned.plan.cpus.pmd, host) & host.usable
    if both != planned.plan.cpus.pmd:
        yield _with_pmd(planned, "the siblings of poll-mode CPUs poll too", both)


def _of_keys(planned: Setup) -> Iterator[Setup]:
    ovs = planned.plan.ovs
    if ovs is None:
        return
    config, version = dict(ovs.other_config), release(ovs.version)
    wanted = [(name, "emc-insert-inv-prob", value, "100") for value, name in _EMC]
    sleep = next((key for key in _SLEEPS if version is not None and key_known(key, version)), None)
    if sleep is not None:
        wanted.append((f"sleeping up to {_SLEEP_US} us", sleep, _SLEEP_US, "0"))
    # Which thread polls which queue is a question from two threads on.
    if len(planned.plan.cpus.pmd) > 1:
        wanted += [(f"queues placed by {value}", "pmd-rxq-assign", value, "cycles") for value in _ASSIGNMENTS]
    for name, key, value, default in wanted:
        if config.get(key, default) != value:
            yield _with_keys(planned, name, {key: value})


def _with_keys(planned: Setup, name: str, keys: dict[str, str]) -> Setup:
    ovs = planned.plan.ovs
    if ovs is None:
        return planned
    config = tuple(sorted({**dict(ovs.other_config), **keys}.items()))
    plan = replace(planned.plan, ovs=replace(ovs, other_config=config))
    return replace(planned, name=name, plan=plan)


def _with_pmd(planned: Setup, name: str, cpus: CpuSet) -> Setup:
    changed = _with_keys(planned, name, {"pmd-cpu-mask": f"{sum(1 << cpu for cpu in cpus):#x}"})
    return replace(changed, plan=replace(changed.plan, cpus=replace(changed.plan.cpus, pmd=cpus)))


def _with_siblings(cpus: CpuSet, host: Host) -> CpuSet:
    return CpuSet(
        sibling for cpu in host.cpus if cpu.id in cpus for sibling in (cpu.thread_siblings or CpuSet([cpu.id]))
    )


def _one_thread_a_core(cpus: CpuSet, host: Host) -> CpuSet:
    siblings = {cpu.id: CpuSet(cpu.thread_siblings or CpuSet([cpu.id])) for cpu in host.cpus}
    return CpuSet(cpu for cpu in cpus if cpu == min(siblings.get(cpu, CpuSet([cpu])) & cpus))
