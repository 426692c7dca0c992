"""Puts back what was changed, last first, by the before-images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nfvhost.access.machine import Machine
from nfvhost.engine.journal import Before, PutBack, Record, Writer
from nfvhost.engine.past import PastApply
from nfvhost.engine.stored import restored
from nfvhost.errors import NfvhostError, PreconditionError, Problem
from nfvhost.model.change import Change
from nfvhost.resources import Resource


class Step(StrEnum):
    """Where an apply is."""

    CHECK = "check"
    APPLY = "apply"
    VERIFY = "verify"
    ROLL_BACK = "roll back"


Progress = Callable[[Step, Change | None], None]


@dataclass(frozen=True, slots=True)
class Work:
    """One resource with its before-image and what is to be done to it."""

    # Each resource has a state type of its own, which nobody but itself looks into.
    resource: Resource[Any]
    before: Any
    changes: tuple[Change, ...]


class Notes:
    """The journal of a rollback: a record that cannot be written is a problem, and no reason to stop."""

    def __init__(self, writer: Writer | None) -> None:
        self._writer = writer
        self.problems: list[Problem] = []

    def add(self, record: Record) -> None:
        """Nothing; where it cannot be written, one problem says so."""
        if self._writer is None or self.problems:
            return
        try:
            self._writer.add(record)
        except NfvhostError as error:
            self.problems.extend(error.problems)


def works_of(one: PastApply, resources: Sequence[Resource[Any]]) -> tuple[tuple[int, Work], ...]:
    """What is to be put back of a past apply, in that order; PreconditionError where this nfvhost cannot undo it."""
    return tuple((number, _work_of(before, resources)) for number, before in one.befores)


def _work_of(before: Before, resources: Sequence[Resource[Any]]) -> Work:
    resource = next((one for one in resources if one.name == before.resource), None)
    if resource is None:
        raise PreconditionError(
            "this nfvhost does not know this resource, so it cannot put it back",
            where=before.resource,
            hint="use the nfvhost that applied it, or a newer one",
        )
    try:
        state = restored(before.state, resource.state_type)
    except ValueError as error:
        raise PreconditionError(
            f"its before-image is of another version of nfvhost: {error}",
            where=before.resource,
            hint="use the nfvhost that applied it",
        ) from error
    return Work(resource, state, before.changes)


def put_back(
    works: Sequence[tuple[int, Work]],
    machine: Machine,
    notes: Notes,
    *,
    progress: Progress,
    keep: bool = False,
    force: bool = False,
) -> tuple[Problem, ...]:
    """What is left of these works, each with the number of its apply, undone in this order.

    Each is tried, whatever becomes of the others. With `keep`, what someone else has made of it since is left as well,
    with `force` it is overwritten; without either it stays and is not spoken of.
    """
    left: list[Problem] = []
    for number, work in works:
        for change in reversed(work.changes):
            progress(Step.ROLL_BACK, change)
        try:
            foreign = work.resource.foreign(machine, work.before, work.changes) if keep and not force else ()
            problems = work.resource.rollback(machine, work.before, work.changes, force=force)
        except NfvhostError as error:
            foreign = ()
            problems = tuple(
                Problem(what=f"could not be put back: {problem.what}", where=problem.where, hint=problem.hint)
                for problem in error.problems
            )
        told = {problem.where for problem in foreign}
        found = (*foreign, *(problem for problem in problems if problem.where not in told))
        if not found:
            notes.add(PutBack(id=number, resource=work.resource.name))
        left.extend(one for one in found if one not in left)
    return tuple(left)
