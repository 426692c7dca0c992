"""From one value of a place to another."""

from __future__ import annotations

from nfvhost.access.switch_network import SwitchNetwork
from nfvhost.errors import ApplyError
from nfvhost.resources.underlay.place import RESOURCE, Kind, Place, parse_way


def write(door: SwitchNetwork, place: Place, before: str | None, after: str | None) -> None:
    """Nothing, once the place has that value; None: it is to go. Each is one message to the kernel or the switch."""
    match place.kind:
        case Kind.MTU:
            door.set_mtu(place.bridge, int(after or 0))
        case Kind.IPV6:
            door.set_ipv6(place.bridge, on=after == "on")
        case Kind.LINK:
            door.set_up(place.bridge, up=after == "up")
        case Kind.ADDRESS:
            (door.add_address if after is not None else door.remove_address)(place.bridge, place.item)
        case Kind.ROUTE:
            _write_route(door, place, before, after)
        case Kind.NEIGHBOUR | Kind.OVS_NEIGHBOUR:
            _write_neighbour(door, place, after)


def _write_neighbour(door: SwitchNetwork, place: Place, mac: str | None) -> None:
    kernel = place.kind is Kind.NEIGHBOUR
    if mac is None:
        (door.remove_neighbour if kernel else door.forget_tunnel_neighbour)(place.bridge, place.item)
    else:
        (door.set_neighbour if kernel else door.set_tunnel_neighbour)(place.bridge, place.item, mac)


def _write_route(door: SwitchNetwork, place: Place, before: str | None, after: str | None) -> None:
    way = parse_way(after if after is not None else before)
    if way is None:
        raise ApplyError("leads elsewhere than by a gateway: not nfvhost's", where=f"{RESOURCE}: {place}")
    if after is None:
        door.remove_route(place.item, gateway=way.gateway, interface=way.bridge)
    else:
        door.set_route(place.item, gateway=way.gateway, interface=way.bridge, replace=before is not None)
