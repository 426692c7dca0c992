"""Who has the VFs of a port: guests, other network namespaces, interfaces that stand on theirs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from nfvhost import drivers
from nfvhost.access.root import Root
from nfvhost.access.sysfs import linked_name
from nfvhost.access.vfio_holders import vfio_holders
from nfvhost.errors import PreconditionError
from nfvhost.model.pci import PciAddress

T = TypeVar("T")

PCI: Final = "/sys/bus/pci/devices"
VDPA: Final = "/sys/bus/vdpa/devices"
_PID: Final = re.compile(r"\(pid (\d+)\)$")
_UPPER: Final = "upper_"
# They make vDPA devices of a function and no interface (drivers/vdpa).
_NO_INTERFACE: Final = frozenset({"ifcvf", "octep_vdpa", "pds_core", "vp-vdpa"})


def vf_users(root: Root, vfs: Iterable[PciAddress]) -> dict[PciAddress, tuple[str, ...]]:
    """`guest vnf-1 (qemu-system-x86, pid 4711)` and the like for each VF that somebody has; the others are not in it.

    Source: /proc/<pid>/fd with files of VFIO and vhost-vDPA, -name of QEMU's command line, net/ of the function, which
    is empty where its interface is in another network namespace (drivers/base/core.c, device_namespace), upper_<name>
    of its interface.
    """
    some = tuple(dict.fromkeys(vfs))
    found: dict[PciAddress, list[str]] = {
        pci: [_called(root, holder) for holder in holders] for pci, holders in vfio_holders(root, some).items()
    }
    below = vdpa_devices(root)
    files = {file: pci for pci in some for name in below.get(pci, ()) for file in vhost_files(root, name)}
    for pci, holder in file_holders(root, files):
        found.setdefault(pci, []).append(holder)
    for pci in some:
        for user in _network_users(root, pci, has_vdpa=pci in below):
            found.setdefault(pci, []).append(user)
    return {pci: tuple(users) for pci, users in found.items()}


def vdpa_devices(root: Root) -> dict[PciAddress, tuple[str, ...]]:
    """Function -> the names of its vDPA devices. Source: the links in /sys/bus/vdpa/devices."""
    found: dict[PciAddress, list[str]] = {}
    for name in root.list_dir(VDPA):
        pci = _function(root.read_link(f"{VDPA}/{name}") or "")
        if pci is not None:
            found.setdefault(pci, []).append(name)
    return {pci: tuple(names) for pci, names in found.items()}


def vhost_files(root: Root, name: str) -> tuple[str, ...]:
    """`/dev/vhost-vdpa-0`: what a guest has open of a vDPA device (drivers/vhost/vdpa.c, vhost_vdpa_probe)."""
    return tuple(f"/dev/{child}" for child in root.list_dir(f"{VDPA}/{name}") if child.startswith("vhost-vdpa-"))


def file_holders(root: Root, files: Mapping[str, T]) -> tuple[tuple[T, str], ...]:
    """What a file stands for, and holder, for each process that has one of these files open, by pid."""
    if not files:
        return ()
    found = []
    for pid in sorted(filter(str.isdigit, root.list_dir("/proc")), key=int):
        try:
            targets = {root.read_link(f"/proc/{pid}/fd/{number}") for number in root.list_dir(f"/proc/{pid}/fd")}
        except PreconditionError:
            continue
        holder = f"{root.read_line(f'/proc/{pid}/comm')} (pid {pid})"
        found += [(files[file], _called(root, holder)) for file in sorted(targets & files.keys(), key=str) if file]
    return tuple(found)


def _network_users(root: Root, pci: PciAddress, *, has_vdpa: bool) -> tuple[str, ...]:
    driver = linked_name(root, f"{PCI}/{pci}/driver")
    if driver is None or driver in drivers.USERSPACE_DRIVERS or driver in _NO_INTERFACE:
        return ()
    names = root.list_dir(f"{PCI}/{pci}/net")
    if not names:
        # mlx5 may have given its queues to vDPA instead.
        return () if has_vdpa else (f"another network namespace, a container's say, which has its {driver} interface",)
    return tuple(
        f"the interface {entry.removeprefix(_UPPER)}, which stands on {name}"
        for name in names
        for entry in root.list_dir(f"/sys/class/net/{name}")
        if entry.startswith(_UPPER)
    )


def _called(root: Root, holder: str) -> str:
    """The holder by the name of its guest, where it is a QEMU that has one."""
    match = _PID.search(holder)
    words = (root.read_text(f"/proc/{match[1]}/cmdline") or "").split("\0") if match is not None else []
    if match is None or "-name" not in words[:-1]:
        return holder
    named = words[words.index("-name") + 1].split(",")
    guest = next((part.removeprefix("guest=") for part in named if part.startswith("guest=")), named[0])
    return f"guest {guest} ({holder[: match.start()].strip()}, pid {match[1]})"


def _function(target: str) -> PciAddress | None:
    """The function nearest to the end of a path."""
    for part in reversed(target.split("/")[:-1]):
        try:
            return PciAddress.parse(part)
        except ValueError:
            continue
    return None
