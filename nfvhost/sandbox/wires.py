"""Network namespaces of a sandbox and the veth pairs between them.

    nfvhost-x-a            nfvhost-x               nfvhost-x-b
    wire0 192.0.2.1  <-->  port0   port1  <-->  wire1 192.0.2.2

The switch sits in the middle; nothing leads out of the three.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from nfvhost.access.clock import wait_for
from nfvhost.access.command import check
from nfvhost.access.namespace import DIRECTORY, disable_transmit_checksum
from nfvhost.access.process import read_process
from nfvhost.access.root import DirectoryRoot

_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One veth pair: `port` is for the switch, `netdev` for the machine at the other end."""

    port: str
    netdev: str
    mac: str
    ipv4: str  # 192.0.2.0/24 is for documentation (RFC 5737)
    ipv6: str  # so is 2001:db8::/32 (RFC 3849)


WIRES: Final = (
    Wire(port="port0", netdev="wire0", mac="02:6e:66:76:00:01", ipv4="192.0.2.1", ipv6="2001:db8::1"),
    Wire(port="port1", netdev="wire1", mac="02:6e:66:76:00:02", ipv4="192.0.2.2", ipv6="2001:db8::2"),
)


def namespace_exists(netns: str) -> bool:
    """Whether iproute2 knows a namespace of this name."""
    return os.path.lexists(f"{DIRECTORY}/{netns}")


def make_wires(netns: str, peers: tuple[str, str]) -> None:
    """Nothing; three namespaces and two veth pairs, all links up."""
    for name in (netns, *peers):
        check(["ip", "netns", "add", name], timeout_s=_TIMEOUT_S)
        check(["ip", "-n", name, "link", "set", "lo", "up"], timeout_s=_TIMEOUT_S)
    for wire, peer, other in zip(WIRES, peers, reversed(WIRES), strict=True):
        _ip(
            netns,
            f"link add {wire.port} type veth peer name {wire.netdev} netns {peer} address {wire.mac}",
            # No address of its own for the port: it would speak, and be counted.
            *_with_ipv6(f"link set {wire.port} addrgenmode none"),
            # Nor an answer: beside the copy for af_packet, the kernel gets each frame too, and by default it answers
            # ARP for any address of the namespace, a bridge's too (ip-sysctl.rst, arp_ignore), with this port's MAC.
            f"link set {wire.port} arp off up",
        )
        _ip(
            peer,
            *_with_ipv6(f"link set {wire.netdev} addrgenmode none"),
            f"link set {wire.netdev} up",
            f"address add {wire.ipv4}/24 dev {wire.netdev}",
            *_with_ipv6(f"address add {wire.ipv6}/64 dev {wire.netdev} nodad"),
            # The peers know each other: what crosses the switch is what someone sends, hardly more.
            f"neighbour add {other.ipv4} lladdr {other.mac} dev {wire.netdev} nud permanent",
            *_with_ipv6(f"neighbour add {other.ipv6} lladdr {other.mac} dev {wire.netdev} nud permanent"),
        )
        # af_packet and af_xdp hand frames on as they are: a checksum left to the NIC would stay wrong.
        disable_transmit_checksum(peer, wire.netdev)


def remove_namespaces(netns: str, peers: tuple[str, str]) -> None:
    """Nothing; those of the three that are there go, with the links in them.

    A run that was killed may have left its last `ip netns add` behind, which must not come after this.
    """
    names = (netns, *peers)
    wait_for(lambda: not _is_made(names), timeout_s=_TIMEOUT_S)
    for name in names:
        if namespace_exists(name):
            check(["ip", "netns", "delete", name], timeout_s=_TIMEOUT_S)


def _is_made(names: tuple[str, ...]) -> bool:
    """Whether a process that makes one of these namespaces still runs."""
    commands = (read_process(int(pid)) for pid in DirectoryRoot("/").list_dir("/proc") if pid.isdigit())
    return any(one is not None and one.argv[:3] == ("ip", "netns", "add") and one.argv[-1] in names for one in commands)


def processes_in(netns: str) -> tuple[int, ...]:
    """The pids of all processes in the namespace; empty where there is none of this name."""
    if not namespace_exists(netns):
        return ()
    return tuple(map(int, check(["ip", "netns", "pids", netns], timeout_s=_TIMEOUT_S).stdout.split()))


def _with_ipv6(line: str) -> tuple[str, ...]:
    """The line on a kernel that has IPv6; nothing where it was booted with ipv6.disable=1."""
    return (line,) if os.path.isdir("/proc/sys/net/ipv6") else ()


def _ip(netns: str, *lines: str) -> None:
    check(["ip", "-n", netns, "-batch", "-"], timeout_s=_TIMEOUT_S, input_text="\n".join(lines) + "\n")
