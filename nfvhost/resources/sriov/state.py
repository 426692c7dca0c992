"""What is there of the ports that are to have VFs."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.access.sysfs import linked_name
from nfvhost.access.vf_settings import VfAttributes, VfSetting
from nfvhost.access.vf_users import PCI, vdpa_devices, vf_users
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import NicPlan, Plan
from nfvhost.resources.own_files import FileImage, read_image
from nfvhost.resources.sriov.managers import FILES, Managers, read_managers

_VIRTFN: Final = re.compile(r"virtfn(\d{1,5})")
# net/core/net-sysfs.c, phys_port_name: pf0vf3 and pf0sf88 stand for a VF or a subfunction, p0 for the port itself.
_REPRESENTOR: Final = re.compile(r"(?:c\d+)?pf\d+(?:vf\d+|sf\d+)?")
# include/uapi/linux/if.h
_IFF_UP: Final = 0x1


@dataclass(frozen=True, slots=True, kw_only=True)
class Vf:
    """One VF."""

    index: int  # N of virtfn<N>
    pci: PciAddress
    driver: str | None  # what is bound to it
    driver_override: str | None  # what alone may be bound to it; None: whatever takes its id
    users: tuple[str, ...] = ()  # guests and others who have it; asked for where the plan would change it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pf:
    """One port."""

    pci: PciAddress
    present: bool
    vendor: str | None  # four hex digits, as the device
    device: str | None
    driver: str | None  # what is bound to it
    netdev: str | None  # its own interface, in this network namespace
    up: bool | None  # whether that is administratively up
    total_vfs: int | None  # sriov_totalvfs; None: it offers no SR-IOV
    num_vfs: int | None  # sriov_numvfs
    autoprobe: str | None  # sriov_drivers_autoprobe: 1 where new VFs get a driver, 0 where none
    vfs: tuple[Vf, ...]
    attributes: tuple[VfAttributes, ...]  # of its VFs; asked for where the plan sets some or they will be made anew
    vdpa: tuple[str, ...] = ()  # vDPA devices on its VFs; asked for where these would have to go

    def attribute(self, vf: int, setting: VfSetting) -> str | None:
        """What is set for a VF; None where there is no such VF or its driver does not say."""
        # The kernel tells them in order, and leaves out those that the driver says nothing of (rtnl_fill_vfinfo).
        at = bisect_left(self.attributes, vf, key=lambda one: one.vf)
        found = self.attributes[at : at + 1]
        return found[0].text(setting) if found and found[0].vf == vf else None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The ports, and the files that keep network managers off their VFs."""

    pfs: tuple[Pf, ...]
    files: tuple[FileImage, ...]
    managers: Managers

    def pf(self, pci: PciAddress) -> Pf | None:
        """The port at that address; None where the plan says nothing of it."""
        return next((pf for pf in self.pfs if pf.pci == pci), None)


def planned(plan: Plan) -> tuple[NicPlan, ...]:
    """The ports whose VFs the plan counts."""
    return tuple(nic for nic in plan.nics if nic.vfs is not None)


def wanted(nic: NicPlan, vf: int) -> dict[VfSetting, str]:
    """What the plan says of one VF, as ip-link(8) writes it."""
    settings = nic.vf_settings
    link_state = settings.link_state.value if settings.link_state is not None else None
    found = {
        VfSetting.MAC: settings.macs[vf].lower() if vf < len(settings.macs) else None,
        VfSetting.VLAN: _text(settings.vlan),
        VfSetting.TRUST: _switch(on=settings.trust),
        VfSetting.SPOOF_CHECK: _switch(on=settings.spoof_check),
        VfSetting.LINK_STATE: link_state,
        VfSetting.MAX_TX_RATE: _text(settings.max_tx_mbps),
    }
    return {setting: text for setting, text in found.items() if text is not None}


def wants_settings(nic: NicPlan) -> bool:
    """Whether the plan sets anything of its VFs."""
    return any(wanted(nic, vf) for vf in range(nic.vfs or 0))


