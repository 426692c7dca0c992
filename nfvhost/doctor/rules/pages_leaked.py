"""Hugepages that files hold for nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import RUNNING, Rule, Severity, Sign, need

_SHOWN: Final = 3


def _look(evidence: Evidence) -> Iterator[Sign]:
    for held in need(evidence.held, RUNNING):
        if held.files and not held.processes:
            more = f" and {len(held.files) - _SHOWN} more" if len(held.files) > _SHOWN else ""
            yield Sign(
                evidence=f"pages of {held.size} are used, no process has one mapped, and there are"
                f" {', '.join(held.files[:_SHOWN])}{more}"
            )


RULE: Final = Rule(
    name="pages-leaked",
    severity=Severity.WARNING,
    sees="hugepages in files of processes that have ended",
    why="the pages stay taken until the files go: the next DPDK process finds too few",
    hint="delete these files once you are sure that no DPDK process is to start from them",
    look=_look,
)
