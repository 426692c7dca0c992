"""PMD threads that someone has moved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import DAEMON, Rule, Severity, Sign, need
from nfvhost.model.cpuset import CpuSet


def _look(evidence: Evidence) -> Iterator[Sign]:
    for core, thread in need(evidence.switch, DAEMON).pmd_threads:
        if thread.cpus != CpuSet((core,)):
            yield Sign(evidence=f"the PMD thread of CPU {core} (tid {thread.tid}) may run on {thread.cpus.named}")


RULE: Final = Rule(
    name="pmd-repinned",
    severity=Severity.WARNING,
    sees="a PMD thread whose affinity is not its own CPU",
    why="Open vSwitch pins each thread once; another agent (tuned, a cpuset, an operator) has moved it since, and two"
    " may poll on one CPU",
    hint="find who did: tuned, a script with taskset, cgroup cpusets; restarting ovs-vswitchd pins them again",
    look=_look,
)
