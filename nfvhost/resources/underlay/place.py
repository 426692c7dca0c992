"""The key of a change, as text and as a place, and what is there.

mtu br-phy                      1550
ipv6 br-phy                     on, off
link br-phy                     up, down
address br-phy 10.0.0.1/24      set
route 10.9.9.9/32               via 10.0.0.2 dev br-phy
neighbour br-phy 10.0.0.2       02:00:00:00:00:02
ovs-neighbour br-phy 10.0.0.2   02:00:00:00:00:02
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nfvhost.access.routing import Interface
from nfvhost.access.switch_network import Network
from nfvhost.errors import ApplyError

RESOURCE: Final = "underlay"
DEPARTING: Final = "departing_underlay"
# Of any place: who gives it up takes nothing from anybody.
WITHOUT: Final = frozenset({None, "down", "off"})
SET: Final = "set"
# The tunnels of a bridge of the kernel's own data path are the kernel's, and look at other tables.
DATAPATH: Final = "netdev"
_WAY: Final = re.compile(r"via (\S+) dev (\S+)")
_INTERFACE_WORDS: Final = 2


class Kind(StrEnum):
    """What a place holds, in the order in which it can be made."""

    MTU = "mtu"
    IPV6 = "ipv6"
    LINK = "link"
    ADDRESS = "address"
    ROUTE = "route"
    NEIGHBOUR = "neighbour"
    OVS_NEIGHBOUR = "ovs-neighbour"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One setting of one interface, or one route."""

    kind: Kind
    bridge: str = ""  # of all but routes
    item: str = ""  # the address, the neighbour's address, the destination

    def __str__(self) -> str:
        return " ".join(word for word in (self.kind, self.bridge, self.item) if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where a route leads."""

    gateway: str
    bridge: str

    def __str__(self) -> str:
        return f"via {self.gateway} dev {self.bridge}"


def parse_key(key: str) -> Place:
    """The place of a text that a place made; names of interfaces hold no blanks (net/core/dev.c, dev_valid_name)."""
    kind, *words = key.split(" ")
    if kind == Kind.ROUTE and len(words) == 1:
        return Place(kind=Kind.ROUTE, item=words[0])
    if kind in set(Kind) and 1 <= len(words) <= _INTERFACE_WORDS:
        return Place(kind=Kind(kind), bridge=words[0], item=" ".join(words[1:]))
    raise ApplyError("is no setting of an underlay", where=f"{RESOURCE}: {key}")


def parse_way(text: str | None) -> Way | None:
    """The way of a text that a way made; None where it is another kind of route, or none."""
    match = _WAY.fullmatch(text or "")
    return Way(gateway=match[1], bridge=match[2]) if match else None


def bridge_interface(network: Network, name: str) -> Interface | None:
    """The own interface of a bridge of the userspace data path; None where it, or the bridge, is not there.

    An interface of that name that is no such bridge's is nobody's business here.
    """
    if not any(bridge.name == name and bridge.datapath_type == DATAPATH for bridge in network.bridges):
        return None
    return next((one for one in network.routing.interfaces if one.name == name), None)


def value_at(network: Network | None, place: Place) -> str | None:
    """What is there; None where it is not there, or the bridge is not."""
    if network is None:
        return None
    if place.kind is Kind.ROUTE:
        found = [one for one in network.routing.routes if one.destination == place.item]
        return next((one.way for one in (*(one for one in found if one.ours), *found)), None)
    interface = bridge_interface(network, place.bridge)
    if interface is None:
        return None
    value: str | None
    match place.kind:
        case Kind.LINK:
            value = "up" if interface.up else "down"
        case Kind.MTU:
            value = str(interface.mtu)
        case Kind.IPV6:
            value = None if interface.ipv6 is None else "on" if interface.ipv6 else "off"
        case Kind.ADDRESS:
            held = {one.address for one in network.routing.addresses if one.interface == place.bridge}
            value = SET if place.item in held else None
        case Kind.NEIGHBOUR:
            kept = {one.address: one.mac for one in network.routing.neighbours if one.interface == place.bridge}
            value = kept.get(place.item)
        case Kind.OVS_NEIGHBOUR:
            value = {one.address: one.mac for one in network.neighbours if one.bridge == place.bridge}.get(place.item)
    return value
