"""The network around a running ovs-vswitchd: the kernel's in its namespace, and its own tables for tunnels.

The bridges' own interfaces are there, in the namespace of the process, and nowhere else: a sandbox has one of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from nfvhost.access import routing, tunnel_tables
from nfvhost.access.namespace import call_inside
from nfvhost.access.ovs_rows import Pairs
from nfvhost.access.ovsdb import connected, socket_path
from nfvhost.access.root import Root
from nfvhost.access.routing import Routing
from nfvhost.access.tunnel_tables import TunnelNeighbour, TunnelPath
from nfvhost.access.vswitchd import Vswitchd, find_vswitchd
from nfvhost.errors import PreconditionError
from nfvhost.model.profile import TunnelType

T = TypeVar("T")
_TUNNELS: Final = frozenset(TunnelType)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchBridge:
    """One bridge as Open vSwitch has it."""

    name: str
    datapath_type: str
    port_mtu: int | None  # the smallest of its ports but its own; None where none says
    external_ids: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the kernel and Open vSwitch know."""

    routing: Routing
    bridges: tuple[SwitchBridge, ...]
    paths: tuple[TunnelPath, ...]  # of the addresses that were asked for
    neighbours: tuple[TunnelNeighbour, ...]


class SwitchNetwork(Protocol):
    """The door to it. Writing raises ApplyError with the kernel's answer, PreconditionError where no switch runs."""

    def read(self, destinations: Collection[str] = ()) -> Network | None:
        """All of it, with the paths of tunnels to these addresses; None where no ovs-vswitchd runs."""
        ...

    def has_tunnels(self) -> bool:
        """Whether Open vSwitch has a port that is a tunnel."""
        ...

    def set_mtu(self, interface: str, mtu: int) -> None:
        """Nothing, once it is so."""
        ...

    def set_up(self, interface: str, *, up: bool) -> None:
        """Nothing, once it is so."""
        ...

    def set_ipv6(self, interface: str, *, on: bool) -> None:
        """Nothing, once it is so."""
        ...

    def add_address(self, interface: str, address: str) -> None:
        """Nothing, once it is there, `10.0.0.1/24`, and marked as nfvhost's."""
        ...

    def remove_address(self, interface: str, address: str) -> None:
        """Nothing, once it is not there."""
        ...

    def set_route(self, destination: str, *, gateway: str, interface: str, replace: bool = False) -> None:
        """Nothing, once it is there, marked as nfvhost's."""
        ...

    def remove_route(self, destination: str, *, gateway: str, interface: str) -> None:
        """Nothing, once it is not there."""
        ...

    def set_neighbour(self, interface: str, address: str, mac: str) -> None:
        """Nothing, once the kernel has it for good, marked as nfvhost's."""
        ...

    def remove_neighbour(self, interface: str, address: str) -> None:
        """Nothing, once the kernel does not have it."""
        ...

    def set_tunnel_neighbour(self, bridge: str, address: str, mac: str) -> None:
        """Nothing, once Open vSwitch has it."""
        ...

    def forget_tunnel_neighbour(self, bridge: str, address: str) -> None:
        """Nothing, once Open vSwitch does not have it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSwitchNetwork:
    """That of the ovs-vswitchd behind a database, on this machine; it is looked for at each call."""

    root: Root
    ovsdb: str

    def read(self, destinations: Collection[str] = ()) -> Network | None:
        daemon = self._find()
        if daemon is None:
            return None
        with connected(self.ovsdb) as database:
            rows = database.read()
        return Network(
            routing=self._inside(daemon, lambda: routing.read_routing(self.root)),
            bridges=tuple(
                SwitchBridge(
                    name=bridge.name,
                    datapath_type=bridge.datapath_type,
                    port_mtu=min(
                        (
                            one.mtu
                            for port in bridge.ports
                            for one in port.interfaces
                            # Open vSwitch says 0 of a vhost-user port until somebody is connected to it.
                            if one.mtu and one.type not in {"internal", "patch"}
                        ),
                        default=None,
                    ),
                    external_ids=bridge.external_ids,
                )
                for bridge in rows.bridges
            ),
            paths=tunnel_tables.tunnel_paths(daemon.control, destinations),
            neighbours=tunnel_tables.tunnel_neighbours(daemon.control),
        )

    def has_tunnels(self) -> bool:
        if self._find() is None:
            return False
        with connected(self.ovsdb) as database:
            rows = database.read()
        return any(one.type in _TUNNELS for bridge in rows.bridges for port in bridge.ports for one in port.interfaces)

    def set_mtu(self, interface: str, mtu: int) -> None:
        self._change(lambda: routing.set_mtu(interface, mtu))

    def set_up(self, interface: str, *, up: bool) -> None:
        self._change(lambda: routing.set_up(interface, up=up))

    def set_ipv6(self, interface: str, *, on: bool) -> None:
        # /proc/sys/net is that of the thread that opens it (net/sysctl_net.c, net_ctl_header_lookup).
        self._change(lambda: routing.set_ipv6(self.root, interface, on=on))

    def add_address(self, interface: str, address: str) -> None:
        self._change(lambda: routing.add_address(interface, address))

    def remove_address(self, interface: str, address: str) -> None:
        self._change(lambda: routing.remove_address(interface, address))

    def set_route(self, destination: str, *, gateway: str, interface: str, replace: bool = False) -> None:
        self._change(lambda: routing.set_route(destination, gateway=gateway, interface=interface, replace=replace))

    def remove_route(self, destination: str, *, gateway: str, interface: str) -> None:
        self._change(lambda: routing.remove_route(destination, gateway=gateway, interface=interface))

    def set_neighbour(self, interface: str, address: str, mac: str) -> None:
        self._change(lambda: routing.set_neighbour(interface, address, mac))

    def remove_neighbour(self, interface: str, address: str) -> None:
        self._change(lambda: routing.remove_neighbour(interface, address))

    def set_tunnel_neighbour(self, bridge: str, address: str, mac: str) -> None:
        tunnel_tables.set_tunnel_neighbour(
            self._running().control, TunnelNeighbour(bridge=bridge, address=address, mac=mac)
        )

    def forget_tunnel_neighbour(self, bridge: str, address: str) -> None:
        tunnel_tables.forget_tunnel_neighbour(self._running().control, bridge, address)

    def _find(self) -> Vswitchd | None:
        # Another tree's switch does not run here.
        return find_vswitchd(self.root, os.path.dirname(socket_path(self.ovsdb))) if self.root.live else None

    def _running(self) -> Vswitchd:
        daemon = self._find()
        if daemon is None:
            raise PreconditionError(
                "ovs-vswitchd is not running: the interfaces of its bridges went with it",
                where=self.ovsdb,
                hint="start it (systemctl start openvswitch-switch); its log says why it ended",
            )
        return daemon

    def _change(self, call: Callable[[], None]) -> None:
        self._inside(self._running(), call)

    def _inside(self, daemon: Vswitchd, call: Callable[[], T]) -> T:
        """What `call` returns in the network namespace of that process, in this one where they share it."""
        place = f"/proc/{daemon.process.pid}/ns/net"

        def checked() -> T:
            # The namespace is held by now: it is that of this process, unless the pid was another's meanwhile.
            if not daemon.alive:
                raise PreconditionError("ovs-vswitchd ended just now", where=place, hint="see its log")
            return call()

        if self.root.read_link(place) == self.root.read_link("/proc/self/ns/net"):
            return checked()
        return call_inside(place, checked)


__all__ = ["Network", "RunningSwitchNetwork", "SwitchBridge", "SwitchNetwork", "TunnelNeighbour", "TunnelPath"]
