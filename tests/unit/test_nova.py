"""Settings of nova-compute and Neutron."""

from __future__ import annotations

import dataclasses

from synthetic import host as make_host
from synthetic import nic

from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import Host
from nfvhost.model.plan import CpuPools, MemoryPlan, NodeMemory, OvsBridge, OvsPlan, Pages, ReservedHugepages
from nfvhost.model.profile import NicWish, NovaWish, Profile, Role
from nfvhost.planner.nics import assign_roles
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.nova import plan_neutron, plan_nova

BOARD = nic("0000:05:00.0", device="1533", driver="igb", netdevs=("eno1",), management="default route")
MEMORY = MemoryPlan(
    nodes=(
        NodeMemory(
            node=0,
            total_mib=32_000,
            host_mib=2_000,
            ovs_mib=1_024,
            guest_mib=28_672,
            pages=(Pages(size_mib=1024, count=29, at_boot=True),),
        ),
        NodeMemory(
            node=1,
            total_mib=16_000,
            host_mib=1_000,
            ovs_mib=753,
            guest_mib=14_000,
            pages=(Pages(size_mib=2, count=7_377, at_boot=False),),
        ),
        NodeMemory(node=2, total_mib=1_000, host_mib=1_000, ovs_mib=0, guest_mib=0, pages=()),
    )
)


def pools(*, dedicated: str, shared: str) -> CpuPools:
    cpus = CpuSet.parse(shared)
    return CpuPools(host=cpus, shared=cpus, pmd=EMPTY, dedicated=CpuSet.parse(dedicated), idle=EMPTY, isolated=EMPTY)


def test_nova_gets_the_pools_and_keeps_off_what_is_not_the_guests() -> None:
    host = make_host(nics=[BOARD], packages=3, node_mib=(32_000, 16_000, 1_000))
    nova = plan_nova(host, Profile(name="x"), pools(dedicated="2-3", shared="0-1"), MEMORY, (), Notebook())
    assert nova is not None
    assert (str(nova.cpu_dedicated_set), str(nova.cpu_shared_set)) == ("2-3", "0-1")
    assert nova.reserved_host_memory_mib == 49_000 - 42_672
    assert nova.reserved_huge_pages == (
        ReservedHugepages(node=0, size_kib=1_048_576, count=1),
        ReservedHugepages(node=1, size_kib=2_048, count=377),
    )


def test_nova_keeps_its_own_reserve_where_the_memory_is_not_known() -> None:
    nodes = (NodeMemory(node=0, total_mib=0, host_mib=0, ovs_mib=0, guest_mib=0, pages=()),)
    notes = Notebook()
    nova = plan_nova(
        make_host(node_mib=None),
        Profile(name="x"),
        pools(dedicated="2-3", shared="0-1"),
        MemoryPlan(nodes=nodes),
        (),
        notes,
    )
    assert nova is not None
    assert nova.reserved_host_memory_mib is None
    assert any("512 MiB" in one.reason for one in notes.decisions if one.subject == "nova.reservedHostMemoryMiB")


