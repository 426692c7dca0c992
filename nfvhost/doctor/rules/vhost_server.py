"""vhost-user sockets that Open vSwitch makes itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence, interfaces
from nfvhost.doctor.finding import DATABASE, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    for bridge, interface in interfaces(need(evidence.database, DATABASE)):
        if interface.type == "dpdkvhostuser":
            yield Sign(evidence=f"port {bridge}/{interface.name} is of type dpdkvhostuser: Open vSwitch is the server")


RULE: Final = Rule(
    name="vhost-server-mode",
    severity=Severity.WARNING,
    sees="a port of type dpdkvhostuser",
    why="after a restart of ovs-vswitchd no guest finds its socket again until it is restarted too; the type is"
    " deprecated",
    hint="type dpdkvhostuserclient with options:vhost-server-path, and QEMU as the server (Neutron does so)",
    look=_look,
)
