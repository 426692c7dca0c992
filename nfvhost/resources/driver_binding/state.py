"""Which function has which driver, and what would be disturbed by another one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from nfvhost.access.boot import kernel_args
from nfvhost.access.root import Root
from nfvhost.access.sysfs import is_read_only, linked_name
from nfvhost.access.vfio_holders import vfio_holders
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan
from nfvhost.resources.driver_binding.target import Target, is_userspace, targets
from nfvhost.resources.iommu import has_groups, iommu_group

DEVICES: Final = "/sys/bus/pci/devices"
DRIVERS: Final = "/sys/bus/pci/drivers"
_DRIVERCTL: Final = "/etc/driverctl.d"
_KEY: Final = re.compile(r"(?P<pci>\S+)(?: vf (?P<vf>\d+))?")
# drivers/pci/pci-sysfs.c, driver_override_show: what printf makes of none.
_NO_OVERRIDE: Final = frozenset({None, "(null)"})
# include/uapi/linux/if.h
_IFF_UP: Final = 0x1
# PCI Local Bus Specification 3.0, 6.1: the type of the header, its highest bit aside; 0 is no bridge.
_HEADER_TYPE: Final = 0x0E
_BRIDGE_CLASSES: Final = ("0x0604", "0x0607")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mate:
    """Another function of the same IOMMU group."""

    pci: PciAddress
    driver: str | None
    bridge: bool  # PCI interconnect, which is never given away: the header type in `config`, else `class`


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function that is to have a driver."""

    key: str  # as changes name it: `0000:21:00.0`, `0000:21:00.0 vf 0`
    pci: PciAddress | None  # where it is now: itself, or the link virtfn<N> of its PF; None where it is not there
    identity: str | None = None  # `vendor` and `device`: "8086:1572"
    network: bool = True  # `class` says network controller
    driver: str | None = None  # the link `driver`
    override: str | None = None  # `driver_override`
    group: int | None = None  # the link `iommu_group`; None without one, and of those that vfio makes itself
    mates: tuple[Mate, ...] = ()  # /sys/kernel/iommu_groups/<N>/devices
    vfs: int = 0  # `sriov_numvfs`, where its driver is to go
    up: tuple[str, ...] = ()  # its interfaces that are up: `net/<name>/flags`
    driverctl: str | None = None  # what driverctl(8) binds it to at each boot: /etc/driverctl.d/pci-<address>
    holders: tuple[str, ...] = ()  # who has it open (/proc/<pid>/fd); asked for only where it is to leave such a driver


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The functions, and what the kernel offers them."""

    functions: tuple[Function, ...]
    drivers: tuple[str, ...]  # of the planned ones, those that the kernel has: /sys/bus/pci/drivers
    groups: bool  # whether there are IOMMU groups: /sys/kernel/iommu_groups
    active: tuple[str, ...] | None  # what the running kernel was told: /proc/cmdline
    read_only: bool  # whether /sys is mounted so: /proc/self/mounts

    def function(self, key: str) -> Function:
        """The function that changes name so; one that is not there where it was not looked for."""
        return next((one for one in self.functions if one.key == key), Function(key=key, pci=None))


def read_state(root: Root, plan: Plan, *, vfs: bool) -> State:
    """All functions that are to have a driver."""
    wanted = targets(plan, vfs=vfs)
    # The kernel's list, once: a lookup for each function costs more.
    offered = set(root.list_dir(DRIVERS))
    return State(
        functions=tuple(_function(root, target) for target in wanted),
        drivers=tuple(sorted({target.driver for target in wanted} & offered)),
        groups=has_groups(root),
        active=kernel_args(root),
        read_only=is_read_only(root),
    )


def read_function(root: Root, key: str) -> Function:
    """What is there now of a function, as far as binding is concerned: address, identity, driver and override."""
    pci = locate(root, key)
    if pci is None:
        return Function(key=key, pci=None)
    folder = f"{DEVICES}/{pci}"
    override = root.read_line(f"{folder}/driver_override")
    code = root.read_line(f"{folder}/class")
    return Function(
        key=key,
        pci=pci,
        identity=f"{_hex(root, folder, 'vendor')}:{_hex(root, folder, 'device')}",
        network=code is None or code.startswith("0x02"),
        driver=linked_name(root, f"{folder}/driver"),
        override=None if override in _NO_OVERRIDE else override,
    )


def locate(root: Root, key: str) -> PciAddress | None:
    """Where the function is now; None where it is not, or the key names none."""
    match = _KEY.fullmatch(key)
    pci = _address(match["pci"]) if match is not None else None
    if match is not None and match["vf"] is not None and pci is not None:
        pci = _address(linked_name(root, f"{DEVICES}/{pci}/virtfn{match['vf']}") or "")
    return pci if pci is not None and root.exists(f"{DEVICES}/{pci}/vendor") else None


def is_vf_key(key: str) -> bool:
    """Whether it names a VF by its PF and its number."""
    match = _KEY.fullmatch(key)
    return match is not None and match["vf"] is not None


def _function(root: Root, target: Target) -> Function:
    bare = read_function(root, target.key)
    if bare.pci is None:
        return bare
    folder = f"{DEVICES}/{bare.pci}"
    group = iommu_group(root, bare.pci)
    leaves = bare.driver != target.driver
    held = leaves and is_userspace(bare.driver)
    name = f"pci-{bare.pci}"
    return Function(
        key=bare.key,
        pci=bare.pci,
        identity=bare.identity,
        network=bare.network,
        driver=bare.driver,
        override=bare.override,
        group=group,
        mates=_mates(root, group, bare.pci) if group is not None else (),
        vfs=(root.read_count(f"{folder}/sriov_numvfs") or 0) if leaves else 0,
        up=_up(root, folder) if leaves else (),
        driverctl=root.read_line(f"{_DRIVERCTL}/{name}") if name in root.list_dir(_DRIVERCTL) else None,
        holders=vfio_holders(root, (bare.pci,)).get(bare.pci, ()) if held else (),
    )


def _mates(root: Root, group: int, own: PciAddress) -> tuple[Mate, ...]:
    names = root.list_dir(f"/sys/kernel/iommu_groups/{group}/devices")
    addresses = (pci for name in names if (pci := _address(name)) is not None and pci != own)
    return tuple(
        Mate(pci=pci, driver=linked_name(root, f"{DEVICES}/{pci}/driver"), bridge=_is_bridge(root, pci))
        for pci in addresses
    )


def _is_bridge(root: Root, pci: PciAddress) -> bool:
    header = root.read_bytes(f"{DEVICES}/{pci}/config") or b""
    if len(header) > _HEADER_TYPE:
        return header[_HEADER_TYPE] & 0x7F != 0
    return (root.read_line(f"{DEVICES}/{pci}/class") or "").startswith(_BRIDGE_CLASSES)


def _up(root: Root, folder: str) -> tuple[str, ...]:
    # A virtio function's interface is one level below.
    places = [f"{folder}/net", *(f"{folder}/{name}/net" for name in root.list_dir(folder) if name.startswith("virtio"))]
    return tuple(
        name
        for place in places
        for name in root.list_dir(place)
        if (root.read_int(f"{place}/{name}/flags", base=0) or 0) & _IFF_UP
    )


def _hex(root: Root, folder: str, name: str) -> str:
    return (root.read_line(f"{folder}/{name}") or "").removeprefix("0x").lower()


def _address(text: str) -> PciAddress | None:
    try:
        return PciAddress.parse(text)
    except ValueError:
        return None
