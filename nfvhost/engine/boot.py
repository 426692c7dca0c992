"""Makes at a boot what a boot forgets, and what has waited for it: each change by itself, and as many as can be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any, Final

from nfvhost.access.machine import Machine
from nfvhost.access.ovsdb import kept_connections
from nfvhost.engine.apply import as_problem, before_of, begin_of
from nfvhost.engine.journal import Done, End, Ending, Record, Settled, Started, Store, Writer
from nfvhost.engine.lock import locked
from nfvhost.engine.outlook import Standing, awaits_reboot, course_of, needed
from nfvhost.engine.past import HALF_DONE, PastApply, Stage, half_done_problems, newest, past
from nfvhost.engine.rollback import Undone, take_back
from nfvhost.engine.root import demand_root
from nfvhost.engine.seen import Seen, see
from nfvhost.engine.undo import Progress, Step, Work
from nfvhost.errors import NfvhostError, PreconditionError, Problem, StalePlanError
from nfvhost.inspect import inspect_host
from nfvhost.model.change import Activation, Change
from nfvhost.model.fingerprint import ABSENT, stale_facts
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift, Outcome, Result
from nfvhost.resources import Resource
from nfvhost.resources.order import ORDER, resources_at_boot, resources_for
from nfvhost.resources.ovs_dpdk.place import is_about

# An apply that starts Open vSwitch anew is what the services unit waits for: below the unit's TimeoutStartSec.
_LOCK_S: Final = 500.0
_NICS: Final = "nics."
# Its changes are one transaction: DPDK reads its keys once, when it starts.
_TOGETHER: Final = frozenset({"ovs_dpdk"})
_OUTCOMES: Final = {
    Activation.NOW: Outcome.APPLIED,
    Activation.RESTART: Outcome.PENDING_RESTART,
    Activation.REBOOT: Outcome.PENDING_REBOOT,
}


class BootStage(StrEnum):
    """When in a boot."""

    DEVICES = "devices"  # before Open vSwitch, libvirt and the agents
    SERVICES = "services"  # once Open vSwitch runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """What a boot has made of the plan."""

    results: tuple[Result, ...] = ()
    problems: tuple[Problem, ...] = ()  # what could not be made, and what is not as planned after all
    pending: tuple[str, ...] = ()  # resources of which something waits for one more reboot
    undone: tuple[Undone, ...] = ()  # the apply that nobody had confirmed before the reboot
    planned: bool = True  # whether there was a plan at all


def boot(
    machine: Machine,
    read_plan: Callable[[], Plan | None],
    *,
    stage: BootStage | None = None,
    inspect: Callable[[Machine], Host] = lambda machine: inspect_host(machine.root),
    progress: Progress = lambda _step, _change: None,
    resources: Sequence[Resource[Any]] | None = None,
    store: Store | None = None,
) -> Booted:
    """What became of each change of the plan, which is read once nobody else applies; None: there is none any more.

    A change that fails is told and stops no other, and nothing is rolled back. NICs that are gone or have become
    others are told, and left alone. An apply that nobody has confirmed before the reboot is taken back first.
    PreconditionError where an apply or a rollback was cut off, StalePlanError where CPUs or memory are others: nothing
    was changed. Another boot of the same plan writes nothing into the journal.
    """
    demand_root(machine, verb="boot")
    store = store or Store(machine)
    known = ORDER if resources is None else resources
    taken = resources_at_boot(
        resources_for(machine) if resources is None else resources, devices_alone=stage is BootStage.DEVICES
    )
    with locked(machine, wait_s=_LOCK_S), kept_connections():
        undone = _unconfirmed_taken_back(machine, store, stage, known)
        last = newest(store)
        if last is not None and last.stage in {*HALF_DONE, Stage.ROLLBACK_FAILED}:
            raise PreconditionError.of(_unfinished(last))
        plan = read_plan()
        if plan is None:
            return Booted(undone=undone, planned=False)
        run = _Boot(plan, machine, inspect, progress=progress, known=known, journal=_Journal(plan, store))
        with run.journal.closed():
            for resource in taken:
                run.turn(resource)
            run.journal.end(run.pending)
            if stage is not BootStage.DEVICES and not run.problems and not run.pending:
                settle(store)
    return Booted(results=tuple(run.results), problems=tuple(run.problems), pending=tuple(run.pending), undone=undone)


def settle(store: Store, *, drifts: Iterable[Drift] = (), plan: str | None = None) -> bool:
    """Whether the last apply waited for a reboot until now, and is noted to wait no more.

    It is where none of what is not as planned is of a resource that waits; with `plan`, if it was of that plan.
    PreconditionError where the journal may not be read or written.
    """
    one = newest(store)
    if one is None or not one.pending or (plan is not None and one.begin.plan != plan):
        return False
    if any(drift.resource in one.pending for drift in drifts):
        return False
    writer = store.reopen(one.own)
    try:
        writer.add(Settled(at=store.now()))
    finally:
        writer.close()
    return True


class _Journal:
    """What a boot adds to the journal: what none of the applies that are in force holds already."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan = plan
        self._store = store
        self._writer: Writer | None = None
        applies = [one for one in past(store) if one.stage is not Stage.ROLLED_BACK]
        self._continued = applies[0].last.id if applies else None
        self._held = {(change.resource, change.key, change.after) for one in applies for change in one.changes}

    def started(self, resource: Resource[Any], state: Any, changes: Sequence[Change]) -> None:  # noqa: ANN401 - each resource has a state of its own
        """What these changes replace is on disk.

        A change that an apply has made before is not written down a second time, whatever a boot has made of its
        place meanwhile: the way back is to what was there before that apply.
        """
        new = tuple(one for one in changes if (one.resource, one.key, one.after) not in self._held)
        if not new:
            return
        before = before_of(Work(resource, state, new))
        if self._writer is None:
            self._writer = self._store.create(
                partial(begin_of, plan=self._plan, at=self._store.now(), resumes=self._continued, boot=True),
                befores=(before,),
            )
        self._writer.add(before)
        self._writer.add(Started(resource=resource.name))
        self._held |= {(one.resource, one.key, one.after) for one in new}

    def done(self, resource: Resource[Any]) -> None:
        """All that was to be made of it is made."""
        self._note(Done(resource=resource.name))

    def end(self, pending: Iterable[str]) -> None:
        """The boot has done what it can."""
        self._note(End(at=self._store.now(), ending=Ending.APPLIED, pending=tuple(pending)))

    @contextmanager
    def closed(self) -> Iterator[None]:
        """It is closed at the end of the block."""
        try:
            yield
        finally:
            if self._writer is not None:
                self._writer.close()

    def _note(self, record: Record) -> None:
        if self._writer is not None:
            self._writer.add(record)


