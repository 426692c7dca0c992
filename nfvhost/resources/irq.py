"""Interrupts of devices: off the CPUs of PMD threads and pinned guests, now and by whoever spreads them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.clock import now_s, pause, wait_for
from nfvhost.access.cpulist import cpu_list, grouped_mask
from nfvhost.access.interrupts import (
    DEFAULT_AFFINITY,
    Interrupt,
    affinity_path,
    came_in,
    counters,
    default_affinity,
    first_counters,
    interrupt_numbers,
    interrupt_users,
    interrupts_on,
    is_movable,
)
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.errors import ApplyError, NfvhostError, Problem
from nfvhost.model.change import Change
from nfvhost.model.cpuset import EMPTY, CpuSet, union
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Isolation
from nfvhost.model.report import Drift
from nfvhost.resources.irqbalance import (
    DROP_IN,
    Balancer,
    full_ban,
    own_ban,
    read_balancer,
    replacements,
    restart,
    spared,
)
from nfvhost.resources.own_files import Replacement, foreign_files, put_back, write_out
from nfvhost.resources.settling import settled

RESOURCE: Final = "irq"
_BALANCER: Final = "irqbalance"
_DEFAULT: Final = "default affinity"
_AFFINITIES: Final = "affinities"
_NONE: Final = "none"
_NODES: Final = "/sys/devices/system/node"
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The interrupts that may come in where none should, and who decides about others."""

    quiet: CpuSet = EMPTY  # the plan's isolated CPUs; empty where the plan isolates none
    keepers: CpuSet = EMPTY  # the plan's host and shared CPUs, which take interrupts
    interrupts: tuple[Interrupt, ...] = ()  # those that may come in on quiet CPUs
    default: CpuSet | None = None  # /proc/irq/default_smp_affinity
    nodes: tuple[tuple[int, CpuSet], ...] = ()  # /sys/devices/system/node/node<N>/cpulist
    balancer: Balancer | None = None  # irqbalance; None where it is not installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Irq:
    """Interrupts of devices, kept off the isolated CPUs.

    Each goes to those of the host's CPUs that it could use before, on its device's node where the host has some there.
    The kernel places managed ones itself (queues of NVMe, say): those are told, and are no failure.

    Configured: /etc/nfvhost/irqbalance.env and a drop-in of irqbalance.service that reads it last, where irqbalance is
        installed: all isolated CPUs, and those that others have banned; any ban ends its own search for isolated CPUs.
    Active: /proc/irq/default_smp_affinity, /proc/irq/<N>/smp_affinity_list and the environment of the running
        irqbalance; a boot forgets the first two, and `nfvhost.service` makes them again. `verify` counts what comes in.
    Keys: `irqbalance`; `default affinity`; `affinities`.
    Effect: now; irqbalance is restarted where it runs.
    Refuses: in a container; a ban that leaves irqbalance no CPU; an irqbalance that runs without systemd.
    Rollback: the files as before; each interrupt that is still there, by its handler's name, to the CPUs it had.
    Source: Documentation/core-api/irq/irq-affinity.rst, kernel/irq/proc.c, irqbalance(1).
    """

    settle_s: float = 2.0
    watch_s: float = 0.05

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        root, quiet = machine.root, _quiet(plan)
        balancer = read_balancer(root)
        if not quiet:
            return State(balancer=balancer)
        return State(
            quiet=quiet,
            keepers=(plan.cpus.host | plan.cpus.shared) - quiet,
            interrupts=interrupts_on(root, quiet),
            default=default_affinity(root),
            nodes=tuple(_nodes(root)),
            balancer=balancer,
        )

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        del plan
        changes = []
        balancer = state.balancer
        if balancer is not None and (balancer.systemd or own_ban(balancer) is not None):
            before, after = own_ban(balancer), full_ban(balancer, state.quiet) or None
            heeded = balancer.spares in {None, after} or (after is None and before is None)
            if before != after or not heeded:
                was = before if before != after else balancer.spares
                reason = "told of some CPUs, it no longer looks for isolated ones itself: so it is told all"
                changes.append(Change.now(RESOURCE, _BALANCER, _text(was), _text(after), reason))
        if state.default is not None and not state.default.isdisjoint(state.quiet):
            reason = "the interrupts of devices that come later start there"
            changes.append(Change.now(RESOURCE, _DEFAULT, str(state.default), str(state.keepers), reason))
        movable = _movable(state)
        if movable:
            where = union(one.cpus for one in movable) & state.quiet
            reason = f"each would stop what runs there for some microseconds; {state.keepers.named} take them"
            changes.append(Change.now(RESOURCE, _AFFINITIES, f"{len(movable)} on {where.named}", _NONE, reason))
        return tuple(changes)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        changes = self.diff(state, plan)
        if host.container is not None and changes:
            what = f"this is a {host.container} container: interrupts are the machine's around it"
            return (Problem(what=what, where=RESOURCE, hint="apply the plan on that machine"),)
        found = []
        if state.quiet and not state.keepers:
            what = "no CPU is left that could take interrupts"
            found.append(Problem(what=what, where=RESOURCE, hint="make a new plan: nfvhost plan"))
        balancer = state.balancer
        if balancer is None or not state.quiet:
            return tuple(found)
        where, ban = f"{RESOURCE}: {_BALANCER}", full_ban(balancer, state.quiet)
        if host.online <= ban:
            blamed = balancer.foreign
            theirs = f"; {blamed.path} bans {blamed.cpus.named}" if blamed is not None else ""
            what = f"no CPU would be left to it{theirs}"
            found.append(Problem(what=what, where=where, hint="take that line out, or boot without isolation of all"))
        if balancer.overruled_by is not None and any(change.key == _BALANCER for change in changes):
            what = f"{balancer.overruled_by} is read after {DROP_IN} and sets its environment"
            found.append(Problem(what=what, where=where, hint=f"take that out, or let it name {ban.named}"))
        if not balancer.systemd and balancer.spares is not None and not state.quiet <= balancer.spares:
            what = f"it runs without systemd and may use {(state.quiet - balancer.spares).named}"
            value = (
                f"IRQBALANCE_BANNED_CPULIST={ban}"
                if balancer.by_list
                else f"IRQBALANCE_BANNED_CPUS={grouped_mask(ban)}"
            )
            found.append(Problem(what=what, where=where, hint=f"give it {value} and restart it"))
        return tuple(found)

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del plan
        found = []
        stuck = [
            one
            for one in state.interrupts
            if not one.movable and not (one.cpus if one.effective is None else one.effective).isdisjoint(state.quiet)
        ]
        if stuck:
            what = f"the kernel alone places {len(stuck)} interrupts of isolated CPUs: {_listed(stuck)}"
            hint = (
                "isolcpus=managed_irq keeps them idle there as long as the host's CPUs do the I/O; fewer queues of the"
                " device, if it can be told"
            )
            found.append(Problem(what=what, where=f"{RESOURCE}: {_AFFINITIES}", hint=hint))
        if state.quiet and state.balancer is not None and state.balancer.foreign is not None:
            foreign = state.balancer.foreign
            what = f"{foreign.path} bans CPUs {foreign.cpus or 'none'}, which {DROP_IN} takes in"
            found.append(Problem(what=what, where=f"{RESOURCE}: {_BALANCER}"))
        return tuple(found)

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if change.key == _BALANCER:
                write_out(machine.root, _replacements(state, change))
                if state.balancer is not None and state.balancer.systemd:
                    self._restart(machine, state.balancer)
            elif change.key == _DEFAULT:
                machine.root.write_attribute(DEFAULT_AFFINITY, grouped_mask(state.keepers))
            elif change.key == _AFFINITIES:
                for one in _movable(state):
                    _move(machine.root, one, state)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        since_s, first = first_counters(machine.root) if _quiet(plan) else (0.0, ())
        state, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s)
        drifts = [self._drift(state, change) for change in changes]
        if first and not drifts:
            drifts += self._strays(machine.root, state, first, since_s)
        return tuple(drifts)

    def _drift(self, state: State, change: Change) -> Drift:
        hint = None
        if change.key == _AFFINITIES:
            hint = f"someone moved them, or they are new: {_listed(_movable(state))}"
        elif change.key == _BALANCER and state.balancer is not None and own_ban(state.balancer) is not None:
            hint = "it was started with another list: systemctl cat irqbalance shows what is read after ours"
        return Drift.of(change, hint=hint)

    def _strays(self, root: Root, state: State, first: tuple[str, ...], since_s: float) -> Iterator[Drift]:
        """Interrupts that came in on quiet CPUs although they may not, since the first look and for `watch_s`."""
        stuck = {one.number for one in state.interrupts}
        pause(max(0.0, since_s + self.watch_s - now_s()))
        last = counters(root)
        if not _strangers(first, last, state.quiet, stuck):
            return
        # A move of an interrupt is carried out when it comes in next (kernel/irq/migration.c, irq_move_irq): once more.
        pause(self.watch_s)
        for number, cpus in _strangers(last, counters(root), state.quiet, stuck).items():
            name = f"{number} {interrupt_users(root, number) or ''}".strip()
            yield Drift(
                resource=RESOURCE,
                key=_AFFINITIES,
                planned=_NONE,
                actual=f"{name} came in on {cpus.named}",
                hint=f"although /proc/irq/{number}/smp_affinity_list says it may not; dmesg may say why",
            )

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        keys = {change.key for change in changes}
        return replace(
            state,
            interrupts=_movable(state) if _AFFINITIES in keys else (),
            default=state.default if _DEFAULT in keys else None,
            nodes=(),
            balancer=state.balancer if _BALANCER in keys else None,
        )

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        root = machine.root
        found: list[Problem] = []
        for change in changes:
            if change.key == _BALANCER:
                found += foreign_files(root, RESOURCE, _replacements(before, change))
            elif change.key == _DEFAULT and (now := default_affinity(root)) not in {before.default, before.keepers}:
                what = f"is {now} by now, which someone else has set"
                found.append(Problem(what=what, where=f"{RESOURCE}: {_DEFAULT}", hint="--force overwrites it"))
            elif change.key == _AFFINITIES and (theirs := _theirs(root, before)):
                what = f"someone else has moved {len(theirs)} of them since: {_listed(theirs)}"
                found.append(Problem(what=what, where=f"{RESOURCE}: {_AFFINITIES}", hint="--force moves them back"))
        return tuple(found)

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        left: list[Problem] = []
        if not force:
            left += self.foreign(machine, before, tuple(change for change in changes if change.key != _BALANCER))
        for change in reversed(changes):
            try:
                left += self._put_back(machine, before, change, force=force)
            except NfvhostError as error:
                where = change.where
                left += [Problem(what=f"{one.where}: {one.what}", where=where, hint=one.hint) for one in error.problems]
        return tuple(left)

    def _put_back(self, machine: Machine, before: State, change: Change, *, force: bool) -> Iterator[Problem]:
        root = machine.root
        if change.key == _AFFINITIES:
            theirs = {one.number for one in ([] if force else _theirs(root, before))}
            for number, now, one in _still_there(root, before):
                if now != one.cpus and number not in theirs:
                    _write(root, number, one.cpus)
        elif change.key == _DEFAULT and before.default is not None:
            now_default = default_affinity(root)
            if now_default == before.keepers or (force and now_default != before.default):
                root.write_attribute(DEFAULT_AFFINITY, grouped_mask(before.default))
        elif change.key == _BALANCER and before.balancer is not None:
            left = put_back(root, RESOURCE, _replacements(before, change), force=force)
            yield from left
            # One that ran and is not to be seen is starting, with what it was told before.
            if not left and spared(root) != before.balancer.spares and before.balancer.systemd:
                self._restart(machine, before.balancer)

    def _restart(self, machine: Machine, before: Balancer) -> None:
        """Nothing, once irqbalance runs with its files as they are, where it ran."""
        restart(machine)
        if before.spares is not None:
            # systemd has only forked it by then (Type=simple), and a reader would not see it.
            wait_for(lambda: spared(machine.root) is not None, timeout_s=self.settle_s)


