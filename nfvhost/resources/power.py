"""Clock and sleep of the isolated CPUs: governor of cpufreq, idle states of cpuidle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.access.process import pids_by_name
from nfvhost.access.root import Root
from nfvhost.errors import NfvhostError, Problem
from nfvhost.model.change import Change
from nfvhost.model.cpuset import EMPTY, CpuSet, union
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.settling import settled

RESOURCE: Final = "power"
_GOVERNOR: Final = "governor"
_IDLE: Final = "idle states"
_CPUS: Final = "/sys/devices/system/cpu"
# What sets governors or idle states itself: when it starts, when its profile changes, when the load does.
_RIVALS: Final = ("tuned", "power-profiles-daemon", "auto-cpufreq", "thermald")
# Drivers that choose the clock themselves and know two policies (drivers/cpufreq, ->setpolicy).
_TWO_POLICIES: Final = frozenset({"intel_pstate", "amd-pstate-epp"})
_POLICY: Final = re.compile(r"policy(\d{1,5})")
_STATE: Final = re.compile(r"state(\d{1,2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """CPUs of one governor."""

    governor: str  # /sys/devices/system/cpu/cpufreq/policy<N>/scaling_governor
    policies: CpuSet  # the N of policy<N>
    cpus: CpuSet  # affected_cpus of these policies, others than the planned ones included


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleState:
    """A state that takes longer to leave than planned, on the planned CPUs."""

    number: int  # the N of state<N>
    name: str  # /sys/devices/system/cpu/cpu<M>/cpuidle/state<N>/name
    latency_us: int  # …/latency
    enabled: CpuSet  # where …/disable is 0
    disabled: CpuSet = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Governors and deep idle states of the planned CPUs that are online; empty where the plan asks for neither."""

    clocks: tuple[Clock, ...] = ()
    available: tuple[str, ...] | None = None  # scaling_available_governors of those that have another
    driver: str | None = None  # scaling_driver
    uncontrolled: CpuSet = EMPTY  # planned CPUs that no policy is for
    idle: tuple[IdleState, ...] = ()
    idle_driver: str | None = None  # /sys/devices/system/cpu/cpuidle/current_driver; None: none
    rivals: tuple[str, ...] = ()  # running programs that set the same: "tuned (pid 812)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Clock and sleep of the isolated CPUs, only where the profile's `power` asks for it.

    All CPUs of a cpufreq policy change together. Idle states up to the planned latency stay as they are, and so do
    those that someone else has turned off.

    Configured: nowhere; a boot forgets it, and `nfvhost.service` makes it again.
    Active: /sys/devices/system/cpu/cpufreq/policy<N>/scaling_governor and
        /sys/devices/system/cpu/cpu<N>/cpuidle/state<M>/disable.
    Keys: `governor`; `idle states`.
    Effect: now.
    Refuses: a governor where the kernel offers no cpufreq, as in most virtual machines; one that the driver does not
        have.
    Rollback: each policy's governor and each idle state as before, unless someone else has set it since.
    Source: Documentation/admin-guide/pm/cpufreq.rst, cpuidle.rst.
    """

    settle_s: float = 1.0

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        power, root = plan.power, machine.root
        if power is None:
            return State()
        clocked = _clocked(root, power.cpus, power.governor) if power.governor is not None else State()
        idle = () if power.max_idle_latency_us is None else _idle(root, power.cpus, above_us=power.max_idle_latency_us)
        return replace(
            clocked,
            idle=idle,
            idle_driver=_driver(root.read_line(f"{_CPUS}/cpuidle/current_driver")),
            rivals=tuple(f"{name} (pid {pids[0]})" for name, pids in sorted(pids_by_name(root, _RIVALS).items())),
        )

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        power = plan.power
        if power is None:
            return ()
        changes = []
        if power.governor is not None and any(one.governor != power.governor for one in state.clocks):
            before = ", ".join(f"{one.governor} on {one.cpus.named}" for one in state.clocks)
            reason = f"the profile asks for it on {power.cpus.named}"
            changes.append(Change.now(RESOURCE, _GOVERNOR, before, power.governor.value, reason))
        deep = [one for one in state.idle if one.enabled]
        if power.max_idle_latency_us is not None and deep:
            before = ", ".join(f"{one.name} ({one.latency_us} us) on {one.enabled.named}" for one in deep)
            reason = f"they wake within {power.max_idle_latency_us} us then, as the profile asks"
            changes.append(Change.now(RESOURCE, _IDLE, before, f"none above {power.max_idle_latency_us} us", reason))
        return tuple(changes)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        if plan.power is None or plan.power.governor is None:
            return ()
        where, governor = f"{RESOURCE}: {_GOVERNOR}", plan.power.governor.value
        if not state.clocks:
            guest = f"this {host.virtualization} machine" if host.virtualization is not None else "this machine"
            return (
                Problem(
                    what=f"{guest} offers no cpufreq: nobody here can set how fast its CPUs run",
                    where=where,
                    hint="take power.governor out of the profile; a virtual machine's clock is its host's, and on"
                    " metal the BIOS may keep it",
                ),
            )
        found = []
        if state.uncontrolled:
            what = f"the kernel's cpufreq does not know {state.uncontrolled.named}"
            found.append(Problem(what=what, where=where, hint="dmesg may say why its driver left them out"))
        if state.available is not None and governor not in state.available:
            hint = f"modprobe cpufreq_{governor}, or ask for one of these"
            if state.driver in _TWO_POLICIES:
                hint = f"ask for one of these, or boot with {state.driver.partition('-epp')[0]}=passive"
            what = f"{state.driver or 'its driver'} offers {', '.join(state.available)}, and no {governor}"
            found.append(Problem(what=what, where=where, hint=hint))
        return tuple(found)

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        if plan.power is None:
            return ()
        found = [
            Problem(
                what=f"{rival} runs, which sets governors and idle states itself",
                where=RESOURCE,
                hint="give it a profile that says the same, or stop it; `nfvhost verify` shows what it has changed",
            )
            for rival in state.rivals
        ]
        mates = union(one.cpus for one in state.clocks) - plan.power.cpus
        if mates:
            what = f"planned CPUs have one clock with {mates.named}: it changes there as well"
            found.append(Problem(what=what, where=f"{RESOURCE}: {_GOVERNOR}"))
        if plan.power.max_idle_latency_us is not None and state.idle_driver is None:
            what = "the kernel offers no idle states here; there is nothing to turn off"
            found.append(Problem(what=what, where=f"{RESOURCE}: {_IDLE}"))
        return tuple(found)

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        for change in changes:
            for place, wanted, _ in _places(state, change):
                if machine.root.read_line(place) != wanted:
                    machine.root.write_attribute(place, wanted)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        state, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s)
        hint = f"set by someone else since: {', '.join(state.rivals)}" if state.rivals else None
        drifts = [Drift.of(change, hint=hint) for change in changes]
        if plan.power is not None and plan.power.governor is not None and (not state.clocks or state.uncontrolled):
            cpus = (state.uncontrolled or plan.power.cpus).named
            planned = plan.power.governor.value
            drifts.append(
                Drift(resource=RESOURCE, key=_GOVERNOR, planned=planned, actual=None, hint=f"no cpufreq for {cpus}")
            )
        return tuple(drifts)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        wanted = {change.key: change.after for change in changes}
        return State(
            clocks=tuple(one for one in state.clocks if _GOVERNOR in wanted and one.governor != wanted[_GOVERNOR]),
            idle=tuple(replace(one, disabled=EMPTY) for one in state.idle if _IDLE in wanted and one.enabled),
        )

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        return tuple(
            Problem(
                what=f"{len(theirs)} settings were changed by someone else since: {theirs[0][0]} says {theirs[0][1]}",
                where=change.where,
                hint="--force overwrites them",
            )
            for change in changes
            if (theirs := _theirs(machine.root, before, change))
        )

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        left: list[Problem] = []
        if not force:
            left += self.foreign(machine, before, changes)
        for change in reversed(changes):
            theirs = set() if force else {place for place, _ in _theirs(machine.root, before, change)}
            left += _put_back(machine.root, before, change, theirs)
        return tuple(left)


def _clocked(root: Root, cpus: CpuSet, wanted: str) -> State:
    """Source: /sys/devices/system/cpu/cpufreq/policy<N>, one for CPUs that share a clock."""
    by_governor: dict[str, tuple[CpuSet, CpuSet]] = {}
    available: tuple[str, ...] | None = None
    driver, controlled = None, EMPTY
    for policy in _numbers(root, f"{_CPUS}/cpufreq", _POLICY):
        folder = f"{_CPUS}/cpufreq/policy{policy}"
        affected = CpuSet(int(word) for word in (root.read_line(f"{folder}/affected_cpus") or "").split())
        governor = root.read_line(f"{folder}/scaling_governor")
        if governor is None or affected.isdisjoint(cpus):
            continue
        policies, together = by_governor.get(governor, (EMPTY, EMPTY))
        by_governor[governor] = (policies | CpuSet((policy,)), together | affected)
        controlled |= affected
        if governor != wanted:
            offered = (root.read_line(f"{folder}/scaling_available_governors") or "").split()
            available = tuple(one for one in (offered if available is None else available) if one in offered)
        driver = driver or root.read_line(f"{folder}/scaling_driver")
    return State(
        clocks=tuple(
            Clock(governor=governor, policies=policies, cpus=together)
            for governor, (policies, together) in sorted(by_governor.items())
        ),
        available=available,
        driver=driver,
        uncontrolled=cpus - controlled - _offline(root),
    )


def _idle(root: Root, cpus: CpuSet, *, above_us: int) -> tuple[IdleState, ...]:
    """Source: /sys/devices/system/cpu/cpu<N>/cpuidle/state<M>; CPUs of one machine may have different ones."""
    found: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    names: dict[tuple[int, int], str] = {}
    for cpu in cpus - _offline(root):
        folder = f"{_CPUS}/cpu{cpu}/cpuidle"
        for number in _numbers(root, folder, _STATE):
            latency = root.read_count(f"{folder}/state{number}/latency")
            if latency is None or latency <= above_us:
                continue
            key = (number, latency)
            if key not in names:
                names[key] = root.read_line(f"{folder}/state{number}/name") or f"state{number}"
            enabled, disabled = found.setdefault(key, ([], []))
            (enabled if root.read_line(f"{folder}/state{number}/disable") == "0" else disabled).append(cpu)
    return tuple(
        IdleState(
            number=key[0],
            name=names[key],
            latency_us=key[1],
            enabled=CpuSet(enabled),
            disabled=CpuSet(disabled),
        )
        for key, (enabled, disabled) in sorted(found.items())
    )


def _numbers(root: Root, folder: str, pattern: re.Pattern[str]) -> tuple[int, ...]:
    return tuple(sorted(int(match[1]) for name in root.list_dir(folder) if (match := pattern.fullmatch(name))))


def _offline(root: Root) -> CpuSet:
    return CpuSet.parse(root.read_line(f"{_CPUS}/offline") or "")


def _driver(stated: str | None) -> str | None:
    return None if stated == "none" else stated  # drivers/cpuidle/sysfs.c, show_current_driver


def _places(state: State, change: Change) -> Iterator[tuple[str, str, str]]:
    """Each attribute that the change sets: its path, what the change wants, what it said before."""
    if change.key == _GOVERNOR and change.after is not None:
        for one in state.clocks:
            for policy in one.policies if one.governor != change.after else ():
                yield f"{_CPUS}/cpufreq/policy{policy}/scaling_governor", change.after, one.governor
    elif change.key == _IDLE:
        for state_of in state.idle:
            for cpu in state_of.enabled:
                yield f"{_CPUS}/cpu{cpu}/cpuidle/state{state_of.number}/disable", "1", "0"


def _theirs(root: Root, before: State, change: Change) -> list[tuple[str, str]]:
    """The attributes that say neither, and what they say; those of a CPU that is offline by now are nobody's."""
    return [
        (place, now)
        for place, wanted, was in _places(before, change)
        if (now := root.read_line(place)) is not None and now not in {wanted, was}
    ]


def _put_back(root: Root, before: State, change: Change, theirs: set[str]) -> Iterator[Problem]:
    where = change.where
    for place, _, was in _places(before, change):
        now = root.read_line(place)
        if now is None or now == was or place in theirs:
            continue
        try:
            root.write_attribute(place, was)
        except NfvhostError as error:
            yield from (Problem(what=f"{place}: {one.what}", where=where, hint=one.hint) for one in error.problems)
            continue
        if root.read_line(place) != was:
            yield Problem(what=f"{place} was written and does not read as before", where=where)


__all__ = ["Power"]
