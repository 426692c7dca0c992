"""Division of memory: OVS's own arithmetic, the host's floor, pages."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import host as make_host

from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import Host
from nfvhost.model.plan import CpuPools, MemoryPlan, NodeMemory
from nfvhost.model.profile import MemoryWish, NovaWish, OvsWish, PageChoice, Profile
from nfvhost.planner.hugepages import divide
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.packet_buffers import port_pool_mib, rounded_mtu, shared_pool_mib
from nfvhost.planner.ports import DpdkPort

BARE = Profile(name="bare", nova=NovaWish(enabled=False))
TWO_NODES = "2-3,6-7"  # dedicated CPUs on both nodes of a machine of two nodes with four cores


def pools(*, pmd: str = "1", dedicated: str = "2-3") -> CpuPools:
    taken = CpuSet.parse(pmd) | CpuSet.parse(dedicated)
    host = CpuSet([0])
    return CpuPools(
        host=host, shared=host, pmd=CpuSet.parse(pmd), dedicated=CpuSet.parse(dedicated), idle=EMPTY, isolated=taken
    )


def port(*, node: int | None = 0, mtu: int = 1500, queues: int | None = None, vhost: bool = False) -> DpdkPort:
    return DpdkPort(name=f"port{mtu}", bridge="br", node=node, mtu=mtu, rx_queues=queues, vhost=vhost)


def divided(
    machine: Host, *ports: DpdkPort, profile: Profile = BARE, split: CpuPools | None = None
) -> tuple[MemoryPlan, Notebook]:
    notes = Notebook()
    return divide(machine, profile, ports, split or pools(), notes), notes


def node(plan: MemoryPlan, number: int = 0) -> NodeMemory:
    return next(one for one in plan.nodes if one.node == number)


@pytest.mark.parametrize(("mtu", "mib"), [(1500, 752), (2048, 1008), (9000, 2544), (9216, 2800)])
def test_a_shared_pool_is_as_large_as_ovs_makes_it(mtu: int, mib: int) -> None:
    assert shared_pool_mib(mtu) == mib


def test_a_small_mtu_gets_a_small_pool_and_one_just_below_1500_does_not() -> None:
    # 16384 mbufs of 1984 byte; MTU 1400 rounds up to the buffers of 1500 and gets as many.
    assert shared_pool_mib(998) == 31
    assert shared_pool_mib(1400) == shared_pool_mib(1500)


def test_two_vlan_tags_count_in_the_size_of_a_buffer() -> None:
    # ETHER_HDR_MAX_LEN of OVS is 26: a frame of MTU 2023 is 2049 byte, one more than the buffer of MTU 1500 holds.
    assert shared_pool_mib(2022) == shared_pool_mib(1500)
    assert shared_pool_mib(2023) == 1008


@given(st.integers(68, 9702))
def test_ports_whose_frames_fill_the_same_buffer_share_a_rounded_mtu(mtu: int) -> None:
    rounded = rounded_mtu(mtu)
    assert mtu <= rounded < mtu + 1024
    assert rounded_mtu(rounded) == rounded
    assert shared_pool_mib(rounded) == shared_pool_mib(mtu)


def test_a_port_of_its_own_pool_counts_queues_descriptors_and_threads() -> None:
    # 2 x 2048 + 3 x 2048 + 2 x 32 + 16384 = 26688 mbufs of 3008 byte.
    assert port_pool_mib(1500, rx_queues=2, rx_descriptors=2048, tx_queues=3, tx_descriptors=2048) == 77


def test_ovs_gets_its_pool_and_dpdks_own_in_whole_pages() -> None:
    plan, _ = divided(make_host(node_mib=65_536), port())
    assert node(plan).ovs_mib == 1024
    plan, _ = divided(make_host(node_mib=65_536, pages=(2,), flags=("pse",)), port())
    assert node(plan).ovs_mib == 752 + 64


def test_each_distinct_mtu_of_a_node_is_a_pool_of_its_own() -> None:
    machine = make_host(node_mib=65_536, flags=("pse",), pages=(2,))
    same, _ = divided(machine, port(), port(mtu=1400), port(mtu=2000))
    both, _ = divided(machine, port(), port(mtu=9000))
    assert node(same).ovs_mib == 752 + 64
    assert node(both).ovs_mib == 752 + 2544 + 64


def test_the_per_port_model_counts_each_port() -> None:
    profile = dataclasses.replace(BARE, memory=MemoryWish(per_port=True), ovs=OvsWish(rx_descriptors=1024))
    machine = make_host(node_mib=65_536, flags=("pse",), pages=(2,))
    plan, _ = divided(machine, port(queues=2), port(queues=2), profile=profile, split=pools(pmd="1"))
    one = port_pool_mib(1500, rx_queues=2, rx_descriptors=1024, tx_queues=2, tx_descriptors=2048)
    assert node(plan).ovs_mib == -(-(64 + 2 * one) // 2) * 2


def test_vhost_user_ports_need_a_pool_on_each_node_with_guests() -> None:
    machine = make_host(packages=2, node_mib=65_536)
    alone, _ = divided(machine, port(node=0), split=pools(dedicated=TWO_NODES))
    guests, _ = divided(machine, port(node=0), port(vhost=True), split=pools(dedicated=TWO_NODES))
    assert [one.ovs_mib for one in alone.nodes] == [1024, 0]
    assert [one.ovs_mib for one in guests.nodes] == [1024, 1024]


def test_openstack_plugs_vhost_user_ports_that_no_profile_names() -> None:
    machine = make_host(packages=2, node_mib=65_536)
    plan, _ = divided(machine, port(node=0), profile=Profile(name="nova"), split=pools(dedicated=TWO_NODES))
    assert [one.ovs_mib for one in plan.nodes] == [1024, 1024]


def test_without_pmd_threads_ovs_gets_no_memory() -> None:
    plan, _ = divided(make_host(), split=pools(pmd=""))
    assert node(plan).ovs_mib == 0


def test_the_host_keeps_2_gib_and_a_fiftieth_of_its_node_and_less_of_others() -> None:
    plan, _ = divided(make_host(packages=2, node_mib=100_000), split=pools(dedicated=TWO_NODES))
    assert [one.host_mib for one in plan.nodes] == [2048 + 2000, 512 + 2000]


@pytest.mark.parametrize(
    ("total", "floor"), [(100, 100), (600, 600), (1000, 768), (2000, 1000), (4000, 2000), (8192, 2211)]
)
def test_a_small_machine_keeps_half_and_never_less_than_a_host_needs(total: int, floor: int) -> None:
    plan, notes = divided(make_host(node_mib=total), port())
    assert node(plan).host_mib == floor
    assert any("less than on larger machines" in warning for warning in notes.warnings) == (total < 8192)


def test_ovs_on_a_machine_too_small_for_its_pool_gets_what_is_there_with_a_warning() -> None:
    plan, notes = divided(make_host(node_mib=1500), port())
    assert (node(plan).ovs_mib, node(plan).guest_mib) == (366, 366)
    assert any("floor, beside guests: it then halves" in warning for warning in notes.warnings)


def test_ovs_leaves_no_more_to_guests_than_is_asked_for_them() -> None:
    plan, _ = divided(
        make_host(node_mib=1500), port(), profile=dataclasses.replace(BARE, memory=MemoryWish(guest_mib=100))
    )
    assert (node(plan).ovs_mib, node(plan).guest_mib) == (632, 100)


def test_buffers_of_two_mtus_leave_guests_of_a_small_node_their_half() -> None:
    # The captured machine four-caches with the profile srv6-edge: OVS would take all, and six cores had no page.
    plan, notes = divided(make_host(node_mib=3918), port(), port(mtu=9000))
    assert (node(plan).host_mib, node(plan).ovs_mib, node(plan).guest_mib) == (1959, 980, 978)
    assert any("asks for 3360 MiB on node 0, and 980 MiB" in warning for warning in notes.warnings)


def test_a_share_of_ovs_with_which_no_port_opens_is_told() -> None:
    # 16384 mbufs of 10176 byte and DPDK's own are the least for MTU 9000: 223 MiB.
    plan, notes = divided(make_host(node_mib=968), port(mtu=9000), split=pools(dedicated=""))
    assert node(plan).ovs_mib == 200
    assert [text for text in notes.warnings if "with fewer than 223 MiB not all of its ports there open" in text]


def test_a_node_whose_guests_get_no_page_is_told() -> None:
    plan, notes = divided(make_host(packages=2, node_mib=[32_768, 2]), port(), split=pools(dedicated=TWO_NODES))
    assert node(plan, 1).guest_mib == 0
    assert any(text.startswith("node 1 has CPUs for pinned guests and gives them no page") for text in notes.warnings)
    (told,) = [decision.reason for decision in notes.decisions if decision.subject == "memory.node1"]
    assert told.endswith("no page is left for guests, whose CPUs are here")


def test_a_node_without_a_port_shares_a_small_room_between_ovs_and_guests() -> None:
    machine = make_host(packages=2, node_mib=[8192, 1600])
    plan, _ = divided(machine, port(), port(vhost=True), split=pools(dedicated=TWO_NODES))
    assert (node(plan, 1).ovs_mib, node(plan, 1).guest_mib) == (528, 528)


@pytest.mark.field_failure(12)
def test_a_node_beyond_dpdks_limit_keeps_no_pages_for_ovs_and_it_is_said() -> None:
    machine = make_host(packages=34, cores=2, node_mib=8192)
    plan, notes = divided(machine, port(vhost=True), split=pools(dedicated="2-67"))
    assert [one.node for one in plan.nodes[1:] if not one.ovs_mib] == [32, 33]
    assert node(plan, 33).guest_mib > node(plan, 31).guest_mib
    assert [text for text in notes.warnings if "nodes 32-33" in text and "max_numa_nodes" in text]


def test_the_reason_says_how_far_a_short_share_of_ovs_falls_short() -> None:
    _, notes = divided(make_host(node_mib=1500), port())
    (told,) = [decision.reason for decision in notes.decisions if decision.subject == "memory.node0"]
    assert "OVS gets 366 MiB of the 816 MiB that it asks for: 752 MiB of packet buffers" in told


def test_guests_get_what_is_left() -> None:
    plan, _ = divided(make_host(node_mib=65_536), port())
    assert (node(plan).host_mib, node(plan).ovs_mib, node(plan).guest_mib) == (3358, 1024, 59 * 1024)
    assert [(pages.size_mib, pages.count, pages.at_boot) for pages in node(plan).pages] == [(1024, 60, True)]


def test_guests_get_the_asked_amount_in_proportion_to_what_nodes_can_give() -> None:
    machine = make_host(packages=2, node_mib=[40_000, 20_000])
    profile = dataclasses.replace(BARE, memory=MemoryWish(guest_mib=30_720))
    plan, _ = divided(machine, profile=profile, split=pools(dedicated=TWO_NODES))
    assert sum(one.guest_mib for one in plan.nodes) == 30_720
    assert node(plan, 0).guest_mib > node(plan, 1).guest_mib > 0


def test_more_than_is_above_the_floor_is_refused_with_the_numbers() -> None:
    profile = dataclasses.replace(BARE, memory=MemoryWish(guest_mib=65_536))
    _, notes = divided(make_host(node_mib=65_536), port(), profile=profile)
    (problem,) = notes.problems
    assert problem.where == "memory.guestMiB"
    assert problem.what.startswith("65536 MiB are asked for guests, 5120 MiB more than the 60416 MiB")
    assert problem.hint == "ask for 60416 or less, or leave it out to take all of that"


@pytest.mark.field_failure(10)
def test_a_host_that_would_starve_is_not_planned() -> None:
    profile = dataclasses.replace(BARE, memory=MemoryWish(host_mib=76))
    _, notes = divided(make_host(node_mib=65_536), profile=profile)
    assert [problem.where for problem in notes.dangers] == ["memory.hostMiB"]


def test_the_hosts_asked_floor_is_kept_over_all_nodes() -> None:
    profile = dataclasses.replace(BARE, memory=MemoryWish(host_mib=8192))
    plan, _ = divided(make_host(packages=2, node_mib=65_536), profile=profile, split=pools(dedicated=TWO_NODES))
    assert sum(one.host_mib for one in plan.nodes) in {8192, 8193}


def test_more_host_memory_than_there_is_is_refused() -> None:
    profile = dataclasses.replace(BARE, memory=MemoryWish(host_mib=10**6))
    _, notes = divided(make_host(node_mib=65_536), profile=profile)
    assert [problem.where for problem in notes.problems] == ["memory.hostMiB"]


@pytest.mark.parametrize(
    ("flags", "listed", "total", "size"),
    [
        (("pse", "pdpe1gb"), (2, 1024), 65_536, 1024),
        (("pse", "pdpe1gb"), (), 65_536, 1024),
        (("pse", "pdpe1gb"), (2, 1024), 8_000, 2),
        (("pse",), (2,), 65_536, 2),
        (("pse",), (), 65_536, 2),
        ((), (512, 16_384), 65_536, 512),
        ((), (2, 32, 64, 1024), 65_536, 1024),
        ((), (16,), 65_536, 16),
        ((), (1,), 65_536, 1),
    ],
)
def test_the_page_size_is_one_that_the_machine_has_and_that_serves(
    flags: tuple[str, ...], listed: tuple[int, ...], total: int, size: int
) -> None:
    plan, _ = divided(make_host(node_mib=total, flags=flags, pages=listed), port())
    assert {pages.size_mib for pages in node(plan).pages} == {size}


def test_pages_of_1_gib_that_the_cpu_lacks_are_refused() -> None:
    profile = dataclasses.replace(BARE, memory=MemoryWish(page_size=PageChoice.GIB_1))
    _, notes = divided(make_host(flags=("pse",), pages=(2,)), profile=profile)
    assert [problem.where for problem in notes.problems] == ["memory.pageSize"]


def test_ordinary_pages_of_another_size_take_the_place_of_2_mib() -> None:
    profile = dataclasses.replace(BARE, memory=MemoryWish(page_size=PageChoice.MIB_2))
    plan, notes = divided(make_host(flags=(), pages=(1,)), profile=profile)
    assert {pages.size_mib for pages in node(plan).pages} == {1}
    assert any("no pages of 2 MiB" in warning for warning in notes.warnings)


def test_unknown_memory_and_unknown_pages_are_said_and_nothing_is_planned() -> None:
    blind, notes = divided(make_host(node_mib=None), port())
    assert node(blind) == NodeMemory(node=0, total_mib=0, host_mib=0, ovs_mib=0, guest_mib=0, pages=())
    assert any("is not known" in warning for warning in notes.warnings)
    bare, notes = divided(make_host(flags=(), pages=()), port())
    assert node(bare).pages == ()
    assert any("hugepage sizes are not known" in warning for warning in notes.warnings)


@pytest.mark.field_failure(33)
def test_a_node_without_cpus_keeps_all_its_memory() -> None:
    machine = make_host(packages=2, offline="4-7", node_mib=65_536)
    plan, notes = divided(machine, port())
    assert (node(plan, 1).host_mib, node(plan, 1).pages) == (65_536, ())
    assert any("no CPUs" in decision.reason for decision in notes.decisions if decision.subject == "memory.node1")


def test_buffers_of_a_card_on_a_node_without_memory_stand_next_door_and_it_is_said() -> None:
    machine = make_host(packages=2, node_mib=[65_536, 0])
    plan, notes = divided(machine, port(node=1), split=pools(pmd="4"))
    assert node(plan, 0).ovs_mib == 1024
    assert any("node 1 has no memory to spare" in warning for warning in notes.warnings)


def test_a_kernel_that_spreads_pages_evenly_gets_the_same_count_on_each_node() -> None:
    machine = make_host(packages=2, node_mib=[98_304, 96_000], kernel_version="5.15.0-91-generic")
    plan, _ = divided(machine, port(), split=pools(dedicated=TWO_NODES))
    assert [one.pages[0].count for one in plan.nodes] == [91, 91]
    newer = dataclasses.replace(machine, kernel_version="5.16.0")
    plan, _ = divided(newer, port(), split=pools(dedicated=TWO_NODES))
    assert [one.pages[0].count for one in plan.nodes] == [92, 91]


def test_an_asked_amount_is_spread_evenly_and_stays_whole() -> None:
    machine = make_host(packages=2, node_mib=[98_304, 96_000], kernel_version="5.15.0")
    profile = dataclasses.replace(BARE, memory=MemoryWish(guest_mib=20_480))
    plan, _ = divided(machine, port(), profile=profile, split=pools(dedicated=TWO_NODES))
    assert [one.pages[0].count for one in plan.nodes] == [11, 11]
    assert sum(one.guest_mib for one in plan.nodes) >= 20_480


def test_unequal_nodes_of_an_older_kernel_get_pages_at_run_time() -> None:
    machine = make_host(packages=2, node_mib=[98_304, 16_384], kernel_version="5.15.0")
    plan, notes = divided(machine, port(), split=pools(dedicated=TWO_NODES))
    assert {pages.size_mib for one in plan.nodes for pages in one.pages} == {2}
    assert any("evenly over the nodes" in decision.reason for decision in notes.decisions)
