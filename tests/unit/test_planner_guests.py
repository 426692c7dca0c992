"""Guests on paper."""

from __future__ import annotations

import dataclasses

import pytest
from plan_rules import broken_rules
from synthetic import host as make_host
from synthetic import nic as make_nic

from nfvhost.errors import DocumentError
from nfvhost.model.host import Host
from nfvhost.model.plan import GuestPlan, Plan
from nfvhost.model.profile import (
    CpuPolicy,
    EmulatorThreads,
    GuestPortWish,
    GuestWish,
    NicWish,
    NovaWish,
    PortType,
    Profile,
    Role,
    ThreadPolicy,
)
from nfvhost.planner import make_plan


def planned(machine: Host, *vnfs: GuestWish, nics: tuple[NicWish, ...] = ()) -> Plan:
    plan = make_plan(machine, Profile(name="guests", nics=nics, vnfs=vnfs))
    assert broken_rules(machine, plan) == []
    return plan


def placed(machine: Host, *vnfs: GuestWish) -> tuple[GuestPlan, ...]:
    return planned(machine, *vnfs).guests


def refusal(machine: Host, *vnfs: GuestWish, nics: tuple[NicWish, ...] = ()) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        make_plan(machine, Profile(name="guests", nics=nics, vnfs=vnfs))
    return caught.value


def vnf(vcpus: int = 2, memory_mib: int = 2048, name: str = "router") -> GuestWish:
    return GuestWish(name=name, vcpus=vcpus, memory_mib=memory_mib)


# Host 0 and PMD 1 with their siblings; 2-7,10-15 are dedicated.
SMT = make_host(cores=8, threads=2)


def test_a_guest_gets_whole_cores_siblings_side_by_side() -> None:
    (guest,) = placed(SMT, vnf(4))
    assert (str(guest.pinned), guest.nodes, guest.memory_mib, guest.page_size_mib) == ("2-3,10-11", (0,), 2048, 1024)
    assert str(guest.emulator) == "0,8"


def test_guests_never_share_a_core() -> None:
    one, other = placed(SMT, vnf(3, name="a"), vnf(3, name="b"))
    assert {str(one.pinned), str(other.pinned)} == {"2-3,10", "4-5,12"}


def test_isolate_gives_each_vcpu_a_core_where_nova_is_left_out() -> None:
    wish = dataclasses.replace(vnf(3), threads=ThreadPolicy.ISOLATE)
    (guest,) = make_plan(SMT, Profile(name="guests", nova=NovaWish(enabled=False), vnfs=(wish,))).guests
    # Host 0; nothing is polled for an OpenStack that is not there.
    assert str(guest.pinned) == "1-3"


def test_isolate_is_refused_on_smt_as_nova_does() -> None:
    wish = dataclasses.replace(vnf(3), threads=ThreadPolicy.ISOLATE)
    (problem,) = refusal(SMT, wish).problems
    assert problem.where == "vnfs[0].threads"
    assert problem.what == "threads: isolate is given on hosts without SMT alone"
    (guest,) = placed(make_host(cores=8), wish)
    assert str(guest.pinned) == "2-4"


def test_a_policy_of_siblings_is_refused_for_a_guest_that_floats() -> None:
    wish = dataclasses.replace(vnf(2), cpu_policy=CpuPolicy.SHARED, threads=ThreadPolicy.PREFER)
    (problem,) = refusal(SMT, wish).problems
    assert (problem.where, "for pinned vCPUs" in problem.what) == ("vnfs[0].threads", True)


def test_isolated_emulator_threads_cost_one_more_cpu() -> None:
    (guest,) = placed(SMT, dataclasses.replace(vnf(4), emulator_threads=EmulatorThreads.ISOLATE))
    assert (str(guest.pinned), str(guest.emulator)) == ("2-3,10-11", "4")


def test_a_mixed_guest_pins_a_part() -> None:
    (guest,) = placed(SMT, dataclasses.replace(vnf(4), cpu_policy=CpuPolicy.MIXED, dedicated_vcpus=2))
    assert len(guest.pinned) == 2


def test_more_floating_vcpus_than_shared_cpus_of_a_node_are_refused_as_nova_does() -> None:
    (problem,) = refusal(SMT, dataclasses.replace(vnf(6), cpu_policy=CpuPolicy.MIXED, dedicated_vcpus=2)).problems
    assert "node 0 has 2 shared CPUs for its floating vCPUs, 4 needed" in problem.what
    assert problem.hint == "2 floating vCPUs would fit or more of them with shared.cores"


