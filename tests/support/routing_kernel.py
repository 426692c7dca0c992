"""The network around a switch on a scratch machine: a kernel's and Open vSwitch's few reactions, kept in one file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final

from scratch import ScratchRoot

from nfvhost.access.routing import Address, Interface, Neighbour, Route, Routing
from nfvhost.access.switch_network import Network, SwitchBridge, TunnelNeighbour, TunnelPath
from nfvhost.engine.stored import restored, stored
from nfvhost.errors import ApplyError

# Not a file of any kernel's: what a kernel would keep in memory.
NETWORK: Final = "/network.json"
_IPV6: Final = 6


def network(*bridges: str, up: bool = False, mtu: int = 1500, ipv6: bool = True) -> Network:
    """A switch with these bridges, their interfaces as ovs-vswitchd makes them, and eth0 with addresses of its own."""
    made = tuple(Interface(name=name, up=up, mtu=mtu, ipv6=ipv6, promotes=False) for name in bridges)
    eth0 = Interface(name="eth0", up=True, mtu=1500, ipv6=True, promotes=False)
    addresses = tuple(address("eth0", text) for text in ("192.0.2.2/24", "2001:db8::2/64"))
    return Network(
        routing=Routing(
            interfaces=(*made, eth0),
            addresses=addresses,
            routes=(
                Route(destination="0.0.0.0/0", way="via 192.0.2.1 dev eth0", ours=False),
                Route(destination="192.0.2.0/24", way="dev eth0", ours=False),
            ),
            neighbours=(),
            ipv6=ipv6,
        ),
        bridges=tuple(SwitchBridge(name=name, datapath_type="netdev", port_mtu=mtu) for name in bridges),
        paths=(),
        neighbours=(),
    )


def address(interface: str, text: str, **facts: bool) -> Address:
    """An address of someone else, in use."""
    known = dict.fromkeys(("ours", "secondary", "tentative", "duplicate"), False)
    return Address(interface=interface, address=text, **{**known, **facts})


def with_routing(one: Network, **parts: Any) -> Network:  # noqa: ANN401 - fields of Routing
    """The same with other routing."""
    return replace(one, routing=replace(one.routing, **parts))


def an_earlier_plan(*, ipv6: bool = True, others: bool = True) -> Network:
    """What a plan with another gateway and one tunnel more has left; eth0 is someone else's.

    `ipv6`: whether new interfaces have it; br-phy, which nfvhost has made, has. With `others`, 10.0.0.77 and the way to
    10.8.0.0/16 are someone else's too.
    """
    made = SwitchBridge(name="br-phy", datapath_type="netdev", port_mtu=1500, external_ids=(("nfvhost", "made"),))
    bare = replace(network("br-phy", up=True, ipv6=ipv6), bridges=(made,))
    ours = Address(
        interface="br-phy", address="10.0.0.1/24", ours=True, secondary=False, tentative=False, duplicate=False
    )
    old = replace(ours, address="10.7.7.1/24")
    ways = {"10.9.9.9/32": "via 10.0.0.2 dev br-phy", "10.9.9.5/32": "via 10.7.7.2 dev br-phy"}
    networks = {"10.0.0.0/24": "dev br-phy", "10.7.7.0/24": "dev br-phy"}
    if others:
        networks["10.8.0.0/16"] = "via 10.0.0.4 dev br-phy"
    hosts = ("10.0.0.2", "10.0.0.77") if others else ("10.0.0.2",)
    mac = "02:00:00:00:00:02"
    return replace(
        with_routing(
            bare,
            interfaces=tuple(replace(one, ipv6=True) for one in bare.routing.interfaces),
            addresses=(*bare.routing.addresses, ours, old),
            routes=(
                *bare.routing.routes,
                *(Route(destination=to, way=way, ours=True) for to, way in ways.items()),
                *(Route(destination=to, way=way, ours=False) for to, way in networks.items()),
            ),
            neighbours=tuple(
                Neighbour(interface="br-phy", address=one, mac=mac, ours=one == "10.0.0.2") for one in hosts
            ),
        ),
        neighbours=tuple(TunnelNeighbour(bridge="br-phy", address=one, mac=mac) for one in hosts),
    )


def file_of(one: Network) -> dict[str, str]:
    """The file that holds it, for a case."""
    parts = ("addresses", "interfaces", "neighbours", "routes")
    ordered = with_routing(
        replace(one, neighbours=tuple(sorted(one.neighbours, key=repr))),
        **{part: tuple(sorted(getattr(one.routing, part), key=repr)) for part in parts},
    )
    return {NETWORK: json.dumps(stored(ordered, Network), indent=1)}


@dataclass(frozen=True)
class RoutingKernel:
    """The door to it; each change is one call that the machine's kernel counts, refuses or does not live to see."""

    root: ScratchRoot

    def load(self) -> Network | None:
        """All that is there; None where no switch runs."""
        text = self.root.read_text(NETWORK)
        if text is None:
            return None
        loaded: Network = restored(json.loads(text), Network)
        return loaded

    def save(self, one: Network) -> None:
        """Nothing; somebody else made it so."""
        (self.root.directory / NETWORK.strip("/")).write_text(file_of(one)[NETWORK])

    def read(self, destinations: Collection[str] = ()) -> Network | None:
        now = self.load()
        if now is None:
            return None
        found = (_path(now, destination) for destination in destinations)
        return replace(now, paths=tuple(path for path in found if path is not None))

    def has_tunnels(self) -> bool:
        return self.load() is not None

    def set_mtu(self, interface: str, mtu: int) -> None:
        def change(now: Network) -> Network:
            # ofproto/ofproto.c, update_mtu: a bridge's own interface is never larger than the smallest of its ports.
            limit = next((one.port_mtu for one in now.bridges if one.name == interface), None)
            return _interface(now, interface, mtu=min(mtu, limit or mtu))

        self._change("mtu", interface, change)

    def set_up(self, interface: str, *, up: bool) -> None:
        def change(now: Network) -> Network:
            now = _interface(now, interface, up=up)
            if up:
                return _connected(now, interface)
            # fib_disable_ip of net/ipv4/fib_frontend.c; addrconf_ifdown of net/ipv6/addrconf.c takes the addresses too.
            kept = tuple(one for one in now.routing.addresses if one.interface != interface or ":" not in one.address)
            routes = tuple(one for one in now.routing.routes if not one.way.endswith(f"dev {interface}"))
            return with_routing(now, addresses=kept, routes=routes)

        self._change("link", interface, change)

    def set_ipv6(self, interface: str, *, on: bool) -> None:
        def change(now: Network) -> Network:
            now = _interface(now, interface, ipv6=on)
            kept = (one for one in now.routing.addresses if on or one.interface != interface or ":" not in one.address)
            return with_routing(now, addresses=tuple(kept))

        self._change("ipv6", interface, change)

    def add_address(self, interface: str, address: str) -> None:
        def change(now: Network) -> Network:
            new = ip_interface(address)
            there = next(one for one in now.routing.interfaces if one.name == interface)
            if new.version == _IPV6 and not there.ipv6:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))  # net/ipv6/addrconf.c, addrconf_add_dev
            held = [one for one in now.routing.addresses if one.interface == interface]
            if any(one.address == address for one in held):
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            # net/ipv4/devinet.c, __inet_insert_ifa: the second of a network hangs on the first.
            second = new.version != _IPV6 and any(ip_interface(one.address).network == new.network for one in held)
            made = Address(
                interface=interface, address=address, ours=True, secondary=second, tentative=False, duplicate=False
            )
            return _connected(with_routing(now, addresses=(*now.routing.addresses, made)), interface)

        self._change("address", f"{interface} {address}", change)

    def remove_address(self, interface: str, address: str) -> None:
        def change(now: Network) -> Network:
            going = next(
                (one for one in now.routing.addresses if (one.interface, one.address) == (interface, address)), None
            )
            if going is None:
                raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            within = ip_interface(address).network
            promotes = next(one.promotes for one in now.routing.interfaces if one.name == interface)
            # net/ipv4/devinet.c, __inet_del_ifa: those that hang on it go too, unless they are promoted.
            kept = tuple(
                one
                for one in now.routing.addresses
                if one is not going
                and (
                    going.secondary
                    or promotes
                    or one.interface != interface
                    or not one.secondary
                    or ip_interface(one.address).network != within
                )
            )
            still = any(one.interface == interface and ip_interface(one.address).network == within for one in kept)
            gone = Route(destination=str(within), way=f"dev {interface}", ours=False)
            routes = tuple(one for one in now.routing.routes if still or one != gone)
            return with_routing(now, addresses=kept, routes=routes)

        self._change("address", f"-{interface} {address}", change)

    def set_route(self, destination: str, *, gateway: str, interface: str, replace: bool = False) -> None:
        def change(now: Network) -> Network:
            near = any(
                one.way == f"dev {interface}" and ip_address(gateway) in ip_network(one.destination)
                for one in now.routing.routes
            )
            if not near:
                raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))  # fib_check_nh, ip6_route_check_nh
            others = tuple(one for one in now.routing.routes if one.destination != destination)
            if len(others) < len(now.routing.routes) and not replace:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            made = Route(destination=destination, way=f"via {gateway} dev {interface}", ours=True)
            return with_routing(now, routes=(*others, made))

        self._change("route", destination, change)

    def remove_route(self, destination: str, *, gateway: str, interface: str) -> None:
        def change(now: Network) -> Network:
            way = f"via {gateway} dev {interface}"
            kept = tuple(one for one in now.routing.routes if (one.destination, one.way) != (destination, way))
            if len(kept) == len(now.routing.routes):
                raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
            return with_routing(now, routes=kept)

        self._change("route", f"-{destination}", change)

    def set_neighbour(self, interface: str, address: str, mac: str) -> None:
        made = Neighbour(interface=interface, address=address, mac=mac, ours=True)
        self._change(
            "neighbour",
            f"{interface} {address}",
            lambda now: with_routing(now, neighbours=(*_neighbours(now, interface, address), made)),
        )

    def remove_neighbour(self, interface: str, address: str) -> None:
        self._change(
            "neighbour",
            f"-{interface} {address}",
            lambda now: with_routing(now, neighbours=_neighbours(now, interface, address)),
        )

    def set_tunnel_neighbour(self, bridge: str, address: str, mac: str) -> None:
        made = TunnelNeighbour(bridge=bridge, address=address, mac=mac)
        self._change(
            "ovs-neighbour",
            f"{bridge} {address}",
            lambda now: replace(now, neighbours=(*_others(now, bridge, address), made)),
        )

    def forget_tunnel_neighbour(self, bridge: str, address: str) -> None:
        self._change(
            "ovs-neighbour",
            f"-{bridge} {address}",
            lambda now: replace(now, neighbours=_others(now, bridge, address)),
        )

    def _change(self, call: str, place: str, change: Callable[[Network], Network]) -> None:
        try:
            self.root.changing(call, place)
            now = self.load()
            assert now is not None, "nobody writes where no switch runs"
            self.save(change(now))
        except OSError as error:
            raise ApplyError(f"the kernel refuses: {error.strerror}", where=place) from error


