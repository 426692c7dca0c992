"""IOMMU groups."""

from __future__ import annotations

from typing import Final

from nfvhost.access.root import Root
from nfvhost.inspect.pci import GROUP, PciFunction, iommu_group, parse_address
from nfvhost.model.host import Iommu, IommuGroup
from nfvhost.model.pci import PciAddress

GROUPS: Final = "/sys/kernel/iommu_groups"
_UNSAFE: Final = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"


def iommu(root: Root, functions: tuple[PciFunction, ...]) -> Iommu:
    """The groups with the PCI functions in them.

    Source: /sys/kernel/iommu_groups/<N>/devices; a capture that lacks it may have kept the functions' links.
    """
    names = [name for name in root.list_dir(GROUPS) if GROUP.fullmatch(name)]
    if names:
        # Without an IOMMU, VFIO makes groups of its own that protect nothing (drivers/vfio/group.c).
        pretended = root.read_line(_UNSAFE) == "Y" and all(
            root.read_line(f"{GROUPS}/{name}/name") == "vfio-noiommu" for name in names
        )
        return Iommu(enabled=not pretended, groups=_groups({int(name): _devices(root, name) for name in names}))
    if root.exists(GROUPS):
        return Iommu(enabled=False, groups=())
    linked: dict[int, list[PciAddress]] = {}
    for function in functions:
        group = iommu_group(root, function)
        if group is not None:
            linked.setdefault(group, []).append(function.pci)
    return Iommu(enabled=True if linked else None, groups=_groups(linked))


def _devices(root: Root, group: str) -> list[PciAddress]:
    names = root.list_dir(f"{GROUPS}/{group}/devices")
    return [pci for name in names if (pci := parse_address(name)) is not None]


def _groups(members: dict[int, list[PciAddress]]) -> tuple[IommuGroup, ...]:
    return tuple(IommuGroup(id=group, devices=tuple(sorted(members[group]))) for group in sorted(members))
