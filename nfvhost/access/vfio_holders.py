"""Which processes have PCI functions open from user space, by VFIO or UIO."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from nfvhost.access.root import Root
from nfvhost.errors import PreconditionError
from nfvhost.model.pci import PciAddress

_DEVICES: Final = "/sys/bus/pci/devices"
_GROUPS: Final = "/sys/kernel/iommu_groups"
# What an open function looks like whose group was closed again (drivers/vfio/group.c, vfio_device_open_file).
_OPEN_FUNCTION: Final = "anon_inode:[vfio-device]"
# Since Linux 6.18 (drivers/vfio/vfio_main.c, vfio_device_show_fdinfo; proc.rst, "VFIO Device files").
_SYSPATH: Final = re.compile(r"(?m)^vfio-device-syspath:\s*(\S+)\s*$")


def vfio_holders(root: Root, functions: Iterable[PciAddress]) -> dict[PciAddress, tuple[str, ...]]:
    """`qemu-system-x86 (pid 4711)` for each process that has one of the functions open; only those held are in it.

    Who holds an IOMMU group, or one function of it, holds each of its functions: the kernel lets no driver of its own
    have one meanwhile (drivers/iommu/iommu.c, iommu_device_use_default_domain). Empty where nobody is seen, as by a
    user who may not look into other processes.
    Source: /proc/<pid>/fd and /proc/<pid>/fdinfo (proc(5)), with files /dev/vfio/<group>, /dev/vfio/noiommu-<group>
    (drivers/vfio/group.c), /dev/vfio/devices/vfio<N> (vfio_main.c) and /dev/uio<N>.
    """
    by_file: dict[str, list[PciAddress]] = {}
    for pci in dict.fromkeys(functions):
        for file in _files(root, pci):
            by_file.setdefault(file, []).append(pci)
    found: dict[PciAddress, list[str]] = {}
    if by_file:
        for pid in sorted(filter(str.isdigit, root.list_dir("/proc")), key=int):
            for pci in sorted({pci for file in _open(root, pid) for pci in by_file.get(file, ())}):
                found.setdefault(pci, []).append(f"{root.read_line(f'/proc/{pid}/comm')} (pid {pid})")
    return {pci: tuple(who) for pci, who in found.items()}


def _files(root: Root, pci: PciAddress) -> tuple[str, ...]:
    """What a process that uses this function, or another one of its group, has open, one or the other."""
    group = (root.read_link(f"{_DEVICES}/{pci}/iommu_group") or "").rpartition("/")[2]
    members = root.list_dir(f"{_GROUPS}/{group}/devices") if group else ()
    return (
        *((f"/dev/vfio/{group}", f"/dev/vfio/noiommu-{group}") if group else ()),
        *(
            f"/dev/vfio/devices/{name}"
            for member in members or (str(pci),)
            for name in root.list_dir(f"{_DEVICES}/{member}/vfio-dev")
        ),
        *(f"/dev/{name}" for name in root.list_dir(f"{_DEVICES}/{pci}/uio")),
        *(members or (str(pci),)),
    )


def _open(root: Root, pid: str) -> set[str]:
    """The files that a process has open; of an open function its address, where the kernel tells it."""
    found = set()
    try:
        for number in root.list_dir(f"/proc/{pid}/fd"):
            target = root.read_link(f"/proc/{pid}/fd/{number}")
            if target == _OPEN_FUNCTION:
                function = _SYSPATH.search(root.read_text(f"/proc/{pid}/fdinfo/{number}") or "")
                target = function and function[1].rpartition("/")[2]
            found.add(target or "")
    except PreconditionError:
        return set()
    return found
