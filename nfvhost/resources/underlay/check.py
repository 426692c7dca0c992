"""Why a network must not be changed so: what it would take from others, or never carry."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface

from nfvhost.access.routing import Address
from nfvhost.access.switch_network import Network
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.resources import Unmet
from nfvhost.resources.underlay.place import (
    DATAPATH,
    DEPARTING,
    RESOURCE,
    Kind,
    Place,
    bridge_interface,
    parse_key,
    parse_way,
    value_at,
)
from nfvhost.resources.underlay.target import Target

_SWITCH = "ovs_dpdk"


def problems(
    network: Network | None,
    target: Target,
    changes: tuple[Change, ...],
    *,
    planned: frozenset[str],
    departing: frozenset[Place],
) -> tuple[Problem, ...]:
    """All of them.

    `planned` are the bridges that the plan has Open vSwitch make, `departing` what an earlier plan wanted.
    """
    found: list[Problem] = [*target.problems]
    for change in changes:
        place = parse_key(change.key)
        way = parse_way(change.after)
        absent = _absent(network, way.bridge if way is not None else place.bridge, planned)
        if absent is not None:
            found.append(Unmet(what=absent, where=change.where, met_by=_SWITCH))
        elif network is not None:
            found += _taken(network, place, change, departing)
    if network is not None:
        found += _system_bridges(network, target, planned)
        found += _narrow(network, target)
        found += _without_ipv6(network, target)
    return tuple(found)


def findings(network: Network | None, target: Target) -> tuple[Problem, ...]:
    """What is worth saying and stops nothing."""
    return (*_unsteered(target), *_forgetful(target), *(_carved(network, target) if network is not None else ()))


def _absent(network: Network | None, bridge: str, planned: frozenset[str]) -> str | None:
    """Why the bridge has no interface; None where it has one, and where it is another kind of bridge for good."""
    if network is None:
        return "ovs-vswitchd is not running, and its bridges have no interfaces"
    there = next((one for one in network.bridges if one.name == bridge), None)
    if there is not None and there.datapath_type != DATAPATH:
        return f"{bridge} is a bridge of the {there.datapath_type} data path yet" if bridge in planned else None
    if bridge_interface(network, bridge) is None:
        return f"the bridge {bridge} has no interface yet"
    return None


def _taken(network: Network, place: Place, change: Change, departing: frozenset[Place]) -> Iterator[Problem]:
    """What others have made of the place."""
    where = change.where
    routing = network.routing
    match place.kind:
        case Kind.ADDRESS:
            yield from _address_taken(network, place, where, departing)
        case Kind.ROUTE:
            for route in routing.routes:
                if route.destination == place.item and route.way != change.after and not route.ours:
                    yield Problem(
                        what=f"someone else has a route to it: {route.way}; planned is {change.after}",
                        where=where,
                        hint=f"remove it (ip route del {route.destination}), or plan its gateway",
                    )
        case Kind.NEIGHBOUR:
            for one in routing.neighbours:
                held = (one.interface, one.address) == (place.bridge, place.item)
                if held and one.mac != change.after and not one.ours:
                    yield Problem(
                        what=f"someone else wrote down {one.mac} for it, planned is {change.after}",
                        where=where,
                        hint=f"remove it (ip neigh del {one.address} dev {one.interface}), or correct gatewayMac",
                    )
        case _:
            pass


def _address_taken(network: Network, place: Place, where: str, departing: frozenset[Place]) -> Iterator[Problem]:
    wanted = ip_interface(place.item)
    for other in network.routing.addresses:
        own = ip_interface(other.address)
        if own.version != wanted.version:
            continue
        goes = other.ours and Place(kind=Kind.ADDRESS, bridge=other.interface, item=other.address) in departing
        if own.ip == wanted.ip:
            yield _in_the_way(
                f"{other.interface} has this address already, as {other.address}",
                where,
                "a tunnel needs an address of its own: plan another one, or take that one away first",
                goes=goes,
            )
        elif other.interface != place.bridge and own.network == wanted.network and not own.ip.is_link_local:
            yield _in_the_way(
                f"{other.interface} is in {own.network} already ({other.address}); packets would go by either",
                where,
                "give the underlay a network of its own",
                goes=goes,
            )
    for route in network.routing.routes:
        way = parse_way(route.way)
        if way is None or way.bridge == place.bridge:
            continue
        gateway = ip_address(way.gateway)
        if gateway.version == wanted.version and gateway in wanted.network and not gateway.is_link_local:
            yield _in_the_way(
                f"the gateway {gateway} of the route to {route.destination} is in {wanted.network} and reached by "
                f"{way.bridge}; it would be looked for on {place.bridge}",
                where,
                "give the underlay a network of its own, or a longer underlayPrefix",
                goes=route.ours and Place(kind=Kind.ROUTE, item=route.destination) in departing,
            )


def _in_the_way(what: str, where: str, hint: str, *, goes: bool) -> Problem:
    if goes:
        return Unmet(what=what, where=where, hint=hint, met_by=DEPARTING)
    return Problem(what=what, where=where, hint=hint)


def dependents(network: Network, place: Place) -> tuple[Address, ...]:
    """Others' addresses that the kernel would remove together with this one (net/ipv4/devinet.c, __inet_del_ifa)."""
    interface = bridge_interface(network, place.bridge)
    first = next(
        (
            one
            for one in network.routing.addresses
            if (one.interface, one.address) == (place.bridge, place.item) and not one.secondary
        ),
        None,
    )
    if interface is None or interface.promotes or first is None:
        return ()
    within = ip_interface(first.address).network
    return tuple(
        one
        for one in network.routing.addresses
        if one.interface == place.bridge
        and one.secondary
        and not one.ours
        and ip_interface(one.address).network == within
    )


