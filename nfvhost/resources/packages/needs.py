"""What a plan needs of the distribution's packages; every name comes from a table, none from the plan's texts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from nfvhost import drivers
from nfvhost.access.root import Root
from nfvhost.model.plan import NicPlan, Plan
from nfvhost.model.profile import Role

# What a library is called where it is not like its PMD: drivers/net/meson.build of DPDK v20.11 to v25.11. igc is a part
# of e1000 since 25.03.
_LIBRARIES: Final = {
    "e1000_em": ("e1000",),
    "e1000_igb": ("e1000",),
    "e1000_igb_vf": ("e1000",),
    "hns3_vf": ("hns3",),
    "igc": ("igc", "e1000"),
    "ixgbe_vf": ("ixgbe",),
    "sfc_efx": ("sfc",),
}
# Virtual devices that a port of OVS may name: net_<kind><number> (DPDK doc/guides/nics).
_VIRTUAL: Final = frozenset({"af_packet", "af_xdp", "memif", "null", "pcap", "ring", "tap", "vhost", "virtio_user"})
_VDEV: Final = re.compile(r"(?:net|eth)_([a-z_]+?)\d*(?:,|$)")
_PCI: Final = "/sys/bus/pci/devices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A part of DPDK: `net-i40e`, `bus-pci`; the first of `names` that the distribution has."""

    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What is needed, in the words of nobody's distribution."""

    open_vswitch: str | None  # the reason; None where the plan has no Open vSwitch
    libraries: tuple[Library, ...]
    vdpa_tool: str | None  # the reason


def needs_of(plan: Plan, root: Root) -> Needs:
    """What the plan needs; which driver a NIC takes is in its PCI ids, and else in what the plan says is bound."""
    vdpa = [nic.pci for nic in plan.nics if nic.role is Role.VDPA]
    vdpa_tool = f"`vdpa` makes the vDPA devices of {vdpa[0]}" if vdpa else None
    if plan.ovs is None:
        return Needs(open_vswitch=None, libraries=(), vdpa_tool=vdpa_tool)
    wanted: dict[tuple[str, ...], str] = {
        ("bus-pci",): "DPDK finds PCI functions by it",
        ("bus-vdev",): "DPDK makes virtual devices by it",
        ("mempool-ring",): "packet buffers are kept in it",
    }
    for nic in plan.nics:
        names = _driver(nic, root) if nic.role is Role.DPDK else None
        if names is not None:
            wanted.setdefault(names, f"the DPDK driver of {nic.pci}")
    for bridge in plan.ovs.bridges:
        for port in bridge.ports:
            kind = _VDEV.match(dict(port.options).get("dpdk-devargs", ""))
            if kind is not None and kind[1] in _VIRTUAL:
                name = "virtio" if kind[1] == "virtio_user" else kind[1].replace("_", "-")
                wanted.setdefault((f"net-{name}",), f"the virtual device of the port {port.name}")
    return Needs(
        open_vswitch="the switch of the plan, built with DPDK",
        libraries=tuple(Library(names=names, reason=reason) for names, reason in wanted.items()),
        vdpa_tool=vdpa_tool,
    )


def _driver(nic: NicPlan, root: Root) -> tuple[str, ...] | None:
    """Names of its PMD's library; None where DPDK has no driver for it."""
    ids = [(root.read_line(f"{_PCI}/{nic.pci}/{name}") or "").removeprefix("0x") for name in ("vendor", "device")]
    if all(re.fullmatch(r"[0-9a-f]{4}", one) for one in ids):
        row = drivers.row_of(vendor=ids[0], device=ids[1], driver=nic.current_driver)
    else:
        row = next((one for one in drivers.DRIVERS if nic.current_driver in one.kernel and one.pmd is not None), None)
    if row is None or row.pmd is None:
        return None
    return tuple(f"net-{name}" for name in _LIBRARIES.get(row.pmd, (row.pmd.replace("_", "-"),)))