class _Boot:
    """One boot under way."""

    def __init__(
        self,
        plan: Plan,
        machine: Machine,
        inspect: Callable[[Machine], Host],
        *,
        progress: Progress,
        known: Sequence[Resource[Any]],
        journal: _Journal,
    ) -> None:
        self.journal = journal
        self._plan = plan
        self._machine = machine
        self._inspect = inspect
        self._progress = progress
        self._known = {one.name: one for one in known}
        self._host: Host | None = inspect(machine)
        self.problems, self._absent = _stale(plan, self._host)
        self._pending: dict[str, bool] = {}  # resource -> whether something of it waits for one more reboot
        self.results: list[Result] = []

    @property
    def pending(self) -> tuple[str, ...]:
        """The resources of which something waits for one more reboot."""
        return tuple(name for name, waits in self._pending.items() if waits)

    def turn(self, resource: Resource[Any]) -> None:
        """One resource: what can be made of it is made, the rest is told."""
        self._pending[resource.name] = False
        try:
            self._turn(resource)
        except NfvhostError as error:
            self._tell(error.problems)
        except Exception as bug:  # noqa: BLE001 - a bug in one resource must not keep the machine from the others
            self._tell((Problem(what=f"{type(bug).__name__}: {bug}", where=resource.name),))

    def _turn(self, resource: Resource[Any]) -> None:
        seen = see(resource, self._machine, self._plan, self._host_now())
        held = self._held_back(seen)
        allowed = tuple(change for change in seen.changes if change.key not in held)
        self.results += [held[change.key] for change in seen.changes if change.key in held]
        if allowed:
            self._make(seen, allowed)
        self._progress(Step.VERIFY, None)
        drifts = resource.verify(self._machine, self._plan)
        if not seen.changes and any(drift.pending is None for drift in drifts):
            resource.apply(self._machine, seen.state, ())
            drifts = resource.verify(self._machine, self._plan)
        self._tell(
            as_problem(drift) for drift in drifts if drift.pending is None and not (held and self._is_of(drift, held))
        )
        waits = any(one.outcome is Outcome.PENDING_REBOOT for one in held.values())
        self._pending[resource.name] = waits or awaits_reboot(drifts)

    def _held_back(self, seen: Seen) -> dict[str, Result]:
        """The changes that must not be made, or not yet, by their keys; what is in their way is told."""
        held: dict[str, Result] = {}
        for change in seen.changes:
            gone = next((address for address in self._absent if address in f"{change.key} {change.after}"), None)
            if gone is not None:
                held[change.key] = Result(
                    change=change, outcome=Outcome.NOT_TRIED, detail=f"the NIC at {gone} is not the planned one"
                )
        for problem in seen.problems if seen.changes else ():
            concerned = [one for one in seen.changes if _concerns(problem, one)] or seen.changes
            course = course_of((problem,), {name: self._standing(name) for name in needed((problem,))}, left_out=())
            if any(one.key not in held for one in concerned) and course.refusals:
                self._tell(course.refusals)
            for change in concerned:
                outcome = Outcome.PENDING_REBOOT if course.waits_for else Outcome.NOT_TRIED
                detail = course.detail if course.waits_for else problem.what
                held.setdefault(change.key, Result(change=change, outcome=outcome, detail=detail))
        return held

    def _standing(self, name: str) -> Standing:
        """What a resource, at its turn or not part of this stage, means to one that needs it."""
        if name not in self._pending:
            known = self._known.get(name)
            self._pending[name] = known is not None and awaits_reboot(known.verify(self._machine, self._plan))
        return Standing(acts=False, waits_for=() if self._pending[name] else None)

    def _make(self, seen: Seen, changes: tuple[Change, ...]) -> None:
        """All at once; where that fails, one after the other, each from what is there then."""
        for change in changes:
            self._progress(Step.APPLY, change)
        self._host = None
        resource = seen.resource
        failures: dict[str, Problem] = {}
        try:
            self.journal.started(resource, seen.state, changes)
            resource.apply(self._machine, seen.state, changes)
        except NfvhostError as error:
            if resource.name in _TOGETHER or len(changes) == 1:
                failures = {change.key: error.problems[0] for change in changes}
                self._tell(error.problems)
            else:
                failures = self._make_each(resource, frozenset((change.key, change.after) for change in changes))
        else:
            self.journal.done(resource)
        self.results += [
            Result(change=change, outcome=Outcome.FAILED, detail=failures[change.key].what)
            if change.key in failures
            else Result(change=change, outcome=_OUTCOMES[change.activation])
            for change in changes
        ]

    def _make_each(self, resource: Resource[Any], wanted: frozenset[tuple[str, str | None]]) -> dict[str, Problem]:
        """Why each of the changes to these keys and values could not be made; those that are not in it were.

        All of them are in the journal already.
        """
        failures: dict[str, Problem] = {}
        tried: set[str] = set()
        while True:
            state = resource.read(self._machine, self._plan)
            left = [
                one
                for one in resource.diff(state, self._plan)
                if (one.key, one.after) in wanted and one.key not in tried
            ]
            if not left:
                return failures
            tried.add(left[0].key)
            try:
                resource.apply(self._machine, state, (left[0],))
            except NfvhostError as error:
                failures[left[0].key] = error.problems[0]
                self._tell(_placed(error.problems, left[0]))

    def _host_now(self) -> Host:
        if self._host is None:
            self._host = self._inspect(self._machine)
        return self._host

    def _tell(self, problems: Iterable[Problem]) -> None:
        self.problems += [one for one in problems if one not in self.problems]

    @staticmethod
    def _is_of(drift: Drift, held: Collection[str]) -> bool:
        """Whether a drift is of something that was held back, which was told."""
        return any(drift.key == key or drift.key.startswith(f"{key} ") for key in held)