def test_a_guest_floats_on_the_node_of_the_shared_cpus_alone() -> None:
    machine = make_host(packages=2, cores=8)
    floating = dataclasses.replace(vnf(1), cpu_policy=CpuPolicy.SHARED)
    (guest,) = placed(machine, floating)
    assert guest.nodes == (0,)
    (problem,) = refusal(machine, dataclasses.replace(floating, node=1)).problems
    assert "node 1 has 0 shared CPUs for its floating vCPUs, 1 needed" in problem.what


def test_shared_cpus_are_overcommitted_as_far_as_nova_does() -> None:
    floating = dataclasses.replace(vnf(2, 1024), cpu_policy=CpuPolicy.SHARED)
    assert len(placed(SMT, dataclasses.replace(floating, count=4))) == 4
    (problem,) = refusal(SMT, dataclasses.replace(floating, count=5)).problems
    assert "router-5 does not fit" in problem.what
    assert "2 needed for it and 8 of other guests" in problem.what


def test_two_cpus_leave_nova_none_to_pin_guests_to() -> None:
    machine = make_host(cores=2, nics=[make_nic("0000:01:00.0", management="x"), make_nic("0000:02:00.0")])
    (problem,) = refusal(machine, vnf(1)).problems
    assert "node 0 has 0 CPUs free, 1 short" in problem.what
    (guest,) = placed(machine, dataclasses.replace(vnf(1), cpu_policy=CpuPolicy.SHARED))
    assert (str(guest.pinned), str(guest.emulator)) == ("", "0")


def test_a_floating_guest_is_pinned_nowhere() -> None:
    (guest,) = placed(SMT, dataclasses.replace(vnf(2), cpu_policy=CpuPolicy.SHARED))
    assert (str(guest.pinned), str(guest.emulator)) == ("", "0,8")


def test_several_guests_of_one_vnf_are_numbered() -> None:
    assert [guest.name for guest in placed(SMT, dataclasses.replace(vnf(), count=3))] == [
        "router-1",
        "router-2",
        "router-3",
    ]


def test_guests_stay_in_one_cache_group_and_large_groups_stay_whole() -> None:
    # Groups of four cores; host and PMD sit in the first, which has two left.
    machine = make_host(groups=3, cores=4)
    small, large = placed(machine, vnf(2, name="small"), vnf(4, name="large"))
    assert (str(small.pinned), str(large.pinned)) == ("2-3", "4-7")


def test_a_guest_over_two_nodes_is_divided_evenly() -> None:
    machine = make_host(packages=2, cores=8)
    (guest,) = placed(machine, dataclasses.replace(vnf(4, 4096), numa_nodes=2))
    assert guest.nodes in {(0, 1), (1, 0)}
    nodes = [cpu.node for cpu in machine.cpus if cpu.id in guest.pinned]
    assert sorted(nodes, key=str) == [0, 0, 1, 1]


def test_a_guest_may_be_bound_to_a_node_and_then_a_pmd_core_is_there() -> None:
    machine = make_host(packages=2, cores=8)
    plan = planned(machine, dataclasses.replace(vnf(), node=1, ports=(GuestPortWish(),)))
    assert plan.guests[0].nodes == (1,)
    assert 1 in {cpu.node for cpu in machine.cpus if cpu.id in plan.cpus.pmd}


def test_a_guest_with_vhost_user_ports_goes_where_pmd_threads_are() -> None:
    cards = [make_nic("0000:01:00.0", management="default route"), make_nic("0000:81:00.0", node=1)]
    (guest,) = placed(make_host(packages=2, cores=8, nics=cards), dataclasses.replace(vnf(), ports=(GuestPortWish(),)))
    assert guest.nodes == (1,)


def test_memory_is_rounded_up_to_pages_and_it_is_said() -> None:
    plan = planned(SMT, vnf(memory_mib=1500))
    assert plan.guests[0].memory_mib == 2048
    decision = next(one for one in plan.decisions if one.subject == "guests.router")
    assert "1500 MiB rounded up to whole pages of 1024 MiB" in decision.reason


def test_too_many_vcpus_are_refused_with_what_is_short_and_what_fits() -> None:
    (problem,) = refusal(SMT, vnf(16)).problems
    assert problem.where == "vnfs[0]"
    assert problem.what == (
        "router does not fit: it needs 16 dedicated CPUs and 2048 MiB on one node; node 0 has 12 CPUs free, 4 short"
    )
    assert problem.hint == "vcpus: 12 would fit"


