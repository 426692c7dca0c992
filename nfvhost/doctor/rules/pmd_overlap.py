"""CPUs that poll and run guests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import NOVA_CPUS, PMD_CPUS, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    nova = need(evidence.nova, NOVA_CPUS)
    for name, cpus in (("cpu_dedicated_set", nova.dedicated), ("cpu_shared_set", nova.shared)):
        if cpus is not None and evidence.pmd_cpus is not None and (both := cpus & evidence.pmd_cpus):
            yield Sign(evidence=f"{both.named}: in {name} of {nova.path}, and of PMD threads", severity=Severity.ERROR)
    if nova.dedicated is not None and nova.shared is not None and (both := nova.dedicated & nova.shared):
        yield Sign(evidence=f"{both.named}: in both CPU sets of {nova.path}", severity=Severity.ERROR)
    if nova.dedicated is None:
        need(evidence.pmd_cpus, PMD_CPUS)
    elif missing := nova.dedicated - evidence.host.online:
        yield Sign(evidence=f"{missing.named}: in cpu_dedicated_set of {nova.path}, and not online")


RULE: Final = Rule(
    name="cpu-sets-overlap",
    severity=Severity.WARNING,
    sees="CPUs of Nova's sets that PMD threads poll, or that overlap",
    why="a PMD thread never sleeps: a guest on its CPU gets half of it, and the switch loses packets meanwhile;"
    " nova-compute does not start where its own sets overlap",
    hint="give each CPU to one: pmd-cpu-mask, cpu_dedicated_set and cpu_shared_set must not overlap; `nfvhost plan`",
    look=_look,
)
