"""Kernel interfaces in a bridge of the userspace data path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import DATABASE, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    for bridge in need(evidence.database, DATABASE).bridges:
        names = sorted(
            interface.name for port in bridge.ports for interface in port.interfaces if interface.type == "system"
        )
        if bridge.datapath_type == "netdev" and names:
            yield Sign(evidence=f"bridge {bridge.name} of the userspace data path: {', '.join(names)}")


RULE: Final = Rule(
    name="mixed-data-path",
    severity=Severity.WARNING,
    sees="a kernel interface in a bridge with datapath_type=netdev",
    why="the main thread of ovs-vswitchd serves it, not a PMD core, packet by packet at a small part of the speed",
    hint="give it a port of type afxdp, or net_af_xdp by DPDK, or a bridge of the kernel's data path",
    look=_look,
)
