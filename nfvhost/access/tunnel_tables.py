"""Where the userspace data path sends packets of tunnels: a route table and a neighbour cache of Open vSwitch's own.

The routes are a copy of the kernel's, made when these change (lib/ovs-router.c, lib/route-table.c); the neighbours are
not: Open vSwitch asks for them itself, and forgets them after 15 minutes without a packet (lib/tnl-neigh-cache.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from nfvhost.access.unixctl import RefusedError, ask
from nfvhost.errors import ApplyError

_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
# lib/tnl-neigh-cache.c, tnl_neigh_cache_show: what is behind the bridge's name of an entry that is not used.
_UNUSED: Final = frozenset({"STALE", "INCOMPLETE"})
_COLUMNS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelPath:
    """How a packet goes to an address."""

    destination: str
    interface: str
    gateway: str | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelNeighbour:
    """The Ethernet address of a neighbour on a bridge."""

    bridge: str
    address: str
    mac: str


def tunnel_paths(control: str, destinations: Iterable[str]) -> tuple[TunnelPath, ...]:
    """The way to each of these addresses that there is one to (ovs/route/lookup); DaemonError as of `ask`."""
    found = []
    for destination in destinations:
        try:
            text = ask(control, "ovs/route/lookup", destination)
        except RefusedError:  # "Not found"
            continue
        # "src 10.0.0.1", "gateway 10.0.0.2", "dev br-phy", a line each
        lines = dict(line.partition(" ")[::2] for line in text.splitlines())
        gateway = ip_address(lines["gateway"])
        found.append(
            TunnelPath(
                destination=destination,
                interface=lines["dev"],
                # It says :: where there is none, of IPv4 too.
                gateway=None if gateway.is_unspecified else str(gateway),
                source=str(ip_address(lines["src"])),
            )
        )
    return tuple(found)


def tunnel_neighbours(control: str) -> tuple[TunnelNeighbour, ...]:
    """The neighbours that packets are sent to now (tnl/neigh/show), by bridge and address."""
    lines = [line.split() for line in ask(control, "tnl/neigh/show").splitlines()]
    found = [
        TunnelNeighbour(bridge=words[2], address=str(ip_address(words[0])), mac=words[1])
        for words in lines
        if len(words) >= _COLUMNS and _MAC.fullmatch(words[1]) and not _UNUSED & set(words[_COLUMNS:])
    ]
    return tuple(sorted(found, key=repr))


def set_tunnel_neighbour(control: str, one: TunnelNeighbour) -> None:
    """Nothing, once packets go there, until Open vSwitch forgets it or learns of another; ApplyError: its refusal."""
    try:
        ask(control, "tnl/neigh/set", one.bridge, one.address, one.mac)
    except RefusedError as error:
        raise ApplyError(f"Open vSwitch refuses: {error.problems[0].what}", where=control) from error


def forget_tunnel_neighbour(control: str, bridge: str, address: str) -> None:
    """Nothing, once Open vSwitch has to ask for this neighbour.

    It can forget all at once only (tnl/neigh/flush): the others are told to it again right after.
    """
    kept = [one for one in tunnel_neighbours(control) if (one.bridge, one.address) != (bridge, address)]
    ask(control, "tnl/neigh/flush")
    for one in kept:
        set_tunnel_neighbour(control, one)
