"""vfio without an IOMMU: only where the profile says so, and the machine shows none."""

from __future__ import annotations

from typing import Final

from nfvhost.model.host import Host
from nfvhost.model.plan import NicPlan
from nfvhost.model.profile import Profile, Role
from nfvhost.planner.notebook import Notebook

_VFIO: Final = "vfio-pci"


def plan_no_iommu(host: Host, profile: Profile, nics: tuple[NicPlan, ...], notes: Notebook) -> bool:
    """Whether vfio is to work without an IOMMU; where there is one, or nothing needs it, the wish is told and dropped.

    Source: drivers/vfio/group.c, vfio_group_find_or_alloc: a device with an IOMMU group is never taken without one.
    """
    if not profile.unsafe_no_iommu:
        return False
    if not goes_without(host, profile):
        notes.warn(
            "unsafeNoIommu is left out: this machine has an IOMMU, and vfio works by it. Take it out of the profile"
        )
        return False
    bound = [str(nic.pci) for nic in nics if nic.role is Role.DPDK and nic.driver == _VFIO]
    if not bound:
        notes.warn("unsafeNoIommu is left out: no NIC of this plan is bound to vfio-pci for DPDK")
        return False
    names = ", ".join(bound)
    notes.decide(
        "nics.unsafeNoIommu",
        "vfio without an IOMMU",
        f"the profile says unsafeNoIommu, no IOMMU shows here, and vfio-pci is to take {names}",
    )
    notes.warn(
        f"UNSAFE: {names} can read and write all memory of this machine, the kernel's and the guests' too, and the "
        "kernel counts as tainted (`enable_unsafe_noiommu_mode` of the module vfio). Where the BIOS has VT-d or "
        "AMD-Vi, turn that on and take unsafeNoIommu out"
    )
    return True


def goes_without(host: Host, profile: Profile) -> bool:
    """Whether vfio may work without an IOMMU here: the profile says so, and none shows."""
    return profile.unsafe_no_iommu and host.iommu.enabled is not True


def needs_iommu(host: Host, profile: Profile, nic: NicPlan) -> bool:
    """Whether the NIC, or a VF of it, is given away by means of an IOMMU, which may have to be turned on first."""
    if nic.vf_driver == _VFIO or nic.role in {Role.SRIOV, Role.VDPA}:
        return True
    return nic.driver == _VFIO and not goes_without(host, profile)
