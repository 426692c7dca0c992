"""The worked example: a Ryzen 5 3600 with an X710, as the README plans it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nfvhost.access.root import DirectoryRoot
from nfvhost.inspect import inspect_host
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host, cores, l3_groups
from nfvhost.model.pci import PciAddress

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