def _interface(now: Network, name: str, **facts: Any) -> Network:  # noqa: ANN401 - fields of Interface
    return with_routing(
        now,
        interfaces=tuple(replace(one, **facts) if one.name == name else one for one in now.routing.interfaces),
    )


def _connected(now: Network, interface: str) -> Network:
    """With a route to the network of each address of an interface that is up."""
    if not next(one.up for one in now.routing.interfaces if one.name == interface):
        return now
    held = (one for one in now.routing.addresses if one.interface == interface)
    wanted = (
        Route(destination=str(ip_interface(one.address).network), way=f"dev {interface}", ours=False) for one in held
    )
    new = tuple(route for route in dict.fromkeys(wanted) if route not in now.routing.routes)
    return with_routing(now, routes=(*now.routing.routes, *new))


def _neighbours(now: Network, interface: str, address: str) -> tuple[Neighbour, ...]:
    return tuple(one for one in now.routing.neighbours if (one.interface, one.address) != (interface, address))


def _others(now: Network, bridge: str, address: str) -> tuple[TunnelNeighbour, ...]:
    return tuple(one for one in now.neighbours if (one.bridge, one.address) != (bridge, address))


def _path(now: Network, destination: str) -> TunnelPath | None:
    """As ovs_router_lookup of lib/ovs-router.c: own addresses, then the longest prefix that has a source address."""
    wanted = ip_address(destination)
    for one in now.routing.addresses:
        if ip_interface(one.address).ip == wanted:
            return TunnelPath(destination=destination, interface=one.interface, gateway=None, source=destination)
    found = []
    for route in now.routing.routes:
        within = ip_network(route.destination)
        words = route.way.split()
        if within.version != wanted.version or wanted not in within or "dev" not in words:
            continue
        interface = words[-1]
        gateway = words[1] if words[0] == "via" else None
        near = ip_address(gateway) if gateway is not None else wanted
        source = next(
            (
                str(own.ip)
                for one in now.routing.addresses
                if one.interface == interface and near in (own := ip_interface(one.address)).network
            ),
            None,
        )
        if source is not None:
            path = TunnelPath(destination=destination, interface=interface, gateway=gateway, source=source)
            found.append((within.prefixlen, path))
    return max(found, key=lambda one: one[0])[1] if found else None