def test_too_much_memory_is_refused_with_what_is_short_and_what_fits() -> None:
    (problem,) = refusal(SMT, vnf(memory_mib=40_960)).problems
    assert "node 0 has 28672 MiB of pages free, 12288 MiB short" in problem.what
    assert problem.hint == "memoryMiB: 28672 would fit"


def test_a_count_that_fits_in_part_says_how_many_fit() -> None:
    (problem,) = refusal(SMT, dataclasses.replace(vnf(4), count=5)).problems
    assert problem.what.startswith("router-4 does not fit")
    assert str(problem.hint).startswith("count: 3 would fit")


def test_all_guests_that_do_not_fit_are_refused_at_once() -> None:
    assert [problem.where for problem in refusal(SMT, vnf(99, name="a"), vnf(), vnf(98, name="b")).problems] == [
        "vnfs[0]",
        "vnfs[2]",
    ]


@pytest.mark.parametrize(
    ("wish", "where"),
    [
        ({"node": 7}, "vnfs[0].node"),
        ({"numa_nodes": 2}, "vnfs[0].numaNodes"),
        ({"cpu_policy": CpuPolicy.MIXED}, "vnfs[0].dedicatedVcpus"),
        ({"cpu_policy": CpuPolicy.MIXED, "dedicated_vcpus": 9}, "vnfs[0].dedicatedVcpus"),
        ({"vcpus": 0}, "vnfs[0]"),
    ],
)
def test_a_guest_that_no_such_machine_can_hold_is_refused_at_its_key(wish: dict[str, int], where: str) -> None:
    assert [problem.where for problem in refusal(SMT, dataclasses.replace(vnf(), **wish)).problems] == [where]  # type: ignore[arg-type]  # fields by name


def test_siblings_that_a_machine_lacks_cannot_be_required() -> None:
    (problem,) = refusal(make_host(cores=8), dataclasses.replace(vnf(), threads=ThreadPolicy.REQUIRE)).problems
    assert problem.where == "vnfs[0].threads"


SRIOV = (NicWish(role=Role.SRIOV, vfs=2, physnet="physnet2"),)
CARDS = [make_nic("0000:01:00.0", management="default route"), make_nic("0000:81:00.0", node=1)]


def placed_with(machine: Host, *vnfs: GuestWish) -> tuple[GuestPlan, ...]:
    return planned(machine, *vnfs, nics=SRIOV).guests


def test_a_guest_with_vfs_goes_to_the_node_of_their_card() -> None:
    wish = dataclasses.replace(vnf(), ports=(GuestPortWish(type=PortType.SRIOV, physnet="physnet2"),))
    plan = planned(make_host(packages=2, cores=8, nics=CARDS), wish, nics=SRIOV)
    assert plan.guests[0].nodes == (1,)


def test_more_vfs_than_are_planned_are_refused_with_the_numbers() -> None:
    port = GuestPortWish(type=PortType.SRIOV, physnet="physnet2")
    wish = dataclasses.replace(vnf(), ports=(port,), count=3)
    (problem,) = refusal(make_host(packages=2, cores=8, nics=CARDS), wish, nics=SRIOV).problems
    assert problem.what == "router-3 does not fit: it needs 1 VF on physnet2; 0 of 2 planned are free, 1 short"


def test_a_guest_that_takes_a_whole_port_leaves_no_vf_of_it() -> None:
    machine = make_host(packages=2, cores=8, nics=CARDS)
    physical = dataclasses.replace(vnf(name="a"), ports=(GuestPortWish(type=PortType.SRIOV_PHYSICAL),))
    virtual = dataclasses.replace(vnf(name="b"), ports=(GuestPortWish(type=PortType.SRIOV),))
    assert len(placed_with(machine, physical)) == len(placed_with(machine, virtual)) == 1
    (problem,) = refusal(machine, physical, virtual, nics=SRIOV).problems
    assert problem.what == "b does not fit: it needs 1 VF; 0 of 2 planned are free, 1 short"
    (problem,) = refusal(machine, virtual, physical, nics=SRIOV).problems
    assert "1 whole port, and none is left" in problem.what


def test_a_guest_gets_p_cores_or_e_cores_and_never_both() -> None:
    machine = make_host(cores=12, efficiency="4-11")
    slow, fast = placed(machine, vnf(8, name="slow"), vnf(2, name="fast"))
    assert (str(slow.pinned), str(fast.pinned)) == ("4-11", "2-3")


def test_a_machine_whose_memory_is_not_known_places_guests_by_cpus_alone() -> None:
    (guest,) = placed(make_host(cores=8, node_mib=None), vnf())
    assert (str(guest.pinned), guest.page_size_mib) == ("2-3", 0)
