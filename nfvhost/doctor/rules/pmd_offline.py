"""PMD threads for CPUs that do not run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import PMD_MASK, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    text = dict(evidence.other_config or ()).get("pmd-cpu-mask", "0")
    if evidence.pmd_mask is None and text.strip("0xX"):
        yield Sign(evidence=f"pmd-cpu-mask={text} is no hexadecimal mask")
        return
    missing = need(evidence.pmd_mask, PMD_MASK) - evidence.host.online
    if missing:
        yield Sign(evidence=f"{missing.named}: in pmd-cpu-mask; online are {evidence.host.online}")


RULE: Final = Rule(
    name="pmd-offline",
    severity=Severity.WARNING,
    sees="CPUs of pmd-cpu-mask that are offline or not there, or a mask that is none",
    why="Open vSwitch makes fewer PMD threads than the mask has bits, and says so only in its log",
    hint="write a mask of online CPUs; a hexadecimal mask has CPU 0 at its right end",
    look=_look,
)
