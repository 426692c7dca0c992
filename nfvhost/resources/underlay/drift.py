"""What of a written network does not carry tunnels, as the kernel and Open vSwitch themselves see it."""

from __future__ import annotations

from collections.abc import Iterator

from nfvhost.access.switch_network import Network
from nfvhost.model.change import Change
from nfvhost.model.report import Drift
from nfvhost.resources.underlay.place import RESOURCE, Kind, Place, parse_key
from nfvhost.resources.underlay.target import End, Target

_HINTS = {
    Kind.MTU: "Open vSwitch keeps it at the smallest MTU of the bridge's ports",
    Kind.LINK: "a boot, and a bridge that is made anew, forget it; apply the plan again",
    Kind.ADDRESS: "a boot, and a bridge that is made anew, forget it; apply the plan again",
    Kind.OVS_NEIGHBOUR: "Open vSwitch forgets it at a restart and after 15 minutes without a packet, and believes ARP; "
    "apply the plan again",
}


def drifts(network: Network | None, target: Target, changes: tuple[Change, ...]) -> tuple[Drift, ...]:
    """Everything that is not as planned: what differs, then addresses not in use, then what Open vSwitch does."""
    return (
        *(Drift.of(change, hint=_HINTS.get(parse_key(change.key).kind)) for change in changes),
        *(() if network is None else _unusable(network, target)),
        *(() if network is None else _paths(network, target, changes)),
    )


def _unusable(network: Network, target: Target) -> Iterator[Drift]:
    planned = {(end.bridge, end.address) for end in target.ends}
    for one in network.routing.addresses:
        if (one.interface, one.address) not in planned or not (one.tentative or one.duplicate):
            continue
        yield Drift(
            resource=RESOURCE,
            key=f"{Place(kind=Kind.ADDRESS, bridge=one.interface, item=one.address)} state",
            planned="in use",
            actual="another node on the link has it" if one.duplicate else "still being looked for on the link",
            hint="find that node (ip -6 neigh), or plan another address" if one.duplicate else None,
        )


def _paths(network: Network, target: Target, changes: tuple[Change, ...]) -> Iterator[Drift]:
    """Where Open vSwitch would send the packets of each tunnel; what the kernel lacks already is said once."""
    absent = {change.key for change in changes}
    found = {path.destination: path for path in network.paths}
    told = set()
    for end in target.ends:
        if absent & {str(place) for place in _below(end)}:
            continue
        for destination, planned in (
            (end.local, _shown(end.bridge, None)),
            (end.remote, _shown(end.bridge, end.gateway)),
        ):
            if destination is None or destination in told:
                continue
            told.add(destination)
            path = found.get(destination)
            actual = None if path is None else _shown(path.interface, path.gateway)
            if actual != planned:
                yield Drift(
                    resource=RESOURCE,
                    key=f"ovs-route {destination}",
                    planned=planned,
                    actual=actual,
                    hint="what Open vSwitch has: ovs-appctl ovs/route/show; it copies the kernel's routes that have a "
                    "source address on their interface",
                )


def _below(end: End) -> Iterator[Place]:
    yield Place(kind=Kind.LINK, bridge=end.bridge)
    yield Place(kind=Kind.ADDRESS, bridge=end.bridge, item=end.address)


def _shown(interface: str, gateway: str | None) -> str:
    return f"dev {interface}" if gateway is None else f"via {gateway} dev {interface}"
