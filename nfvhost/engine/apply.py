"""Makes a plan so: all preconditions, then change by change, then a re-read; or back to where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from nfvhost import __version__
from nfvhost.access.machine import Machine
from nfvhost.access.ovsdb import kept_connections
from nfvhost.engine.confirm import refuse_unconfirmed, start_reverter
from nfvhost.engine.diff import chosen
from nfvhost.engine.interrupt import Interrupted, interruptible, undisturbed
from nfvhost.engine.journal import (
    VERSION,
    Before,
    Begin,
    Done,
    End,
    Ending,
    Moment,
    Record,
    Rollback,
    Started,
    Store,
    Writer,
)
from nfvhost.engine.lock import locked
from nfvhost.engine.past import PastApply, half_done, refuse_half_done
from nfvhost.engine.stored import stored
from nfvhost.engine.undo import Notes, Progress, Step, Work, put_back, works_of
from nfvhost.errors import ApplyError, NfvhostError, PreconditionError, Problem, RollbackError, StalePlanError
from nfvhost.model.change import Activation
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift, Outcome, Report, Result
from nfvhost.planfile import plan_document, to_json
from nfvhost.planner.fingerprint import stale_facts
from nfvhost.resources import Resource
from nfvhost.resources.order import ORDER

_OUTCOMES = {
    Activation.NOW: Outcome.APPLIED,
    Activation.RESTART: Outcome.PENDING_RESTART,
    Activation.REBOOT: Outcome.PENDING_REBOOT,
}


def apply(  # noqa: PLR0913 - one for each option of the command
    plan: Plan,
    machine: Machine,
    host: Host,
    *,
    progress: Progress = lambda _step, _change: None,
    resources: tuple[Resource[Any], ...] = ORDER,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    resume: bool = False,
    confirm_within_s: int | None = None,
    store: Store | None = None,
) -> Report:
    """What became of each change; `host` is the machine inspected just now, to compare with the plan's.

    StalePlanError, PreconditionError: nothing was changed. ApplyError: all was put back. RollbackError: its problems
    say what is left. A second apply of the same plan writes nothing and reports no change. What was cut off before is
    refused (PreconditionError), or with `resume` finished; should that fail, the first try is put back as well. With
    `confirm_within_s`, all is taken back that long after the end unless `confirm` is called.
    """
    store = store or Store(machine)
    with locked(machine), kept_connections():
        if not resume:
            refuse_half_done(store)
        earlier = _earlier(store, plan) if resume else None
        _refuse_stale(plan, host)
        progress(Step.CHECK, None)
        works = _prepare(plan, machine, host, chosen(resources, only=only, skip=skip))
        warnings = tuple(str(found) for work in works for found in work.resource.findings(work.before, plan))
        run = _Run(plan, machine, store, progress, earlier, resources)
        try:
            run.write_down([work for work in works if work.changes], confirm_within_s=confirm_within_s)
            _carry_out_all(run, works, store)
        finally:
            run.close()
    return Report(
        results=tuple(
            Result(change=change, outcome=_OUTCOMES[change.activation]) for work in works for change in work.changes
        ),
        warnings=warnings,
    )


def _carry_out_all(run: _Run, works: tuple[Work, ...], store: Store) -> None:
    with interruptible():
        try:
            for work in works:
                run.carry_out(work)
            run.note(End(at=store.now(), ending=Ending.APPLIED))
        except Interrupted as signal:
            raise run.rolled_back(_interrupted(signal)) from signal
        except NfvhostError as error:
            raise run.rolled_back(error.problems) from error
        except BaseException as bug:
            # Whatever it is, the machine is not left half changed.
            undone = run.rolled_back((Problem(what=f"{type(bug).__name__}: {bug}"),))
            if isinstance(undone, RollbackError):
                raise undone from bug
            raise


class _Run:
    """One apply under way: what it has started, and its journal."""

    def __init__(
        self,
        plan: Plan,
        machine: Machine,
        store: Store,
        progress: Progress,
        earlier: PastApply | None,
        resources: tuple[Resource[Any], ...],
    ) -> None:
        self._plan = plan
        self._machine = machine
        self._store = store
        self._progress = progress
        self._earlier = earlier
        # Read before anything is done: what cannot be undone is not gone on with.
        self._earlier_works = works_of(earlier, resources) if earlier is not None else ()
        self._writer: Writer | None = None
        self._started: list[Work] = []

    def write_down(self, works: Sequence[Work], *, confirm_within_s: int | None) -> None:
        """All that is to be changed and what is there now, on disk; nothing where nothing is to be done."""
        if works:
            if self._earlier is None:
                refuse_unconfirmed(self._store)
            self._writer = self._store.create(
                partial(
                    _begin,
                    plan=self._plan,
                    at=self._store.now(),
                    resumes=self._earlier.id if self._earlier is not None else None,
                    confirm_within_s=confirm_within_s,
                ),
                [_before(work) for work in works],
            )
            if confirm_within_s is not None:
                start_reverter(self._machine, self._writer.id, within_s=confirm_within_s)
        elif self._earlier is not None:
            self._writer = self._store.reopen(self._earlier.last)

    def close(self) -> None:
        """The journal ends here."""
        if self._writer is not None:
            self._writer.close()

    def note(self, record: Record) -> None:
        """One record more, on disk, where there is a journal."""
        if self._writer is not None:
            self._writer.add(record)

    def carry_out(self, work: Work) -> None:
        """Apply and verify one resource; where nothing is to be written, verify alone, and retry what fails once."""
        if work.changes:
            for change in work.changes:
                self._progress(Step.APPLY, change)
            self.note(Started(resource=work.resource.name))
            self._started.append(work)
            work.resource.apply(self._machine, work.before, work.changes)
        self._progress(Step.VERIFY, None)
        wrong = self._not_so(work)
        if wrong and not work.changes:
            work.resource.apply(self._machine, work.before, ())
            wrong = self._not_so(work)
        if wrong:
            raise ApplyError.of(tuple(map(_as_problem, wrong)))
        if work.changes:
            self.note(Done(resource=work.resource.name))

    def rolled_back(self, causes: tuple[Problem, ...]) -> ApplyError | RollbackError:
        """The error to raise, once everything that was started is put back, last first."""
        number = self._writer.id if self._writer is not None else 0
        works = [*((number, work) for work in reversed(self._started)), *self._earlier_works]
        with undisturbed():
            notes = Notes(self._writer if works else None)
            notes.add(Rollback(at=self._store.now(), reason="; ".join(problem.what for problem in causes)))
            left = put_back(works, self._machine, notes, progress=self._progress)
            notes.add(
                End(at=self._store.now(), ending=Ending.ROLLBACK_FAILED if left else Ending.ROLLED_BACK, problems=left)
            )
        end = "nothing had been changed" if not works else "everything was put back as it was"
        if left:
            what = f"failed, and {len(left)} of its changes could not be put back:"
            return RollbackError(what, also=(*left, Problem(what="the cause was:"), *causes, *notes.problems))
        return ApplyError(f"failed, and {end}; the cause:", also=(*causes, *notes.problems))

    def _not_so(self, work: Work) -> tuple[Drift, ...]:
        """Drifts that no restart or reboot would mend."""
        return tuple(drift for drift in work.resource.verify(self._machine, self._plan) if drift.pending is None)


def _earlier(store: Store, plan: Plan) -> PastApply | None:
    """The apply of this plan that was cut off; None where none was, PreconditionError where it was of another plan."""
    earlier = half_done(store)
    if earlier is not None and earlier.begin.plan != plan_digest(plan):
        raise PreconditionError(
            "what was cut off was an apply of another plan",
            where=f"apply {earlier.id} ({earlier.begin.profile}, {earlier.begin.at.utc})",
            hint="resume with that plan, or put everything back first: nfvhost rollback",
        )
    return earlier


def plan_digest(plan: Plan) -> str:
    """The same for the same plan, whatever file it is in."""
    return hashlib.sha256(to_json(plan_document(plan)).encode()).hexdigest()


def _begin(number: int, *, plan: Plan, at: Moment, resumes: int | None, confirm_within_s: int | None) -> Begin:
    return Begin(
        version=VERSION,
        id=number,
        at=at,
        program=__version__,
        plan=plan_digest(plan),
        profile=plan.profile,
        host=plan.host.name,
        fingerprint=plan.host.fingerprint,
        resumes=resumes,
        confirm_within_s=confirm_within_s,
    )


def _before(work: Work) -> Before:
    image = work.resource.image(work.before, work.changes)
    return Before(resource=work.resource.name, changes=work.changes, state=stored(image, work.resource.state_type))


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


def _prepare(plan: Plan, machine: Machine, host: Host, resources: tuple[Resource[Any], ...]) -> tuple[Work, ...]:
    """The work of all resources; PreconditionError with the problems of all of them where there are any."""
    works = []
    found: list[Problem] = []
    for resource in resources:
        state = resource.read(machine, plan)
        changes = resource.diff(state, plan)
        found.extend(resource.check(state, plan, host))
        works.append(Work(resource, state, changes))
    if found:
        raise PreconditionError.of(tuple(found))
    return tuple(works)


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
