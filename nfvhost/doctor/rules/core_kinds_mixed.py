"""Fast and slow cores in one set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Rule, Severity, Sign, UnseenError
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import CpuKind


def _look(evidence: Evidence) -> Iterator[Sign]:
    slow = CpuSet(cpu.id for cpu in evidence.host.cpus if cpu.kind is CpuKind.EFFICIENCY)
    fast = CpuSet(cpu.id for cpu in evidence.host.cpus if cpu.kind is CpuKind.PERFORMANCE)
    if not slow or not fast:
        raise UnseenError("this machine has cores of one kind")
    dedicated = evidence.nova.dedicated if evidence.nova is not None else None
    for name, cpus in (("the PMD pool", evidence.pmd_cpus), ("cpu_dedicated_set", dedicated)):
        if cpus is not None and cpus & slow and cpus & fast:
            yield Sign(evidence=f"{name} has performance cores {cpus & fast} and efficiency cores {cpus & slow}")


RULE: Final = Rule(
    name="core-kinds-mixed",
    severity=Severity.WARNING,
    sees="P and E cores together for PMD threads or cpu_dedicated_set",
    why="a queue or a guest is as fast as the core that it happens to get; Nova does not tell them apart",
    hint="performance cores for PMD threads and guests, efficiency cores for the host",
    look=_look,
)
