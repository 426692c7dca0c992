from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from nfvhost import engine
from nfvhost.access.clock import wait_for
from nfvhost.access.command import check, run
from nfvhost.access.process import read_process
from nfvhost.engine import Step
from nfvhost.engine.lock import lock_path, locked
from nfvhost.errors import ApplyError, ExitCode, PreconditionError, RollbackError, StalePlanError
from nfvhost.inspect import inspect_host
from nfvhost.resources.ovs_dpdk import OvsDpdk

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovs_plans import OvsPlans

    from nfvhost.model.change import Change
    from nfvhost.model.plan import Plan
    from tests.ovs.conftest import Bed


def null_ports(*names: str) -> dict[str, str]:
    return {name: f"net_null{number},no-rx=1" for number, name in enumerate(names)}


def plan_of(bed: Bed, ovs: OvsPlans, devices: dict[str, str], bridge: str = "br0", **keys: str) -> Plan:
    """A plan with a port for each device."""
    ports = [ovs.port(name, "dpdk", dpdk_devargs=device) for name, device in devices.items()]
    return ovs.plan(ovs.bridge(bridge, *ports), **{**bed.keys, **keys})


@dataclass
class Narrator:
    """Listens to an apply, and does something at its first mention of a step."""

    at: Step | None = None
    do: Callable[[], object] = lambda: None
    told: list[str] = field(default_factory=list)

    def __call__(self, step: Step, _change: Change | None) -> None:
        first = step not in self.told
        self.told.append(step)
        if first and step is self.at:
            self.do()