def _quiet(plan: Plan) -> CpuSet:
    return plan.cpus.isolated if plan.isolation is not Isolation.NONE else EMPTY


def _nodes(root: Root) -> Iterator[tuple[int, CpuSet]]:
    for name in root.list_dir(_NODES):
        number = name.removeprefix("node")
        if number.isdecimal() and (cpus := cpu_list(root, f"{_NODES}/{name}/cpulist")):
            yield int(number), cpus


def _movable(state: State) -> tuple[Interrupt, ...]:
    return tuple(one for one in state.interrupts if one.movable)


def _text(cpus: CpuSet | None) -> str | None:
    return None if cpus is None else str(cpus) or _NONE


def _listed(interrupts: tuple[Interrupt, ...] | list[Interrupt]) -> str:
    more = f" and {len(interrupts) - _SHOWN} more" if len(interrupts) > _SHOWN else ""
    return ", ".join(f"{one} ({one.cpus})" for one in interrupts[:_SHOWN]) + more


def _replacements(state: State, change: Change) -> tuple[Replacement, ...]:
    if state.balancer is None:
        return ()
    ban = CpuSet.parse(change.after) if change.after is not None else None
    return replacements(state.balancer, ban, keys=(_BALANCER,))


def _targets(one: Interrupt, state: State) -> tuple[CpuSet, ...]:
    """Where it may go, the best first: what it had left and is near, what is near, what it had left, any."""
    near = state.keepers & next((cpus for node, cpus in state.nodes if node == one.node), EMPTY)
    rest = one.cpus & state.keepers
    return tuple(dict.fromkeys(cpus for cpus in (rest & near, near, rest, state.keepers) if cpus))


