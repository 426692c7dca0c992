"""Known failures of the field that can be seen on a machine, with no plan at hand."""

from __future__ import annotations

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Diagnosis, Finding, Rule, Severity, Unlooked, UnseenError
from nfvhost.doctor.rules import RULES
from nfvhost.doctor.survey import survey

__all__ = ["RULES", "Diagnosis", "Evidence", "Finding", "Rule", "Severity", "Unlooked", "diagnose", "survey"]

_ORDER = tuple(Severity)


def diagnose(evidence: Evidence, *, rules: tuple[Rule, ...] = RULES) -> Diagnosis:
    """What the rules find; pure. The worst comes first, then in the order of the rules."""
    findings: list[Finding] = []
    unlooked: list[Unlooked] = []
    for rule in rules:
        try:
            signs = tuple(rule.look(evidence))
        except UnseenError as error:
            unlooked.append(Unlooked(rule=rule.name, lacks=str(error)))
            continue
        findings += (
            Finding(
                rule=rule.name,
                severity=sign.severity or rule.severity,
                evidence=sign.evidence,
                why=rule.why,
                hint=sign.hint or rule.hint,
            )
            for sign in signs
        )
    worst_first = sorted(findings, key=lambda found: _ORDER.index(found.severity))
    return Diagnosis(findings=tuple(worst_first), rules=len(rules) - len(unlooked), unlooked=tuple(unlooked))
