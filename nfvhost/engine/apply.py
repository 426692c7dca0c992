"""Makes a plan so: all preconditions, then change by change, then a re-read; or back to where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from nfvhost import __version__
from nfvhost.access.kept import KeptRoot
from nfvhost.access.machine import Machine
from nfvhost.access.ovsdb import kept_connections
from nfvhost.engine.confirm import refuse_unconfirmed, start_reverter
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
from nfvhost.engine.outlook import Course, Standing, awaits_reboot, course_of, needed, outlook, standing_of
from nfvhost.engine.past import PastApply, half_done, prune, refuse_half_done
from nfvhost.engine.root import demand_root
from nfvhost.engine.seen import Seen, kept, see
from nfvhost.engine.stored import stored
from nfvhost.engine.undo import Notes, Progress, Step, Work, put_back, works_of
from nfvhost.errors import ApplyError, NfvhostError, PreconditionError, Problem, RollbackError, StalePlanError
from nfvhost.inspect import inspect_host
from nfvhost.model.change import Activation, Change
from nfvhost.model.fingerprint import stale_facts
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift, Outcome, Report, Result
from nfvhost.planfile import plan_document, to_json
from nfvhost.resources import Resource
from nfvhost.resources.order import ORDER, chosen, resources_for

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
    agreed: Callable[[tuple[Change, ...]], bool] = lambda _changes: True,
    progress: Progress = lambda _step, _change: None,
    resources: Sequence[Resource[Any]] | None = None,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    resume: bool = False,
    confirm_within_s: int | None = None,
    store: Store | None = None,
) -> Report:
    """What became of each change; `host` is the machine inspected just now, to compare with the plan's.

    Every resource is checked before the first change, and read again when its turn comes: those before it may have
    brought what it needs. What waits for a reboot is not written, and told so. StalePlanError, PreconditionError:
    nothing was changed. ApplyError: all was put back. RollbackError: its problems say what is left. A second apply of
    the same plan writes nothing and reports no change but those that still wait. `agreed` is asked first where there is
    something to change, under the lock; where it says no, none is tried. What was cut off before is refused
    (PreconditionError), or with `resume` finished; should that fail, the first try is put back as well. With
    `confirm_within_s`, all is taken back that long after the end unless `confirm` is called.
    """
    demand_root(machine, verb="apply")
    store = store or Store(machine)
    known = ORDER if resources is None else resources
    if resources is None:
        taken = resources_for(machine, only=only, skip=skip)
    else:
        taken = chosen(resources, only=only, skip=skip)
    left_out = frozenset(one.name for one in known) - {one.name for one in taken}
    with locked(machine), kept_connections():
        if not resume:
            refuse_half_done(store)
        earlier = _earlier(store, plan) if resume else None
        _refuse_stale(plan, host)
        progress(Step.CHECK, None)
        machine, tree = kept(machine, plan)
        seen = [see(resource, machine, plan, host) for resource in taken]
        changes = tuple(change for one in seen for change in one.changes)
        if changes:
            if not agreed(changes):
                return Report(results=tuple(Result(change=one, outcome=Outcome.NOT_TRIED) for one in changes))
            # Whoever was asked has taken their time, and from here on things change.
            tree.end()
        courses = _courses(seen, plan, machine, left_out)
        run = _Run(
            plan,
            machine,
            tree,
            host,
            store=store,
            progress=progress,
            earlier=earlier,
            # Read before anything is done: what cannot be undone is not gone on with.
            earlier_works=works_of(earlier, known) if earlier is not None else (),
            confirm_within_s=confirm_within_s,
            turns=tuple(zip(seen, courses, strict=True)),
            left_out=left_out,
        )
        try:
            _carry_out_all(run)
        finally:
            run.close()
        if run.touched:
            # An old journal that cannot be read is told by `history`, and is no reason to undo what was made.
            with suppress(NfvhostError):
                prune(store)
    return Report(
        results=tuple(run.results),
        warnings=tuple(str(found) for one in seen for found in one.resource.findings(one.state, plan)),
        pending=tuple(run.pending),
    )


def _courses(seen: Sequence[Seen], plan: Plan, machine: Machine, left_out: Collection[str]) -> tuple[Course, ...]:
    """What becomes of each resource; PreconditionError with all refusals where there are any."""
    asked_for = needed(problem for one in seen for problem in one.problems)
    courses = outlook(
        (
            # Where nothing is to be changed, it may be that a change of yesterday waits.
            one.prospect(
                pending=one.name in asked_for
                and not one.changes
                and awaits_reboot(one.resource.verify(machine, plan, seen=one.state))
            )
            for one in seen
        ),
        left_out=left_out,
    )
    refusals = tuple(problem for course in courses for problem in course.refusals)
    if refusals:
        raise PreconditionError.of(refusals)
    return courses


def _carry_out_all(run: _Run) -> None:
    with interruptible():
        try:
            run.begin()
            for seen, course in run.turns:
                run.turn(seen, course)
            run.end()
        except Interrupted as signal:
            raise run.rolled_back(_interrupted(signal)) from signal
        except NfvhostError as error:
            if isinstance(error, PreconditionError) and not run.touched:
                raise
            raise run.rolled_back(error.problems) from error
        except BaseException as bug:
            # Whatever it is, the machine is not left half changed.
            undone = run.rolled_back((Problem(what=f"{type(bug).__name__}: {bug}"),))
            if isinstance(undone, RollbackError):
                raise undone from bug
            raise


class _Run:
    """One apply under way: what it has started, and its journal."""

    def __init__(  # noqa: PLR0913 - what an apply is told, and what it has found out before its first change
        self,
        plan: Plan,
        machine: Machine,
        tree: KeptRoot,
        host: Host,
        *,
        store: Store,
        progress: Progress,
        earlier: PastApply | None,
        earlier_works: Sequence[tuple[int, Work]],
        confirm_within_s: int | None,
        turns: Sequence[tuple[Seen, Course]],
        left_out: Collection[str],
    ) -> None:
        self._plan = plan
        self._machine = machine
        self._tree = tree  # the machine's tree: of one that is as planned, verify reads nothing again
        self._host = host
        self._store = store
        self._progress = progress
        self._earlier = earlier
        self._earlier_works = earlier_works
        self._confirm_within_s = confirm_within_s
        self.turns = turns  # each resource as it was before the first change, in order
        self._changing = any(seen.changes for seen, _ in turns)
        self._left_out = left_out
        self._writer: Writer | None = None
        self._started: list[Work] = []
        self._inspected = 0  # how many had been started when `host` was looked at
        self._standings: dict[str, Standing] = {}
        self.results: list[Result] = []
        self.pending: list[str] = []  # the resources of which something waits for a reboot

    @property
    def touched(self) -> bool:
        """Whether it has changed anything."""
        return bool(self._started)

    def turn(self, seen: Seen, course: Course) -> None:
        """One resource: looked at again where anything is to be changed, then carried out, or left to wait."""
        if self._changing:
            seen = see(seen.resource, self._machine, self._plan, self._host_now())
            course = course_of(seen.problems, self._standings, left_out=self._left_out)
            if course.refusals:
                raise PreconditionError.of(course.refusals)
        if course.waits_for:
            pending = True
            self.results += [
                Result(change=change, outcome=Outcome.PENDING_REBOOT, detail=course.detail) for change in seen.changes
            ]
        else:
            drifts = self._carry_out(Work(seen.resource, seen.state, seen.changes))
            pending = awaits_reboot(drifts) or any(one.activation is Activation.REBOOT for one in seen.changes)
            self.results += [Result(change=change, outcome=_OUTCOMES[change.activation]) for change in seen.changes]
        self._standings[seen.name] = standing_of((), course, pending=pending)
        self.pending += [seen.name] if pending else []

    def begin(self) -> None:
        """What is resumed has a journal, with whatever takes it back, even where nothing is left to do."""
        if self._earlier is not None:
            self._begin()

    def end(self) -> None:
        """All is done that can be done before a reboot."""
        self._note(End(at=self._store.now(), ending=Ending.APPLIED, pending=tuple(self.pending)))

    def close(self) -> None:
        """The journal ends here."""
        if self._writer is not None:
            self._writer.close()

    def rolled_back(self, causes: tuple[Problem, ...]) -> ApplyError | RollbackError:
        """The error to raise, once everything that was started is put back, last first."""
        number = self._writer.id if self._writer is not None else 0
        self._tree.end()
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

    def _carry_out(self, work: Work) -> tuple[Drift, ...]:
        """What of a resource still waits for something, once it is applied and verified.

        Where nothing is to be written, it is verified alone, and tries what fails once more.
        """
        if work.changes:
            self._begin()
            self._note(before_of(work))
            for change in work.changes:
                self._progress(Step.APPLY, change)
            self._note(Started(resource=work.resource.name))
            self._started.append(work)
            work.resource.apply(self._machine, work.before, work.changes)
        self._progress(Step.VERIFY, None)
        # What was not changed is as it was read for this turn.
        drifts = work.resource.verify(self._machine, self._plan, seen=None if work.changes else work.before)
        if not work.changes and not all(map(_is_pending, drifts)):
            self._tree.end()
            work.resource.apply(self._machine, work.before, ())
            drifts = work.resource.verify(self._machine, self._plan)
        wrong = tuple(drift for drift in drifts if not _is_pending(drift))
        if wrong:
            raise ApplyError.of(tuple(map(as_problem, wrong)))
        if work.changes:
            self._note(Done(resource=work.resource.name))
        return drifts

    def _begin(self) -> None:
        """The journal is there, with room for all that is expected, and whatever takes the apply back waits."""
        if self._writer is not None:
            return
        if self._earlier is None:
            refuse_unconfirmed(self._store)
        expected = [seen for seen, course in self.turns if seen.changes and not course.waits_for]
        self._writer = self._store.create(
            partial(
                begin_of,
                plan=self._plan,
                at=self._store.now(),
                resumes=self._earlier.last.id if self._earlier is not None else None,
                confirm_within_s=self._confirm_within_s,
                planned=tuple((one.name, len(one.changes)) for one in expected),
            ),
            befores=[before_of(Work(one.resource, one.state, one.changes)) for one in expected],
        )
        if self._confirm_within_s is not None:
            start_reverter(self._machine, self._writer.id, within_s=self._confirm_within_s)

    def _note(self, record: Record) -> None:
        """One record more, on disk, where there is a journal."""
        if self._writer is not None:
            self._writer.add(record)

    def _host_now(self) -> Host:
        """The machine, inspected again where something was changed since."""
        if len(self._started) > self._inspected and self._machine.root.live:
            self._host = inspect_host(self._machine.root)
            self._inspected = len(self._started)
        return self._host


def _is_pending(drift: Drift) -> bool:
    return drift.pending is not None


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


def begin_of(
    number: int,
    *,
    plan: Plan,
    at: Moment,
    resumes: int | None = None,
    confirm_within_s: int | None = None,
    planned: tuple[tuple[str, int], ...] = (),
    boot: bool = False,
) -> Begin:
    """The first record of a journal of that number."""
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
        planned=planned,
        boot=boot,
    )


def before_of(work: Work) -> Before:
    """What the journal keeps of a resource that is about to be changed."""
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


def as_problem(drift: Drift) -> Problem:
    """The drift as something that is wrong."""
    if drift.planned is None:
        return Problem(what=f"{drift.actual}", where=f"{drift.resource}: {drift.key}", hint=drift.hint)
    return Problem(
        what=f"planned: {drift.planned}; found: {drift.actual or 'nothing'}",
        where=f"{drift.resource}: {drift.key}",
        hint=drift.hint,
    )


def _interrupted(signal: Interrupted) -> tuple[Problem, ...]:
    return (Problem(what=f"interrupted by {signal}", hint="apply again when it suits; nothing is half done"),)
