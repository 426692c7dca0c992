"""Virtual DPDK devices: what their devargs may say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from nfvhost.model.pci import PciAddress

_NAME: Final = re.compile(r"net_([a-z_]+?)(\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    keys: tuple[str, ...]
    needs: tuple[str, ...] = ()  # one of them at least


# DPDK doc/guides/nics/{af_packet,af_xdp,tap,pcap_ring,memif,null}.rst and the valid_arguments of drivers/net/. Left out
# on purpose, since a plan may be a stranger's and ovs-vswitchd runs as root or near it: what writes a file of the
# plan's choice (pcap's tx_pcap, memif's sockets that are not abstract), what loads a program (af_xdp's xdp_prog,
# dp_path and their like), and memif's secret, which plans and journals would show.
_KINDS: Final = {
    "af_packet": _Kind(
        keys=("blocksz", "fanout_mode", "framecnt", "framesz", "iface", "qdisc_bypass", "qpairs"), needs=("iface",)
    ),
    "af_xdp": _Kind(
        keys=(
            "busy_budget",
            "force_copy",
            "iface",
            "mode",
            "queue_count",
            "shared_umem",
            "start_queue",
        ),
        needs=("iface",),
    ),
    "memif": _Kind(
        keys=(
            "bsize",
            "id",
            "mac",
            "owner-gid",
            "owner-uid",
            "role",
            "rsize",
            "socket",
            "zero-copy",
        )
    ),
    "null": _Kind(keys=("copy", "no-rx", "size")),
    "pcap": _Kind(
        keys=("iface", "infinite_rx", "phy_mac", "rx_iface", "rx_iface_in", "rx_pcap", "tx_iface"),
        needs=("iface", "rx_iface", "rx_iface_in", "rx_pcap", "tx_iface"),
    ),
    "ring": _Kind(keys=("nodeaction",)),
    "tap": _Kind(keys=("iface", "mac", "persist", "remote")),
}
# Arguments that name an interface of the kernel. tap's `iface` is one that DPDK makes.
_NETDEV_KEYS: Final = {
    "af_packet": ("iface",),
    "af_xdp": ("iface",),
    "pcap": ("iface", "rx_iface", "rx_iface_in", "tx_iface"),
    "tap": ("remote",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vdev:
    """A virtual device read from its devargs."""

    name: str  # net_af_packet0
    kind: str  # af_packet
    arguments: tuple[tuple[str, str], ...]

    @property
    def netdevs(self) -> tuple[str, ...]:
        """The kernel interfaces that it takes its packets from."""
        keys = _NETDEV_KEYS.get(self.kind, ())
        return tuple(dict.fromkeys(value for key, value in self.arguments if key in keys))

    def argument(self, key: str) -> str | None:
        """The value of one argument; None where it is not there."""
        return next((value for name, value in self.arguments if name == key), None)


def parse_vdev(devargs: str) -> Vdev:
    """The device that `net_af_packet0,iface=eth1` names; ValueError says what is wrong with any other text."""
    name, *rest = devargs.split(",")
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(_not_a_vdev(name))
    kind = _KINDS.get(match[1])
    if kind is None:
        near = get_close_matches(match[1], _KINDS, n=1)
        known = f"net_{near[0]}" if near else ", ".join(f"net_{one}" for one in sorted(_KINDS))
        raise ValueError(
            f"net_{match[1]} is no virtual device that OVS opens; {'near is' if near else 'it opens'} {known}"
        )
    arguments: list[tuple[str, str]] = []
    for part in rest:
        key, equals, value = part.partition("=")
        if key not in kind.keys:
            near = get_close_matches(key, kind.keys, n=1)
            hint = f"near is {near[0]}" if near else f"it takes {', '.join(kind.keys)}"
            raise ValueError(f"{key!r} is no argument of net_{match[1]}; {hint}")
        if not equals or not value:
            raise ValueError(f"the argument {key} of {name} has no value")
        arguments.append((key, value))
    given = {key for key, _ in arguments}
    if kind.needs and given.isdisjoint(kind.needs):
        raise ValueError(f"{name} needs {' or '.join(f'{key}=' for key in kind.needs)}")
    return Vdev(name=name, kind=match[1], arguments=tuple(arguments))


def _not_a_vdev(name: str) -> str:
    try:
        PciAddress.parse(name)
    except ValueError:
        return f"{name!r} is no virtual device such as net_af_packet0"
    return f"{name} is a PCI function: name it in `nics` with role: dpdk"
