"""Keys that Open vSwitch never reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import KEYS, Rule, Severity, Sign, need
from nfvhost.resources.ovs_dpdk.finding import misspelt


def _look(evidence: Evidence) -> Iterator[Sign]:
    for problem in misspelt(need(evidence.other_config, KEYS)):
        yield Sign(evidence=f"{problem.where}: {problem.what}", hint=problem.hint and problem.hint.partition(";")[0])


RULE: Final = Rule(
    name="ovs-key-misspelt",
    severity=Severity.WARNING,
    sees="a key in other_config that is almost one that Open vSwitch reads",
    why="Open vSwitch keeps any key and ignores those that it does not know, without a word",
    hint="write it under its right name, and remove this one",
    look=_look,
)
