"""Division of cores, on machines made by hand, with the CPUs that must come out."""

from __future__ import annotations

import dataclasses

import pytest
from synthetic import host as make_host
from synthetic import nic as make_nic

from nfvhost.errors import DocumentError, ExitCode, PreconditionError
from nfvhost.model.host import Host
from nfvhost.model.plan import CpuPools, Plan
from nfvhost.model.profile import HostPool, NovaWish, OvsWish, PmdPool, Profile, SharedPool, VhostPort, VirtualPort
from nfvhost.planner import make_plan
from nfvhost.planner.cores import split
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.ports import DpdkPort

QUIET = Profile(name="quiet", nova=NovaWish(enabled=False))


def port(name: str = "dpdk0", *, node: int | None = 0, gbps: float | None = 10, pci: bool = True) -> DpdkPort:
    address = make_nic("0000:01:00.0").pci if pci else None
    speed = None if gbps is None else int(gbps * 1000)
    return DpdkPort(name=name, bridge="br-phy", pci=address, devargs="0000:01:00.0", node=node, speed_mbps=speed)


def pools(machine: Host, *ports: DpdkPort, profile: Profile = QUIET) -> tuple[CpuPools, Notebook]:
    notes = Notebook()
    return split(machine, profile, ports, notes), notes


def reason(notes: Notebook, subject: str) -> str:
    return next(decision.reason for decision in notes.decisions if decision.subject == subject)


def test_one_card_of_2_x_10g_gets_one_core_in_the_hosts_cache_group() -> None:
    got, notes = pools(make_host(groups=2, cores=3, threads=2), port("a"), port("b"))
    assert (str(got.host), str(got.pmd), str(got.dedicated)) == ("0,6", "1,7", "2-5,8-11")
    assert str(got.isolated) == "1-5,7-11"
    assert reason(notes, "cpus.pmd").startswith(
        "1 core for 2 x 10 Gb/s on node 0, in cache group 0-2,6-8 with the host's core, so that 3-5,9-11 stays whole"
    )


def test_four_ports_of_10g_fill_the_hosts_cache_group_and_leave_the_other_whole() -> None:
    got, _ = pools(make_host(groups=2, cores=3, threads=2), *(port(name) for name in "abcd"))
    assert (str(got.host), str(got.pmd), str(got.dedicated)) == ("0,6", "1-2,7-8", "3-5,9-11")


@pytest.mark.parametrize(
    ("rates", "cores"),
    [
        ([10], 1),
        ([25], 1),
        ([10, 10], 1),
        ([25, 25], 2),
        ([40], 2),
        ([100], 4),
        ([None], 1),
        ([None, None], 2),
        ([1] * 8, 1),
    ],
)
def test_pmd_cores_follow_the_line_rate(rates: list[float | None], cores: int) -> None:
    got, _ = pools(make_host(cores=40), *(port(f"dpdk{number}", gbps=rate) for number, rate in enumerate(rates)))
    assert len(got.pmd) == cores


def test_pmd_cores_take_at_most_a_quarter_of_a_node() -> None:
    got, _ = pools(make_host(cores=8), port(gbps=400))
    assert len(got.pmd) == 2


@pytest.mark.field_failure(18)
def test_one_core_in_eight_is_the_hosts_with_its_siblings() -> None:
    got, _ = pools(make_host(packages=2, cores=20, threads=2), port())
    assert str(got.host) == "0-4,40-44"


def test_the_host_leaves_half_of_its_node_to_others() -> None:
    got, notes = pools(make_host(packages=2, nodes=4, cores=6), port())
    assert str(got.host) == "0-2"
    assert "one core per 8 would be 6 of 48" in reason(notes, "cpus.host")


def test_the_host_may_have_a_core_on_every_node() -> None:
    profile = dataclasses.replace(QUIET, host=HostPool(every_node=True))
    got, _ = pools(make_host(packages=2, nodes=2, cores=4), profile=profile)
    assert str(got.host) == "0,4,8,12"


def test_cores_of_floating_guests_are_spread_as_the_hosts_are() -> None:
    profile = dataclasses.replace(QUIET, host=HostPool(every_node=True), shared=SharedPool(cores=3))
    got, notes = pools(make_host(packages=2, cores=8), profile=profile)
    assert (str(got.host), str(got.shared)) == ("0,8", "1-2,9")
    assert reason(notes, "cpus.shared") == "3 cores asked by shared.cores, on nodes 0-1"
    fewer = dataclasses.replace(profile, shared=SharedPool(cores=1))
    assert str(pools(make_host(packages=2, cores=8), profile=fewer)[0].shared) == "1"