def _unconfirmed_taken_back(
    machine: Machine, store: Store, stage: BootStage | None, resources: Sequence[Resource[Any]]
) -> tuple[Undone, ...]:
    """What became of an apply that nobody had confirmed when the machine was booted; empty where there is none.

    PreconditionError before the services: what is taken back may be in the database of Open vSwitch.
    """
    one = newest(store)
    if one is None or not one.waits_for_confirmation or (one.ended or one.begin.at).boot == store.now().boot:
        return ()
    if stage is BootStage.DEVICES:
        raise PreconditionError(
            "nobody had confirmed it before the reboot: nothing of it is made, and it is taken back once Open vSwitch"
            " runs",
            where=f"apply {one.id} ({one.begin.profile}, {one.begin.at.utc})",
            hint="apply it again, and confirm it before a reboot: nfvhost confirm",
        )
    return take_back((one,), machine, store, reason="not confirmed before the reboot", resources=resources)


def _unfinished(one: PastApply) -> tuple[Problem, ...]:
    if one.stage in HALF_DONE:
        return half_done_problems(one)
    return (
        Problem(
            what="was not wholly rolled back, so nothing of any plan is made at this boot",
            where=f"apply {one.id} ({one.begin.profile}, {one.begin.at.utc})",
            hint="nfvhost rollback tries again; nfvhost history says what is left",
        ),
        *one.problems,
    )


