"""A list of memory by node that DPDK refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import KEYS, Rule, Severity, Sign, need
from nfvhost.planner.packet_buffers import MAX_NODES

_KEYS: Final = ("dpdk-socket-mem", "dpdk-socket-limit")


def _look(evidence: Evidence) -> Iterator[Sign]:
    settings = dict(need(evidence.other_config, KEYS))
    most = MAX_NODES.get(evidence.host.model.architecture)
    for key in _KEYS:
        amounts = settings[key].split(",") if key in settings else []
        if most is not None and len(amounts) > most:
            yield Sign(evidence=f"{key} has {len(amounts)} numbers; DPDK's builds here know {most} nodes")
        if wrong := [amount for amount in amounts if not amount.strip().isdecimal()]:
            yield Sign(evidence=f"{key}={settings[key]}: {wrong[0]!r} is no number of MiB")


RULE: Final = Rule(
    name="socket-mem",
    severity=Severity.ERROR,
    sees="dpdk-socket-mem or dpdk-socket-limit that DPDK does not take",
    why="DPDK does not start, and every dpdk port with it",
    hint="write one number of MiB for each node up to the last one that is used, with commas and no blanks",
    look=_look,
)
