"""From what is to what the tunnels want, place by place."""

from __future__ import annotations

from collections.abc import Iterator

from nfvhost.access.switch_network import Network
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.plan import Plan
from nfvhost.resources.ovs_dpdk.mark import read_mark
from nfvhost.resources.underlay.place import RESOURCE, SET, WITHOUT, Kind, Place, bridge_interface, value_at
from nfvhost.resources.underlay.target import Target, Want, target_of


def differences(network: Network | None, target: Target) -> tuple[Change, ...]:
    """What is to be written, in the order in which it can be made."""
    return tuple(
        change_of(RESOURCE, want.place, value, want.value, want.reason)
        for want in target.wants
        if not satisfied(want, value := value_at(network, want.place)) and not _made_by_itself(network, want)
    )


def departures(network: Network | None, plan: Plan) -> Iterator[tuple[Place, str, str | None]]:
    """What an earlier plan wanted and this one does not, what is there, and what is to be; last made first gone.

    What nfvhost has not marked is never in it. A route that is to lead elsewhere goes and is made anew: the old way may
    be gone by then. The interface of a bridge that goes is made as a new one is, so that it can be put back.
    """
    if network is None:
        return
    wanted = {want.place: want.value for want in target_of(plan).wants}
    bridges = _departing_bridges(network, plan)
    for place, value in _ours(network):
        if (value != wanted.get(place)) if place.kind is Kind.ROUTE else place not in wanted:
            yield place, value, None
    for interface in network.routing.interfaces:
        if interface.name in bridges:
            if interface.up:
                yield Place(kind=Kind.LINK, bridge=interface.name), "up", "down"
            if interface.ipv6 and network.routing.ipv6 is False:
                yield Place(kind=Kind.IPV6, bridge=interface.name), "on", "off"


def _departing_bridges(network: Network, plan: Plan) -> set[str]:
    """Those that nfvhost has made and the plan does not name."""
    if plan.ovs is None:
        return set()
    planned = {bridge.name for bridge in plan.ovs.bridges}
    made = {one.name for one in network.bridges if (mark := read_mark(one.external_ids)) is not None and mark.made}
    return made - planned


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


def _ours(network: Network) -> Iterator[tuple[Place, str]]:
    """What nfvhost has marked, of bridges that are still there."""
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


def change_of(resource: str, place: Place, before: str | None, after: str | None, reason: str) -> Change:
    """The change of one place."""
    return Change(
        resource=resource,
        key=str(place),
        before=before,
        after=after,
        activation=Activation.NOW,
        # What was there may have been in use.
        disruption=Disruption.LINK if before not in WITHOUT and place.kind is not Kind.MTU else Disruption.NONE,
        reason=reason,
    )