def _stale(plan: Plan, host: Host) -> tuple[list[Problem], frozenset[str]]:
    """What is wrong with the NICs, and the addresses of those that are gone or have become others.

    A NIC that came is none of the plan's business. StalePlanError where anything but NICs differs.
    """
    facts = stale_facts(plan.host.fingerprint, host)
    others = [(fact, planned, actual) for fact, planned, actual in facts if not fact.startswith(_NICS)]
    if others:
        raise StalePlanError(
            f"the plan is for another machine, or for this one before it changed ({plan.host.name})",
            hint="make a new one: nfvhost plan",
            also=tuple(
                Problem(what=f"planned {planned}, is {actual}", where=f"host.fingerprint.{fact}")
                for fact, planned, actual in others
            ),
        )
    changed = [
        (fact.removeprefix(_NICS), planned, actual)
        for fact, planned, actual in facts
        if fact.startswith(_NICS) and planned != ABSENT
    ]
    problems = [
        Problem(
            what=f"there is no NIC any more (planned: {planned})"
            if actual == ABSENT
            else f"another NIC is there: planned {planned}, is {actual}",
            where=address,
            hint="is it seated, and do the BIOS and lspci see it? after a move of cards, make a new plan",
        )
        for address, planned, actual in changed
    ]
    return problems, frozenset(address for address, _, _ in changed)


def _concerns(problem: Problem, change: Change) -> bool:
    """Whether a problem is about this change alone, or about the row of the database that it writes to."""
    if problem.where is None:
        return False
    if problem.where == change.where:
        return True
    return change.resource in _TOGETHER and is_about(problem.where, change.key)


def _placed(problems: Iterable[Problem], change: Change) -> Iterator[Problem]:
    """The problems, each with the place that it is about."""
    for one in problems:
        yield one if one.where is not None else replace(one, where=change.where)


__all__ = ["BootStage", "Booted", "boot", "settle"]
