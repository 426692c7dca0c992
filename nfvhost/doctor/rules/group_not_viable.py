"""An IOMMU group of which only a part is given to VFIO."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Rule, Severity, Sign, need

# drivers/vfio/vfio.c of Linux 5.x, vfio_driver_allowed: these do no DMA of their own.
_HARMLESS: Final = frozenset({"pci-stub", "pcieport", "shpchp"})


def _look(evidence: Evidence) -> Iterator[Sign]:
    need(evidence.drivers or None, "no PCI function is to be seen")
    for nic in evidence.host.nics:
        drivers = [(mate, evidence.driver(mate)) for mate in nic.group_mates]
        strangers = [
            f"{mate} ({driver})"
            for mate, driver in drivers
            if driver is not None and driver not in _HARMLESS and "vfio" not in driver
        ]
        if nic.driver == "vfio-pci" and strangers:
            yield Sign(
                evidence=f"{nic.pci} is bound to vfio-pci; of its IOMMU group, the kernel has {', '.join(strangers)}"
            )


RULE: Final = Rule(
    name="group-not-viable",
    severity=Severity.ERROR,
    sees="a NIC on vfio-pci whose IOMMU group has other functions on kernel drivers",
    why="VFIO opens a group only where all of it is given away: DPDK and guests get 'group is not viable'",
    hint="bind the others of the group to vfio-pci too, where the host can do without them, or choose a port in a group"
    " of its own",
    look=_look,
)
