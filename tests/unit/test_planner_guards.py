"""A plan that breaks a rule is never handed out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from plan_rules import broken_rules
from synthetic import host as make_host
from synthetic import nic as make_nic

from nfvhost.errors import ExitCode, NfvhostError
from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.plan import CpuPools, NicPlan, NodeMemory, Plan, ReservedHugepages
from nfvhost.model.profile import GuestWish, Profile, Role
from nfvhost.planner import guards, make_plan

MACHINE = make_host(
    cores=8,
    threads=2,
    nics=[make_nic("0000:01:00.0", management="default route"), make_nic("0000:02:00.0", total_vfs=8)],
)
GOOD = make_plan(MACHINE, Profile(name="good", vnfs=(GuestWish(name="vnf", vcpus=2, memory_mib=1024),)))


def pools(**changes: str) -> Plan:
    new: CpuPools = dataclasses.replace(GOOD.cpus, **{name: CpuSet.parse(text) for name, text in changes.items()})
    return dataclasses.replace(GOOD, cpus=new)


def memory(change: Callable[[NodeMemory], NodeMemory]) -> Plan:
    nodes = tuple(change(node) for node in GOOD.memory.nodes)
    return dataclasses.replace(GOOD, memory=dataclasses.replace(GOOD.memory, nodes=nodes))


def nics(change: Callable[[NicPlan], NicPlan]) -> Plan:
    return dataclasses.replace(GOOD, nics=tuple(change(nic) for nic in GOOD.nics))


def nova(**changes: object) -> Plan:
    assert GOOD.nova is not None
    changed = dataclasses.replace(GOOD.nova, **changes)  # type: ignore[arg-type]  # fields of NovaPlan
    return dataclasses.replace(GOOD, nova=changed)


def test_a_good_plan_passes() -> None:
    guards.check(MACHINE, GOOD)
    assert broken_rules(MACHINE, GOOD) == []


@pytest.mark.field_failure(17, 18)
@pytest.mark.parametrize(
    ("plan", "what"),
    [
        (pools(pmd="1", dedicated="2-7,10-15", isolated="1-7,10-15"), "is split"),
        (pools(dedicated="1-7,9-15"), "is in the pools pmd and dedicated"),
        (pools(host="1,9"), "CPU 0's core is not with the host"),
        (pools(isolated="0-15"), "are not those of PMD threads and guests"),
        (pools(dedicated="2-7,10-17"), "may not be used"),
        (pools(shared="2,10"), "shared CPUs are in another pool as well"),
        (memory(lambda node: dataclasses.replace(node, host_mib=node.host_mib + 10**5)), "gives out more"),
        (memory(lambda node: dataclasses.replace(node, pages=())), "are not what OVS and guests get"),
        (memory(lambda node: dataclasses.replace(node, total_mib=node.total_mib * 2)), "it has 32768"),
        (nova(reserved_host_memory_mib=32769), "reserves 32769 MiB of the 32768 MiB that it reports"),
        (
            nova(reserved_huge_pages=(ReservedHugepages(node=1, size_kib=2048, count=3),)),
            "reserves 3 pages of node 1, which has 0",
        ),
        (nova(cpu_shared_set=CpuSet.parse("2")), "sets of CPUs overlap"),
        (nics(lambda nic: dataclasses.replace(nic, role=Role.DPDK)), "carries management (default route)"),
        (nics(lambda nic: dataclasses.replace(nic, vfs=9)), "gets 9 VFs, it can have 8"),
        (dataclasses.replace(GOOD, nics=GOOD.nics * 2), "planned twice"),
        (dataclasses.replace(GOOD, guests=GOOD.guests * 2), "pinned to the same CPU"),
    ],
)
def test_a_broken_plan_is_a_bug_that_is_named(plan: Plan, what: str) -> None:
    with pytest.raises(NfvhostError) as caught:
        guards.check(MACHINE, plan)
    assert caught.value.exit_code is ExitCode.BUG
    assert any(what in problem.what for problem in caught.value.problems), str(caught.value)
    # The rules of the tests are written apart from the guards and must see the same.
    assert broken_rules(MACHINE, plan) != []


def test_pools_of_nothing_break_the_rules_as_well() -> None:
    nothing = CpuPools(host=EMPTY, shared=EMPTY, pmd=EMPTY, dedicated=EMPTY, idle=EMPTY, isolated=EMPTY)
    assert broken_rules(MACHINE, dataclasses.replace(GOOD, cpus=nothing)) != []
