"""What the kernel is told at boot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic import host as make_host
from synthetic import nic

from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import CpuModel, Host, Iommu
from nfvhost.model.plan import CpuPools, MemoryPlan, NodeMemory, Pages
from nfvhost.model.profile import Isolation, NicWish, Profile, Role
from nfvhost.planner.kernel_args import plan_kernel_args
from nfvhost.planner.nics import assign_roles
from nfvhost.planner.notebook import Notebook

BOARD = nic("0000:05:00.0", device="1533", driver="igb", netdevs=("eno1",), management="default route")
POOLS = CpuPools(
    host=CpuSet.parse("0,4"),
    shared=CpuSet.parse("0,4"),
    pmd=CpuSet.parse("1,5"),
    dedicated=CpuSet.parse("2-3,6-7"),
    idle=EMPTY,
    isolated=CpuSet.parse("1-3,5-7"),
)


def memory(*counts: int, size_mib: int = 1024, at_boot: bool = True) -> MemoryPlan:
    return MemoryPlan(
        nodes=tuple(
            NodeMemory(
                node=node,
                total_mib=32768,
                host_mib=2048,
                ovs_mib=1024,
                guest_mib=0,
                pages=(Pages(size_mib=size_mib, count=count, at_boot=at_boot),) if count else (),
            )
            for node, count in enumerate(counts)
        )
    )


def machine(vendor: str | None, *, architecture: str = "x86_64", **facts: Any) -> Host:  # noqa: ANN401 - fields of Host
    model = CpuModel(architecture=architecture, vendor=vendor, name=None, flags=frozenset())
    return make_host(**{"nics": [BOARD, nic("0000:10:00.0")], "model": model, **facts})


def args(
    host: Host,
    *,
    mib: MemoryPlan | None = None,
    isolation: Isolation = Isolation.NONE,
    wishes: tuple[NicWish, ...] = (),
) -> tuple[tuple[str, ...], Notebook]:
    notes = Notebook()
    profile = Profile(name="test", isolation=isolation, nics=wishes)
    roles = assign_roles(host, profile, Notebook())
    return plan_kernel_args(host, profile, POOLS, mib or memory(), roles, notes), notes


@pytest.mark.parametrize(
    ("vendor", "architecture", "expected"),
    [
        ("GenuineIntel", "x86_64", ("intel_iommu=on", "iommu=pt")),
        ("AuthenticAMD", "x86_64", ("iommu=pt",)),
        ("HygonGenuine", "x86_64", ("iommu=pt",)),
        (None, "x86_64", ("intel_iommu=on", "iommu=pt")),
        ("0x41", "aarch64", ("iommu.passthrough=1",)),
        (None, "ppc64le", ()),
    ],
)
def test_the_iommu_arguments_are_those_of_the_vendor(vendor: str, architecture: str, expected: tuple[str, ...]) -> None:
    assert args(machine(vendor, architecture=architecture))[0] == expected


def test_no_iommu_argument_where_nothing_is_given_away() -> None:
    assert args(machine("GenuineIntel", nics=[BOARD]))[0] == ()
    mlx5 = nic("0000:10:00.0", vendor="15b3", device="1017", driver="mlx5_core")
    assert args(machine("GenuineIntel", nics=[BOARD, mlx5]))[0] == ()
    wishes = (NicWish(role=Role.SRIOV),)
    assert args(machine("GenuineIntel", nics=[BOARD, mlx5]), wishes=wishes)[0] == ("intel_iommu=on", "iommu=pt")


def test_no_iommu_argument_in_a_virtual_machine_that_has_none() -> None:
    host = machine("GenuineIntel", virtualization="kvm", iommu=Iommu(enabled=False, groups=()))
    wishes = (NicWish(netdev="ens16f0", role=Role.DPDK),)
    assert args(host, wishes=wishes)[0] == ()


def test_boot_time_pages_are_listed_by_node_where_the_kernel_can() -> None:
    host = machine(None, packages=2, nics=[BOARD])
    assert args(host, mib=memory(4, 6))[0] == ("default_hugepagesz=1G", "hugepagesz=1G", "hugepages=0:4,1:6")
    assert args(host, mib=memory(0, 6))[0][-1] == "hugepages=1:6"


@pytest.mark.parametrize("kernel", ["5.15.0-91-generic", "5.4.0", None])
def test_an_older_kernel_gets_one_count_and_uneven_nodes_a_warning(kernel: str | None) -> None:
    host = machine(None, packages=2, nics=[BOARD], kernel_version=kernel)
    found, notes = args(host, mib=memory(4, 6))
    assert found[-1] == "hugepages=10"
    assert any("evenly" in text for text in notes.warnings)
    found, notes = args(host, mib=memory(4, 4))
    assert found[-1] == "hugepages=8"
    assert not notes.warnings


def test_one_node_gets_one_count_and_runtime_pages_none() -> None:
    host = machine(None, nics=[BOARD])
    assert args(host, mib=memory(7))[0][-1] == "hugepages=7"
    assert args(host, mib=memory(700, size_mib=2, at_boot=False))[0] == ()


@pytest.mark.parametrize(
    ("kernel", "flags"),
    [("6.8.0", "managed_irq,domain,"), ("5.4.0", "domain,"), ("4.14.1", ""), (None, "managed_irq,domain,")],
)
def test_isolation_at_boot_names_the_isolated_cpus(kernel: str | None, flags: str) -> None:
    found, _ = args(machine(None, nics=[BOARD], kernel_version=kernel), isolation=Isolation.BOOT)
    assert found == (f"isolcpus={flags}1-3,5-7", "nohz_full=1-3,5-7", "rcu_nocbs=1-3,5-7", "irqaffinity=0,4")


def test_a_kernel_without_managed_irq_is_not_said_to_keep_managed_interrupts_away() -> None:
    for kernel, expected in (
        ("5.4.0", "managed_irq comes with Linux 5.6, this is 5.4.0"),
        ("6.8.0", "no managed inter"),
    ):
        _, notes = args(machine(None, nics=[BOARD], kernel_version=kernel), isolation=Isolation.BOOT)
        assert [one for one in notes.decisions if one.subject == "kernelArgs.isolcpus" and expected in one.reason]


@pytest.mark.parametrize("isolation", [Isolation.NONE, Isolation.PARTITION])
def test_other_isolation_needs_no_argument(isolation: Isolation) -> None:
    found, notes = args(machine(None, nics=[BOARD]), isolation=isolation)
    assert found == ()
    assert any(decision.subject == "kernelArgs.isolation" for decision in notes.decisions)


def test_in_a_container_the_arguments_are_the_hosts() -> None:
    host = replace(machine(None, nics=[BOARD]), container="docker")
    assert any("docker" in text for text in args(host, isolation=Isolation.BOOT)[1].warnings)
    assert not args(host)[1].warnings