def _move(root: Root, one: Interrupt, state: State) -> None:
    """Nothing, once it comes in on keepers alone, or is gone, or turns out to be one that only the kernel places."""
    for cpus in _targets(one, state):
        now = cpu_list(root, affinity_path(one.number))
        if now is None or now.isdisjoint(state.quiet):
            return
        try:
            root.write_attribute(affinity_path(one.number), str(cpus))
        except NfvhostError as error:
            number = _errno(error)
            if number == errno.ENOENT or (number in {errno.EIO, errno.EPERM} and not is_movable(root, one.number)):
                return
            # No vector is free on these CPUs (arch/x86/kernel/apic/vector.c): others may have one.
            if number != errno.ENOSPC:
                raise
            continue
        return
    raise ApplyError(
        f"{state.keepers.named} have no vector left for it",
        where=f"{RESOURCE}: {one}",
        hint="give the host more cores, or devices fewer queues: ethtool -L",
    )


def _write(root: Root, number: int, cpus: CpuSet) -> None:
    """Nothing, once it may come in there again, or is gone."""
    try:
        root.write_attribute(affinity_path(number), str(cpus))
    except NfvhostError as error:
        if _errno(error) != errno.ENOENT:
            raise


def _errno(error: NfvhostError) -> int | None:
    cause = error.__cause__
    return cause.errno if isinstance(cause, OSError) else None