def read_state(machine: Machine, plan: Plan) -> State:
    """All of it; guests are looked for where the plan would change what they have."""
    root = machine.root
    nics = planned(plan)
    pfs = {nic.pci: read_pf(root, nic.pci) for nic in nics}
    named = [
        pf.netdev
        for nic in nics
        if (pf := pfs[nic.pci]).netdev is not None and pf.num_vfs and (wants_settings(nic) or pf.num_vfs != nic.vfs)
    ]
    attributes = machine.links.read_vfs(named) if named else {}
    whole = [replace(pf, attributes=attributes.get(pf.netdev or "", ())) for pf in pfs.values()]
    touched = {
        vf.pci: pf.pci
        for nic, pf in zip(nics, whole, strict=True)
        for vf in pf.vfs
        if pf.num_vfs != nic.vfs or differing(pf, nic, vf.index)
    }
    users = vf_users(root, touched) if touched else {}
    below = vdpa_devices(root) if touched else {}
    return State(
        pfs=tuple(
            replace(
                pf,
                vfs=tuple(replace(vf, users=users.get(vf.pci, ())) for vf in pf.vfs),
                vdpa=tuple(name for vf in pf.vfs if vf.pci in touched for name in below.get(vf.pci, ())),
            )
            for pf in whole
        ),
        files=tuple(read_image(root, path) for path in FILES),
        managers=read_managers(root),
    )


def differing(pf: Pf, nic: NicPlan, vf: int) -> dict[VfSetting, str]:
    """What the plan says of one VF, and is not so."""
    return {setting: text for setting, text in wanted(nic, vf).items() if pf.attribute(vf, setting) != text}


def read_pf(root: Root, pci: PciAddress) -> Pf:
    """The port without its VFs' attributes and users. Source: /sys/bus/pci/devices/<pci>."""
    folder = f"{PCI}/{pci}"
    netdev = port_netdev(root, pci)
    flags = root.read_int(f"/sys/class/net/{netdev}/flags", base=16) if netdev is not None else None
    return Pf(
        pci=pci,
        present=root.exists(folder),
        vendor=_hex(root, f"{folder}/vendor"),
        device=_hex(root, f"{folder}/device"),
        driver=linked_name(root, f"{folder}/driver"),
        netdev=netdev,
        up=bool(flags & _IFF_UP) if flags is not None else None,
        total_vfs=root.read_count(f"{folder}/sriov_totalvfs"),
        num_vfs=root.read_count(f"{folder}/sriov_numvfs"),
        autoprobe=root.read_line(f"{folder}/sriov_drivers_autoprobe"),
        vfs=read_vfs(root, pci),
        attributes=(),
    )


def read_vfs(root: Root, pci: PciAddress) -> tuple[Vf, ...]:
    """The VFs of a port by number. Source: the links virtfn<N>."""
    folder = f"{PCI}/{pci}"
    numbers = sorted(int(match[1]) for name in root.list_dir(folder) if (match := _VIRTFN.fullmatch(name)))
    found = []
    for number in numbers:
        target = linked_name(root, f"{folder}/virtfn{number}")
        if target is None:
            continue
        override = root.read_line(f"{PCI}/{target}/driver_override")
        found.append(
            Vf(
                index=number,
                pci=PciAddress.parse(target),
                driver=linked_name(root, f"{PCI}/{target}/driver"),
                # drivers/pci/pci-sysfs.c, driver_override_show: no override reads as (null).
                driver_override=override if override != "(null)" else None,
            )
        )
    return tuple(found)


def port_netdev(root: Root, pci: PciAddress) -> str | None:
    """The interface of the port itself and not one that stands for a VF; None where this namespace has none."""
    names = root.list_dir(f"{PCI}/{pci}/net")
    if len(names) == 1:
        return names[0]
    return next((name for name in names if not _represents(root, name)), None)


def named_users(vfs: Iterable[Vf]) -> str:
    """`VF 3 (0000:21:10.6): guest vnf-1 (…)` for those that somebody has; empty where nobody has one."""
    return "; ".join(f"VF {vf.index} ({vf.pci}): {', '.join(vf.users)}" for vf in vfs if vf.users)


def _represents(root: Root, name: str) -> bool:
    return _REPRESENTOR.fullmatch(root.read_line(f"/sys/class/net/{name}/phys_port_name") or "") is not None


def _hex(root: Root, path: str) -> str | None:
    line = root.read_line(path)
    return line.removeprefix("0x") if line is not None else None


def _switch(*, on: bool | None) -> str | None:
    return None if on is None else ("off", "on")[on]


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
