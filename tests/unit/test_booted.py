"""What is there before the plan and stands against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic import host as make_host
from synthetic import nic

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import CpuModel, Host, HugepagePool, Iommu
from nfvhost.model.profile import Isolation, Profile
from nfvhost.model.units import PageSize
from nfvhost.planner import make_plan

INTEL = CpuModel(architecture="x86_64", vendor="GenuineIntel", name=None, flags=frozenset({"pse", "pdpe1gb"}))
BOARD = nic("0000:05:00.0", driver="igb", device="1533", speed_mbps=1000, management="carries the default route")


def machine(*args: str, **facts: Any) -> Host:  # noqa: ANN401 - fields of Host
    return make_host(cores=8, threads=2, model=INTEL, nics=[BOARD, nic("0000:18:00.0")], kernel_args=args, **facts)


def with_pages(host: Host, size: PageSize, count: int) -> Host:
    pool = HugepagePool(size=size, total=count, free=count, surplus=0)
    return replace(host, nodes=tuple(replace(node, hugepages=(pool,)) for node in host.nodes))


def started_with(host: Host, isolation: Isolation = Isolation.BOOT) -> list[str]:
    warnings = make_plan(host, Profile(name="test", isolation=isolation)).warnings
    return [one for one in warnings if "was started with" in one]


def test_foreign_isolcpus_are_named_with_who_wins() -> None:
    (warning,) = started_with(machine("quiet", "isolcpus=1-3,9-11", "nohz_full=1-3,9-11"))
    assert "started with isolcpus=1-3,9-11 nohz_full=1-3,9-11, against" in warning
    assert "obeys the first of two that differ (isolcpus, nohz_full)" in warning


def test_the_plans_own_arguments_after_the_reboot_are_no_news() -> None:
    planned = make_plan(machine(), Profile(name="test")).kernel_args
    assert any(arg.startswith("isolcpus=") for arg in planned)
    assert started_with(machine("quiet", *planned)) == []


@pytest.mark.parametrize("arg", ["intel_iommu=off", "iommu=off", "amd_iommu=off"])
def test_an_iommu_that_is_switched_off_stands_against_vfio(arg: str) -> None:
    (warning,) = started_with(machine(arg, iommu=Iommu(enabled=False, groups=())))
    assert f"started with {arg}, against" in warning


def test_pages_of_another_size_on_the_command_line_are_another_setting() -> None:
    assert started_with(machine("hugepagesz=2M", "hugepages=0")) == []
    (warning,) = started_with(machine("hugepagesz=1G", "hugepages=3", "hugepagesz=2M", "hugepages=0"))
    assert "started with hugepagesz=1G hugepages=3, against" in warning


def test_isolated_cpus_of_the_host_pool_are_told_where_the_plan_does_not_isolate() -> None:
    host = machine("isolcpus=0,8", isolated=CpuSet.parse("0,8"))
    warnings = make_plan(host, Profile(name="test", isolation=Isolation.NONE)).warnings
    assert any(one.startswith("CPUs 0,8 are isolated from the scheduler now") for one in warnings)


def test_pages_of_another_size_that_starve_the_host_are_told() -> None:
    host = with_pages(machine(), PageSize.MIB_2, 2048)
    (warning,) = [one for one in make_plan(host, Profile(name="test")).warnings if "reserved already" in one]
    assert "node 0 has 2048 pages of 2M reserved already (4096 MiB)" in warning


def test_one_page_is_told_of_in_the_singular() -> None:
    host = with_pages(machine(node_mib=20_480), PageSize(16 * 1024 * 1024), 1)
    (warning,) = [one for one in make_plan(host, Profile(name="test")).warnings if "reserved already" in one]
    assert "has 1 page of 16G reserved already" in warning


def test_pages_of_the_planned_size_are_not_counted_twice() -> None:
    host = with_pages(machine(), PageSize.GIB_1, 28)
    assert not [one for one in make_plan(host, Profile(name="test")).warnings if "reserved already" in one]
