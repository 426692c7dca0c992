"""Makes a plan so: all preconditions, then change by change, then a re-read; or back to where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nfvhost.access.machine import Machine
from nfvhost.access.ovsdb import kept_connections
from nfvhost.engine.interrupt import Interrupted, interruptible, undisturbed
from nfvhost.engine.lock import locked
from nfvhost.errors import ApplyError, NfvhostError, PreconditionError, Problem, RollbackError, StalePlanError
from nfvhost.model.change import Activation, Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift, Outcome, Report, Result
from nfvhost.planner.fingerprint import stale_facts
from nfvhost.resources import Resource
from nfvhost.resources.order import ORDER


class Step(StrEnum):
    """Where an apply is."""

    CHECK = "check"
    APPLY = "apply"
    VERIFY = "verify"
    ROLL_BACK = "roll back"


Progress = Callable[[Step, Change | None], None]

_OUTCOMES = {
    Activation.NOW: Outcome.APPLIED,
    Activation.RESTART: Outcome.PENDING_RESTART,
    Activation.REBOOT: Outcome.PENDING_REBOOT,
}


@dataclass(frozen=True, slots=True)
class _Work:
    """One resource with its before-image and what is to be done to it."""

    # Each resource has a state type of its own, which nobody but itself looks into.
    resource: Resource[Any]
    before: Any
    changes: tuple[Change, ...]


def apply(
    plan: Plan,
    machine: Machine,
    host: Host,
    *,
    progress: Progress = lambda _step, _change: None,
    resources: tuple[Resource[Any], ...] = ORDER,
) -> Report:
    """What became of each change; `host` is the machine inspected just now, to compare with the plan's.

    StalePlanError, PreconditionError: nothing was changed. ApplyError: all was put back. RollbackError: its problems
    say what is left. A second apply of the same plan writes nothing and reports no change.
    """
    with locked(machine), kept_connections():
        _refuse_stale(plan, host)
        progress(Step.CHECK, None)
        works = _prepare(plan, machine, host, resources)
        warnings = tuple(str(found) for work in works for found in work.resource.findings(work.before, plan))
        started: list[_Work] = []
        with interruptible():
            try:
                for work in works:
                    _carry_out(work, plan, machine, progress, started)
            except Interrupted as signal:
                raise _rolled_back(started, machine, progress, _interrupted(signal)) from signal
            except NfvhostError as error:
                raise _rolled_back(started, machine, progress, error.problems) from error
            except BaseException as bug:
                # Whatever it is, the machine is not left half changed.
                undone = _rolled_back(started, machine, progress, (Problem(what=f"{type(bug).__name__}: {bug}"),))
                if isinstance(undone, RollbackError):
                    raise undone from bug
                raise
    return Report(
        results=tuple(
            Result(change=change, outcome=_OUTCOMES[change.activation]) for work in works for change in work.changes
        ),
        warnings=warnings,
    )


def _refuse_stale(plan: Plan, host: Host) -> None:
    stale = stale_facts(plan.host.fingerprint, host)
    if stale:
        raise StalePlanError(
            f"the plan is for another machine, or for this one before it changed ({plan.host.name})",
            hint="make a new one: nfvhost plan",
            also=tuple(
                Problem(what=f"planned {planned}, is {actual}", where=f"host.fingerprint.{fact}")
                for fact, planned, actual in stale
            ),
        )


def _prepare(plan: Plan, machine: Machine, host: Host, resources: tuple[Resource[Any], ...]) -> tuple[_Work, ...]:
    """The work of all resources; PreconditionError with the problems of all of them where there are any."""
    works = []
    found: list[Problem] = []
    for resource in resources:
        state = resource.read(machine, plan)
        changes = resource.diff(state, plan)
        found.extend(resource.check(state, plan, host))
        works.append(_Work(resource, state, changes))
    if found:
        raise PreconditionError.of(tuple(found))
    return tuple(works)


def _carry_out(work: _Work, plan: Plan, machine: Machine, progress: Progress, started: list[_Work]) -> None:
    """Apply and verify one resource; where nothing is to be written, verify alone, and one more try at what fails."""
    if work.changes:
        for change in work.changes:
            progress(Step.APPLY, change)
        started.append(work)
        work.resource.apply(machine, work.before, work.changes)
    progress(Step.VERIFY, None)
    wrong = _not_so(work, plan, machine)
    if wrong and not work.changes:
        work.resource.apply(machine, work.before, ())
        wrong = _not_so(work, plan, machine)
    if wrong:
        raise ApplyError.of(tuple(map(_as_problem, wrong)))


def _not_so(work: _Work, plan: Plan, machine: Machine) -> tuple[Drift, ...]:
    """Drifts that no restart or reboot would mend."""
    return tuple(drift for drift in work.resource.verify(machine, plan) if drift.pending is None)


def _as_problem(drift: Drift) -> Problem:
    if drift.planned is None:
        return Problem(what=f"{drift.actual}", where=f"{drift.resource}: {drift.key}", hint=drift.hint)
    return Problem(
        what=f"planned: {drift.planned}; found: {drift.actual or 'nothing'}",
        where=f"{drift.resource}: {drift.key}",
        hint=drift.hint,
    )


def _interrupted(signal: Interrupted) -> tuple[Problem, ...]:
    return (Problem(what=f"interrupted by {signal}", hint="apply again when it suits; nothing is half done"),)


def _rolled_back(
    started: list[_Work], machine: Machine, progress: Progress, causes: tuple[Problem, ...]
) -> ApplyError | RollbackError:
    """The error to raise, once everything that was started is put back, last first."""
    left: list[Problem] = []
    with undisturbed():
        for work in reversed(started):
            for change in reversed(work.changes):
                progress(Step.ROLL_BACK, change)
            try:
                left.extend(work.resource.rollback(machine, work.before, work.changes))
            except NfvhostError as error:
                left.extend(
                    Problem(what=f"could not be put back: {problem.what}", where=problem.where, hint=problem.hint)
                    for problem in error.problems
                )
    end = "nothing had been changed" if not started else "everything was put back as it was"
    if left:
        first = Problem(what=f"failed, and {len(left)} of its changes could not be put back:")
        return RollbackError(first.what, also=(*left, Problem(what="the cause was:"), *causes))
    return ApplyError(f"failed, and {end}; the cause:", also=causes)