@pytest.mark.field_failure(36)
def test_it_is_told_which_guests_have_their_emulator_threads_on_another_node() -> None:
    machine = make_host(packages=2, cores=8)
    profile = Profile(name="p")
    far = "shared CPUs (0-1) are on node 0 alone: emulator threads of guests on node 1 work across the interconnect"
    assert any(warning.startswith(far) for warning in make_plan(machine, profile).warnings)
    near = dataclasses.replace(profile, host=HostPool(every_node=True))
    assert not any("emulator threads" in warning for warning in make_plan(machine, near).warnings)
    few = dataclasses.replace(near, shared=SharedPool(cores=1))
    assert any("host.everyNode with 2 or more shared.cores" in one for one in make_plan(machine, few).warnings)


def test_a_count_that_is_asked_is_met_exactly() -> None:
    profile = dataclasses.replace(QUIET, host=HostPool(cores=3), shared=SharedPool(cores=2), pmd=PmdPool(cores=4))
    got, _ = pools(make_host(cores=16, threads=2), port(), profile=profile)
    assert [len(pool) for pool in (got.host, got.shared, got.pmd, got.dedicated)] == [6, 4, 8, 14]
    assert got.shared.isdisjoint(got.host | got.isolated)


def test_cards_on_both_nodes_are_polled_on_both() -> None:
    got, _ = pools(make_host(packages=2, cores=8), port("a", node=0), port("b", node=1, gbps=50))
    assert (str(got.host), str(got.pmd)) == ("0-1", "2,8-9")


def test_a_card_without_a_node_is_polled_where_ovs_puts_it_on_node_0() -> None:
    got, _ = pools(make_host(packages=2, cores=8), port(node=None))
    assert str(got.pmd) == "2"


def test_a_card_on_a_node_without_free_cores_is_polled_next_door_and_it_is_said() -> None:
    got, notes = pools(make_host(packages=3, cores=1), port(node=0))
    assert (str(got.host), str(got.pmd), str(got.dedicated)) == ("0", "1", "2")
    assert any("node 0 has no core to spare" in warning for warning in notes.warnings)


def test_without_ports_nothing_polls() -> None:
    got, notes = pools(make_host(cores=8))
    assert not got.pmd
    assert "nothing has to be polled" in reason(notes, "cpus.pmd")


def test_openstack_plugs_vhost_user_ports_later_so_that_one_core_polls() -> None:
    profile = Profile(name="nova")
    assert str(pools(make_host(cores=8), profile=profile)[0].pmd) == "1"
    assert not pools(make_host(cores=3), profile=profile)[0].pmd


def test_a_pmd_core_on_every_node_may_be_asked() -> None:
    profile = dataclasses.replace(QUIET, pmd=PmdPool(every_node=True))
    got, _ = pools(make_host(packages=2, cores=4), port(node=0), profile=profile)
    assert str(got.pmd) == "1,4"


def test_the_sibling_of_a_pmd_thread_stays_idle_and_isolated_where_it_is_asked() -> None:
    profile = dataclasses.replace(QUIET, pmd=PmdPool(one_thread_per_core=True))
    got, _ = pools(make_host(cores=4, threads=2), port(), profile=profile)
    assert (str(got.pmd), str(got.idle), str(got.isolated)) == ("1", "5", "1-3,5-7")


def test_one_core_is_told_of_in_the_singular() -> None:
    profile = Profile(name="p", pmd=PmdPool(one_thread_per_core=True, cores=1), nova=NovaWish(enabled=False))
    _, notes = pools(make_host(cores=3, threads=2), port(), profile=profile)
    assert reason(notes, "cpus.dedicated") == "the 1 core that is left: 1 on node 0"
    assert "the sibling thread stays idle (4), as" in reason(notes, "cpus.pmd")


def test_guests_on_nodes_without_a_pmd_core_are_told_who_polls_for_them() -> None:
    profile = Profile(name="p", nova=NovaWish(enabled=True))
    _, notes = pools(make_host(packages=3), port(node=1), profile=profile)
    assert "guests on nodes 0,2 are polled from here, unless pmd.everyNode is set" in reason(notes, "cpus.pmd")
    every = dataclasses.replace(profile, pmd=PmdPool(every_node=True))
    _, notes = pools(make_host(packages=3), port(node=1), profile=every)
    assert "polled from here" not in reason(notes, "cpus.pmd")


@pytest.mark.field_failure(32)
def test_e_cores_serve_the_host_and_never_poll() -> None:
    machine = make_host(groups=1, cores=12, efficiency="4-11")
    profile = dataclasses.replace(QUIET, host=HostPool(cores=3))
    got, notes = pools(machine, port(gbps=100), profile=profile)
    assert (str(got.host), str(got.pmd)) == ("0,4-5", "1-3")
    assert "E-cores first" in reason(notes, "cpus.host")
    assert "P-cores only" in reason(notes, "cpus.pmd")


@pytest.mark.field_failure(34)
def test_cpus_outside_of_the_cgroup_are_in_no_pool() -> None:
    got, notes = pools(make_host(cores=8, allowed="2-5"), port())
    assert (str(got.host), str(got.pmd), str(got.dedicated)) == ("2", "3", "4-5")
    assert any(warning.startswith("CPUs 0-1,6-7 are online") for warning in notes.warnings)
    assert any("CPU 2 takes its place" in warning for warning in notes.warnings)


