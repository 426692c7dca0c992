"""A ban list that takes irqbalance's own detection away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Rule, Severity, Sign, need
from nfvhost.model.cpuset import EMPTY


def _look(evidence: Evidence) -> Iterator[Sign]:
    banned = need(evidence.irqbalance_banned, "no file bans CPUs from irqbalance")
    if missing := (evidence.isolated | (evidence.pmd_cpus or EMPTY)) - banned.cpus:
        listed = banned.cpus or "none"
        yield Sign(evidence=f"{banned.path} bans CPUs {listed}; isolated or polling, and not banned: {missing.named}")


RULE: Final = Rule(
    name="irqbalance-ban-list",
    severity=Severity.WARNING,
    sees="IRQBALANCE_BANNED_CPULIST or _CPUS without some of the isolated CPUs",
    why="once either is set, irqbalance no longer looks for isolated CPUs itself, and moves interrupts onto the others",
    hint="name all isolated and polling CPUs in IRQBALANCE_BANNED_CPULIST, or take the line out",
    look=_look,
)
