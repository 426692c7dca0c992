"""Functions on the PCI bus, from /sys/bus/pci/devices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from nfvhost.access.root import Root
from nfvhost.model.pci import PciAddress

DEVICES: Final = "/sys/bus/pci/devices"
_NETWORK: Final = "02"
_BRIDGE: Final = "06"
_CLASS: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{1,6})")
_ID: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{4})")
# The number of an IOMMU group.
GROUP: Final = re.compile(r"[0-9]{1,9}")
# drivers/pci/pci-sysfs.c, modalias_show
_MODALIAS: Final = re.compile(
    r"pci:v0000([0-9A-Fa-f]{4})d0000([0-9A-Fa-f]{4})sv[0-9A-Fa-f]+sd[0-9A-Fa-f]+"
    r"bc([0-9A-Fa-f]{2})sc([0-9A-Fa-f]{2})i([0-9A-Fa-f]{2})"
)
# PCI Local Bus Specification 3.0, 6.1: vendor and device at 0, class at 9 to 11, little endian.
_CONFIG_HEADER: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PciFunction:
    """One PCI function; any kind of device."""

    pci: PciAddress
    class_code: str | None  # six hex digits; None where no file states it

    @property
    def path(self) -> str:
        """Its folder."""
        return f"{DEVICES}/{self.pci}"

    @property
    def is_network(self) -> bool:
        """Whether it is a network controller: Ethernet, InfiniBand, Wi-Fi and their kin."""
        return self.class_code is not None and self.class_code.startswith(_NETWORK)

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge, such as a PCIe port."""
        return self.class_code is not None and self.class_code.startswith(_BRIDGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    vendor: str
    device: str
    class_code: str | None


def pci_functions(root: Root) -> tuple[PciFunction, ...]:
    """All functions in order of address; one file is read for each.

    Names that are no PCI address are left out. Source: /sys/bus/pci/devices.
    """
    found = [
        PciFunction(pci=pci, class_code=_class_code(root, f"{DEVICES}/{name}"))
        for name in root.list_dir(DEVICES)
        if (pci := parse_address(name)) is not None
    ]
    return tuple(sorted(found, key=lambda function: function.pci))


def parse_address(text: str) -> PciAddress | None:
    """The address that a file or a link names; None for any other name."""
    try:
        return PciAddress.parse(text)
    except ValueError:
        return None


def vendor_and_device(root: Root, function: PciFunction) -> tuple[str, str] | None:
    """Two times four hex digits; None where no file of the function states them.

    Source: `vendor` and `device`; without them PCI_ID of `uevent`, `modalias`, `config`.
    """
    vendor = _ID.fullmatch(root.read_line(f"{function.path}/vendor") or "")
    device = _ID.fullmatch(root.read_line(f"{function.path}/device") or "")
    if vendor is not None and device is not None:
        return vendor[1].lower(), device[1].lower()
    identity = _other_identity(root, function.path)
    return None if identity is None else (identity.vendor, identity.device)


def linked_name(root: Root, path: str) -> str | None:
    """The last part of a link's target: the name of a driver, a group or a function; None where there is no link."""
    target = root.read_link(path)
    return (target.rstrip("/").rpartition("/")[2] or None) if target is not None else None


def linked_address(root: Root, path: str) -> PciAddress | None:
    """The PCI function that a link leads to; None where there is no link, or not to a function."""
    name = linked_name(root, path)
    return parse_address(name) if name is not None else None


def iommu_group(root: Root, function: PciFunction) -> int | None:
    """The number of its IOMMU group. Source: the link `iommu_group`."""
    name = linked_name(root, f"{function.path}/iommu_group")
    return int(name) if name is not None and GROUP.fullmatch(name) else None


def numa_node(root: Root, function: PciFunction) -> int | None:
    """Its NUMA node; None where the firmware names none (`numa_node` says -1)."""
    return root.read_count(f"{function.path}/numa_node")


def _class_code(root: Root, path: str) -> str | None:
    stated = _CLASS.fullmatch(root.read_line(f"{path}/class") or "")
    if stated is not None:
        return stated[1].lower().zfill(6)
    identity = _other_identity(root, path)
    return None if identity is None else identity.class_code


def _other_identity(root: Root, path: str) -> _Identity | None:
    """What the function is, from the files that repeat it."""
    return (
        _identity_of_uevent(root.read_text(f"{path}/uevent") or "")
        or _identity_of_modalias(root.read_line(f"{path}/modalias") or "")
        or _identity_of_config(root.read_bytes(f"{path}/config") or b"")
    )


def _identity_of_uevent(text: str) -> _Identity | None:
    """Source: drivers/pci/pci-driver.c, pci_uevent: `PCI_CLASS=20000`, `PCI_ID=8086:1572`."""
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    vendor, _, device = lines.get("PCI_ID", "").partition(":")
    stated = _CLASS.fullmatch(lines.get("PCI_CLASS", ""))
    if not (_ID.fullmatch(vendor) and _ID.fullmatch(device)):
        return None
    return _Identity(
        vendor=vendor.lower(), device=device.lower(), class_code=stated[1].lower().zfill(6) if stated else None
    )


def _identity_of_modalias(line: str) -> _Identity | None:
    match = _MODALIAS.match(line)
    if match is None:
        return None
    vendor, device, base, sub, interface = (part.lower() for part in match.groups())
    return _Identity(vendor=vendor, device=device, class_code=base + sub + interface)


def _identity_of_config(header: bytes) -> _Identity | None:
    # A function that does not answer reads as all ones.
    if len(header) < _CONFIG_HEADER or header[:2] == b"\xff\xff":
        return None
    return _Identity(vendor=header[1::-1].hex(), device=header[3:1:-1].hex(), class_code=header[11:8:-1].hex())
