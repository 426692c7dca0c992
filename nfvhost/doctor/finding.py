"""What a rule is, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from nfvhost.doctor.evidence import Evidence

T = TypeVar("T")

# What rules may lack.
DATABASE: Final = "no database of Open vSwitch answers here"
DAEMON: Final = "no ovs-vswitchd is to be seen at work"
KEYS: Final = "no settings of Open vSwitch are to be seen"
PMD_CPUS: Final = "Open vSwitch has no pmd-cpu-mask and no PMD threads, or is not to be seen"
PMD_MASK: Final = "Open vSwitch has no pmd-cpu-mask, or is not to be seen"
NOVA_CPUS: Final = "no CPU sets of Nova are to be seen"
ARGUMENTS: Final = "/proc/cmdline is not to be seen"
BOOT: Final = "no file of boot arguments is to be seen"
RUNNING: Final = "only root sees it, on the running machine"


class Severity(StrEnum):
    """How much it matters."""

    ERROR = "error"  # something does not work
    WARNING = "warning"  # it works, and slower, for now, or at another's cost
    NOTE = "note"  # worth knowing; may be meant so


class UnseenError(Exception):
    """What a rule must know is not to be seen on this machine; the text names it."""


def need(fact: T | None, what: str) -> T:
    """The fact; UnseenError with `what` to say that it is missing where it is None."""
    if fact is None:
        raise UnseenError(what)
    return fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What one rule has seen in one place; severity and hint are the rule's unless it knows better."""

    evidence: str
    severity: Severity | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One known failure: how it is seen, why it hurts, what to do."""

    name: str
    severity: Severity
    sees: str  # the failure in a few words
    why: str
    hint: str
    look: Callable[[Evidence], Iterator[Sign]]  # pure; UnseenError where it cannot look


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A known failure that is there."""

    rule: str
    severity: Severity
    evidence: str
    why: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlooked:
    """A rule that could not look, and what it lacks."""

    rule: str
    lacks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that was found, the worst first, and which rules could not look."""

    findings: tuple[Finding, ...]
    rules: int  # how many looked
    unlooked: tuple[Unlooked, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that is more than a note."""
        return all(found.severity is Severity.NOTE for found in self.findings)
