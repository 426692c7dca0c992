"""Puts the machine back to what it was before an apply, by its journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nfvhost.access.machine import Machine
from nfvhost.access.ovsdb import kept_connections
from nfvhost.engine.interrupt import undisturbed
from nfvhost.engine.journal import End, Ending, Rollback, Store
from nfvhost.engine.lock import locked
from nfvhost.engine.past import PastApply, Stage, past
from nfvhost.engine.root import demand_root
from nfvhost.engine.undo import Notes, Progress, Work, put_back, works_of
from nfvhost.errors import PreconditionError, Problem, UsageError
from nfvhost.resources import Resource
from nfvhost.resources.order import ORDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """One apply that was taken back, and what is left of it."""

    apply: PastApply
    problems: tuple[Problem, ...]


def history(machine: Machine, *, store: Store | None = None) -> tuple[PastApply, ...]:
    """The applies that may have changed something, newest first; PreconditionError where they cannot be read."""
    return tuple(past(store or Store(machine)))


def to_undo(machine: Machine, *, to: int | None = None, store: Store | None = None) -> tuple[PastApply, ...]:
    """The applies that `rollback` would take back, newest first: the last one, or all down to `to`.

    Those that are rolled back already are not among them. UsageError where there is no such apply.
    """
    applies = tuple(past(store or Store(machine)))
    if to is not None and all(to != one.id for one in applies):
        raise UsageError(f"there is no apply {to}", where="--to", hint="nfvhost history lists them")
    left = tuple(one for one in applies if one.stage is not Stage.ROLLED_BACK)
    return left[:1] if to is None else tuple(one for one in left if one.id >= to)


def rollback(  # noqa: PLR0913 - one for each option of the command
    machine: Machine,
    *,
    to: int | None = None,
    force: bool = False,
    shown: Sequence[int] | None = None,
    unconfirmed: int | None = None,
    reason: str = "asked for",
    progress: Progress = lambda _step, _change: None,
    resources: Sequence[Resource[Any]] = ORDER,
    store: Store | None = None,
) -> tuple[Undone, ...]:
    """What became of each apply that was taken back, newest first: the last one, or all down to `to`.

    A rollback that was cut off is gone on with. What someone else has changed since stays, unless `force`, and is
    among the problems. With `shown`, these applies and no other, or PreconditionError. With `unconfirmed`, that apply,
    if it still waits for a confirmation and its time is over. PreconditionError, UsageError: nothing was changed.
    """
    demand_root(machine, verb="rollback")
    store = store or Store(machine)
    with locked(machine), kept_connections():
        applies = to_undo(machine, to=to, store=store) if unconfirmed is None else _overdue(store, unconfirmed)
        if shown is not None and [one.id for one in applies] != list(shown):
            raise PreconditionError(
                "something was applied or rolled back meanwhile, so what was shown is not what would be done",
                where="nfvhost history",
                hint="run it again",
            )
        return take_back(applies, machine, store, progress=progress, force=force, reason=reason, resources=resources)


def take_back(
    applies: Sequence[PastApply],
    machine: Machine,
    store: Store,
    *,
    reason: str,
    progress: Progress = lambda _step, _change: None,
    force: bool = False,
    resources: Sequence[Resource[Any]] = ORDER,
) -> tuple[Undone, ...]:
    """What became of these applies, in this order; whoever calls holds the lock. Errors as of `rollback`."""
    works = [works_of(one, resources) for one in applies]
    with undisturbed():
        return tuple(
            _undone(one, below, machine, store, progress=progress, force=force, reason=reason)
            for one, below in zip(applies, works, strict=True)
        )


def _overdue(store: Store, number: int) -> tuple[PastApply, ...]:
    """The newest apply, where it is that one, nobody has confirmed it, and its time is over."""
    one = next((one for one in past(store) if one.stage is not Stage.ROLLED_BACK), None)
    if one is None or all(journal.id != number for journal in one.journals):
        return ()
    return (one,) if one.waits_for_confirmation and one.confirmation_due_s(store.now()) <= 0 else ()


def _undone(
    one: PastApply,
    works: Sequence[tuple[int, Work]],
    machine: Machine,
    store: Store,
    *,
    progress: Progress,
    force: bool,
    reason: str,
) -> Undone:
    writer = store.reopen(one.last)
    try:
        writer.add(Rollback(at=store.now(), reason=reason))
        notes = Notes(writer)
        left = put_back(works, machine, notes, progress=progress, keep=True, force=force)
        ending = Ending.ROLLBACK_FAILED if left else Ending.ROLLED_BACK
        notes.add(End(at=store.now(), ending=ending, problems=left))
    finally:
        writer.close()
    return Undone(apply=one, problems=(*left, *notes.problems))
