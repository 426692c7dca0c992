"""Every profile that comes with nfvhost, planned on every captured machine, holds every rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plan_rules import broken_rules

from nfvhost.model.fingerprint import stale_facts
from nfvhost.model.profile import Profile, Role
from nfvhost.planfile import dump_plan, load_profile, shipped_profiles
from nfvhost.planner import make_plan

if TYPE_CHECKING:
    from tests.conftest import Captured, Machine

# A profile with nothing in it is planned as well.
PROFILES = {"empty": Profile(name="empty")} | {
    name: load_profile(str(path)) for name, path in sorted(shipped_profiles().items())
}


def test_every_profile_is_planned_on_every_machine_and_breaks_no_rule(machine: Machine) -> None:
    broken = {name: broken_rules(machine.host, make_plan(machine.host, profile)) for name, profile in PROFILES.items()}
    assert broken == {name: [] for name in PROFILES}


def test_the_same_machine_gives_the_same_bytes(machine: Machine) -> None:
    for profile in PROFILES.values():
        assert dump_plan(make_plan(machine.host, profile)) == dump_plan(make_plan(machine.host, profile))


def test_a_plan_is_not_stale_on_its_own_machine(machine: Machine) -> None:
    plan = make_plan(machine.host, PROFILES["empty"])
    assert stale_facts(plan.host.fingerprint, machine.host) == ()


def test_the_fingerprint_tells_most_machines_of_the_corpus_apart(captured: Captured) -> None:
    one, other = captured("ocp-worker1").host, captured("ocp-worker2").host
    stale = stale_facts(make_plan(one, PROFILES["empty"]).host.fingerprint, other)
    assert {"cpus", "threadSiblings", "nodes.0.cpus"} <= {fact for fact, _, _ in stale}


def test_a_server_with_cards_on_both_nodes_polls_on_both(captured: Captured) -> None:
    host = captured("ocp-worker1").host
    plan = make_plan(host, PROFILES["empty"])
    assert {nic.node for nic in plan.nics if nic.role is Role.DPDK} == {0, 1}
    polled = {cpu.node for cpu in host.cpus if cpu.id in plan.cpus.pmd}
    assert polled == {0, 1}
    # Five of forty cores, with their threads, all on node 0.
    assert str(plan.cpus.host) == "0,2,4,6,8,40,42,44,46,48"


def test_a_cgroup_of_four_cpus_gets_a_plan_of_four_cpus(captured: Captured) -> None:
    host = captured("hwloc-16amd64-4n4c-cgroup-distance-merge").host
    plan = make_plan(host, PROFILES["empty"])
    pools = plan.cpus
    assert str(pools.host | pools.pmd | pools.dedicated) == "0-3"
    assert any("cgroup may not use them" in warning for warning in plan.warnings)


def test_memory_without_cpus_is_left_alone(captured: Captured) -> None:
    plan = make_plan(captured("hwloc-nvidiagpunumanodes").host, PROFILES["empty"])
    left = [node for node in plan.memory.nodes if node.node >= 250]
    assert len(left) == 6
    assert all(node.pages == () and node.host_mib == node.total_mib for node in left)


def test_a_machine_whose_node_0_is_offline_is_planned_on_the_others(captured: Captured) -> None:
    plan = make_plan(captured("hwloc-offline-cpu0-node0").host, PROFILES["empty"])
    assert str(plan.cpus.host) == "4,6"
    assert any("CPU 4 takes its place" in warning for warning in plan.warnings)


def test_hybrid_laptops_poll_on_p_cores(captured: Captured) -> None:
    for name in ("ghw-intel-i7-1270P", "pepc-adl0", "nri-sample1"):
        host = captured(name).host
        kinds = {cpu.id: cpu.kind for cpu in host.cpus}
        plan = make_plan(host, PROFILES["empty"])
        assert plan.cpus.pmd
        assert {str(kinds[cpu]) for cpu in plan.cpus.pmd} == {"performance"}
