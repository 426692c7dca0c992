"""What nfvhost finds in a running machine, and in its own capture of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vm import VirtualMachine

from nfvhost.access.archive import open_root
from nfvhost.inspect import inspect_host
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host, cores, l3_groups
from nfvhost.model.pci import PciAddress
from nfvhost.model.profile import Role
from nfvhost.planfile import default_profile
from nfvhost.planner import make_plan

MANAGEMENT = PciAddress.parse("0000:00:03.0")
REALTEK = PciAddress.parse("0000:64:01.0")


@pytest.fixture(scope="module")
def host(vm: VirtualMachine, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The machine's facts, through a capture that was made in it."""
    place = tmp_path_factory.mktemp("capture") / "host.tar.xz"
    vm.restore("installed")
    vm.check("nfvhost", "capture", "/tmp/host.tar.xz")
    vm.fetch("/tmp/host.tar.xz", place)
    return inspect_host(open_root(str(place)))


def test_it_has_two_nodes_of_two_cores_with_two_threads_each(host: Host) -> None:
    assert host.online == CpuSet.parse("0-7")
    assert [str(core) for core in cores(host)] == ["0-1", "2-3", "4-5", "6-7"]
    assert [str(group) for group in l3_groups(host)] == ["0-3", "4-7"]
    assert [str(node.cpus) for node in host.nodes] == ["0-3", "4-7"]
    assert {cpu.id: cpu.node for cpu in host.cpus} == {cpu: cpu // 4 for cpu in range(8)}
    assert all(3_700_000 < (node.memory_kib or 0) <= 4 << 20 for node in host.nodes)
    assert [node.distances for node in host.nodes] == [(10, 21), (21, 10)]


def test_each_nic_is_on_its_node_and_in_a_group_of_its_own(host: Host) -> None:
    found = {str(nic.pci): (nic.driver, nic.node, nic.total_vfs) for nic in host.nics}
    assert found == {
        "0000:00:03.0": ("virtio-pci", None, None),
        "0000:21:00.0": ("igb", 0, 7),
        "0000:22:00.0": ("e1000e", 0, None),
        "0000:61:00.0": ("igb", 1, 7),
        "0000:62:00.0": ("vmxnet3", 1, None),
        "0000:64:01.0": ("8139cp", 1, None),
        "0000:65:00.0": ("virtio-pci", 1, 2),
    }
    assert host.iommu.enabled
    groups = [nic.iommu_group for nic in host.nics]
    assert None not in groups
    assert len(set(groups)) == len(groups)
    # The bridge in front of the Realtek is no endpoint.
    assert all(nic.group_mates == () for nic in host.nics)


def test_management_is_found_and_never_touched(host: Host) -> None:
    managing = {nic.pci: nic.management for nic in host.nics if nic.management}
    assert list(managing) == [MANAGEMENT]
    assert "default route" in managing[MANAGEMENT]


def test_the_realtek_is_not_for_dpdk_and_the_plan_says_why(host: Host) -> None:
    plan = make_plan(host, default_profile())
    (nic,) = [nic for nic in plan.nics if nic.pci == REALTEK]
    assert nic.role is not Role.DPDK
    (reason,) = {one.reason for one in plan.decisions if one.subject == f"nics.{REALTEK}"}
    assert "DPDK" in reason


def test_inspect_in_the_machine_says_the_same_as_its_capture(installed: VirtualMachine, host: Host) -> None:
    said: dict[str, Any] = json.loads(installed.check("nfvhost", "inspect", "--json"))
    assert said["kind"] == "Host"
    assert [nic["pci"] for nic in said["nics"]] == [str(nic.pci) for nic in host.nics]
    assert CpuSet(cpu["id"] for cpu in said["cpus"] if cpu["online"]) == host.online
    assert said["warnings"] == list(host.warnings) == []
    shown = installed.check("env", "COLUMNS=80", "nfvhost", "inspect")
    assert "2 packages · 4 cores · 8 CPUs · 2 NUMA nodes" in shown
    assert "qemu" in shown


def test_a_capture_from_a_machine_is_small(installed: VirtualMachine, tmp_path: Path) -> None:
    installed.check("nfvhost", "capture", "/tmp/host.tar.xz")
    installed.fetch("/tmp/host.tar.xz", tmp_path / "host.tar.xz")
    assert (tmp_path / "host.tar.xz").stat().st_size < 64 << 10
