"""Interfaces, addresses, routes and neighbours of the network namespace that the calling thread is in.

Source: rtnetlink(7), by pyroute2.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final

from nfvhost.access.root import Root
from nfvhost.errors import ApplyError, PreconditionError

# rtnetlink(7): protocols above RTPROT_STATIC are not the kernel's; /etc/iproute2/rt_protos gives this one to nobody.
# It tells later what is nfvhost's: of routes and neighbours, and of addresses since Linux 5.18 (IFA_PROTO).
OURS: Final = 110
_IPV6_SETTINGS: Final = "/proc/sys/net/ipv6/conf"
_IPV4_SETTINGS: Final = "/proc/sys/net/ipv4/conf"
# These are settings of all interfaces and not of one (net/ipv6/addrconf.c, sysctl_dev_name_is_allowed).
_NO_INTERFACES: Final = frozenset({"all", "default"})
# include/uapi/linux/if.h, if_addr.h, neighbour.h, rtnetlink.h
_IFF_UP: Final = 0x1
_SECONDARY: Final = 0x01
_NODAD: Final = 0x02
_DADFAILED: Final = 0x08
_TENTATIVE: Final = 0x40
_PERMANENT: Final = 0x80
_MAIN: Final = 254
_UNICAST: Final = 1
_ROUTE_TYPES: Final = {6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
_IP: Final = frozenset({socket.AF_INET, socket.AF_INET6})
_HINTS: Final = {
    errno.EPERM: "run as root",
    errno.ENETUNREACH: "is the gateway in the network of an address of that interface?",
    errno.EHOSTUNREACH: "is the gateway in the network of an address of that interface?",
    errno.ENODEV: "Open vSwitch took the interface away meanwhile; see the log of ovs-vswitchd",
    errno.ENETDOWN: "the interface was set down meanwhile; apply again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One interface."""

    name: str
    up: bool  # as it was set; whether there is a carrier is another matter
    mtu: int
    ipv6: bool | None  # not /proc/sys/net/ipv6/conf/<name>/disable_ipv6; None: the kernel or its MTU has no IPv6
    promotes: bool  # an address of the same network takes the place of one that is removed, instead of going too


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address of an interface."""

    interface: str
    address: str  # "10.0.0.1/24", in the shortest form
    ours: bool
    secondary: bool  # IPv4: it goes with the first address of its network
    tentative: bool  # IPv6: being looked for on the link; nothing is sent from it
    duplicate: bool  # IPv6: another node on the link has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route of the table `main`."""

    destination: str  # "10.9.9.9/32"
    way: str  # "via 10.0.0.2 dev br-phy", "dev br-phy", "blackhole", "several gateways"
    ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """One neighbour that somebody wrote down; what the kernel has learned by itself is none."""

    interface: str
    address: str
    mac: str
    ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What the kernel knows."""

    interfaces: tuple[Interface, ...]  # by name, as all here
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    neighbours: tuple[Neighbour, ...]
    ipv6: bool | None  # whether new interfaces have IPv6; None: the kernel has none


def read_routing(root: Root) -> Routing:
    """All of it, read now; PreconditionError where the kernel does not tell."""
    with _netlink("rtnetlink", PreconditionError) as kernel:
        links = {link["index"]: link for link in kernel.get_links()}
        names = {index: str(link.get_attr("IFLA_IFNAME")) for index, link in links.items()}
        return Routing(
            interfaces=tuple(sorted((_interface(root, link) for link in links.values()), key=lambda one: one.name)),
            addresses=_sorted(_addresses(kernel, names)),
            routes=_sorted(_routes(kernel, names)),
            neighbours=_sorted(_neighbours(kernel, names)),
            ipv6=_ipv6(root, "default"),
        )


def set_mtu(interface: str, mtu: int) -> None:
    """Nothing, once the kernel has taken it; ApplyError with its answer, as of all that follow."""
    _change(interface, lambda kernel, index: kernel.link("set", index=index, mtu=mtu))


def set_up(interface: str, *, up: bool) -> None:
    """Nothing, once the interface is up, or down."""
    _change(interface, lambda kernel, index: kernel.link("set", index=index, state="up" if up else "down"))


def set_ipv6(root: Root, interface: str, *, on: bool) -> None:
    """Nothing, once IPv6 is on or off there; going off, the interface loses all its IPv6 addresses."""
    if interface in _NO_INTERFACES:
        raise PreconditionError("names no interface but all of them", where=f"{_IPV6_SETTINGS}/{interface}")
    root.write_attribute(f"{_IPV6_SETTINGS}/{interface}/disable_ipv6", "0" if on else "1")


def add_address(interface: str, address: str) -> None:
    """Nothing, once the interface has it, to be used at once: the kernel does not look for another node with it."""
    one = ip_interface(address)
    # IPv4 has no such flag, and keeps none.
    flags = {"flags": _NODAD} if one.version == 6 else {}  # noqa: PLR2004 - IPv6
    fields = {"address": str(one.ip), "prefixlen": one.network.prefixlen, "proto": OURS, **flags}
    _change(interface, lambda kernel, index: kernel.addr("add", index=index, **fields))


def remove_address(interface: str, address: str) -> None:
    """Nothing, once the interface does not have it."""
    one = ip_interface(address)
    fields = {"address": str(one.ip), "prefixlen": one.network.prefixlen}
    _change(interface, lambda kernel, index: kernel.addr("delete", index=index, **fields))


def set_route(destination: str, *, gateway: str, interface: str, replace: bool = False) -> None:
    """Nothing, once the table `main` has it; with `replace`, in place of the one that is there."""
    verb = "replace" if replace else "add"
    fields = {"dst": destination, "gateway": gateway, "proto": OURS}
    _change(interface, lambda kernel, index: kernel.route(verb, oif=index, **fields))


def remove_route(destination: str, *, gateway: str, interface: str) -> None:
    """Nothing, once the table `main` does not have exactly this one."""
    fields = {"dst": destination, "gateway": gateway}
    _change(interface, lambda kernel, index: kernel.route("delete", oif=index, **fields))


def set_neighbour(interface: str, address: str, mac: str) -> None:
    """Nothing, once it is written down there, in place of what the kernel may have learned."""
    fields = {"dst": address, "lladdr": mac, "state": _PERMANENT, "protocol": OURS}
    _change(interface, lambda kernel, index: kernel.neigh("replace", ifindex=index, **fields))


def remove_neighbour(interface: str, address: str) -> None:
    """Nothing, once the kernel has to ask for it."""
    _change(interface, lambda kernel, index: kernel.neigh("delete", ifindex=index, dst=address))


# pyroute2 has no types of its own.
_Kernel = Any


@contextmanager
def _netlink(where: str, raised: type[PreconditionError | ApplyError]) -> Iterator[_Kernel]:
    # 200 ms, for those alone who need it.
    from pyroute2 import IPRoute  # noqa: PLC0415
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        with IPRoute() as kernel:
            yield kernel
    except NetlinkError as error:
        code = int(error.code)
        raise raised(f"the kernel refuses: {os.strerror(code)}", where=where, hint=_HINTS.get(code)) from error
    except OSError as error:
        hint = _HINTS.get(error.errno or 0)
        raise raised(f"the kernel cannot be asked: {error.strerror}", where=where, hint=hint) from error


def _change(interface: str, make: Callable[[_Kernel, int], object]) -> None:
    with _netlink(interface, ApplyError) as kernel:
        make(kernel, socket.if_nametoindex(interface))


def _interface(root: Root, link: _Kernel) -> Interface:
    name = str(link.get_attr("IFLA_IFNAME"))
    # include/linux/inetdevice.h, IN_DEV_PROMOTE_SECONDARIES: one of the two will do.
    promoting = (root.read_int(f"{_IPV4_SETTINGS}/{one}/promote_secondaries") for one in ("all", name))
    return Interface(
        name=name,
        up=bool(link["flags"] & _IFF_UP),
        mtu=int(link.get_attr("IFLA_MTU")),
        ipv6=None if name in _NO_INTERFACES else _ipv6(root, name),
        promotes=any(promoting),
    )


def _ipv6(root: Root, name: str) -> bool | None:
    disabled = root.read_int(f"{_IPV6_SETTINGS}/{name}/disable_ipv6")
    return None if disabled is None else not disabled


def _addresses(kernel: _Kernel, names: dict[int, str]) -> Iterator[Address]:
    for one in kernel.get_addr():
        # Of a point-to-point link IFA_ADDRESS is the other end's (include/uapi/linux/if_addr.h).
        text = one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS")
        if one["family"] not in _IP or one["index"] not in names or text is None:
            continue
        flags = one.get_attr("IFA_FLAGS") or one["flags"]
        ipv4 = one["family"] == socket.AF_INET
        yield Address(
            interface=names[one["index"]],
            address=str(ip_interface(f"{text}/{one['prefixlen']}")),
            ours=one.get_attr("IFA_PROTO") == OURS,
            # Of IPv6 the same bit says that it is a temporary address.
            secondary=ipv4 and bool(flags & _SECONDARY),
            tentative=not ipv4 and bool(flags & _TENTATIVE),
            duplicate=not ipv4 and bool(flags & _DADFAILED),
        )


def _routes(kernel: _Kernel, names: dict[int, str]) -> Iterator[Route]:
    for one in kernel.get_routes(table=_MAIN):
        # An old kernel filters no dump; cached routes of IPv6 are no settings.
        table = one.get_attr("RTA_TABLE") or one["table"]
        if one["family"] not in _IP or table != _MAIN:
            continue
        anywhere = "0.0.0.0" if one["family"] == socket.AF_INET else "::"  # noqa: S104 - a destination
        destination = ip_network(f"{one.get_attr('RTA_DST') or anywhere}/{one['dst_len']}")
        yield Route(destination=str(destination), way=_way(one, names), ours=one["proto"] == OURS)


def _way(route: _Kernel, names: dict[int, str]) -> str:
    if route["type"] != _UNICAST:
        return _ROUTE_TYPES.get(route["type"], f"type {route['type']}")
    if route.get_attr("RTA_MULTIPATH"):
        return "several gateways"
    device = f"dev {names.get(route.get_attr('RTA_OIF'), 'unknown')}"
    gateway = route.get_attr("RTA_GATEWAY")
    via = route.get_attr("RTA_VIA")  # a gateway of the other family (RFC 5549)
    if gateway is None and via is not None:
        gateway = via.get("addr")
    return device if gateway is None else f"via {_plain(gateway)} {device}"


def _neighbours(kernel: _Kernel, names: dict[int, str]) -> Iterator[Neighbour]:
    for one in kernel.get_neighbours():
        address, mac = one.get_attr("NDA_DST"), one.get_attr("NDA_LLADDR")
        known = address is not None and mac is not None and one["ifindex"] in names
        if known and one["family"] in _IP and one["state"] & _PERMANENT:
            yield Neighbour(
                interface=names[one["ifindex"]],
                address=_plain(address),
                mac=str(mac).lower(),
                ours=one.get_attr("NDA_PROTOCOL") == OURS,
            )


def _plain(address: str) -> str:
    return str(ip_address(address))


def _sorted(found: Iterator[Any]) -> tuple[Any, ...]:
    return tuple(sorted(found, key=repr))
