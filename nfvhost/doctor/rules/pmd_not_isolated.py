"""PMD threads that the scheduler gives neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import PMD_CPUS, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    mask = need(evidence.pmd_cpus, PMD_CPUS) & evidence.host.online
    if shared := mask - evidence.unscheduled:
        severity = Severity.WARNING if evidence.unscheduled else Severity.NOTE
        isolated = f"CPUs {evidence.unscheduled} are" if evidence.unscheduled else "no CPU is"
        yield Sign(evidence=f"{shared.named}: of PMD threads and not isolated; {isolated}", severity=severity)


RULE: Final = Rule(
    name="pmd-not-isolated",
    severity=Severity.WARNING,
    sees="CPUs of PMD threads that are not isolated",
    why="other tasks run there by turns with the PMD thread, and each turn is some milliseconds without polling",
    hint="isolcpus=managed_irq,domain,<CPUs>, or a cpuset partition; a note where nothing is isolated at all",
    look=_look,
)
