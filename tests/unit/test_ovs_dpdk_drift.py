from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ovs_model import bridge, port, rows, state
from ovs_plans import OvsPlans

from nfvhost.access.ovs_rows import OpenVswitch
from nfvhost.access.vswitchd import RxQueue
from nfvhost.model.change import Activation
from nfvhost.model.cpuset import CpuSet
from nfvhost.resources.ovs_dpdk.drift import drifts
from nfvhost.resources.ovs_dpdk.state import Activity, PmdThread

if TYPE_CHECKING:
    from nfvhost.access.ovs_rows import Port
    from nfvhost.model.plan import OvsPort, Plan
    from nfvhost.model.report import Drift

OVS = OvsPlans()
EAL = ("ovs-vswitchd", "--no-pci", "--socket-mem", "64", "-l", "0")
MASK = "0x6"


def activity(*queues: tuple[str, int, int], eal: tuple[str, ...] | None = EAL, **cpus: str) -> Activity:
    """Queues as (port, queue, core); threads on the cores 1 and 2 unless `c1="0-3"` says where they may run."""
    threads = {core: cpus.get(f"c{core}", str(core)) for core in (1, 2)}
    return Activity(
        eal=eal,
        rx_queues=tuple(RxQueue(port=name, queue=queue, core=core) for name, queue, core in queues),
        pmd_threads=tuple(PmdThread(core=core, cpus=CpuSet.parse(text)) for core, text in threads.items()),
        complaints=("Failed to create memory pool for netdev p0, with MTU 9000", "something else"),
    )


def running(*ports: Port, **config: str) -> OpenVswitch:
    keys = {"dpdk-init": "true", "pmd-cpu-mask": MASK} | {key.replace("_", "-"): text for key, text in config.items()}
    return rows(bridge("br0", *ports, fail_mode="secure"), dpdk_initialized=True, other_config=keys)


def plan(*ports: OvsPort, **config: str) -> Plan:
    return OVS.plan(OVS.bridge("br0", *ports), **({"dpdk_init": "true", "pmd_cpu_mask": MASK} | config))


def told(database: OpenVswitch, does: Activity | None, wanted: Plan) -> list[Drift]:
    return list(drifts(state(database), does, wanted))


def keys_of(found: list[Drift]) -> list[str]:
    return [drift.key for drift in found]


def dpdk_port(**columns: Any) -> Port:  # noqa: ANN401 - fields of Interface
    return port("p0", "dpdk", options={"n_rxq": "2"}, **columns)


PLANNED = OVS.port("p0", "dpdk", n_rxq=2)


def test_nothing_is_told_where_all_is_as_planned() -> None:
    assert told(running(dpdk_port()), activity(("p0", 0, 1), ("p0", 1, 2)), plan(PLANNED)) == []


def test_a_value_that_was_changed_by_hand_is_told_with_both() -> None:
    (drift,) = told(running(pmd_rxq_assign="group"), activity(), plan(pmd_rxq_assign="cycles"))
    assert (drift.key, drift.planned, drift.actual) == ("other_config:pmd-rxq-assign", "cycles", "group")
    assert drift.pending is None


def test_a_queue_that_nobody_polls_and_one_on_a_foreign_core_are_told() -> None:
    found = told(running(dpdk_port()), activity(("p0", 1, 5)), plan(PLANNED))
    assert [(drift.key, drift.actual) for drift in found] == [
        ("port br0/p0 queue 0", "not polled"),
        ("port br0/p0 queue 1", "polled by core 5"),
    ]


def test_a_queue_that_was_given_a_core_is_told_on_another_one() -> None:
    fixed = {"pmd-rxq-affinity": "1:1"}
    wanted = plan(OVS.port("p0", "dpdk", n_rxq=2, other_config=fixed))
    found = told(running(dpdk_port(other_config=fixed)), activity(("p0", 0, 2), ("p0", 1, 2)), wanted)
    assert [(drift.key, drift.planned) for drift in found] == [("port br0/p0 queue 1", "polled by core 1")]


