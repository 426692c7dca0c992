"""Power of isolated CPUs, and vfio without an IOMMU: only where the profile says so."""

from __future__ import annotations

import pytest
from plan_rules import broken_rules
from synthetic import host as make_host
from synthetic import nic

from nfvhost.model.host import Host, Iommu
from nfvhost.model.plan import Plan, PowerPlan
from nfvhost.model.profile import CpuGovernor, NicWish, PowerWish, Profile, Role
from nfvhost.planner import make_plan

BOARD = nic("0000:05:00.0", device="1533", driver="igb", netdevs=("eno1",), speed_mbps=1000, management="default route")
NICS = (BOARD, nic("0000:10:00.0"))
NO_IOMMU = Iommu(enabled=False, groups=())


def plan(host: Host, profile: Profile) -> Plan:
    made = make_plan(host, profile)
    assert broken_rules(host, made) == []
    return made


def why(made: Plan, subject: str) -> str:
    (found,) = [one for one in made.decisions if one.subject == subject]
    return f"{found.choice}: {found.reason}"


def test_isolated_cpus_get_the_governor_and_the_latency_of_the_profile() -> None:
    host = make_host(cores=8, nics=NICS)
    wish = PowerWish(governor=CpuGovernor.PERFORMANCE, max_idle_latency_us=10)
    made = plan(host, Profile(name="x", power=wish))
    assert made.power == PowerPlan(cpus=made.cpus.isolated, governor=CpuGovernor.PERFORMANCE, max_idle_latency_us=10)
    assert made.cpus.isolated.named in why(made, "power.governor")
    assert "within that many µs" in why(made, "power.maxIdleLatencyUs")


def test_without_a_wish_nothing_is_said_of_power() -> None:
    made = plan(make_host(cores=8, nics=NICS), Profile(name="x"))
    assert made.power is None
    assert not any(one.subject.startswith("power") for one in made.decisions)


def test_power_of_a_machine_without_isolated_cpus_is_left_out_and_told() -> None:
    made = plan(make_host(cores=1, nics=NICS[:1]), Profile(name="x", power=PowerWish(max_idle_latency_us=0)))
    assert made.power is None
    assert any("`power` is left out" in warning for warning in made.warnings)


def test_a_governor_that_lowers_the_clock_of_pmd_threads_is_told() -> None:
    made = plan(make_host(cores=8, nics=NICS), Profile(name="x", power=PowerWish(governor=CpuGovernor.POWERSAVE)))
    assert made.power is not None
    assert any("powersave lowers the clock of PMD threads" in warning for warning in made.warnings)


def test_vfio_without_an_iommu_is_planned_with_a_loud_warning_and_no_argument_for_one() -> None:
    made = plan(make_host(cores=8, nics=NICS, iommu=NO_IOMMU), Profile(name="x", unsafe_no_iommu=True))
    assert made.unsafe_no_iommu
    assert made.nics[1].driver == "vfio-pci"
    assert any(warning.startswith("UNSAFE: 0000:10:00.0 can read and write all memory") for warning in made.warnings)
    assert not any("iommu" in argument for argument in made.kernel_args)
    assert "unsafeNoIommu" in why(made, "nics.unsafeNoIommu")
    assert why(made, "kernelArgs.iommu") == "none: the profile says unsafeNoIommu"
    assert not any(one.subject == "nics.iommu" for one in made.decisions)


def test_without_the_line_in_the_profile_vfio_waits_for_the_iommu() -> None:
    made = plan(make_host(cores=8, nics=NICS, iommu=NO_IOMMU), Profile(name="x"))
    assert not made.unsafe_no_iommu
    assert "iommu=pt" in made.kernel_args


def test_where_there_is_an_iommu_vfio_never_goes_without() -> None:
    made = plan(make_host(cores=8, nics=NICS), Profile(name="x", unsafe_no_iommu=True))
    assert not made.unsafe_no_iommu
    assert "iommu=pt" in made.kernel_args
    assert any("unsafeNoIommu is left out: this machine has an IOMMU" in warning for warning in made.warnings)


def test_vfs_for_guests_need_the_iommu_whatever_the_profile_says() -> None:
    wishes = (NicWish(role=Role.SRIOV, count=1), NicWish(role=Role.DPDK, count=1))
    host = make_host(cores=8, nics=(*NICS, nic("0000:10:00.1")), iommu=NO_IOMMU)
    made = plan(host, Profile(name="x", nics=wishes, unsafe_no_iommu=True))
    assert made.unsafe_no_iommu
    assert "iommu=pt" in made.kernel_args


def test_the_line_is_left_out_where_no_nic_goes_to_vfio() -> None:
    made = plan(make_host(cores=8, nics=NICS[:1], iommu=NO_IOMMU), Profile(name="x", unsafe_no_iommu=True))
    assert not made.unsafe_no_iommu
    assert any("no NIC of this plan is bound to vfio-pci" in warning for warning in made.warnings)


@pytest.mark.parametrize("unsafe", [True, False])
def test_a_virtual_machine_without_an_iommu_polls_by_dpdk_only_with_the_line(*, unsafe: bool) -> None:
    port = nic("0000:10:00.0", vendor="1af4", device="1041", driver="virtio-pci", speed_mbps=None)
    host = make_host(cores=8, nics=(BOARD, port), virtualization="kvm", iommu=NO_IOMMU)
    made = plan(host, Profile(name="x", unsafe_no_iommu=unsafe))
    assert made.nics[1].role is (Role.DPDK if unsafe else Role.AFXDP)
    assert made.unsafe_no_iommu is unsafe
