"""Interrupts where there should be none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence, Interrupt
from nfvhost.doctor.finding import Rule, Severity, Sign, UnseenError, need
from nfvhost.model.cpuset import EMPTY, CpuSet

_SHOWN: Final = 4


def _look(evidence: Evidence) -> Iterator[Sign]:
    seen = need(evidence.interrupts, "interrupts are counted on the running machine alone")
    quiet = evidence.isolated | (evidence.pmd_cpus or EMPTY)
    if not quiet:
        raise UnseenError("no CPU is isolated, and none polls")
    hits = sorted(((_times(one, quiet), one) for one in seen), key=lambda hit: (-hit[0], hit[1].number))
    hits = [hit for hit in hits if hit[0]]
    if hits:
        where = CpuSet(cpu for _, one in hits for cpu, _ in one.counts if cpu in quiet)
        told = ", ".join(f"{one.number} {one.name} {times} times" for times, one in hits[:_SHOWN])
        more = f" and {len(hits) - _SHOWN} others" if len(hits) > _SHOWN else ""
        yield Sign(evidence=f"within {hits[0][1].watched_s:.1f} s on {where.named}: {told}{more}")


def _times(interrupt: Interrupt, cpus: CpuSet) -> int:
    return sum(count for cpu, count in interrupt.counts if cpu in cpus)


RULE: Final = Rule(
    name="interrupts-on-isolated",
    severity=Severity.WARNING,
    sees="interrupts of devices that came in on isolated or polling CPUs while we watched",
    why="each one stops the PMD thread or the guest there for some microseconds",
    hint="write the other CPUs to /proc/irq/<number>/smp_affinity_list, boot with irqaffinity=, and give irqbalance the"
    " CPUs to spare; the kernel moves no managed interrupt without isolcpus=managed_irq",
    look=_look,
)
