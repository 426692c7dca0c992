"""Which functions are to be bound to which driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost.drivers import USERSPACE_DRIVERS
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import NicPlan, Plan

# What /proc/<pid>/comm begins with, whatever its build is called: ovs-vswitchd-dpdk on Debian.
SWITCH_PROCESS: Final = "ovs-vswitchd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One function of the plan, and its driver."""

    nic: NicPlan
    vf: int | None  # which VF of it, from 0; None: the function itself
    driver: str

    @property
    def key(self) -> str:
        """How changes name it: `0000:21:00.0`, `0000:21:00.0 vf 0`."""
        return str(self.nic.pci) if self.vf is None else f"{self.nic.pci} vf {self.vf}"

    @property
    def reason(self) -> str:
        """Why it gets that driver."""
        of_vf = "" if self.vf is None else f"VF {self.vf} of it: "
        return f"{of_vf}{self.nic.role}, {self.nic.reason}"


def targets(plan: Plan, *, vfs: bool) -> tuple[Target, ...]:
    """The functions that are no VFs, or, with `vfs`, those that are, in the order of the plan.

    A VF may have an entry of its own, or be one of those that the entry of its PF asks for.
    """
    found = []
    for nic in plan.nics:
        if nic.driver is not None and is_vf(plan, nic.pci) == vfs:
            found.append(Target(nic=nic, vf=None, driver=nic.driver))
        if vfs and nic.vf_driver is not None:
            found += [Target(nic=nic, vf=number, driver=nic.vf_driver) for number in range(nic.vfs or 0)]
    return tuple(found)


def is_vf(plan: Plan, pci: PciAddress) -> bool:
    """Whether the plan was made for a machine on which this was a VF: the fingerprint lists all other NICs."""
    return identity(plan, pci) is None


def identity(plan: Plan, pci: PciAddress) -> str | None:
    """Vendor and device that were planned, `8086:1572`; None of a VF."""
    return dict(plan.host.fingerprint).get(f"nics.{pci}")


def is_vfio(driver: str | None) -> bool:
    """Whether it gives a function to user space by VFIO: vfio-pci, or one for a single card, as mlx5_vfio_pci."""
    return driver is not None and "vfio" in driver


def is_userspace(driver: str | None) -> bool:
    """Whether it gives a function to user space or a guest, so that a process may hold it."""
    return driver in USERSPACE_DRIVERS or is_vfio(driver)
