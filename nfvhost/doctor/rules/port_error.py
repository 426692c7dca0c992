"""Ports that Open vSwitch could not open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence, interfaces
from nfvhost.doctor.finding import DATABASE, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    for bridge, interface in interfaces(need(evidence.database, DATABASE)):
        if interface.error is not None:
            yield Sign(evidence=f"port {bridge}/{interface.name} ({interface.type}): {interface.error}")


RULE: Final = Rule(
    name="port-error",
    severity=Severity.ERROR,
    sees="an interface with an error in the database of Open vSwitch",
    why="the port carries no packet; it stays so when its cause goes, as a NIC that was bound after the port was added",
    hint="remove the cause, then add the port again, or restart ovs-vswitchd; its log has more",
    look=_look,
)