@pytest.mark.field_failure(33)
def test_a_sibling_that_is_offline_leaves_the_core_whole() -> None:
    got, _ = pools(make_host(cores=4, threads=2, offline="4"), port())
    assert (str(got.host), str(got.pmd), str(got.dedicated)) == ("0", "1,5", "2-3,6-7")


@pytest.mark.parametrize(
    ("cpus", "split_into"),
    [(1, ("0", "0", "0", "")), (2, ("0", "1", "0", "1")), (3, ("0", "1", "2", "1-2")), (4, ("0", "1", "2-3", "1-3"))],
)
def test_small_machines_overlap_in_the_stated_order(cpus: int, split_into: tuple[str, str, str, str]) -> None:
    got, notes = pools(make_host(cores=cpus), port())
    assert (str(got.host), str(got.pmd), str(got.dedicated), str(got.isolated)) == split_into
    assert sum("overlap" in warning for warning in notes.warnings) == {1: 2, 2: 1}.get(cpus, 0)


def test_a_single_core_is_dealt_out_thread_by_thread() -> None:
    got, notes = pools(make_host(cores=1, threads=4), port())
    assert (str(got.host), str(got.pmd), str(got.dedicated)) == ("0", "1", "2-3")
    assert any("one physical core" in warning for warning in notes.warnings)


def test_two_cores_with_two_threads_stay_whole() -> None:
    got, _ = pools(make_host(cores=2, threads=2), port())
    assert (str(got.host), str(got.pmd), str(got.dedicated), str(got.isolated)) == ("0,2", "1,3", "0,2", "1,3")


def test_a_shared_core_that_a_small_machine_lacks_is_the_hosts() -> None:
    profile = dataclasses.replace(QUIET, shared=SharedPool(cores=1))
    got, notes = pools(make_host(cores=2), port(), profile=profile)
    assert str(got.shared) == str(got.host) == "0"
    assert any("shared CPUs overlap" in warning for warning in notes.warnings)


def refused(machine: Host, profile: Profile) -> DocumentError:
    with pytest.raises(DocumentError) as refusal:
        make_plan(machine, profile)
    assert refusal.value.exit_code is ExitCode.BAD_DOCUMENT
    return refusal.value


def test_more_cores_than_the_machine_has_are_refused_with_the_sum_and_what_fits() -> None:
    problem = refused(
        make_host(cores=8), dataclasses.replace(QUIET, host=HostPool(cores=2), pmd=PmdPool(cores=9))
    ).problems[0]
    assert problem.where == "pmd.cores"
    assert problem.what == "2 host + 9 pmd = 11 cores are asked, the machine has 8 cores that may be used"
    assert problem.hint == "pmd.cores: at most 6 would fit"


def test_more_pmd_cores_than_the_cards_node_has_are_refused() -> None:
    cards = [make_nic("0000:01:00.0", management="default route"), make_nic("0000:02:00.0", node=1)]
    machine = make_host(packages=2, cores=4, nics=cards)
    problem = refused(machine, dataclasses.replace(QUIET, pmd=PmdPool(cores=6))).problems[0]
    assert problem.where == "pmd.cores"
    assert "node 1 has 4" in problem.what
    assert problem.hint == "ask for 4 or fewer, or set pmd.everyNode to poll from other nodes as well"


def test_all_wishes_beyond_the_machine_are_refused_at_once() -> None:
    profile = Profile(
        name="greedy",
        host=HostPool(cores=0),
        pmd=PmdPool(cores=0),
        ovs=OvsWish(virtual_ports=(VirtualPort(name="v0", devargs="net_null0"),)),
        memory=dataclasses.replace(QUIET.memory, guest_mib=10**6),
    )
    assert {problem.where for problem in refused(make_host(cores=8), profile).problems} == {
        "host.cores",
        "pmd.cores",
        "memory.guestMiB",
    }


def test_a_host_core_on_every_node_needs_as_many_cores_as_nodes() -> None:
    profile = dataclasses.replace(QUIET, host=HostPool(cores=1, every_node=True))
    assert refused(make_host(packages=2, cores=4), profile).problems[0].where == "host.cores"


def test_a_machine_without_usable_cpus_is_refused() -> None:
    machine = dataclasses.replace(make_host(cores=2), cpus=())
    with pytest.raises((DocumentError, PreconditionError)) as refusal:
        make_plan(machine, QUIET)
    assert "no CPU" in str(refusal.value)


def test_vhost_ports_alone_are_polled_beside_the_host() -> None:
    profile = dataclasses.replace(QUIET, ovs=OvsWish(vhost_ports=(VhostPort(name="vhost0"),)))
    plan: Plan = make_plan(make_host(packages=2, cores=4), profile)
    assert str(plan.cpus.pmd) == "1"
