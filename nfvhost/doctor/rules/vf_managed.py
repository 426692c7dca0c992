"""VFs that a network manager has set up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    for keeper in need(evidence.keepers, "no network manager that tells what it keeps is to be seen"):
        yield Sign(evidence=f"{keeper.netdev} is a VF, and {keeper.name} has set it up")


RULE: Final = Rule(
    name="vf-managed",
    severity=Severity.WARNING,
    sees="a virtual function that NetworkManager or systemd-networkd has set up",
    why="it gets an address or a route, and the manager takes it back from a guest that returns it",
    hint="an unmanaged-devices entry of NetworkManager, or Unmanaged=yes of a .network file, for the VFs of this port",
    look=_look,
)