def one_node(*, total_mib: int, guest_mib: int, host_mib: int = 2_000) -> MemoryPlan:
    pages = (Pages(size_mib=2, count=guest_mib // 2, at_boot=False),) if guest_mib else ()
    node = NodeMemory(node=0, total_mib=total_mib, host_mib=host_mib, ovs_mib=0, guest_mib=guest_mib, pages=pages)
    return MemoryPlan(nodes=(node,))


def stating(total_mib: int, *, stated_kib: int) -> Host:
    """A machine of one node whose own file states less than /proc/meminfo, as on some virtual machines."""
    host = make_host(node_mib=total_mib)
    return dataclasses.replace(host, nodes=(dataclasses.replace(host.nodes[0], stated_kib=stated_kib),))


def reserved(host: Host, memory: MemoryPlan, notes: Notebook) -> int | None:
    nova = plan_nova(host, Profile(name="x"), pools(dedicated="2-3", shared="0-1"), memory, (), notes)
    assert nova is not None
    return nova.reserved_host_memory_mib


def test_what_libvirt_counts_less_is_not_reserved_a_second_time() -> None:
    notes = Notebook()
    # Seen on a machine with 24683652 KiB in /proc/meminfo.
    host = stating(24_105, stated_kib=22_898_460)
    assert reserved(host, one_node(total_mib=24_105, guest_mib=18_432), notes) == 22_361 - 18_432
    (told,) = [one.reason for one in notes.decisions if one.subject == "nova.reservedHostMemoryMiB"]
    assert "the 22361 MiB that libvirt counts and Nova reports less the 18432 MiB of the guests' pages" in told
    assert "24105 MiB in all, of which its nodes state 1744 less" in told
    assert not notes.warnings


def test_never_more_is_reserved_than_nova_reports() -> None:
    notes = Notebook()
    assert reserved(stating(4_096, stated_kib=2_048_000), one_node(total_mib=4_096, guest_mib=2_048), notes) == 0
    assert "libvirt counts 2000 MiB on this machine, of which the plan gives 2048 MiB to guests" in notes.warnings[0]


def test_a_host_without_pages_for_guests_leaves_nova_what_the_host_does_not_keep() -> None:
    notes = Notebook()
    assert reserved(make_host(node_mib=8_000), one_node(total_mib=8_000, guest_mib=0), notes) == 2_000
    assert not notes.warnings
    nothing = one_node(total_mib=8_000, guest_mib=0, host_mib=8_000)
    assert reserved(make_host(node_mib=8_000), nothing, notes) == 8_000
    assert notes.warnings == ["Nova gets no memory for guests: the host and OVS take all of it"]


def test_a_host_with_no_cpu_to_pin_to_says_what_guests_can_be_had() -> None:
    notes = Notebook()
    nova = plan_nova(make_host(), Profile(name="x"), pools(dedicated="0", shared="0"), MEMORY, (), notes)
    assert nova is not None
    assert not nova.cpu_dedicated_set
    chosen = {one.subject: one.choice for one in notes.decisions}
    assert (chosen["nova.cpuDedicatedSet"], chosen["nova.cpuSharedSet"]) == ("not set", "0")
    (told,) = [text for text in notes.warnings if "PCPU" in text]
    assert "dedicated or mixed are refused here, and those that can be had float over CPU 0, 1 vCPU at most" in told


def test_the_sets_of_nova_are_disjoint_although_the_pools_overlap() -> None:
    for dedicated, shared, expected in (
        ("0-1", "0", ("1", "0")),
        ("1", "0-1", ("1", "0")),
        ("0-1", "0-1", ("", "0-1")),
    ):
        nova = plan_nova(
            make_host(), Profile(name="x"), pools(dedicated=dedicated, shared=shared), MEMORY, (), Notebook()
        )
        assert nova is not None
        assert nova.cpu_dedicated_set.isdisjoint(nova.cpu_shared_set)
        assert (str(nova.cpu_dedicated_set), str(nova.cpu_shared_set)) == expected


def test_vfs_are_given_by_the_address_of_their_pf() -> None:
    host = make_host(nics=[BOARD, nic("0000:10:00.0"), nic("0000:10:00.1")], node_mib=49_000)
    wish = NicWish(role=Role.SRIOV, physnet="physnet2", count=1, trusted=True)
    profile = Profile(name="x", nics=(wish, NicWish(role=Role.DPDK)))
    notes = Notebook()
    roles = assign_roles(host, profile, notes)
    nova = plan_nova(host, profile, pools(dedicated="2", shared="0"), MEMORY, roles, notes)
    assert nova is not None
    (spec,) = nova.pci_device_specs
    assert (str(spec.address), spec.physical_network, spec.trusted) == ("0000:10:00.0", "physnet2", True)
    assert not notes.warnings


def test_vfs_without_a_physnet_are_warned_of() -> None:
    host = make_host(nics=[BOARD, nic("0000:10:00.0")])
    profile = Profile(name="x", nics=(NicWish(role=Role.SRIOV),))
    notes = Notebook()
    plan_nova(host, profile, pools(dedicated="2", shared="0"), MEMORY, assign_roles(host, profile, notes), notes)
    assert any("physnet" in text for text in notes.warnings)


def test_a_profile_without_nova_gets_neither_nova_nor_neutron() -> None:
    profile = Profile(name="x", nova=NovaWish(enabled=False))
    assert plan_nova(make_host(), profile, pools(dedicated="2", shared="0"), MEMORY, (), Notebook()) is None
    assert plan_neutron(profile, switch(), (), Notebook()) is None
    assert plan_neutron(Profile(name="x"), None, (), Notebook()) is None


def switch() -> OvsPlan:
    bridges = tuple(
        OvsBridge(name=name, datapath_type="netdev", fail_mode=None, physnet=physnet, ports=())
        for name, physnet in (("br-int", None), ("br-b", "physnet2"), ("br-a", "physnet1"))
    )
    return OvsPlan(version="3.1", other_config=(), socket_dir="/run/vm", bridges=bridges)


def test_neutron_maps_physnets_to_bridges() -> None:
    neutron = plan_neutron(Profile(name="x"), switch(), (), Notebook())
    assert neutron is not None
    assert neutron.datapath_type == "netdev"
    assert neutron.vhostuser_socket_dir == "/run/vm"
    assert neutron.bridge_mappings == (("physnet1", "br-a"), ("physnet2", "br-b"))


def test_vdpa_devices_that_neutron_binds_as_something_else_are_told() -> None:
    card = nic("0000:41:00.0", vendor="15b3", device="101d", driver="mlx5_core")
    host = make_host(nics=[BOARD, card])
    notes = Notebook()
    profile = Profile(name="x", nics=(NicWish(pci=card.pci, role=Role.VDPA, vfs=2, physnet="physnet3"),))
    roles = assign_roles(host, profile, notes)
    plan_neutron(profile, switch(), roles, notes)
    assert any(
        "the vDPA devices of 0000:41:00.0 are for guests that Neutron has no part in" in one for one in notes.warnings
    )
    plan_neutron(profile, None, roles, quiet := Notebook())
    assert not quiet.warnings
