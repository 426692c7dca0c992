"""A port given to DPDK, which cannot drive it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence, user_space_nics
from nfvhost.doctor.finding import Rule, Severity, Sign
from nfvhost.drivers import driver_of
from nfvhost.model.ovs_keys import release


def _look(evidence: Evidence) -> Iterator[Sign]:
    text = evidence.host.ovs.dpdk_version if evidence.host.ovs is not None else None
    dpdk = release(text) if text is not None else None
    for nic in user_space_nics(evidence):
        row = driver_of(nic)
        if row is None or (row.pmd is not None if dpdk is None else row.has_pmd(dpdk)):
            continue
        what = f"DPDK {text}" if dpdk else "DPDK"
        yield Sign(evidence=f"{nic.pci} ({row.family}) is bound to {nic.driver}; {what} has no PMD")


RULE: Final = Rule(
    name="no-pmd",
    severity=Severity.WARNING,
    sees="a port on vfio-pci for which DPDK has no driver",
    why="Open vSwitch cannot open it, and the kernel has lost it; a guest that gets the whole port can use it",
    hint="give it back to its kernel driver, and to Open vSwitch by AF_XDP",
    look=_look,
)
