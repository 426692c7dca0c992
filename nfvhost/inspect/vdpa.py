"""vDPA devices."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access.root import Root
from nfvhost.inspect.pci import linked_name, parse_address
from nfvhost.model.host import Vdpa, VdpaDevice
from nfvhost.model.live import LiveFacts
from nfvhost.model.pci import PciAddress

DEVICES: Final = "/sys/bus/vdpa/devices"
_FUNCTION: Final = re.compile(r"/([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7])(?=/)")


def vdpa(root: Root, facts: LiveFacts) -> Vdpa:
    """The vDPA devices, and who can make more.

    Source: /sys/bus/vdpa/devices; `vdpa mgmtdev show` by way of the live facts.
    """
    devices = tuple(
        VdpaDevice(
            name=name,
            parent=_parent(root.read_link(f"{DEVICES}/{name}")),
            driver=linked_name(root, f"{DEVICES}/{name}/driver"),
        )
        for name in root.list_dir(DEVICES)
    )
    return Vdpa(management_devices=facts.vdpa_management_devices, devices=devices)


def _parent(target: str | None) -> PciAddress | None:
    """The PCI function nearest to the device in the path that its link names; simulators have none."""
    functions = _FUNCTION.findall(target or "")
    return parse_address(functions[-1]) if functions else None
