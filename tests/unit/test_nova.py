"""Settings of nova-compute and Neutron."""

from __future__ import annotations

from synthetic import host as make_host
from synthetic import nic

from nfvhost.model.cpuset import EMPTY, CpuSet
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
    host = make_host(nics=[BOARD])
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
        make_host(), Profile(name="x"), pools(dedicated="2-3", shared="0-1"), MemoryPlan(nodes=nodes), (), notes
    )
    assert nova is not None
    assert nova.reserved_host_memory_mib is None
    assert any("512 MiB" in one.reason for one in notes.decisions if one.subject == "nova.reservedHostMemoryMiB")


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
    host = make_host(nics=[BOARD, nic("0000:10:00.0"), nic("0000:10:00.1")])
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
    assert plan_neutron(profile, switch(), Notebook()) is None
    assert plan_neutron(Profile(name="x"), None, Notebook()) is None


def switch() -> OvsPlan:
    bridges = tuple(
        OvsBridge(name=name, datapath_type="netdev", fail_mode=None, physnet=physnet, ports=())
        for name, physnet in (("br-int", None), ("br-b", "physnet2"), ("br-a", "physnet1"))
    )
    return OvsPlan(version="3.1", other_config=(), socket_dir="/run/vm", bridges=bridges)


def test_neutron_maps_physnets_to_bridges() -> None:
    neutron = plan_neutron(Profile(name="x"), switch(), Notebook())
    assert neutron is not None
    assert neutron.datapath_type == "netdev"
    assert neutron.vhostuser_socket_dir == "/run/vm"
    assert neutron.bridge_mappings == (("physnet1", "br-a"), ("physnet2", "br-b"))
