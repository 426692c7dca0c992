"""A host without memory beside its hugepages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Rule, Severity, Sign, need
from nfvhost.planner.budgets import HOST_MIB, LEAST_MIB


def _look(evidence: Evidence) -> Iterator[Sign]:
    total = need(evidence.host.memory_kib, "the memory of the machine is not to be seen") // 1024
    pools = need(evidence.host.hugepages or None, "no pools of hugepages are to be seen")
    pages = sum(pool.total * pool.size.kib for pool in pools) // 1024
    floor = min(HOST_MIB, max(LEAST_MIB, total // 2))
    if pages and total - pages < floor:
        left = max(0, total - pages)
        yield Sign(evidence=f"{pages} of {total} MiB are hugepages; the host keeps {left} MiB, less than {floor}")


RULE: Final = Rule(
    name="pages-starve-host",
    severity=Severity.WARNING,
    sees="hugepages leave the host too little memory",
    why="the kernel cannot use them for anything else: it kills services, or does not come up after the next boot",
    hint="give pages back (nr_hugepages, or hugepages= of the boot loader); `nfvhost plan` works out how many fit",
    look=_look,
)
