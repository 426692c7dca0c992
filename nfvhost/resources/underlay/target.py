"""What the plan's tunnels want of the network below them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Final

from nfvhost.errors import Problem
from nfvhost.model.encapsulation import overhead
from nfvhost.model.plan import Plan, TunnelPlan
from nfvhost.resources.underlay.place import SET, Kind, Place, Way

# options:remote_ip=flow: the flows say where to (vswitch.xml).
_FLOW: Final = "flow"
_IPV6: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """One value of one place, and why."""

    place: Place
    value: str  # of an MTU: at least
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The near side of a tunnel, and the first node on the way to its far side."""

    name: str  # the tunnel's
    bridge: str
    address: str  # "10.0.0.1/24"
    remote: str | None  # None where flows say it
    gateway: str | None  # None where the remote is on the link
    mac: str | None  # of the next hop
    mtu: int  # what the packets outside need

    @property
    def local(self) -> str:
        """The address alone."""
        return self.address.partition("/")[0]

    @property
    def ipv6(self) -> bool:
        """Whether the packets outside are IPv6."""
        return ":" in self.address

    @property
    def next_hop(self) -> str | None:
        """Whose Ethernet address the packets outside bear; None where only the flows know."""
        return self.gateway or self.remote


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """All that is wanted, in the order in which it can be made, and what the plan itself contradicts."""

    ends: tuple[End, ...]
    wants: tuple[Want, ...]
    problems: tuple[Problem, ...]


def target_of(plan: Plan) -> Target:
    """What the tunnels want; nothing of one whose addresses make no sense, which is a problem then."""
    ends: list[End] = []
    problems: list[Problem] = []
    for number, tunnel in enumerate(plan.tunnels):
        try:
            ends.append(_end(tunnel))
        except ValueError as error:
            problems.append(Problem(what=str(error), where=f"tunnels[{number}]", hint="make a new plan: nfvhost plan"))
    wants: dict[Place, Want] = {}
    for end in ends:
        for want in _wants(end):
            known = wants.get(want.place)
            if known is None:
                wants[want.place] = want
            elif want.place.kind is Kind.MTU:
                wants[want.place] = max(known, want, key=lambda one: int(one.value))
            elif known.value != want.value:
                what = f"two tunnels of the plan want it {known.value} and {want.value}"
                problems.append(Problem(what=what, where=f"underlay: {want.place}", hint="change one of the tunnels"))
    order = list(Kind)
    made = sorted(wants.values(), key=lambda want: order.index(want.place.kind))
    return Target(ends=tuple(ends), wants=tuple(made), problems=(*problems, *_torn(ends)))


def _end(tunnel: TunnelPlan) -> End:
    local = _address(tunnel.local)
    prefix = local.max_prefixlen if tunnel.underlay_prefix is None else tunnel.underlay_prefix
    outer = overhead(
        tunnel.type, ipv6=local.version == _IPV6, segments=max(1, len(tunnel.segments)), key=tunnel.key is not None
    )
    return End(
        name=tunnel.name,
        bridge=tunnel.underlay_bridge,
        address=str(ip_interface(f"{local}/{prefix}")),
        remote=None if tunnel.remote == _FLOW else _same_family(local, tunnel.remote),
        gateway=None if tunnel.gateway is None else _same_family(local, tunnel.gateway),
        mac=None if tunnel.gateway_mac is None else tunnel.gateway_mac.lower(),
        mtu=tunnel.mtu + outer,
    )


def _same_family(local: IPv4Address | IPv6Address, text: str) -> str:
    other = _address(text)
    if other.version != local.version:
        raise ValueError(f"{text} and {local} are of different families")
    return str(other)


def _wants(end: End) -> Iterator[Want]:
    of = f"tunnel {end.name}"
    yield Want(
        place=Place(kind=Kind.MTU, bridge=end.bridge),
        value=str(end.mtu),
        reason=f"{of}: its packets have up to {end.mtu} byte with the outer headers",
    )
    if end.ipv6:
        yield Want(place=Place(kind=Kind.IPV6, bridge=end.bridge), value="on", reason=f"{of} runs over IPv6")
    yield Want(
        place=Place(kind=Kind.LINK, bridge=end.bridge),
        value="up",
        reason=f"{of}: an interface that is down has no routes",
    )
    yield Want(
        place=Place(kind=Kind.ADDRESS, bridge=end.bridge, item=end.address),
        value=SET,
        reason=f"{of} sends from it and listens on it",
    )
    if end.gateway is not None and end.remote is not None:
        yield Want(
            place=Place(kind=Kind.ROUTE, item=str(ip_interface(end.remote).network)),
            value=str(Way(gateway=end.gateway, bridge=end.bridge)),
            reason=f"{of} goes there",
        )
    if end.mac is not None and end.next_hop is not None:
        reason = f"{of}: the plan knows its next hop, so that nobody has to ask"
        for kind in (Kind.NEIGHBOUR, Kind.OVS_NEIGHBOUR):
            place = Place(kind=kind, bridge=end.bridge, item=end.next_hop)
            yield Want(place=place, value=end.mac, reason=reason)


def _torn(ends: list[End]) -> Iterator[Problem]:
    """Local addresses that the plan puts into two places."""
    places: dict[str, End] = {}
    for end in ends:
        first = places.setdefault(end.local, end)
        if (first.bridge, first.address) != (end.bridge, end.address):
            yield Problem(
                what=f"tunnel {first.name} has {first.address} on {first.bridge}, tunnel {end.name} has "
                f"{end.address} on {end.bridge}",
                where=f"underlay: {Place(kind=Kind.ADDRESS, bridge=end.bridge, item=end.address)}",
                hint="give both the same underlayBridge and underlayPrefix, or other addresses",
            )


def _address(text: str) -> IPv4Address | IPv6Address:
    """The address; ValueError where it is none, or names an interface too (`fe80::1%eth0`: any text may follow)."""
    if "%" in text:
        raise ValueError(f"{text!r} is no address without an interface")
    return ip_address(text)