def test_a_guest_that_has_not_come_owes_one_queue_and_no_mtu() -> None:
    wanted = plan(OVS.port("v0", "dpdkvhostuserclient", mtu=1500))
    waiting = port("v0", "dpdkvhostuserclient", mtu_request=1500, mtu=0, status={"status": "disconnected"})
    connected = port("v0", "dpdkvhostuserclient", mtu_request=1500, mtu=1400, status={"status": "connected"})
    assert told(running(waiting), activity(("v0", 0, 1)), wanted) == []
    assert keys_of(told(running(connected), activity(("v0", 0, 1)), wanted)) == ["port br0/v0 mtu"]


def test_an_mtu_that_was_refused_is_told_with_the_log() -> None:
    wanted = plan(OVS.port("p0", "dpdk", n_rxq=2, mtu=9000))
    (drift,) = told(running(dpdk_port(mtu_request=9000)), activity(("p0", 0, 1), ("p0", 1, 2)), wanted)
    assert (drift.planned, drift.actual) == ("9000", "1500")
    assert drift.hint == "its log says: Failed to create memory pool for netdev p0, with MTU 9000"


def test_a_port_that_could_not_be_opened_is_told_even_without_an_error_of_its_own() -> None:
    found = told(running(dpdk_port(ofport=-1)), activity(), plan(PLANNED))
    assert keys_of(found)[0] == "port br0/p0 error"
    assert found[0].actual == "its log says: Failed to create memory pool for netdev p0, with MTU 9000"


def test_threads_that_may_run_elsewhere_are_missing_or_too_many_are_told() -> None:
    polled = ("p0", 0, 1), ("p0", 1, 2)
    (moved,) = told(running(dpdk_port()), activity(*polled, c1="0-3"), plan(PLANNED))
    assert (moved.key, moved.actual) == ("pmd thread of core 1", "may run on CPUs 0-3")
    wider = running(dpdk_port(), pmd_cpu_mask="0xe")
    assert keys_of(told(wider, activity(*polled), plan(PLANNED, pmd_cpu_mask="0xe"))) == ["pmd thread of core 3"]


def test_dpdk_that_did_not_start_is_told() -> None:
    (drift,) = told(rows(other_config={"dpdk-init": "try"}), activity(eal=None), OVS.plan(dpdk_init="try"))
    assert (drift.key, drift.actual) == ("dpdk_initialized", "false")


def test_what_dpdk_was_started_with_counts_and_waits_for_a_restart() -> None:
    for key, active in (("dpdk_socket_mem", "64"), ("dpdk_hugepage_dir", None), ("dpdk_lcore_mask", None)):
        config = {key: "128"}
        (drift,) = told(running(**config), activity(), plan(**config))
        assert (drift.planned, drift.actual, drift.pending) == ("128", active, Activation.RESTART)
    for key, value in (("dpdk_socket_mem", "64"), ("dpdk_extra", "--no-pci"), ("dpdk_extra", "-l 0")):
        assert told(running(**{key: value}), activity(), plan(**{key: value})) == []
    (drift,) = told(running(dpdk_extra="--no-pci -n 4"), activity(), plan(dpdk_extra="--no-pci -n 4"))
    assert drift.pending == Activation.RESTART


def test_an_option_in_dpdk_extra_goes_before_the_key() -> None:
    config = {"dpdk_extra": "--socket-mem 64", "dpdk_socket_mem": "128"}
    assert told(running(**config), activity(), plan(**config)) == []


def test_a_list_of_lcores_stands_for_the_mask_in_3_7() -> None:
    lcores = ("ovs-vswitchd", "--lcores", "0@0")
    assert told(running(dpdk_lcore_mask="0x1"), activity(eal=lcores), plan(dpdk_lcore_mask="0x1")) == []


def test_where_nobody_can_say_how_dpdk_was_started_nothing_is_claimed() -> None:
    assert told(running(dpdk_socket_mem="128"), activity(eal=None), plan(dpdk_socket_mem="128")) == []


def test_a_process_that_is_not_there_is_the_one_drift() -> None:
    (drift,) = told(running(), None, plan(PLANNED))
    assert (drift.key, drift.planned, drift.actual) == ("ovs-vswitchd", "running", None)
