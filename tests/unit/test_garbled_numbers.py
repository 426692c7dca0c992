"""Numbers in files that no kernel writes: a damaged capture is read as far as it makes sense."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nfvhost.errors import DocumentError
from nfvhost.inspect import inspect_host
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host

if TYPE_CHECKING:
    from tests.conftest import MakeTree

CPU = "/sys/devices/system/cpu"
NIC = "/sys/bus/pci/devices/0000:01:00.0"
CARD = {f"{NIC}/vendor": "0x8086\n", f"{NIC}/device": "0x1572\n", f"{NIC}/class": "0x020000\n"}


def read(make_tree: MakeTree, files: dict[str, str]) -> Host:
    return inspect_host(make_tree({f"{CPU}/online": "0-3", **files}))


@pytest.mark.parametrize("stated", ["-1", "65536", "18446744073709551615", "9" * 5000, "many", ""])
def test_a_number_of_vfs_that_no_card_has_is_no_sriov(make_tree: MakeTree, stated: str) -> None:
    host = read(make_tree, {**CARD, f"{NIC}/sriov_totalvfs": stated, f"{NIC}/sriov_numvfs": stated})
    assert [(nic.total_vfs, nic.num_vfs) for nic in host.nics] == [(None, None)]


@pytest.mark.parametrize("stated", ["-1", "99999999999", "x"])
def test_a_node_that_no_machine_has_is_no_node(make_tree: MakeTree, stated: str) -> None:
    assert read(make_tree, {**CARD, f"{NIC}/numa_node": stated}).nics[0].node is None


@pytest.mark.parametrize("stated", ["10", "10 -1", "10 x", f"10 {'9' * 5000}"])
def test_distances_that_are_no_distances_are_not_known(make_tree: MakeTree, stated: str) -> None:
    nodes = "/sys/devices/system/node"
    own = {f"{nodes}/node{node}/distance": text for node, text in enumerate(("10 21", stated))}
    host = read(make_tree, {f"{nodes}/online": "0-1", **own})
    assert [node.distances for node in host.nodes] == [(10, 21), ()]


def test_an_iommu_group_is_a_number_of_the_kernels(make_tree: MakeTree) -> None:
    groups = "/sys/kernel/iommu_groups"
    host = read(make_tree, {**CARD, f"{groups}/{'9' * 30}/devices/": "", f"{groups}/7/devices/0000:01:00.0/": ""})
    assert [group.id for group in host.iommu.groups] == [7]


def test_memory_beyond_every_machine_is_not_known(make_tree: MakeTree) -> None:
    host = read(
        make_tree, {"/proc/meminfo": f"MemTotal: {10**30} kB\nMemFree: {'9' * 5000} kB\nMemAvailable: 4096 kB\n"}
    )
    assert (host.memory_kib, host.available_kib) == (None, 4096)


def test_pages_are_counted_from_0_and_have_a_size(make_tree: MakeTree) -> None:
    pools = "/sys/kernel/mm/hugepages"
    stated = {"hugepages-0kB": "1", "hugepages-2048kB": "-1", "hugepages-1048576kB": "3"}
    host = read(make_tree, {f"{pools}/{name}/nr_hugepages": count for name, count in stated.items()})
    assert [(str(pool.size), pool.total) for pool in host.hugepages] == [("1G", 3)]


@pytest.mark.parametrize("number", [str(10**12), "65536", "9" * 5000])
def test_a_processor_that_linux_cannot_number_is_none(make_tree: MakeTree, number: str) -> None:
    text = f"processor\t: 0\ncore id\t: 0\n\nprocessor\t: {number}\ncore id\t: 1\n"
    host = inspect_host(make_tree({"/proc/cpuinfo": text, f"{CPU}/cpu99999/": ""}))
    assert host.online == CpuSet([0])


def test_online_cpus_beyond_the_present_ones_are_left_out_and_named(make_tree: MakeTree) -> None:
    host = read(make_tree, {f"{CPU}/online": "0-900", f"{CPU}/present": "0-3", f"{CPU}/cpu4/": ""})
    assert str(host.online) == "0-4"
    assert "CPUs 5-900 are listed as online, and not as present: they are left out" in host.warnings


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"kind": "LiveFacts", "apiVersion": "nfvhost/v1"}',
        (
            '{"kind": "LiveFacts", "apiVersion": "nfvhost/v1", "architecture": null, "container": null,'
            ' "management": null, "vdpaManagementDevices": null, "hardwareNames": [], "ovs": {"version": "3.1",'
            ' "dpdkVersion": null, "running": true, "database": null, "bridges": [], "otherConfig": ["dpdk-init"]}}'
        ),
    ],
    ids=["nested", "lacking", "list"],
)
def test_damaged_facts_of_a_capture_are_refused_by_their_path(make_tree: MakeTree, text: str) -> None:
    with pytest.raises(DocumentError, match=r"/nfvhost/live\.json"):
        read(make_tree, {"/nfvhost/live.json": text})


def test_single_cpus_have_hashes_of_their_own() -> None:
    assert len({hash(CpuSet([cpu])) for cpu in range(1024)}) > 1000
