"""Network interfaces, from /sys/class/net."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.root import Root
from nfvhost.inspect.management import carriers
from nfvhost.inspect.pci import linked_name, parse_address
from nfvhost.model.host import Netdev
from nfvhost.model.live import LiveFacts
from nfvhost.model.pci import PciAddress

NET: Final = "/sys/class/net"
_VLANS: Final = "/proc/net/vlan/config"
# The one file among the links (Documentation/networking/bonding.rst).
_NO_NETDEV: Final = "bonding_masters"
# include/uapi/linux/if_arp.h: ARPHRD_ETHER, ARPHRD_LOOPBACK
_ETHER: Final = 1
_LOOPBACK: Final = 772
# include/uapi/linux/ethtool.h, SPEED_UNKNOWN as an unsigned number; no interface is that fast.
_SPEED_UNKNOWN: Final = 4294967295
_NO_MAC: Final = re.compile(r"00(:00)*")
_BY_ENTRY: Final = (("bonding", "bond"), ("bridge", "bridge"), ("tun_flags", "tun"))
_BY_DEVTYPE: Final = {"bond": "bond", "bridge": "bridge", "vlan": "vlan"}
# What stands between a PCI function and its interface: a virtio or vDPA device, an auxiliary device (a subfunction).
_BETWEEN: Final = re.compile(r"virtio\d+|vdpa.*|[\w-]+\.(?:sf|eth|eth-rep)\.\d+")
# net/core/net-sysfs.c, phys_port_name: pf0vf3, c1pf0sf88 are representors; p0 is the port itself.
_REPRESENTOR: Final = re.compile(r"(?:c\d+)?pf\d+(?:vf\d+|sf\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What the folder of one interface tells without its numbers."""

    name: str
    entries: frozenset[str]
    devtype: str | None
    lowers: tuple[str, ...]
    master: str | None

    @property
    def path(self) -> str:
        return f"{NET}/{self.name}"


def netdevs(root: Root, facts: LiveFacts) -> tuple[Netdev, ...]:
    """All interfaces of this network namespace in order of name, with why they carry management.

    Source: /sys/class/net, /proc/net/vlan/config; addresses come with the live facts.
    """
    parents = _vlan_parents(root)
    places = [_place(root, name, parents) for name in root.list_dir(NET) if name != _NO_NETDEV]
    masters: dict[str, set[str]] = {}
    for place in places:
        if place.master is not None:
            masters.setdefault(place.master, set()).add(place.name)
    addresses = dict(facts.addresses)
    found = tuple(_netdev(root, place, parents, masters, addresses) for place in places)
    reasons = carriers(root, found, facts).netdevs
    return tuple(replace(one, management=reasons.get(one.name)) for one in found)


def is_representor(root: Root, name: str) -> bool:
    """Whether the interface stands for a VF or a subfunction and not for the port. Source: phys_port_name."""
    return _REPRESENTOR.fullmatch(root.read_line(f"{NET}/{name}/phys_port_name") or "") is not None


def _place(root: Root, name: str, parents: dict[str, str]) -> _Place:
    path = f"{NET}/{name}"
    entries = frozenset(root.list_dir(path))
    lowers = {entry.removeprefix("lower_") for entry in entries if entry.startswith("lower_")}
    if "brif" in entries:
        lowers.update(root.list_dir(f"{path}/brif"))
    if "bonding" in entries:
        lowers.update((root.read_line(f"{path}/bonding/slaves") or "").split())
    if name in parents:
        lowers.add(parents[name])
    return _Place(
        name=name,
        entries=entries,
        devtype=_devtype(root.read_text(f"{path}/uevent") or ""),
        lowers=tuple(sorted(lowers)),
        master=linked_name(root, f"{path}/master") if "master" in entries else None,
    )


def _devtype(uevent: str) -> str | None:
    for line in uevent.splitlines():
        if line.startswith("DEVTYPE="):
            return line.removeprefix("DEVTYPE=") or None
    return None


def _vlan_parents(root: Root) -> dict[str, str]:
    """VLAN -> the interface below it. Source: /proc/net/vlan/config: `bond0.100 | 100 | bond0`."""
    found: dict[str, str] = {}
    for line in (root.read_text(_VLANS) or "").splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 3 and fields[1].isdecimal():  # noqa: PLR2004 - the three columns of the file
            found[fields[0]] = fields[2]
    return found


def _netdev(
    root: Root,
    place: _Place,
    parents: dict[str, str],
    masters: dict[str, set[str]],
    addresses: dict[str, tuple[str, ...]],
) -> Netdev:
    target = root.read_link(place.path)
    pci = _function(root, place, target)
    mac = root.read_line(f"{place.path}/address")
    speed = root.read_int(f"{place.path}/speed")
    return Netdev(
        name=place.name,
        pci=pci,
        kind=_kind(root, place, target, parents, masters),
        mac=mac.lower() if mac is not None and not _NO_MAC.fullmatch(mac) else None,
        speed_mbps=speed if speed is not None and 0 < speed < _SPEED_UNKNOWN else None,
        mtu=root.read_count(f"{place.path}/mtu"),
        operstate=root.read_line(f"{place.path}/operstate"),
        driver=linked_name(root, f"{place.path}/device/driver"),
        lowers=place.lowers,
        addresses=addresses.get(place.name, ()),
    )


def _function(root: Root, place: _Place, target: str | None) -> PciAddress | None:
    """The PCI function of the interface: above it in the path of its folder, with at most virtio between."""
    parts = (target or "").split("/")[:-2] if target is not None else []
    if not parts:
        device = linked_name(root, f"{place.path}/device")
        if device is None:
            return None
        if device.startswith("virtio"):
            parts = (root.read_link(f"/sys/bus/virtio/devices/{device}") or "").split("/")
        else:
            parts = [device]
    while parts and _BETWEEN.fullmatch(parts[-1]):
        parts.pop()
    return parse_address(parts[-1]) if parts else None


def _kind(root: Root, place: _Place, target: str | None, parents: dict[str, str], masters: dict[str, set[str]]) -> str:
    if place.name == "lo" or root.read_int(f"{place.path}/type") == _LOOPBACK:
        return "loopback"
    stated = next((kind for entry, kind in _BY_ENTRY if entry in place.entries), _BY_DEVTYPE.get(place.devtype or ""))
    if stated is not None:
        return stated
    if place.name in parents:
        return "vlan"
    if place.name == "ovs-system":
        return "openvswitch"
    if "device" in place.entries or (target is not None and "/virtual/" not in target):
        return "physical"
    return _virtual_kind(root, place, masters)


def _virtual_kind(root: Root, place: _Place, masters: dict[str, set[str]]) -> str:
    # Bonds and bridges are found before; VRFs name themselves in DEVTYPE: what else can be a master is a team.
    if place.devtype is None and place.lowers and masters.get(place.name, set()) >= set(place.lowers):
        return "team"
    return "veth" if _is_veth(root, place) else "virtual"


def _is_veth(root: Root, place: _Place) -> bool:
    """Whether it is one end of a pair: an Ethernet interface whose `iflink` is another one that is not below it."""
    if place.devtype is not None or place.lowers or root.read_int(f"{place.path}/type") != _ETHER:
        return False
    own, other = root.read_int(f"{place.path}/ifindex"), root.read_int(f"{place.path}/iflink")
    return bool(own and other and own != other)