def _system_bridges(network: Network, target: Target, planned: frozenset[str]) -> Iterator[Problem]:
    for bridge in network.bridges:
        used = [end.name for end in target.ends if end.bridge == bridge.name]
        if used and bridge.datapath_type != DATAPATH and bridge.name not in planned:
            yield Problem(
                what=f"{bridge.name} is a bridge of the {bridge.datapath_type} data path, and the tunnels "
                f"{', '.join(used)} of the userspace data path cannot leave by it",
                where=RESOURCE,
                hint="name another underlayBridge",
            )


def _narrow(network: Network, target: Target) -> Iterator[Problem]:
    """Bridges with a port that drops the packets of a tunnel; Open vSwitch keeps its interface at the smallest one."""
    for want in target.wants:
        if want.place.kind is not Kind.MTU or value_at(network, want.place) is None:
            continue
        port_mtu = next((one.port_mtu for one in network.bridges if one.name == want.place.bridge), None)
        if port_mtu is not None and port_mtu < int(want.value):
            yield Problem(
                what=f"a port of {want.place.bridge} has an MTU of {port_mtu}, and the tunnels need {want.value}",
                where=f"{RESOURCE}: {want.place}",
                hint="raise it (mtu_request of the Interface), or plan with ovs.mtu",
            )


def _without_ipv6(network: Network, target: Target) -> Iterator[Problem]:
    for want in target.wants:
        there = bridge_interface(network, want.place.bridge)
        if want.place.kind is Kind.IPV6 and there is not None and there.ipv6 is None:
            yield Problem(
                what="the interface has no IPv6",
                where=f"{RESOURCE}: {want.place}",
                hint="boot without ipv6.disable=1; below an MTU of 1280 an interface has none either",
            )


def _unsteered(target: Target) -> Iterator[Problem]:
    for end in target.ends:
        if end.remote is None:
            yield Problem(
                what=f"tunnel {end.name} goes where flows say: no route is made for it",
                where=RESOURCE,
                hint=f"the network of {end.address} is reached as it is; add routes to others yourself",
            )


def _forgetful(target: Target) -> Iterator[Problem]:
    for want in target.wants:
        if want.place.kind is Kind.OVS_NEIGHBOUR:
            yield Problem(
                what="Open vSwitch forgets a neighbour after 15 minutes without a packet to it, and asks then",
                where=f"{RESOURCE}: {want.place}",
                hint="leave gatewayMac out where the gateway answers ARP or neighbour discovery; "
                "where it does not, keep the tunnel in use (BFD)",
            )


def _carved(network: Network, target: Target) -> Iterator[Problem]:
    """Networks of others that the underlay's own one lies in."""
    for want in target.wants:
        if want.place.kind is not Kind.ADDRESS:
            continue
        mine = ip_interface(want.place.item).network
        for other in network.routing.addresses:
            theirs = ip_interface(other.address).network
            within = mine.version == theirs.version and mine != theirs and mine.network_address in theirs
            if other.interface != want.place.bridge and within and theirs.prefixlen < mine.prefixlen:
                yield Problem(
                    what=f"{mine} is a part of {theirs}, which {other.interface} is in: this host reaches that part by "
                    f"{want.place.bridge} alone",
                    where=f"{RESOURCE}: {want.place}",
                    hint="give the underlay a network of its own",
                )
