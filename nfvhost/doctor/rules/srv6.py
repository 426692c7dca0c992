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
    for bridge in need(evidence.database, DATABASE).bridges:
        for interface in (one for port in bridge.ports for one in port.interfaces if one.type == "srv6"):
            place = f"port {bridge.name}/{interface.name}"
            if bridge.datapath_type != "netdev":
                yield Sign(evidence=f"{place}: its bridge is of the kernel's data path, which has no SRv6")
            if version is not None and version < SRV6_SINCE:
                yield Sign(evidence=f"{place}: Open vSwitch {evidence.ovs_version} has no SRv6, 3.2 and later have")
            yield from _segments(place, interface)


def _segments(place: str, interface: Interface) -> Iterator[Sign]:
    text = dict(interface.options).get("srv6_segs", "")
    segments = [segment for segment in text.split(",") if segment.strip()]
    if len(segments) > _MOST:
        yield Sign(evidence=f"{place}: {len(segments)} segments; Open vSwitch takes {_MOST}")
    elif len(segments) > 1:
        yield Sign(
            evidence=f"{place}: {len(segments)} segments; Open vSwitch forgets all but the first when any setting of"
            " the port changes, and shows it nowhere in its database",
            severity=Severity.NOTE,
            hint="look for segs(...) in ovs-appctl dpctl/dump-flows; writing the option with another text, such as a"
            " comma at its end, brings them back",
        )


RULE: Final = Rule(
    name="srv6-port",
    severity=Severity.ERROR,
    sees="an srv6 port in the kernel's data path, with too many segments, or with several that may be forgotten",
    why="packets leave without their segments, or not at all",
    hint="datapath_type=netdev, Open vSwitch 3.2 or later, at most 6 segments",
    look=_look,
)
