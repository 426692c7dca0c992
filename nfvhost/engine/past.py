"""The applies of the past, as their journals tell them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from nfvhost.engine.journal import Before, Begin, Ending, Journal, Moment, PutBack, Store
from nfvhost.errors import PreconditionError, Problem
from nfvhost.model.change import Change


class Stage(StrEnum):
    """Where an apply has come to."""

    HALF_APPLIED = "half-applied"
    APPLIED = "applied"
    HALF_ROLLED_BACK = "half-rolled-back"
    ROLLED_BACK = "rolled-back"
    ROLLBACK_FAILED = "rollback-failed"


_STAGES = {
    Ending.APPLIED: Stage.APPLIED,
    Ending.ROLLED_BACK: Stage.ROLLED_BACK,
    Ending.ROLLBACK_FAILED: Stage.ROLLBACK_FAILED,
}
HALF_DONE = frozenset({Stage.HALF_APPLIED, Stage.HALF_ROLLED_BACK})


@dataclass(frozen=True, slots=True, kw_only=True)
class PastApply:
    """One apply with the tries of it that were cut off: undone, they are undone together."""

    journals: tuple[Journal, ...]  # the last try first

    @property
    def last(self) -> Journal:
        """The journal of the last try."""
        return self.journals[0]

    @property
    def id(self) -> int:
        """Its number, which `nfvhost history` shows."""
        return self.last.id

    @property
    def begin(self) -> Begin:
        """Which plan it was, and when."""
        return self.last.begin

    @property
    def stage(self) -> Stage:
        """Where it has come to."""
        end = self.last.end
        if end is not None:
            return _STAGES[end.ending]
        return Stage.HALF_ROLLED_BACK if self.last.rollback is not None else Stage.HALF_APPLIED

    @property
    def ended(self) -> Moment | None:
        """When it, or its undoing, ended; None where it has not."""
        return self.last.end.at if self.last.end is not None else None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be put back."""
        return self.last.end.problems if self.last.end is not None else ()

    @property
    def pending(self) -> tuple[str, ...]:
        """The resources of which something waits for a reboot, or did when it was last looked at."""
        return self.last.pending if self.stage is Stage.APPLIED else ()

    @property
    def befores(self) -> tuple[tuple[int, Before], ...]:
        """What is still to be put back, in the order in which to do it, each with the number of its try."""
        put_back = {
            (record.id, record.resource)
            for journal in self.journals
            for record in journal.records
            if isinstance(record, PutBack)
        }
        return tuple(
            (journal.id, one)
            for journal in self.journals
            for one in reversed(journal.started)
            if (journal.id, one.resource) not in put_back
        )

    @property
    def changes(self) -> tuple[Change, ...]:
        """All that its tries may have changed, the first try's first, each place once: as it was, as it was to be."""
        places: dict[tuple[str, str], Change] = {}
        for journal in reversed(self.journals):
            for change in (change for before in journal.started for change in before.changes):
                places.setdefault((change.resource, change.key), change)
        return tuple(places.values())

    @property
    def waits_for_confirmation(self) -> bool:
        """Whether it is taken back soon unless someone confirms it."""
        asked = self.begin.confirm_within_s is not None
        return asked and not self.last.confirmed and self.stage in {Stage.APPLIED, Stage.HALF_APPLIED}

    def confirmation_due_s(self, now: Moment) -> float:
        """Seconds until it is taken back; 0 or less where its time is over, also by a reboot."""
        since = self.ended or self.begin.at
        if since.boot != now.boot:
            return 0.0
        return (self.begin.confirm_within_s or 0) - (now.since_boot_s - since.since_boot_s)


def past(store: Store) -> Iterator[PastApply]:
    """The applies that may have changed something, newest first; PreconditionError where a journal cannot be read."""
    part_of_a_later: set[int] = set()
    for journal in store.journals():
        if journal.id in part_of_a_later:
            continue
        tries = [journal]
        while (resumed := tries[-1].begin.resumes) is not None:
            earlier = store.read(resumed)
            if earlier is None:
                break
            part_of_a_later.add(resumed)
            tries.append(earlier)
        yield PastApply(journals=tuple(tries))


def half_done(store: Store) -> PastApply | None:
    """The apply or rollback that was cut off; None where all have ended.

    Nothing begins while one is half done, so it is the newest that is not taken back.
    """
    newest = next((one for one in past(store) if one.stage is not Stage.ROLLED_BACK), None)
    return newest if newest is not None and newest.stage in HALF_DONE else None


def half_done_problems(one: PastApply) -> tuple[Problem, ...]:
    """What was half done, and what was not begun: one problem for it, and one for each resource."""
    act = "apply" if one.stage is Stage.HALF_APPLIED else "rollback of the apply"
    journal = one.last
    started = {before.resource for before in journal.started}
    befores = {record.resource: len(record.changes) for record in journal.records if isinstance(record, Before)}
    planned = {**dict(journal.begin.planned), **befores}
    words = {True: "was applied", False: "was begun, and may be half done"}
    return (
        Problem(
            what=f"the {act} of {one.begin.at.utc} ({one.begin.profile}) was cut off before its end",
            where=f"apply {one.id}",
            hint="nfvhost rollback puts everything back; nfvhost apply --resume PLAN finishes it",
        ),
        *(
            Problem(
                what=(words[resource in journal.done] if resource in started else "was not begun")
                + f" ({number} changes)",
                where=resource,
            )
            for resource, number in planned.items()
        ),
    )


def refuse_half_done(store: Store) -> None:
    """PreconditionError, which says what was half done, where something was."""
    one = half_done(store)
    if one is not None:
        raise PreconditionError.of(half_done_problems(one))
