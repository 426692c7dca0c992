"""A port whose PMD works through the kernel driver, which was taken away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence, ovs_nics, user_space_nics
from nfvhost.doctor.finding import Rule, Severity, Sign
from nfvhost.drivers import driver_of


def _look(evidence: Evidence) -> Iterator[Sign]:
    polled = {nic.pci for _, nic in ovs_nics(evidence)}
    for nic in user_space_nics(evidence):
        row = driver_of(nic)
        if row is not None and row.bifurcated:
            yield Sign(
                evidence=f"{nic.pci} ({row.family}) is bound to {nic.driver}, not to {row.kernel[0]}",
                severity=Severity.ERROR if nic.pci in polled else None,
                hint=f"bind it to {row.kernel[0]} again; only a guest that gets the whole port needs {nic.driver}",
            )


RULE: Final = Rule(
    name="bifurcated-driver",
    severity=Severity.WARNING,
    sees="an mlx4, mlx5 or mana port on vfio-pci",
    why="the PMD of these cards works through the kernel's driver: without it DPDK does not see the port",
    hint="bind it to its kernel driver again; only a guest that gets the whole port needs vfio-pci",
    look=_look,
)