def test_a_port_that_fails_in_the_middle_takes_the_whole_apply_back(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(plan_of(bed, ovs, {"old": "net_null8,no-rx=1", "kept": "net_null9,no-rx=1"}))
    bed.switch.vsctl("set", "Interface", "old", "external_ids:note=theirs", "other_config:theirs=1")
    bed.switch.vsctl("set", "Port", "old", "tag=9", "other_config:theirs=2")
    before = bed.rows()
    bad = {"a": "net_null0,no-rx=1", "b": "net_nosuch0", "c": "net_null1,no-rx=1", "kept": "net_null9,no-rx=1"}

    with pytest.raises(ApplyError) as caught:
        bed.apply(plan_of(bed, ovs, bad, pmd_rxq_assign="roundrobin"))

    assert caught.value.exit_code == ExitCode.ROLLED_BACK
    assert "everything was put back as it was" in str(caught.value)
    assert "port br0/b error: Error attaching device 'net_nosuch0' to DPDK" in str(caught.value)
    assert bed.rows() == before
    assert bed.switch.vsctl("get", "Interface", "old", "error") == "[]"


def test_a_failed_first_apply_leaves_no_bridge_and_no_key(bed: Bed, ovs: OvsPlans) -> None:
    before = bed.rows()

    with pytest.raises(ApplyError):
        bed.apply(plan_of(bed, ovs, {"a": "net_nosuch0"}))

    assert bed.rows() == before
    # DPDK cannot be switched off again without a restart; that is all that remains.
    assert bed.switch.vsctl("get", "Open_vSwitch", ".", "dpdk_initialized") == "true"


def test_a_bridge_that_was_dropped_comes_back_whole(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(plan_of(bed, ovs, null_ports("a", "b"), bridge="br-old"))
    bed.switch.vsctl("set", "Bridge", "br-old", "other_config:hwaddr=02:00:00:00:00:07", "protocols=OpenFlow13")
    before = bed.rows()

    with pytest.raises(ApplyError):
        bed.apply(plan_of(bed, ovs, {"x": "net_nosuch0"}, bridge="br-new"))

    assert bed.rows() == before


def test_ovs_vswitchd_that_dies_of_the_changes_is_named_and_the_database_put_back(bed: Bed, ovs: OvsPlans) -> None:
    before = bed.rows()
    # An option that DPDK knows, with a value that it ends of.
    plan = ovs.plan(**{**bed.keys, "dpdk_extra": "--no-pci --iova-mode=nonsense"})

    with pytest.raises(ApplyError) as caught:
        bed.apply(plan)

    assert "ovs-vswitchd ended while it carried out the changes; its log says:" in str(caught.value)
    assert caught.value.exit_code == ExitCode.ROLLED_BACK
    assert bed.rows() == before


def test_ovs_vswitchd_killed_in_the_middle_is_named_and_the_database_put_back(bed: Bed, ovs: OvsPlans) -> None:
    before = bed.rows()
    pid = bed.switch.sandbox.switch_pid
    narrator = Narrator(at=Step.APPLY, do=lambda: os.kill(pid, signal.SIGKILL))

    with pytest.raises(ApplyError, match="failed, and everything was put back") as caught:
        bed.apply_with(plan_of(bed, ovs, null_ports("a")), narrator)

    assert "ovs-vswitchd ended" in str(caught.value)
    assert "systemctl start openvswitch-switch" in str(caught.value)
    assert bed.rows() == before


def test_ovs_vswitchd_that_hangs_is_a_rollback_that_did_not_reach_it(bed: Bed, ovs: OvsPlans) -> None:
    before = bed.rows()
    pid = bed.switch.sandbox.switch_pid
    narrator = Narrator(at=Step.APPLY, do=lambda: os.kill(pid, signal.SIGSTOP))
    try:
        with pytest.raises(RollbackError) as caught:
            bed.apply_with(plan_of(bed, ovs, null_ports("a")), narrator, OvsDpdk(carry_out_s=0.5, settle_s=0.1))
        assert bed.rows() == before
    finally:
        os.kill(pid, signal.SIGCONT)
    assert caught.value.exit_code == ExitCode.ROLLBACK_FAILED
    assert "the database is as it was; ovs-vswitchd has not taken it up within 0.5 s" in str(caught.value)
    assert "has not carried out the changes within 0.5 s" in str(caught.value)


def test_an_ovsdb_server_that_dies_in_the_middle_is_a_rollback_that_failed(bed: Bed, ovs: OvsPlans) -> None:
    with open(f"{bed.switch.sandbox.run_dir}/ovsdb-server.pid", encoding="ascii") as pidfile:
        pid = int(pidfile.read())
    narrator = Narrator(at=Step.VERIFY, do=lambda: os.kill(pid, signal.SIGKILL))

    with pytest.raises(RollbackError) as caught:
        bed.apply_with(plan_of(bed, ovs, null_ports("a")), narrator)

    assert "could not be put back: ovsdb-server is not running" in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [Step.APPLY, Step.VERIFY])
def test_a_signal_takes_everything_back(bed: Bed, ovs: OvsPlans, number: signal.Signals, step: Step) -> None:
    bed.apply(ovs.plan(**bed.keys))
    before = bed.rows()
    handler = signal.getsignal(number)
    narrator = Narrator(at=step, do=lambda: os.kill(os.getpid(), number))

    with pytest.raises(ApplyError) as caught:
        bed.apply_with(plan_of(bed, ovs, null_ports("a", "b")), narrator)

    assert f"interrupted by {number.name}" in str(caught.value)
    assert caught.value.exit_code == ExitCode.ROLLED_BACK
    assert bed.rows() == before
    assert signal.getsignal(number) is handler


def test_a_second_signal_does_not_disturb_the_rollback(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(ovs.plan(**bed.keys))
    before = bed.rows()
    told: list[Step] = []

    def narrate(step: Step, _change: Change | None) -> None:
        told.append(step)
        if step in {Step.VERIFY, Step.ROLL_BACK}:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(ApplyError):
        bed.apply_with(plan_of(bed, ovs, null_ports("a")), narrate)

    assert Step.ROLL_BACK in told
    assert bed.rows() == before


def test_a_bug_on_the_way_takes_everything_back_and_stays_a_bug(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(ovs.plan(**bed.keys))
    before = bed.rows()

    def stumble() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bed.apply_with(plan_of(bed, ovs, null_ports("a")), Narrator(at=Step.VERIFY, do=stumble))

    assert bed.rows() == before


def test_progress_tells_each_change_once(bed: Bed, ovs: OvsPlans) -> None:
    plan = plan_of(bed, ovs, null_ports("a"))
    changes = engine.diff(plan, bed.machine)
    told: list[tuple[Step, Change | None]] = []

    bed.apply_with(plan, lambda step, change: told.append((step, change)))

    assert told == [(Step.CHECK, None), *((Step.APPLY, change) for change in changes), (Step.VERIFY, None)]


def test_a_second_apply_at_the_same_time_is_refused_and_names_the_first(bed: Bed, ovs: OvsPlans) -> None:
    plan = ovs.plan(**bed.keys)
    with locked(bed.machine), pytest.raises(PreconditionError, match=f"another apply is at work: pid {os.getpid()}"):
        bed.apply(plan)
    bed.apply(plan)


def test_the_lock_of_a_killed_apply_is_free(bed: Bed, ovs: OvsPlans) -> None:
    program = (
        "import os, signal, sys\n"
        "from nfvhost.access.machine import Machine\n"
        "from nfvhost.access.root import DirectoryRoot\n"
        "from nfvhost.engine.lock import locked\n"
        f"with locked(Machine(root=DirectoryRoot('/'), ovsdb={bed.machine.ovsdb!r})):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = run([sys.executable, "-c", program], timeout_s=30)
    assert done.code == -signal.SIGKILL
    assert os.path.exists(lock_path(bed.machine))

    bed.apply(ovs.plan(**bed.keys))


def test_someone_who_writes_between_the_diff_and_the_transaction_is_not_overwritten(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(ovs.plan(**bed.keys))
    theirs = ["set", "Open_vSwitch", ".", "other_config:pmd-rxq-assign=group"]
    narrator = Narrator(at=Step.APPLY, do=lambda: bed.switch.vsctl(*theirs))

    with pytest.raises(ApplyError, match="failed, and everything was put back") as caught:
        bed.apply_with(ovs.plan(**bed.keys, pmd_rxq_assign="cycles"), narrator)

    assert "someone else changes Open vSwitch" in str(caught.value)
    assert bed.switch.vsctl("get", "Open_vSwitch", ".", "other_config:pmd-rxq-assign") == "group"


def test_what_someone_else_writes_during_a_failing_apply_stays(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(plan_of(bed, ovs, null_ports("a"), pmd_rxq_assign="cycles"))
    theirs = ["set", "Open_vSwitch", ".", "other_config:pmd-rxq-assign=group"]
    narrator = Narrator(at=Step.VERIFY, do=lambda: bed.switch.vsctl(*theirs))

    with pytest.raises(ApplyError):
        bed.apply_with(plan_of(bed, ovs, {"a": "net_nosuch0"}, pmd_rxq_assign="roundrobin"), narrator)

    assert bed.switch.vsctl("get", "Open_vSwitch", ".", "other_config:pmd-rxq-assign") == "group"
    assert bed.switch.vsctl("get", "Interface", "a", "error") == "[]"


def test_apply_works_outside_of_the_main_thread(bed: Bed, ovs: OvsPlans) -> None:
    reports: list[object] = []
    thread = threading.Thread(target=lambda: reports.append(bed.apply(ovs.plan(**bed.keys))))
    thread.start()
    thread.join()
    assert len(reports) == 1


def test_an_absent_ovs_vswitchd_is_named_before_anything_is_written(bed: Bed, ovs: OvsPlans) -> None:
    check(["ovs-appctl", "-t", bed.switch.sandbox.unixctl, "exit"], timeout_s=10)
    assert wait_for(lambda: read_process(bed.switch.sandbox.switch_pid) is None, timeout_s=5.0)
    before = bed.rows()

    with pytest.raises(PreconditionError, match="ovs-vswitchd is not running"):
        bed.apply(ovs.plan(**bed.keys))

    assert bed.rows() == before
    (drift,) = bed.drifts(ovs.plan(**bed.keys))
    assert (drift.key, drift.actual) == ("ovs-vswitchd", None)


def test_a_plan_of_another_machine_is_refused_and_each_difference_named(bed: Bed, ovs: OvsPlans) -> None:
    plan = ovs.plan(**bed.keys)
    written = bed.transactions()

    with pytest.raises(StalePlanError) as caught:
        engine.apply(plan, bed.machine, inspect_host(bed.machine.root), resources=(bed.resource,))

    assert caught.value.exit_code == ExitCode.STALE_PLAN
    assert "host.fingerprint." in str(caught.value)
    assert bed.transactions() == written
