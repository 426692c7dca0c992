"""VFIO without DMA remapping."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    enabled = need(evidence.host.iommu.enabled, "whether an IOMMU is on is not to be seen")
    bound = [str(nic.pci) for nic in evidence.host.nics if nic.driver == "vfio-pci"]
    if bound and not enabled:
        yield Sign(evidence=f"{', '.join(bound)}: bound to vfio-pci, and the kernel has no IOMMU groups")


RULE: Final = Rule(
    name="no-iommu",
    severity=Severity.WARNING,
    sees="a NIC on vfio-pci while the IOMMU is off",
    why="vfio-pci opens no device then, or in its no-IOMMU mode lets the device write to all memory of the host",
    hint="turn VT-d or AMD-Vi on in the firmware, and boot with intel_iommu=on iommu=pt on Intel",
    look=_look,
)
