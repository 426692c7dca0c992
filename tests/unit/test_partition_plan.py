"""Plans that isolate CPUs by a partition."""

from __future__ import annotations

from plan_rules import broken_rules
from synthetic import host as make_host
from synthetic import nic

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Isolation, NicWish, Profile, Role, SharedPool
from nfvhost.planner import make_plan

BOARD = nic("0000:05:00.0", device="1533", driver="igb", netdevs=("eno1",), speed_mbps=1000, management="default route")
HOST = make_host(cores=8, nics=(BOARD, nic("0000:10:00.0")))


def planned(*, shared: int, isolation: Isolation = Isolation.PARTITION) -> Plan:
    wish = Profile(name="x", isolation=isolation, shared=SharedPool(cores=shared), nics=(NicWish(role=Role.DPDK),))
    made = make_plan(HOST, wish)
    assert broken_rules(HOST, made) == []
    return made


def lcores(made: Plan) -> CpuSet:
    assert made.ovs is not None
    return CpuSet.parse_mask(dict(made.ovs.other_config)["dpdk-lcore-mask"])


def test_in_a_partition_ovs_own_threads_are_on_the_shared_pool() -> None:
    assert lcores(planned(shared=1)) <= planned(shared=1).cpus.shared
    assert lcores(planned(shared=1, isolation=Isolation.BOOT)) <= planned(shared=1).cpus.host


def test_a_partition_without_shared_cpus_of_their_own_is_warned_of() -> None:
    assert [one for one in planned(shared=0).warnings if "`shared: {cores: 1}`" in one]
    assert not [one for one in planned(shared=1).warnings if "partition" in one]
    assert not [one for one in planned(shared=0, isolation=Isolation.BOOT).warnings if "partition" in one]
