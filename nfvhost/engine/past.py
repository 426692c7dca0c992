"""The applies of the past, as their journals tell them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nfvhost.engine.journal import Before, Begin, Ending, Journal, Moment, PutBack, Settled, Store
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
# How many applies that were rolled back `nfvhost history` remembers.
_KEPT: Final = 20
HALF_DONE = frozenset({Stage.HALF_APPLIED, Stage.HALF_ROLLED_BACK})


@dataclass(frozen=True, slots=True, kw_only=True)
class PastApply:
    """One apply with the tries of it that were cut off and the boots that went on with it: undone, all go together."""

    journals: tuple[Journal, ...]  # the last one first

    @property
    def last(self) -> Journal:
        """The journal of the last try or boot: what is done about the apply is noted there."""
        return self.journals[0]

    @property
    def own(self) -> Journal:
        """The journal of the last try; of a boot where no apply is known to be behind it."""
        return next((one for one in self.journals if not one.begin.boot), self.last)

    @property
    def id(self) -> int:
        """Its number, which `nfvhost history` shows."""
        return self.own.id

    @property
    def begin(self) -> Begin:
        """Which plan it was, and when."""
        return self.own.begin

    @property
    def stage(self) -> Stage:
        """Where it has come to; a boot that was cut off is gone on with by the next one, and is nothing half done."""
        if self.last.rollback is None and self.own.begin.boot:
            return Stage.APPLIED
        end = self._telling.end
        if end is not None:
            return _STAGES[end.ending]
        return Stage.HALF_ROLLED_BACK if self.last.rollback is not None else Stage.HALF_APPLIED

    @property
    def ended(self) -> Moment | None:
        """When it, or its undoing, ended; None where it has not."""
        end = self._telling.end
        return end.at if end is not None else None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be put back."""
        end = self._telling.end
        return end.problems if end is not None else ()

    @property
    def pending(self) -> tuple[str, ...]:
        """The resources of which something waits for a reboot; empty once all was found as planned."""
        settled = any(isinstance(record, Settled) for journal in self.journals for record in journal.records)
        end = self.own.end
        return end.pending if end is not None and self.stage is Stage.APPLIED and not settled else ()

    @property
    def confirmed(self) -> bool:
        """Whether a person has confirmed it."""
        return self.own.confirmed

    @property
    def _telling(self) -> Journal:
        return self.last if self.last.rollback is not None else self.own

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
        return asked and not self.confirmed and self.stage in {Stage.APPLIED, Stage.HALF_APPLIED}

    def confirmation_due_s(self, now: Moment) -> float:
        """Seconds until it is taken back; 0 or less where its time is over, also by a reboot."""
        since = self.ended or self.begin.at
        if since.boot != now.boot:
            return 0.0
        return (self.begin.confirm_within_s or 0) - (now.since_boot_s - since.since_boot_s)


def past(store: Store) -> Iterator[PastApply]:
    """The applies that may have changed something, newest first; PreconditionError where a journal cannot be read."""
    part_of_a_later: set[int] = set()
    numbers = store.ids()
    for journal in store.journals():
        if journal.id in part_of_a_later:
            continue
        tries = [journal]
        while (resumed := tries[-1].begin.resumes) is not None:
            # One whose removal was cut off may name an older one that is gone.
            earlier = store.read(resumed) if resumed in numbers else None
            if earlier is None:
                break
            part_of_a_later.add(resumed)
            tries.append(earlier)
        yield PastApply(journals=tuple(tries))


def newest(store: Store) -> PastApply | None:
    """The last apply that is not taken back; None where there is none."""
    return next((one for one in past(store) if one.stage is not Stage.ROLLED_BACK), None)


def half_done(store: Store) -> PastApply | None:
    """The apply or rollback that was cut off; None where all have ended.

    Nothing begins while one is half done, so it is the newest that is not taken back.
    """
    if store.has_ended():
        return None
    one = newest(store)
    return one if one is not None and one.stage in HALF_DONE else None


def half_done_problems(one: PastApply) -> tuple[Problem, ...]:
    """What was half done, and what was not begun: one problem for it, and one for each resource."""
    act = "apply" if one.stage is Stage.HALF_APPLIED else "rollback of the apply"
    journal = one.own
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


def prune(store: Store) -> None:
    """Nothing, once no more is kept of what no rollback may need than the last applies that were rolled back.

    Those that are not rolled back stay for ever: `rollback --to` may want them.
    """
    applies = list(past(store))
    numbers = store.ids()
    of_nothing = set(numbers) - {journal.id for one in applies for journal in one.journals}
    gone = [one for one in applies if one.stage is Stage.ROLLED_BACK][_KEPT:]
    # The first try first: without its end, it would be something half done.
    for number in (*sorted(of_nothing), *(journal.id for one in gone for journal in reversed(one.journals))):
        # The highest number tells the next one.
        if number != numbers[0]:
            store.remove(number)
