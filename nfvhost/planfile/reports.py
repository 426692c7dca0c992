"""What changes would be made, were made, and are missing, as documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nfvhost.planfile.structure import plain
from nfvhost.planfile.v1 import headed

if TYPE_CHECKING:
    from nfvhost.errors import Problem
    from nfvhost.model.change import Change
    from nfvhost.model.plan import Decision
    from nfvhost.model.report import Drift, Report


def diff_document(changes: tuple[Change, ...]) -> dict[str, Any]:
    """What `apply` would change, in its order."""
    return headed("Diff", {"changes": plain(changes)})


def report_document(report: Report) -> dict[str, Any]:
    """What became of each change."""
    return headed("Report", plain(report))


def verification_document(drift: tuple[Drift, ...], findings: tuple[Problem, ...] = ()) -> dict[str, Any]:
    """What is not as the plan says, and what else was noticed."""
    return headed("Verification", {"drift": plain(drift), "findings": plain(findings)})


def explanation_document(decisions: tuple[Decision, ...]) -> dict[str, Any]:
    """Decisions with their reasons."""
    return headed("Explanation", {"decisions": plain(decisions)})
