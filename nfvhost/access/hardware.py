"""Names of PCI devices: from the running machine's hardware database, else from a pci.ids file."""

from __future__ import annotations

import contextlib
import re
from typing import Final

from nfvhost.model.live import HardwareName

# Debian's pci.ids and RHEL's hwdata put it here.
_PCI_IDS: Final = ("/usr/share/hwdata/pci.ids", "/usr/share/misc/pci.ids")
# A line that is neither indented, nor a comment, nor empty.
_NEXT_VENDOR: Final = re.compile(rb"\n[^\t#\n]")


def names_from_hwdb(functions: tuple[str, ...]) -> tuple[HardwareName, ...]:
    """Names that udev keeps for functions of this machine, given by address; empty without udev or its hwdb.

    Source: the properties ID_VENDOR_FROM_DATABASE and ID_MODEL_FROM_DATABASE of udev.
    """
    try:
        import pyudev  # noqa: PLC0415 - costs 25 ms, and loads libudev, which a container may lack
    except ImportError:
        return ()
    found: dict[str, HardwareName] = {}
    with contextlib.suppress(OSError, pyudev.DeviceNotFoundError):
        context = pyudev.Context()
        for function in functions:
            properties = pyudev.Devices.from_name(context, "pci", function).properties
            vendor, _, device = properties.get("PCI_ID", "").lower().partition(":")
            vendor_name = properties.get("ID_VENDOR_FROM_DATABASE")
            device_name = properties.get("ID_MODEL_FROM_DATABASE")
            if vendor_name or device_name:
                found[f"{vendor}:{device}"] = HardwareName(
                    vendor=vendor, device=device, vendor_name=vendor_name, device_name=device_name
                )
    return tuple(found[key] for key in sorted(found))


def names_from_pci_ids(
    ids: frozenset[tuple[str, str]], *, paths: tuple[str, ...] = _PCI_IDS
) -> tuple[HardwareName, ...]:
    """Names of these vendors and devices in the pci.ids of the machine that runs nfvhost; empty without one."""
    if not ids:
        return ()
    for path in paths:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            table = b"\n" + file.read()
            return tuple(_name(table, vendor, device) for vendor, device in sorted(ids))
    return ()


def _name(table: bytes, vendor: str, device: str) -> HardwareName:
    """The name in a pci.ids table, whose form its own header states: `vendor  name`, tab, `device  name`."""
    start = table.find(f"\n{vendor}  ".encode())
    if start < 0:
        return HardwareName(vendor=vendor, device=device, vendor_name=None, device_name=None)
    following = _NEXT_VENDOR.search(table, start + 1)
    end = following.start() if following is not None else len(table)
    at = table.find(f"\n\t{device}  ".encode(), start, end)
    return HardwareName(
        vendor=vendor,
        device=device,
        vendor_name=_rest_of_line(table, start + len("\nvvvv  ")),
        device_name=_rest_of_line(table, at + len("\n\tdddd  ")) if at >= 0 else None,
    )


def _rest_of_line(table: bytes, start: int) -> str:
    end = table.find(b"\n", start)
    return table[start : end if end >= 0 else None].decode(errors="replace").strip()
