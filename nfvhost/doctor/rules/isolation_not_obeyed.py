"""Isolation that was asked for and that the kernel did not grant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.access.cpulist import parse_cpu_list
from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import ARGUMENTS, Rule, Severity, Sign, need
from nfvhost.inspect.cmdline import isolcpus
from nfvhost.model.cpuset import EMPTY, union


def _look(evidence: Evidence) -> Iterator[Sign]:
    args = need(evidence.host.kernel_args, ARGUMENTS)
    stated = need(evidence.stated_isolated, "/sys/devices/system/cpu/isolated is not to be seen")
    if missing := (isolcpus(args) & evidence.host.online) - stated:
        words = " ".join(f"isolcpus={value}" for value in evidence.args("isolcpus"))
        yield Sign(evidence=f"{words}; the kernel isolates {stated or 'none'}, and not {missing}")
    asked = union(parse_cpu_list(value) or EMPTY for value in evidence.args("nohz_full"))
    if evidence.nohz_full is not None and (missing := (asked & evidence.host.online) - evidence.nohz_full):
        words = " ".join(f"nohz_full={value}" for value in evidence.args("nohz_full"))
        yield Sign(evidence=f"{words}; the kernel stops the tick on {evidence.nohz_full or 'none'}, not on {missing}")


RULE: Final = Rule(
    name="isolation-not-obeyed",
    severity=Severity.WARNING,
    sees="isolcpus or nohz_full on the command line that the kernel did not follow",
    why="tasks or ticks are where nobody expects them; of two that differ the kernel obeys the first alone, and a"
    " kernel without CONFIG_NO_HZ_FULL none",
    hint="write each argument once; dmesg has 'Housekeeping' and 'NO_HZ' lines that say what was wrong",
    look=_look,
)