def _still_there(root: Root, before: State) -> Iterator[tuple[int, CpuSet, Interrupt]]:
    """Number and CPUs now of each of the interrupts that still has its handlers; after a boot numbers may differ."""
    users = {number: interrupt_users(root, number) for number in interrupt_numbers(root)} if before.interrupts else {}
    numbers: dict[str | None, list[int]] = {}
    for number, name in users.items():
        numbers.setdefault(name, []).append(number)
    for one in before.interrupts:
        same = numbers.get(one.users, [])
        place = one.number if one.number in same else same[0] if len(same) == 1 and one.users else None
        now = cpu_list(root, affinity_path(place)) if place is not None else None
        if place is not None and now is not None:
            yield place, now, one


def _theirs(root: Root, before: State) -> list[Interrupt]:
    """Those that may come in on quiet CPUs again, on others than before."""
    return [
        replace(one, number=number, cpus=now)
        for number, now, one in _still_there(root, before)
        if now != one.cpus and not now.isdisjoint(before.quiet)
    ]


def _strangers(before: tuple[str, ...], after: tuple[str, ...], quiet: CpuSet, stuck: set[int]) -> dict[int, CpuSet]:
    return {number: cpus for number, cpus in came_in(before, after, quiet).items() if number not in stuck}


__all__ = ["Irq"]
