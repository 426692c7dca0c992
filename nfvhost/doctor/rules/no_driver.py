"""A NIC that nobody drives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Rule, Severity, Sign, UnseenError
from nfvhost.drivers import driver_of, is_ethernet


def _look(evidence: Evidence) -> Iterator[Sign]:
    if not any(driver for _, driver in evidence.drivers):
        raise UnseenError("no driver of any PCI function is to be seen")
    for nic in evidence.host.nics:
        if nic.driver is not None or not is_ethernet(nic):
            continue
        row = driver_of(nic)
        kernel = f"; its kernel driver is {' or '.join(row.kernel)}" if row is not None and row.kernel else ""
        yield Sign(
            evidence=f"{nic.pci} ({nic.device_name or f'{nic.vendor}:{nic.device}'}) has no driver{kernel}",
            # sriov_drivers_autoprobe 0 leaves VFs so until a guest gets them.
            severity=Severity.NOTE if nic.physfn is not None else None,
        )


RULE: Final = Rule(
    name="no-driver",
    severity=Severity.WARNING,
    sees="an Ethernet port that is bound to no driver",
    why="neither the kernel nor DPDK has it: a failed bind leaves a port so, and so does a module that is not there",
    hint="dmesg tells why its driver refused; `echo <address> > /sys/bus/pci/drivers_probe` tries again",
    look=_look,
)
