"""The worked example: a Ryzen 5 3600 with an X710, as the README plans it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from nfvhost.access.root import DirectoryRoot
from nfvhost.inspect import inspect_host
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host, cores, l3_groups
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Role
from nfvhost.planfile import default_profile
from nfvhost.planner import make_plan
from nfvhost.render import print_plan
from nfvhost.render.svg import plan_svg

EXAMPLE = Path(__file__).parents[2] / "examples/home-server/host"
REALTEK = PciAddress.parse("0000:05:00.0")
PORTS = (PciAddress.parse("0000:10:00.0"), PciAddress.parse("0000:10:00.1"))


@pytest.fixture(scope="module")
def host() -> Host:
    return inspect_host(DirectoryRoot(str(EXAMPLE)))


def test_its_cores_are_six_with_two_threads_each(host: Host) -> None:
    assert host.model.name == "AMD Ryzen 5 3600 6-Core Processor"
    assert host.online == host.allowed == CpuSet.parse("0-11")
    assert [str(core) for core in cores(host)] == ["0,6", "1,7", "2,8", "3,9", "4,10", "5,11"]


def test_three_cores_share_each_l3(host: Host) -> None:
    assert [str(group) for group in l3_groups(host)] == ["0-2,6-8", "3-5,9-11"]


def test_its_memory_is_on_one_node_and_can_have_large_pages(host: Host) -> None:
    (node,) = host.nodes
    assert node.memory_kib == host.memory_kib == 32784968
    assert [str(pool.size) for pool in node.hugepages] == ["2M", "1G"]
    assert "pdpe1gb" in host.model.flags


def test_the_iommu_is_on_and_gives_each_port_a_group_of_its_own(host: Host) -> None:
    assert host.iommu.enabled
    for pci in PORTS:
        nic = host.nic(pci)
        assert nic is not None
        assert nic.group_mates == ()
        assert (nic.driver, nic.speed_mbps, nic.total_vfs) == ("i40e", 10000, 64)


def test_the_realtek_port_carries_management_and_no_other(host: Host) -> None:
    managing = {nic.pci: nic.management for nic in host.nics if nic.management}
    assert list(managing) == [REALTEK]
    assert "default route" in managing[REALTEK]


def test_it_is_a_debian_on_metal_with_grub(host: Host) -> None:
    assert host.distribution is not None
    assert (host.distribution.id, host.distribution.version_id) == ("debian", "12")
    assert (host.boot_loader, host.init, host.virtualization, host.container) == ("grub", "systemd", None, None)
    assert host.warnings == ()


@pytest.fixture(scope="module")
def plan(host: Host) -> Plan:
    return make_plan(host, default_profile())


def test_the_host_keeps_the_core_of_cpu_0(plan: Plan) -> None:
    assert plan.cpus.host == plan.cpus.shared == CpuSet.parse("0,6")


def test_the_pmd_shares_the_cache_of_the_host_so_that_guests_have_the_other_whole(host: Host, plan: Plan) -> None:
    near, far = l3_groups(host)
    assert plan.cpus.pmd in cores(host)
    assert plan.cpus.pmd <= near - plan.cpus.host
    assert far <= plan.cpus.dedicated
    assert plan.cpus.host | plan.cpus.pmd | plan.cpus.dedicated == host.online


def test_the_realtek_port_is_never_touched_and_the_x710_switches(plan: Plan) -> None:
    assert {nic.pci: (nic.role, nic.driver) for nic in plan.nics} == {
        REALTEK: (Role.MANAGEMENT, None),
        PORTS[0]: (Role.DPDK, "vfio-pci"),
        PORTS[1]: (Role.DPDK, "vfio-pci"),
    }


def test_its_pages_are_large_and_leave_the_host_its_floor(plan: Plan) -> None:
    (node,) = plan.memory.nodes
    assert [pages.size_mib for pages in node.pages] == [1024]
    assert node.host_mib + node.ovs_mib + node.guest_mib <= node.total_mib
    assert sum(pages.size_mib * pages.count for pages in node.pages) == node.ovs_mib + node.guest_mib


def test_its_readme_and_picture_are_what_a_run_gives(host: Host, plan: Plan) -> None:
    screen = io.StringIO()
    print_plan(host, plan, file=screen, width=80, color=False)
    readme = (EXAMPLE.parent / "README.md").read_text(encoding="utf-8")
    assert f"```text\n{screen.getvalue()}```\n" in readme, "paste `COLUMNS=80 nfvhost plan --host …` again"
    picture = (EXAMPLE.parent / "plan.svg").read_text(encoding="utf-8")
    assert picture == plan_svg(host, plan), "draw it again with `nfvhost plan --host … --svg`"


def test_the_top_readme_shows_the_plan_as_it_is(host: Host, plan: Plan) -> None:
    screen = io.StringIO()
    print_plan(host, plan, file=screen, width=80, color=False)
    readme = (EXAMPLE.parents[2] / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("```text\n")[2].partition("```\n")[0]
    assert "── NICs" in shown
    assert screen.getvalue().startswith(shown), "paste the head of `COLUMNS=80 nfvhost plan --host …` again"
    reason = next(decision.reason for decision in plan.decisions if decision.subject == "cpus.pmd")
    assert reason in " ".join(readme.split()), "paste `nfvhost plan --host … --explain cpus.pmd` again"
