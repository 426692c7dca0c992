"""Which interfaces carry management, and why: what must not be taken from the kernel."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from nfvhost.access.root import Root
from nfvhost.inspect.pci import linked_address, parse_address
from nfvhost.model.host import Netdev
from nfvhost.model.live import BridgePort, LiveFacts
from nfvhost.model.pci import PciAddress

# include/uapi/linux/route.h and ipv6_route.h: RTF_UP, RTF_REJECT
_UP: Final = 0x1
_REJECT: Final = 0x200
_IPV4_ROUTES: Final = "/proc/net/route"
_IPV6_ROUTES: Final = "/proc/net/ipv6_route"
_IBFT: Final = "/sys/firmware/ibft"
_NETWORK_FILESYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs"}
)
_SERVER: Final = re.compile(r"(?:^|,)addr=([^,]+)")
# dracut.cmdline(7), nfsroot.rst, systemd-fstab-generator(8): a root file system that comes over the network.
_NETWORK_ROOT: Final = re.compile(r"(?:root|netroot)=(nfs4?|iscsi|nbd|fcoe|dhcp6?|cifs)\b.*")
_ISCSI_ROOT: Final = re.compile(r"rd\.iscsi\.(?:firmware|ibft|target)\b(?!=0)|iscsi_auto$")
_ROOT_DEVICE: Final = re.compile(r"root=/dev/(nfs|nbd|cifs)[\dp]*")
_DEFAULT_ROUTE: Final = {4: "the default route of IPv4", 6: "the default route of IPv6"}
_BOTH_DEFAULT_ROUTES: Final = "the default routes of IPv4 and IPv6"

_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriers:
    """Why interfaces and PCI functions carry management; a subject that is not named carries none."""

    netdevs: Mapping[str, str]
    functions: Mapping[PciAddress, str]  # without a netdev of their own: ports of a userspace bridge


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    netdev: str
    network: _IpNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """`netdev` carries `what`."""

    netdev: str
    what: str


def carriers(root: Root, netdevs: tuple[Netdev, ...], facts: LiveFacts) -> Carriers:
    """What carries management, walked down from the interface that is used to all that it stands on.

    A default route, an SSH session into this machine, or a file system of the root that comes over the network
    make an interface one; where none of them leads to a port, a link with a global address does. Source:
    /proc/net/route, /proc/net/ipv6_route, /proc/cmdline, /proc/mounts, /sys/class/iscsi_*, /sys/firmware/ibft. A
    capture states the conclusions of the machine itself instead.
    """
    if facts.management is not None:
        stated = {one.subject: one.reason for one in facts.management}
        return Carriers(
            netdevs={subject: reason for subject, reason in stated.items() if parse_address(subject) is None},
            functions={pci: reason for subject, reason in stated.items() if (pci := parse_address(subject))},
        )
    below = _below(netdevs, facts)
    real = {one.name for one in netdevs if one.kind == "physical"} | {one.interface for one in _dpdk_ports(facts)}
    usable = {one.name for one in netdevs if one.kind != "loopback"}
    routes = (*_ipv4_routes(root), *_ipv6_routes(root))
    evidence = [one for one in _evidence(root, netdevs, routes, facts) if one.netdev in usable]
    # A default route into a tunnel does not say which port the tunnel leaves by.
    if real.isdisjoint(name for one in evidence for name in _ways_down(one.netdev, below)):
        evidence.extend(_guesses(netdevs, below, real))
    return _walked(evidence, below, {one.interface: one.pci for one in _dpdk_ports(facts)})


def function_carriers(root: Root, netdevs: tuple[Netdev, ...], facts: LiveFacts) -> Mapping[PciAddress, str]:
    """Why PCI functions without a netdev carry management: DPDK ports of Open vSwitch; usually empty."""
    if facts.management is None and not _dpdk_ports(facts):
        return {}
    return carriers(root, netdevs, facts).functions


def _evidence(
    root: Root, netdevs: tuple[Netdev, ...], routes: tuple[_Route, ...], facts: LiveFacts
) -> Iterator[_Evidence]:
    for route in routes:
        if route.network.prefixlen == 0:
            yield _Evidence(netdev=route.netdev, what=_DEFAULT_ROUTE[route.network.version])
    for name in facts.ssh_netdevs:
        yield _Evidence(netdev=name, what="an SSH session into this machine")
    yield from _network_root(root, netdevs, routes)
    yield from _iscsi(root, netdevs, routes)


def _guesses(netdevs: tuple[Netdev, ...], below: Mapping[str, tuple[str, ...]], real: set[str]) -> Iterator[_Evidence]:
    """Interfaces with a link and a global address over a real port: each may be the way in."""
    for one in netdevs:
        if one.operstate != "up" or not any(map(_is_global, one.addresses)):
            continue
        if not real.isdisjoint(_ways_down(one.name, below)):
            yield _Evidence(netdev=one.name, what="a global address, where no default route leads to a port")


def _is_global(address: str) -> bool:
    try:
        ip = ipaddress.ip_interface(address).ip
    except ValueError:
        return False
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified)


def _walked(
    evidence: Iterable[_Evidence], below: Mapping[str, tuple[str, ...]], dpdk: Mapping[str, PciAddress | None]
) -> Carriers:
    """The evidence brought down to everything that its interface stands on, with the way named."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in evidence:
        for name, way in _ways_down(one.netdev, below).items():
            whats = found.setdefault(name, {}).setdefault(" over ".join(way), [])
            if one.what not in whats:
                whats.append(one.what)
    reasons = {name: _sentence(ways) for name, ways in sorted(found.items())}
    return Carriers(
        netdevs={name: reason for name, reason in reasons.items() if name not in dpdk},
        functions={pci: reasons[name] for name, pci in sorted(dpdk.items()) if pci is not None and name in reasons},
    )


