"""Every exception that nfvhost raises on purpose: what happened, where, what to do, exit code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process says when it ends; none is above 125, where shells put signals."""

    OK = 0
    BUG = 1
    USAGE = 2
    BAD_DOCUMENT = 3
    STALE_PLAN = 4
    UNSAFE = 5
    ROLLED_BACK = 6
    ROLLBACK_FAILED = 7
    DIFFERENCES = 10
    REBOOT_PENDING = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and its place: a document path, a file or a device."""

    what: str
    where: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}{self.what}{hint}"


class NfvhostError(Exception):
    """Carries at least one problem; all problems of one document travel together."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(
        self, what: str, *, where: str | None = None, hint: str | None = None, also: tuple[Problem, ...] = ()
    ) -> None:
        self.problems: tuple[Problem, ...] = (Problem(what=what, where=where, hint=hint), *also)
        super().__init__(what)

    @classmethod
    def of(cls, problems: tuple[Problem, ...]) -> NfvhostError:
        """An error of this class with these problems, in this order; `problems` is not empty."""
        first, *rest = problems
        return cls(first.what, where=first.where, hint=first.hint, also=tuple(rest))

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class UsageError(NfvhostError):
    """The command line asks for something that does not make sense."""

    exit_code = ExitCode.USAGE


class DocumentError(NfvhostError):
    """A profile, plan or capture that cannot be read, or that contradicts itself or the machine."""

    exit_code = ExitCode.BAD_DOCUMENT


class StalePlanError(NfvhostError):
    """A plan that was made for another machine, or for this one before it changed."""

    exit_code = ExitCode.STALE_PLAN


class PreconditionError(NfvhostError):
    """Going on would be unsafe, or something that it needs is missing; nothing was changed."""

    exit_code = ExitCode.UNSAFE


class ApplyError(NfvhostError):
    """A change failed; what was changed before it was rolled back."""

    exit_code = ExitCode.ROLLED_BACK


class RollbackError(NfvhostError):
    """A change failed and something could not be put back; the problems say what is left."""

    exit_code = ExitCode.ROLLBACK_FAILED
