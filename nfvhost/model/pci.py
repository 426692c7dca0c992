"""PCI addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Domains have four hexadecimal digits, or more behind a VMD controller (drivers/pci/controller/vmd.c: from 0x10000).
_ADDRESS: Final = re.compile(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([01][0-9a-fA-F])\.([0-7])")


@dataclass(frozen=True, slots=True, order=True)
class PciAddress:
    """Domain, bus, device and function of one PCI function; `str()` gives sysfs's form `0000:10:00.0`."""

    domain: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> PciAddress:
        """The address in the form `0000:10:00.0`; ValueError for anything else, a short `10:00.0` included."""
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a PCI address such as 0000:10:00.0")
        return cls(int(match[1], 16), int(match[2], 16), int(match[3], 16), int(match[4]))

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"
