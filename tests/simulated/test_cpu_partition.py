"""Cpuset partitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cases import Case
from contract import differences, drifts, refusals, remarks, run
from scratch import ScratchMachine

from nfvhost.errors import ApplyError
from nfvhost.model.change import Activation
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.profile import Isolation
from nfvhost.model.report import Outcome

Bench = Callable[[str], tuple[Case, ScratchMachine]]
GROUP = "/sys/fs/cgroup/machine.slice"
SLICE_DROP_IN = "/etc/systemd/system/machine.slice.d/zz-nfvhost.conf"
SWITCH_DROP_IN = "/etc/systemd/system/ovs-vswitchd.service.d/zz-nfvhost.conf"


def partition(scratch: ScratchMachine) -> str:
    """What the kernel says of it."""
    return scratch.read(f"{GROUP}/cpuset.cpus.partition").strip()


def restart_switch(scratch: ScratchMachine) -> None:
    """What systemd does with the drop-in, once somebody restarts ovs-vswitchd."""
    slices = [line for line in scratch.read(SWITCH_DROP_IN).splitlines() if line.startswith("Slice=")]
    scratch.put("/proc/812/cgroup", f"0::/{slices[0].removeprefix('Slice=')}/ovs-vswitchd.service\n")


def test_the_kernel_keeps_all_others_off_the_partition(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")

    run(case, scratch)

    assert partition(scratch) == "root"
    assert scratch.read(f"{GROUP}/cpuset.cpus.effective") == "1-7\n"
    for group in ("system.slice", "user.slice", "init.scope"):
        assert scratch.read(f"/sys/fs/cgroup/{group}/cpuset.cpus.effective") == "0\n"


def test_the_drop_ins_keep_guests_and_switch_in_it_and_ovs_own_threads_on_the_shared_pool(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")

    run(case, scratch)

    assert scratch.read(SLICE_DROP_IN).splitlines()[1:] == ["[Slice]", "AllowedCPUs=1-7"]
    assert scratch.read(SWITCH_DROP_IN).splitlines()[1:] == [
        "[Service]",
        "Slice=machine.slice",
        "CPUAffinity=",
        "CPUAffinity=4",
    ]
    assert scratch.commands() == ["systemctl daemon-reload"]


def test_work_of_the_kernel_that_may_run_anywhere_stays_with_the_host(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")

    run(case, scratch)

    assert scratch.read("/sys/devices/virtual/workqueue/cpumask") == "11\n"


def test_a_running_switch_is_not_restarted_and_loses_no_cpu_before_it_is(bench: Bench) -> None:
    case, scratch = bench("cpu_partition-waiting")

    outcomes = run(case, scratch)

    assert set(outcomes) == {Outcome.PENDING_RESTART}
    assert partition(scratch) == "member"
    assert scratch.read("/sys/fs/cgroup/system.slice/cpuset.cpus.effective") == "0-7\n"
    (drift,) = drifts(case, scratch)
    assert (drift.key, drift.pending) == ("partition", Activation.RESTART)
    assert "systemctl restart ovs-vswitchd" in (drift.hint or "")
    assert any("system.slice/ovs-vswitchd.service" in one for one in remarks(case, scratch))


def test_once_the_switch_was_restarted_the_next_apply_makes_the_partition(bench: Bench) -> None:
    case, scratch = bench("cpu_partition-waiting")
    run(case, scratch)
    restart_switch(scratch)

    assert [(drift.key, drift.pending) for drift in drifts(case, scratch)] == [("partition", None)]
    assert run(case, scratch) == [Outcome.APPLIED]

    assert (partition(scratch), drifts(case, scratch), differences(case, scratch)) == ("root", (), ())


def test_a_machine_that_has_no_machine_slice_yet_gets_one(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")
    for name in ("cpuset.cpus", "cpuset.cpus.effective", "cpuset.cpus.partition", "cgroup.procs"):
        (scratch.tree / f"{GROUP}/{name}".strip("/")).unlink()
    (scratch.tree / GROUP.strip("/")).rmdir()
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)

    run(case, scratch)

    assert scratch.commands() == ["systemctl daemon-reload", "systemctl start machine.slice"]
    assert partition(scratch) == "root"
    assert case.resource.rollback(scratch.machine(), case.resource.image(state, changes), changes) == ()
    # Guests may be in it by now: it stays, and bounds nothing.
    assert (partition(scratch), scratch.read(f"{GROUP}/cpuset.cpus")) == ("member", "\n")


def test_cpusets_that_no_service_has_asked_for_are_turned_on(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")
    for group in ("init.scope", "machine.slice", "system.slice", "user.slice"):
        for name in ("cpuset.cpus", "cpuset.cpus.effective", "cpuset.cpus.partition"):
            (scratch.tree / f"sys/fs/cgroup/{group}/{name}").unlink()
    scratch.put("/sys/fs/cgroup/cgroup.subtree_control", "memory pids\n")

    run(case, scratch)

    assert partition(scratch) == "root"
    assert "cpuset" in scratch.read("/sys/fs/cgroup/cgroup.subtree_control").split()


@pytest.mark.field_failure(19)
def test_row_19_verify_sees_that_another_agent_has_claimed_cpus_of_the_partition(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")
    run(case, scratch)
    machine = scratch.machine()
    machine.root.write_attribute("/sys/fs/cgroup/system.slice/cpuset.cpus", "0-7")

    (drift,) = drifts(case, scratch)

    assert (drift.key, drift.planned) == ("partition", "root 1-7")
    assert drift.actual == "root invalid (Cpu list in cpuset.cpus not exclusive)"
    assert drift.hint == "system.slice has claimed CPUs 0-7"


def test_a_group_that_claims_some_of_the_cpus_is_refused_by_name(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")
    scratch.put("/sys/fs/cgroup/system.slice/cpuset.cpus", "0-3\n")

    (refusal,) = refusals(case, scratch)

    assert "system.slice has claimed CPUs 0-3" in refusal


def test_a_partition_that_the_kernel_finds_invalid_is_a_failure_and_is_taken_back(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")
    before = scratch.snapshot()
    real = scratch.kernel.reactions[0]

    def invalid(tree: Path, path: str, text: str, said: str | None) -> None:
        real(tree, path, text, said)
        if text == "root":
            scratch.put(path, "root invalid (Parent unable to distribute cpu downstream)\n")

    scratch.kernel.reactions[:] = [invalid]

    with pytest.raises(ApplyError) as caught:
        run(case, scratch)

    assert any("Parent unable to distribute" in problem.what for problem in caught.value.problems)
    assert scratch.snapshot() == before


def test_a_plan_whose_shared_pool_is_the_hosts_is_refused_with_both_ways_out(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")
    cpus = replace(case.plan.cpus, host=CpuSet.parse("0,4"), shared=CpuSet.parse("0,4"))
    case = replace(case, plan=replace(case.plan, cpus=cpus))

    (refusal,) = refusals(case, scratch)

    assert "`shared: {cores: 1}` in the profile; or `isolation: boot`" in refusal


def test_an_lcore_outside_of_the_partition_is_refused(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")
    assert case.plan.ovs is not None
    ovs = replace(case.plan.ovs, other_config=(("dpdk-lcore-mask", "0x1"),))
    case = replace(case, plan=replace(case.plan, ovs=ovs))

    (refusal,) = refusals(case, scratch)

    assert "dpdk-lcore-mask names CPU 0, outside of the partition" in refusal


@pytest.mark.parametrize(
    ("files", "gone", "told"),
    [
        ({}, "sys/fs/cgroup/cgroup.controllers", "there is no cgroup v2 here"),
        ({"/sys/fs/cgroup/cgroup.controllers": "memory pids\n"}, None, "cpusets are not in cgroup v2 here"),
        ({}, "run/systemd/system", "without systemd"),
    ],
)
def test_a_machine_that_cannot_is_told_of_the_other_way(
    bench: Bench, files: dict[str, str], gone: str | None, told: str
) -> None:
    case, scratch = bench("cpu_partition")
    for path, text in files.items():
        scratch.put(path, text)
    if gone is not None:
        place = scratch.tree / gone
        place.rmdir() if place.is_dir() else place.unlink()

    (refusal,) = refusals(case, scratch)

    assert told in refusal
    assert "`isolation: boot`" in refusal


def test_a_kernel_that_forgets_pinning_is_refused_unless_it_has_what_came_later(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")
    assert refusals(case, scratch, kernel_version="5.14.0-503.el9") == []
    (scratch.tree / "sys/fs/cgroup/cpuset.cpus.isolated").unlink()

    (refusal,) = refusals(case, scratch, kernel_version="6.1.0-13-amd64")

    assert "Linux 6.1.0-13-amd64 forgets what threads are pinned to" in refusal
    assert refusals(case, scratch, kernel_version="6.2.0") == []


def test_a_switch_in_a_container_is_refused(bench: Bench) -> None:
    case, scratch = bench("cpu_partition-waiting")
    scratch.put("/proc/812/cgroup", "0::/system.slice/docker-0123.scope\n")

    (refusal,) = refusals(case, scratch)

    assert "runs in /system.slice/docker-0123.scope, and not as ovs-vswitchd.service" in refusal


def test_the_switch_of_the_unit_counts_where_a_sandbox_has_its_own(bench: Bench) -> None:
    case, scratch = bench("cpu_partition-waiting")
    scratch.put("/proc/97/comm", "ovs-vswitchd\n")
    scratch.put("/proc/97/cgroup", "0::/user.slice/user-1000.slice/session-1.scope\n")

    assert refusals(case, scratch) == []


def test_a_container_is_refused(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")

    assert ["docker container" in one for one in refusals(case, scratch, container="docker")] == [True]


def test_other_isolation_takes_our_partition_back_and_nobody_elses(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")
    boot = replace(case.plan, isolation=Isolation.BOOT)
    assert differences(case, scratch, plan=boot) == ()
    run(case, scratch)

    run(case, scratch, plan=boot)

    assert (partition(scratch), scratch.read(f"{GROUP}/cpuset.cpus")) == ("member", "\n")
    assert not (scratch.tree / SLICE_DROP_IN.strip("/")).exists()
    assert not (scratch.tree / SWITCH_DROP_IN.strip("/")).exists()


def test_without_open_vswitch_guests_alone_get_the_partition(bench: Bench) -> None:
    case, scratch = bench("cpu_partition")
    case = replace(case, plan=replace(case.plan, ovs=None))

    run(case, scratch)

    assert partition(scratch) == "root"
    assert not (scratch.tree / SWITCH_DROP_IN.strip("/")).exists()


@pytest.mark.parametrize("key", ["machine.slice", "ovs-vswitchd.service", "partition", "workqueues"])
def test_each_change_can_be_made_by_itself(bench: Bench, key: str) -> None:
    case, scratch = bench("cpu_partition")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = {change.key: change for change in case.resource.diff(state, case.plan)}

    case.resource.apply(scratch.machine(), state, (changes.pop(key),))

    assert {change.key for change in differences(case, scratch)} == set(changes)
