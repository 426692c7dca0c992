"""PCI network functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from nfvhost.access.hardware import names_from_pci_ids
from nfvhost.access.root import Root
from nfvhost.inspect import pci as bus
from nfvhost.inspect.management import function_carriers
from nfvhost.inspect.netdev import is_representor
from nfvhost.inspect.pci import PciFunction
from nfvhost.inspect.platform import container
from nfvhost.model.host import Iommu, Netdev, Nic
from nfvhost.model.live import LiveFacts
from nfvhost.model.pci import PciAddress

_VIRTFN: Final = re.compile(r"virtfn(\d{1,5})")
# Drivers that give a function to user space or a guest and make no netdev.
_NO_NETDEV_DRIVERS: Final = frozenset({None, "vfio-pci", "uio_pci_generic", "igb_uio", "pci-stub", "xen-pciback"})
_VIRTIO: Final = "1af4"
# TotalVFs has 16 bits: PCI Express Base Specification, SR-IOV Extended Capability.
_MOST_VFS: Final = 0xFFFF


def nics(
    root: Root,
    *,
    functions: tuple[PciFunction, ...],
    remapping: Iommu,
    interfaces: tuple[Netdev, ...],
    facts: LiveFacts,
) -> tuple[Nic, ...]:
    """All PCI network functions in order of address: physical and virtual, with a netdev or without.

    A function that no file names a vendor of is left out. Source: /sys/bus/pci/devices/<pci>.
    """
    network = [
        (one, identity) for one in functions if one.is_network and (identity := bus.vendor_and_device(root, one))
    ]
    names = _names(frozenset(identity for _, identity in network), facts)
    bridges = frozenset(one.pci for one in functions if one.is_bridge)
    groups = {pci: group.devices for group in remapping.groups for pci in group.devices}
    by_name = {one.name: one for one in interfaces}
    stated: dict[PciAddress | None, set[str]] = {}
    for interface in interfaces:
        stated.setdefault(interface.pci, set()).add(interface.name)
    found: list[Nic] = []
    for one, identity in network:
        own = _netdevs(root, one, identity, stated.get(one.pci, set()))
        first = by_name.get(own[0]) if own else None
        vendor_name, device_name = names.get(identity, (None, None))
        found.append(
            Nic(
                pci=one.pci,
                vendor=identity[0],
                device=identity[1],
                class_code=one.class_code or "",
                vendor_name=vendor_name,
                device_name=device_name,
                driver=bus.linked_name(root, f"{one.path}/driver"),
                netdevs=own,
                mac=first.mac if first is not None else None,
                speed_mbps=first.speed_mbps if first is not None else None,
                node=bus.numa_node(root, one),
                iommu_group=bus.iommu_group(root, one),
                group_mates=tuple(pci for pci in groups.get(one.pci, ()) if pci != one.pci and pci not in bridges),
                total_vfs=root.read_count(f"{one.path}/sriov_totalvfs", most=_MOST_VFS),
                num_vfs=root.read_count(f"{one.path}/sriov_numvfs", most=_MOST_VFS),
                vfs=_vfs(root, one),
                physfn=bus.linked_address(root, f"{one.path}/physfn"),
                management=None,
            )
        )
    return _with_management(
        found, function_carriers(root, interfaces, facts), interfaces, hidden=_is_inside(root, facts)
    )


def _netdevs(root: Root, function: PciFunction, identity: tuple[str, str], stated: set[str]) -> tuple[str, ...]:
    """Its interfaces in order of name; those that stand for its VFs come after the port's own."""
    names = stated.union(root.list_dir(f"{function.path}/net"))
    if not names and identity[0] == _VIRTIO:
        entries = (entry for entry in root.list_dir(function.path) if entry.startswith("virtio"))
        names.update(name for entry in entries for name in root.list_dir(f"{function.path}/{entry}/net"))
    if len(names) == 1:
        return tuple(names)
    return tuple(sorted(names, key=lambda name: (is_representor(root, name), name)))


def _vfs(root: Root, function: PciFunction) -> tuple[PciAddress, ...]:
    """Its VFs in the order of their numbers. Source: the links virtfn<N>."""
    if not root.read_count(f"{function.path}/sriov_numvfs", most=_MOST_VFS):
        return ()
    numbers = sorted(int(match[1]) for name in root.list_dir(function.path) if (match := _VIRTFN.fullmatch(name)))
    links = (bus.linked_address(root, f"{function.path}/virtfn{number}") for number in numbers)
    return tuple(pci for pci in links if pci is not None)


def _is_inside(root: Root, facts: LiveFacts) -> bool:
    """Whether the tree is as a container sees it, whose network is not the machine's; a capture has concluded."""
    return facts.management is None and container(root, facts) is not None


def _with_management(
    found: list[Nic], functions: Mapping[PciAddress, str], interfaces: tuple[Netdev, ...], *, hidden: bool
) -> tuple[Nic, ...]:
    """The NICs with why they carry management: by an interface, as a port of a bridge, or through a VF of theirs."""
    stated = {one.name: one.management for one in interfaces}
    reasons: dict[PciAddress, str] = {}
    for nic in found:
        own = [reason for name in nic.netdevs if (reason := stated.get(name))]
        if nic.pci in functions:
            own.append(functions[nic.pci])
        if not own and hidden and not nic.netdevs and nic.driver not in _NO_NETDEV_DRIVERS:
            own.append(
                f"has an interface ({nic.driver}) that this container cannot see, and that may carry management; "
                "run where the machine's own network is seen"
            )
        if own:
            reasons[nic.pci] = "; ".join(dict.fromkeys(own))
    for nic in found:
        if nic.physfn is not None and nic.pci in reasons:
            through_vf = f"is the PF of {nic.pci}, which {reasons[nic.pci]}"
            before = reasons.get(nic.physfn)
            reasons[nic.physfn] = through_vf if before is None else f"{before}; {through_vf}"
    return tuple(replace(nic, management=reasons.get(nic.pci)) for nic in found)


def _names(ids: frozenset[tuple[str, str]], facts: LiveFacts) -> dict[tuple[str, str], tuple[str | None, str | None]]:
    """Vendor and device names by their ids: what the machine itself says, else a pci.ids file here."""
    stated = {(one.vendor, one.device): (one.vendor_name, one.device_name) for one in facts.hardware_names}
    for one in names_from_pci_ids(ids - stated.keys()):
        stated[one.vendor, one.device] = (one.vendor_name, one.device_name)
    return stated