def _sentence(ways: Mapping[str, list[str]]) -> str:
    return "; ".join(f"carries {' and '.join(_merged(whats))} ({way})" for way, whats in ways.items())


def _merged(whats: list[str]) -> list[str]:
    routes = set(_DEFAULT_ROUTE.values())
    if not routes <= set(whats):
        return whats
    return [_BOTH_DEFAULT_ROUTES, *(what for what in whats if what not in routes)]


def _ways_down(name: str, below: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Everything that an interface stands on, itself included, with the shortest way there, top first."""
    found: dict[str, tuple[str, ...]] = {name: (name,)}
    pending = deque([name])
    while pending:
        upper = pending.popleft()
        for lower in below.get(upper, ()):
            if lower not in found:
                found[lower] = (*found[upper], lower)
                pending.append(lower)
    return found


def _dpdk_ports(facts: LiveFacts) -> tuple[BridgePort, ...]:
    return tuple(port for port in facts.ovs_ports if port.pci is not None)


def _below(netdevs: tuple[Netdev, ...], facts: LiveFacts) -> dict[str, tuple[str, ...]]:
    """What each interface stands on: what the kernel says, and for a port of Open vSwitch its bridge's uplinks."""
    names = {one.name for one in netdevs}
    found = {one.name: tuple(lower for lower in one.lowers if lower in names) for one in netdevs}
    outside = {one.name for one in netdevs if one.kind in {"physical", "bond", "team", "vlan", "bridge"}}
    outside |= {port.interface for port in _dpdk_ports(facts)}
    bridge_of = {port.interface: port.bridge for port in facts.ovs_ports}
    uplinks: dict[str, set[str]] = {bridge: set() for bridge in bridge_of.values()}
    for port in facts.ovs_ports:
        if port.interface in outside:
            uplinks[port.bridge].add(port.interface)
    data_path = found.get("ovs-system", ())
    for one in netdevs:
        if one.lowers or one.name in outside:
            continue
        bridge = bridge_of.get(one.name, one.name)
        if bridge in uplinks:
            # A patch port ties bridges together: traffic of a bridge without an uplink leaves by another's.
            found[one.name] = tuple(sorted(uplinks[bridge] or set().union(*uplinks.values())))
        elif one.kind in {"virtual", "openvswitch"} and data_path:
            # Nobody could ask Open vSwitch: any port of the kernel's data path may be the uplink.
            found[one.name] = data_path
    return found


def _ipv4_routes(root: Root) -> Iterator[_Route]:
    """Source: /proc/net/route (net/ipv4/fib_trie.c, fib_route_seq_show): addresses in the CPU's byte order."""
    for line in (root.read_text(_IPV4_ROUTES) or "").splitlines()[1:]:
        fields = line.split()
        try:
            netdev, destination, _, flags, _, _, _, mask = fields[:8]
            if int(flags, 16) & (_UP | _REJECT) != _UP:
                continue
            network = _network(address_of_words(destination), int(mask, 16).bit_count())
        except ValueError:
            continue
        yield _Route(netdev=netdev, network=network)


def address_of_words(digits: str) -> _IpAddress:
    """The address that /proc/net writes as words of eight digits, each in the byte order of the CPU."""
    words = (bytes.fromhex(digits[at : at + 8]) for at in range(0, len(digits), 8))
    return ipaddress.ip_address(b"".join(word if sys.byteorder == "big" else word[::-1] for word in words))


def _ipv6_routes(root: Root) -> Iterator[_Route]:
    """Source: /proc/net/ipv6_route (net/ipv6/route.c, rt6_info_route)."""
    for line in (root.read_text(_IPV6_ROUTES) or "").splitlines():
        fields = line.split()
        try:
            destination, prefix, _, _, _, _, _, _, flags, netdev = fields
            if int(flags, 16) & (_UP | _REJECT) != _UP or netdev == "lo":
                continue
            network = _network(ipaddress.IPv6Address(bytes.fromhex(destination)), int(prefix, 16))
        except ValueError:
            continue
        yield _Route(netdev=netdev, network=network)


def _network(address: _IpAddress, prefix: int) -> _IpNetwork:
    return ipaddress.ip_network((address, prefix), strict=False)


def _netdevs_towards(routes: tuple[_Route, ...], peer: str) -> tuple[str, ...]:
    """The interfaces of the most specific routes to an address; empty where no route leads there."""
    try:
        ip = ipaddress.ip_address(peer.strip("[]").partition("%")[0])
    except ValueError:
        return ()
    fitting = [route for route in routes if route.network.version == ip.version and ip in route.network]
    longest = max((route.network.prefixlen for route in fitting), default=0)
    return tuple(sorted({route.netdev for route in fitting if route.network.prefixlen == longest}))


def _network_root(root: Root, netdevs: tuple[Netdev, ...], routes: tuple[_Route, ...]) -> Iterator[_Evidence]:
    """The interfaces that / or /usr comes by; each with a link, where nothing says which one."""
    arguments = (root.read_text("/proc/cmdline") or "").split()
    mounts = list(_network_mounts(root))
    kinds = [kind for kind, _ in mounts] + [kind for argument in arguments if (kind := _network_kind(argument))]
    if root.list_dir(_IBFT):
        kinds.append("iscsi")
    if not kinds:
        return
    named = [
        *(name for _, peer in mounts if peer is not None for name in _netdevs_towards(routes, peer)),
        *_netdevs_of_arguments(arguments, netdevs),
        *_netdevs_of_ibft(root, netdevs),
    ]
    if not named:
        named = [one.name for one in netdevs if one.kind == "physical" and one.operstate != "down"]
    for name in dict.fromkeys(named):
        yield _Evidence(netdev=name, what=f"the root file system ({', '.join(dict.fromkeys(kinds))})")


def _network_mounts(root: Root) -> Iterator[tuple[str, str | None]]:
    """Kind and server of / and /usr where they come over the network. Source: /proc/mounts, fstab(5)."""
    for line in (root.read_text("/proc/mounts") or root.read_text("/proc/self/mounts") or "").splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[1] not in {"/", "/usr"}:  # noqa: PLR2004 - device, point, type, options
            continue
        if fields[2] in _NETWORK_FILESYSTEMS:
            server = _SERVER.search(fields[3])
            yield fields[2], server and server[1]
        elif fields[0].startswith("/dev/nbd"):
            yield "nbd", None


def _network_kind(argument: str) -> str | None:
    """`nfs`, `iscsi`, `nbd`, … where a kernel argument asks for such a root; None of any other argument."""
    match = _NETWORK_ROOT.fullmatch(argument) or _ROOT_DEVICE.fullmatch(argument)
    if match is not None:
        return match[1]
    return "iscsi" if _ISCSI_ROOT.match(argument) else None


def _netdevs_of_arguments(arguments: list[str], netdevs: tuple[Netdev, ...]) -> Iterator[str]:
    """Interfaces that the kernel command line sets up: `ip=eth0:dhcp`, `ip=::::host:eth0:off`, `BOOTIF=01-…`."""
    names = {one.name for one in netdevs}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "ip":
            yield from (part for part in value.split(":") if part in names)
        elif key == "BOOTIF":
            mac = value.lower().replace("-", ":")[-17:]
            yield from (one.name for one in netdevs if one.mac == mac)


def _netdevs_of_ibft(root: Root, netdevs: tuple[Netdev, ...]) -> Iterator[str]:
    """Interfaces that the firmware booted from. Source: drivers/firmware/iscsi_ibft.c."""
    for entry in root.list_dir(_IBFT):
        if not entry.startswith("ethernet"):
            continue
        mac = (root.read_line(f"{_IBFT}/{entry}/mac") or "").lower()
        pci = linked_address(root, f"{_IBFT}/{entry}/device")
        yield from (one.name for one in netdevs if (mac and one.mac == mac) or (pci is not None and one.pci == pci))


def _iscsi(root: Root, netdevs: tuple[Netdev, ...], routes: tuple[_Route, ...]) -> Iterator[_Evidence]:
    """The interfaces of disks over iSCSI or NVMe: without them, what is mounted there hangs."""
    names = {one.name for one in netdevs}
    for connection in root.list_dir("/sys/class/iscsi_connection"):
        peer = root.read_line(f"/sys/class/iscsi_connection/{connection}/persistent_address") or ""
        for name in _netdevs_towards(routes, peer):
            yield _Evidence(netdev=name, what="a disk over iSCSI")
    for session in root.list_dir("/sys/class/iscsi_session"):
        name = root.read_line(f"/sys/class/iscsi_session/{session}/ifacename") or ""
        if name in names:
            yield _Evidence(netdev=name, what="a disk over iSCSI")
    for controller in root.list_dir("/sys/class/nvme"):
        if root.read_line(f"/sys/class/nvme/{controller}/transport") not in {"tcp", "rdma"}:
            continue
        address = root.read_line(f"/sys/class/nvme/{controller}/address") or ""
        for peer in re.findall(r"traddr=([^,\s]+)", address)[:1]:
            for name in _netdevs_towards(routes, peer):
                yield _Evidence(netdev=name, what="a disk over NVMe")
