"""What became of changes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from nfvhost.model.change import Activation, Change


class Outcome(StrEnum):
    """End of one change."""

    UNCHANGED = "unchanged"
    APPLIED = "applied"
    PENDING_RESTART = "pending-restart"  # of the service that reads it
    PENDING_REBOOT = "pending-reboot"
    ROLLED_BACK = "rolled-back"
    ROLLBACK_FAILED = "rollback-failed"
    FAILED = "failed"  # at a boot, which goes on with the others
    NOT_TRIED = "not-tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One change and its end."""

    change: Change
    outcome: Outcome
    detail: str | None = None  # what went wrong, in the words of the one who refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One thing that is not as the plan says."""

    resource: str
    key: str
    planned: str | None
    actual: str | None
    hint: str | None = None
    pending: Activation | None = None  # set where it is configured and waits for this; None: it is simply not so

    @classmethod
    def of(cls, change: Change, *, hint: str | None = None, pending: Activation | None = None) -> Self:
        """What a change would still have to make so."""
        return cls(
            resource=change.resource,
            key=change.key,
            planned=change.after,
            actual=change.before,
            hint=hint,
            pending=pending,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All results of one apply, in the order of the changes; empty where nothing had to be done."""

    results: tuple[Result, ...]
    warnings: tuple[str, ...] = ()  # worth knowing, and no reason to stop
    pending: tuple[str, ...] = ()  # resources of which something waits for a reboot, of this apply or of an earlier one
