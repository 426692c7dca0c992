"""A bench: points of frames and flows, each searched in several rounds, on a path by a plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import nfvhost
from nfvhost import engine
from nfvhost.access.clock import utc
from nfvhost.access.root import DirectoryRoot
from nfvhost.bench.choice import chosen
from nfvhost.bench.counters import clear_cycles, cycles_per_packet, drop_counts, since, waited_s
from nfvhost.bench.frames import Frames
from nfvhost.bench.generator import Generator, Load, flat_out, through
from nfvhost.bench.paths import GENERATOR_MIB, QUEUE_SIZE, SWITCH_MIB, Path, PathKind, opened, settings
from nfvhost.bench.result import BenchResult, Conditions, GeneratorUsed, Point, Round, limited_by, summary
from nfvhost.bench.search import PDR_LOSS_RATIO, Found, Rate, search
from nfvhost.bench.trial import Measurer
from nfvhost.errors import PreconditionError
from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan
from nfvhost.sandbox import Sandbox, down, up
from nfvhost.sandbox.daemons import find_programs

_ROOT: Final = DirectoryRoot("/")
_CEILING_TRIALS: Final = 3
_CEILING_S: Final = 0.3

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be measured."""

    path: PathKind = PathKind.PORT
    frames: tuple[Frames, ...]
    flows: tuple[int, ...] = (1,)
    trial_s: float = 1.0
    rounds: int = 1
    line_rate_mbps: int | None = None

    @property
    def loads(self) -> tuple[Load, ...]:
        """Each point."""
        return tuple(Load(frames=frames, flows=flows) for frames in self.frames for flows in self.flows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """On what it is measured; several of them may take turns in one run."""

    name: str
    plan: Plan
    path: PathKind
    generator_cpus: CpuSet
    queue_size: int = QUEUE_SIZE
    vfs: tuple[PciAddress, ...] = ()  # of the path through a NIC: from, to


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A sandbox, a generator, and the host that both are on."""

    sandbox: Sandbox | None  # None: all paths are through a NIC
    generator: Generator | None  # None: the first that can serve
    host: Host
    say: Say = field(default=lambda _text: None)

    def run(self, setups: tuple[Setup, ...], wish: Wish) -> tuple[BenchResult, ...]:
        """The result of each setup; all take their turn in each round, so that what disturbs one disturbs all."""
        began, load_before, ticks_before = utc(), os.getloadavg()[0], _ticks()
        ceilings: dict[tuple[int, Load], float] = {}
        rounds: dict[tuple[int, Load], list[Round]] = {}
        used: dict[int, Generator] = {}
        for number in range(wish.rounds):
            for load in wish.loads:
                for at, setup in enumerate(setups):
                    key = at, load
                    with opened(
                        setup.path, self.sandbox, setup.plan, queue_size=setup.queue_size, vfs=setup.vfs
                    ) as path:
                        used[at] = chosen(self.generator, path.ends)
                        if key not in ceilings:
                            ceilings[key] = _ceiling(used[at], path, load, setup.generator_cpus)
                        made = self._round(used[at], path, load, setup, ceilings[key], wish)
                    rounds.setdefault(key, []).append(made)
                    self.say(
                        f"round {number + 1}, {setup.name}, {load.frames.name} bytes, {load.flows} flows: {_told(made)}"
                    )
        conditions = _conditions(began, load_before, ticks_before)
        return tuple(
            self._result(at, setup, wish, used[at], ceilings, rounds, conditions) for at, setup in enumerate(setups)
        )

    def _round(
        self, generator: Generator, path: Path, load: Load, setup: Setup, ceiling_pps: float, wish: Wish
    ) -> Round:
        with through(generator, path.ends, load, setup.generator_cpus) as measurer:
            drops_before, waited_before_s = _counted(path.switch)
            first = flat_out(measurer, duration_s=wish.trial_s / 2)
            found = _found(generator, measurer, ceiling_pps, wish.trial_s)
            drops_after, waited_after_s = _counted(path.switch)
            polling = path.switch if path.kind.polled else None
            latency = cycles = None
            if found.ndr.pps is not None:
                if polling is not None:
                    clear_cycles(polling)
                latency = measurer.measure(duration_s=wish.trial_s, load_pps=found.ndr.pps).latency
                cycles = cycles_per_packet(polling) if polling is not None else None
        return Round(
            ndr_pps=found.ndr.pps,
            pdr_pps=found.pdr.pps,
            finished=found.finished,
            limited_by=limited_by(found),
            maximum_pps=first.received / first.duration_s,
            cycles_per_packet=cycles,
            latency=latency,
            drops=since(drops_before, drops_after),
            pmd_waited_ms=None if polling is None else (waited_after_s - waited_before_s) * 1e3,
            generator_absent_ms=sum(one.absent_s for one in found.trials) * 1e3,
            traffic_s=found.traffic_s,
            trials=found.trials,
        )

    def _result(
        self,
        at: int,
        setup: Setup,
        wish: Wish,
        generator: Generator,
        ceilings: Mapping[tuple[int, Load], float],
        rounds: Mapping[tuple[int, Load], list[Round]],
        conditions: Conditions,
    ) -> BenchResult:
        polled = setup.path.polled
        pmd_cpus = setup.plan.cpus.pmd if polled else EMPTY
        cpus = CpuSet([min(setup.generator_cpus)])
        points = []
        for load in wish.loads:
            made = tuple(rounds[at, load])
            points.append(
                Point(
                    frames=load.frames.name,
                    mean_bytes=load.frames.mean_bytes,
                    flows=load.flows,
                    ceiling_pps=ceilings[at, load],
                    line_rate_pps=None
                    if wish.line_rate_mbps is None
                    else load.frames.line_rate_pps(wish.line_rate_mbps),
                    ndr=summary(tuple(one.ndr_pps for one in made), load.frames),
                    pdr=summary(tuple(one.pdr_pps for one in made), load.frames),
                    rounds=made,
                )
            )
        return BenchResult(
            name=setup.name,
            plan=engine.plan_digest(setup.plan),
            profile=setup.plan.profile,
            path=setup.path,
            versions=(
                ("generator", generator.version),
                ("kernel", os.uname().release),
                ("nfvhost", nfvhost.__version__),
                *((("openvswitch", find_programs().switch_version),) if setup.path.switched else ()),
            ),
            cpu_model=self.host.model.name or "unknown",
            cpus=len(self.host.online),
            pmd_cpus=pmd_cpus,
            settings=settings(setup.plan) if polled else (),
            queue_size=setup.queue_size,
            generator=GeneratorUsed(
                name=generator.name,
                version=generator.version,
                cpus=cpus,
                shares_pmd_cpu=bool(cpus & pmd_cpus),
            ),
            trial_s=wish.trial_s,
            pdr_loss_ratio=PDR_LOSS_RATIO,
            conditions=replace(conditions, pmd_isolated=pmd_cpus <= self.host.isolated if polled else None),
            points=tuple(points),
        )


def _counted(switch: Sandbox | None) -> tuple[dict[str, int], float]:
    """What a switch dropped so far, by cause, and how long its poll-mode threads were without their CPU, seconds."""
    return ({}, 0.0) if switch is None else (drop_counts(switch), waited_s(_ROOT, switch.switch_pid))


def _ceiling(generator: Generator, path: Path, load: Load, cpus: CpuSet) -> float:
    """What the generator itself can, in packets a second: the best of three short trials from itself to itself.

    Of one that cannot be joined to itself: what it sends into the path.
    """
    loops = generator.refusal(path.loop) is None
    with generator.attached(path.loop if loops else path.ends, load, cpus) as measurer:
        trials = [flat_out(measurer, duration_s=_CEILING_S) for _ in range(_CEILING_TRIALS)]
    best = max((one.received if loops else one.sent) / one.duration_s for one in trials)
    if not best:
        raise PreconditionError("sends nothing that it hears itself", where=f"the generator {generator.name}")
    return best


def generator_cpus(plan: Plan, host: Host) -> CpuSet:
    """Where the generator runs: CPUs of guests, or of the host, away from poll-mode threads where there are others."""
    for pool in (plan.cpus.dedicated, plan.cpus.shared, plan.cpus.host, host.online):
        if pool - plan.cpus.pmd:
            return pool - plan.cpus.pmd
    return host.online


@contextmanager
def private_sandbox(name: str) -> Iterator[Sandbox]:
    """A sandbox for this bench alone; it goes with all that was made in it."""
    try:
        yield up(name=name, memory_mib=SWITCH_MIB + GENERATOR_MIB)
    finally:
        down(name)


def _found(generator: Generator, measurer: Measurer, ceiling_pps: float, trial_s: float) -> Found:
    """The search; of a generator that keeps no rate, no rate without loss, and the one trial that it can."""
    if generator.searches:
        return search(measurer, ceiling_pps=ceiling_pps, trial_s=trial_s)
    nothing = Rate(pps=None, bad_pps=None)
    return Found(ndr=nothing, pdr=nothing, finished=False, trials=(flat_out(measurer, duration_s=trial_s),))


def _told(made: Round) -> str:
    rates = [f"{name} {'none' if pps is None else f'{pps / 1e6:.3f} Mpps'}" for name, pps in
             (("NDR", made.ndr_pps), ("PDR", made.pdr_pps))]  # fmt: skip
    return f"{', '.join(rates)} in {made.traffic_s:.0f} s of traffic"


def _ticks() -> tuple[int, int]:
    """Ticks of all CPUs since boot, and those of them that the hypervisor took (/proc/stat, first line, steal)."""
    fields = [int(word) for word in (_ROOT.read_line("/proc/stat") or "cpu 0").split()[1:9]]
    return sum(fields), fields[7] if len(fields) > 7 else 0  # noqa: PLR2004 - proc(5): steal is the eighth


def _conditions(began: str, load_before: float, ticks_before: tuple[int, int]) -> Conditions:
    total, steal = (after - before for after, before in zip(_ticks(), ticks_before, strict=True))
    return Conditions(
        began=began,
        load_average_before=load_before,
        load_average_after=os.getloadavg()[0],
        steal_percent=100 * steal / total if total else 0.0,
        pmd_isolated=None,
    )
