"""SRv6 ports that do not do what they say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.access.ovs_rows import Interface
from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import DATABASE, Rule, Severity, Sign, need
from nfvhost.model.ovs_keys import SRV6_SINCE, release

# lib/netdev-native-tnl.h of Open vSwitch, SRV6_MAX_SEGS.
_MOST: Final = 6


def _look(evidence: Evidence) -> Iterator[Sign]:
    version = release(evidence.ovs_version or "")
    sent = dict(evidence.switch.segments) if evidence.switch is not None else {}
    for bridge in need(evidence.database, DATABASE).bridges:
        for interface in (one for port in bridge.ports for one in port.interfaces if one.type == "srv6"):
            place = f"port {bridge.name}/{interface.name}"
            if bridge.datapath_type != "netdev":
                yield Sign(evidence=f"{place}: its bridge is of the kernel's data path, which has no SRv6")
            if version is not None and version < SRV6_SINCE:
                yield Sign(evidence=f"{place}: Open vSwitch {evidence.ovs_version} has no SRv6, 3.2 and later have")
            yield from _segments(place, interface, sent.get(interface.name))


def _segments(place: str, interface: Interface, sent: tuple[str, ...] | None) -> Iterator[Sign]:
    text = dict(interface.options).get("srv6_segs", "")
    segments = [segment for segment in text.split(",") if segment.strip()]
    if len(segments) > _MOST:
        yield Sign(evidence=f"{place}: {len(segments)} segments; Open vSwitch takes {_MOST}")
    elif sent is not None and len(sent) < len(segments):
        yield Sign(
            evidence=f"{place}: {len(segments)} segments, and packets leave with {len(sent)}: Open vSwitch has"
            " forgotten the others, and its database does not show it",
            hint="nfvhost watch brings those of its own tunnels back and keeps them; for others, change any key of the"
            " port's row, such as other_config:remind=1",
        )
    elif len(segments) > 1:
        yield Sign(
            evidence=f"{place}: {len(segments)} segments; Open vSwitch forgets all but the first when it is"
            " reconfigured twice, and shows it nowhere in its database",
            severity=Severity.NOTE,
            hint="nfvhost watch keeps those of nfvhost's own tunnels (docs/tunnels.md)",
        )


RULE: Final = Rule(
    name="srv6-port",
    severity=Severity.ERROR,
    sees="an srv6 port in the kernel's data path, with too many segments, or with several that may be forgotten",
    why="packets leave without their segments, or not at all",
    hint="datapath_type=netdev, Open vSwitch 3.2 or later, at most 6 segments",
    look=_look,
)
