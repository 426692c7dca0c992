"""Physical cores whose threads serve two masters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Rule, Severity, Sign, UnseenError
from nfvhost.model.cpuset import EMPTY, union
from nfvhost.model.host import cores


def _look(evidence: Evidence) -> Iterator[Sign]:
    pmd = evidence.pmd_cpus or EMPTY
    dedicated = (evidence.nova.dedicated if evidence.nova is not None else None) or EMPTY
    isolated = evidence.unscheduled
    if not pmd and not dedicated and not isolated:
        raise UnseenError("no CPU is given to PMD threads, to pinned guests, or isolated")
    # A thread beside a poll that nothing else runs on is at rest.
    resting = isolated - dedicated - pmd
    told = EMPTY
    for cpus, harmless, does, others in (
        (pmd, resting, "poll", "run guests or the host"),
        (dedicated, EMPTY, "are for pinned guests", "are not"),
        (isolated, EMPTY, "are isolated", "are not"),
    ):
        split = [
            core for core in cores(evidence.host) if core & cpus and core - cpus - harmless and core.isdisjoint(told)
        ]
        told |= union(split)
        if split:
            pairs = ", ".join(f"{core & cpus} of {core}" for core in split)
            yield Sign(evidence=f"CPUs {pairs} {does}; their sibling threads {others}")


RULE: Final = Rule(
    name="core-split",
    severity=Severity.WARNING,
    sees="thread siblings of one core divided between PMD threads, pinned guests and the host",
    why="both threads share one core: a polling sibling takes a third to half of the other's speed, and the other way",
    hint="give whole cores: thread_siblings_list of each CPU names them; `nfvhost plan` does",
    look=_look,
)
