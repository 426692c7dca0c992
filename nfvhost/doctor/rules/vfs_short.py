"""VFs that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Rule, Severity, Sign, UnseenError


def _look(evidence: Evidence) -> Iterator[Sign]:
    ports = [nic for nic in evidence.host.nics if nic.num_vfs]
    if not ports:
        raise UnseenError("no port has virtual functions")
    for nic in ports:
        # A capture may leave the links out.
        if nic.vfs and len(nic.vfs) < (nic.num_vfs or 0):
            yield Sign(evidence=f"{nic.pci}: sriov_numvfs is {nic.num_vfs}, and {len(nic.vfs)} VFs are there")
        elif nic.vfs and not any(evidence.host.nic(vf) for vf in nic.vfs):
            yield Sign(evidence=f"{nic.pci}: none of its {len(nic.vfs)} VFs answers on the PCI bus")


RULE: Final = Rule(
    name="vfs-short",
    severity=Severity.WARNING,
    sees="fewer virtual functions than sriov_numvfs says",
    why="guests that were promised one do not start",
    hint="write 0 and then the count to sriov_numvfs; where memory for them is missing, boot with pci=realloc, or raise"
    " the firmware's limit",
    look=_look,
)
