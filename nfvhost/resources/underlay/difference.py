"""From what is to what the tunnels want, place by place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.access.switch_network import Network
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.resources.underlay.place import RESOURCE, SET, Kind, Place, bridge_interface, value_at
from nfvhost.resources.underlay.target import Target, Want

_OLD: Final = "nfvhost set this for an earlier plan; this one does not name it"


def differences(network: Network | None, target: Target) -> tuple[Change, ...]:
    """What is to be written: what an earlier plan wanted goes first, last made first gone.

    What neither the plan names nor nfvhost has marked is never in it.
    """
    wanted = {want.place for want in target.wants}
    return (
        *(_change(place, value, None, _OLD) for place, value in _ours(network) if place not in wanted),
        *(
            _change(want.place, value, want.value, want.reason)
            for want in target.wants
            if not satisfied(want, value := value_at(network, want.place)) and not _made_by_itself(network, want)
        ),
    )


def satisfied(want: Want, value: str | None) -> bool:
    """Whether this value will do."""
    if want.place.kind is Kind.MTU:
        return value is not None and int(value) >= int(want.value)
    return value == want.value


def _made_by_itself(network: Network | None, want: Want) -> bool:
    """Whether an interface that is not there yet will most likely be so when it comes.

    Open vSwitch gives it the smallest MTU of the bridge's ports (ofproto/ofproto.c, update_mtu), the kernel gives it
    IPv6 where all new ones have it.
    """
    if network is not None and bridge_interface(network, want.place.bridge) is not None:
        # No IPv6 at all is nothing that could be switched on.
        return want.place.kind is Kind.IPV6 and value_at(network, want.place) is None
    return want.place.kind is Kind.MTU or (
        want.place.kind is Kind.IPV6 and (network is None or network.routing.ipv6 is not False)
    )


def _ours(network: Network | None) -> Iterator[tuple[Place, str]]:
    """What nfvhost has marked, of bridges that are still there."""
    if network is None:
        return
    routing = network.routing
    for neighbour in routing.neighbours:
        if neighbour.ours and bridge_interface(network, neighbour.interface) is not None:
            place = Place(kind=Kind.OVS_NEIGHBOUR, bridge=neighbour.interface, item=neighbour.address)
            # Open vSwitch keeps no marks: what it was told together with the kernel goes together with that.
            if value_at(network, place) == neighbour.mac:
                yield place, neighbour.mac
            yield Place(kind=Kind.NEIGHBOUR, bridge=neighbour.interface, item=neighbour.address), neighbour.mac
    for route in routing.routes:
        if route.ours:
            yield Place(kind=Kind.ROUTE, item=route.destination), route.way
    for address in routing.addresses:
        if address.ours and bridge_interface(network, address.interface) is not None:
            yield Place(kind=Kind.ADDRESS, bridge=address.interface, item=address.address), SET


def _change(place: Place, before: str | None, after: str | None, reason: str) -> Change:
    return Change(
        resource=RESOURCE,
        key=str(place),
        before=before,
        after=after,
        activation=Activation.NOW,
        # What was there may have been in use.
        disruption=Disruption.NONE if before is None or place.kind in {Kind.LINK, Kind.MTU} else Disruption.LINK,
        reason=reason,
    )
