"""The units that make again what a boot forgets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cases import Case
from contract import differences, drifts, refusals, remarks, run
from scratch import ScratchMachine

from nfvhost.planfile import load_plan
from nfvhost.resources.boot_unit import DEVICES_UNIT, PLAN_FILE, SERVICES_UNIT, WATCH_UNIT

Bench = Callable[[str], tuple[Case, ScratchMachine]]
UNITS = "/etc/systemd/system"
AGENTS = {
    "nova-compute.service",
    "openstack-nova-compute.service",
    "neutron-openvswitch-agent.service",
    "neutron-sriov-agent.service",
    "neutron-sriov-nic-agent.service",
}
SWITCH = {"ovsdb-server.service", "ovs-vswitchd.service", "openvswitch-switch.service", "openvswitch.service"}
FAILED = "ActiveState=failed\nResult=exit-code\nExecMainStatus=6\n"


@dataclass(frozen=True)
class Unit:
    """A unit file."""

    lines: list[str]

    def words(self, key: str) -> set[str]:
        """The values of a key that may be there several times, together."""
        lines = [line.partition("=")[2] for line in self.lines if line.startswith(f"{key}=")]
        return {word for line in lines for word in line.split()}


def units(scratch: ScratchMachine) -> tuple[Unit, Unit]:
    """Both, as they were written."""
    devices, services = (Unit(scratch.read(f"{UNITS}/{name}").splitlines()) for name in (DEVICES_UNIT, SERVICES_UNIT))
    return devices, services


def applied(bench: Bench) -> tuple[Case, ScratchMachine]:
    case, scratch = bench("boot_unit")
    run(case, scratch)
    return case, scratch


@pytest.mark.field_failure(8)
def test_row_8_ports_are_bound_before_open_vswitch_and_before_the_network(bench: Bench) -> None:
    _, scratch = applied(bench)

    devices, _ = units(scratch)

    assert devices.words("Before") >= {*SWITCH, "network-pre.target"}
    assert devices.words("Wants") == {"network-pre.target"}


@pytest.mark.field_failure(25)
def test_row_25_vfs_are_there_before_the_agents_and_libvirt_start(bench: Bench) -> None:
    _, scratch = applied(bench)

    devices, services = units(scratch)

    assert devices.words("Before") >= {*AGENTS, "libvirtd.service", "virtqemud.service"}
    assert services.words("Before") >= {*AGENTS, "libvirtd.service", "virtqemud.service"}
    assert services.words("After") >= {*SWITCH, DEVICES_UNIT}


def test_open_vswitch_started_anew_gets_its_addresses_again(bench: Bench) -> None:
    # Its bridges are interfaces of the process, and new ones have no addresses.
    _, scratch = applied(bench)

    _, services = units(scratch)

    assert services.words("PartOf") == {"ovs-vswitchd.service"}
    assert "ovs-vswitchd.service" in services.words("WantedBy")


def test_devices_do_not_wait_for_what_waits_for_the_network(bench: Bench) -> None:
    # cloud-init stands between the network and sysinit.target: behind that one would be a circle.
    _, scratch = applied(bench)

    devices, _ = units(scratch)

    assert devices.words("DefaultDependencies") == {"no"}
    assert {one for one in devices.words("After") if one.endswith(".target")} == {"local-fs.target"}


def test_neither_unit_can_hold_up_a_boot_for_ever_nor_fail_it(bench: Bench) -> None:
    _, scratch = applied(bench)

    for unit in units(scratch):
        (timeout,) = unit.words("TimeoutStartSec")
        assert 0 < int(timeout) <= 600
        assert "multi-user.target" in unit.words("WantedBy")
        assert not unit.words("RequiredBy") | unit.words("OnFailure") | unit.words("FailureAction")
        assert "!nfvhost=off" in unit.words("ConditionKernelCommandLine")


def test_what_waits_for_one_more_reboot_has_not_failed(bench: Bench) -> None:
    _, scratch = applied(bench)

    assert [unit.words("SuccessExitStatus") for unit in units(scratch)] == [{"20"}, {"20"}]


def test_nothing_keeps_mounts_of_the_units_to_themselves(bench: Bench) -> None:
    # systemd.exec(5): each of these gives the process a mount namespace, and no mount leaves it.
    _, scratch = applied(bench)

    for unit in units(scratch):
        keys = {line.partition("=")[0] for line in unit.lines}
        assert not {key for key in keys if key.startswith(("Protect", "Private", "ReadOnly", "Inaccessible"))}


def test_they_run_this_very_nfvhost_with_the_plan_that_was_applied(bench: Bench) -> None:
    case, scratch = applied(bench)

    for unit, stage in zip(units(scratch), ("devices", "services"), strict=True):
        (start,) = [line for line in unit.lines if line.startswith("ExecStart=")]
        assert start == f"ExecStart={sys.executable} -P -m nfvhost.cli boot --stage {stage} {PLAN_FILE}"
    assert load_plan(str(scratch.tree / PLAN_FILE.strip("/"))) == case.plan


def test_the_plan_is_for_root_alone(bench: Bench) -> None:
    # The devargs of a memif port may hold a secret.
    _, scratch = applied(bench)

    assert (scratch.tree / PLAN_FILE.strip("/")).stat().st_mode & 0o777 == 0o600


def test_a_blank_or_a_percent_sign_in_the_path_of_python_reaches_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", '/opt/my $100%/"py"')

    _, scratch = applied(bench)

    (start,) = [line for line in units(scratch)[0].lines if line.startswith("ExecStart=")]
    assert start.startswith('ExecStart="/opt/my $$100%%/\\"py\\"" -P ')


def test_systemd_reads_the_units_before_it_enables_them(bench: Bench) -> None:
    _, scratch = applied(bench)

    assert scratch.commands() == [
        "systemctl daemon-reload",
        f"systemctl enable {DEVICES_UNIT}",
        f"systemctl enable {SERVICES_UNIT}",
    ]
    assert (scratch.tree / "run/seen" / SERVICES_UNIT).exists()


def test_another_plan_needs_no_more_than_its_file(bench: Bench) -> None:
    case, scratch = applied(bench)
    commands = scratch.commands()

    run(case, scratch, plan=replace(case.plan, profile="other"))

    assert scratch.commands() == commands
    assert '"profile": "other"' in scratch.read(PLAN_FILE)


def test_a_unit_that_failed_at_the_boot_is_a_drift_with_the_way_to_its_log(bench: Bench) -> None:
    case, scratch = applied(bench)
    scratch.put(f"/run/units/{DEVICES_UNIT}", FAILED)

    (drift,) = drifts(case, scratch)

    assert (drift.key, drift.actual, drift.pending) == (f"{DEVICES_UNIT} failure", "exit-code 6", None)
    assert drift.hint is not None
    assert f"journalctl -b -u {DEVICES_UNIT}" in drift.hint


def test_an_apply_after_a_failed_boot_clears_the_failure(bench: Bench) -> None:
    case, scratch = applied(bench)
    scratch.put(f"/run/units/{DEVICES_UNIT}", FAILED)

    run(case, scratch)

    assert scratch.commands()[-1] == f"systemctl reset-failed {DEVICES_UNIT}"
    assert drifts(case, scratch) == ()


def test_while_the_second_unit_runs_the_failure_of_the_first_is_kept(bench: Bench) -> None:
    case, scratch = applied(bench)
    scratch.put(f"/run/units/{DEVICES_UNIT}", FAILED)
    scratch.put(f"/run/units/{SERVICES_UNIT}", "ActiveState=activating\nResult=success\nExecMainStatus=0\n")

    assert differences(case, scratch) == ()


def test_a_unit_that_systemd_has_not_read_since_it_was_written_is_read(bench: Bench) -> None:
    # Killed between the two by an apply before.
    case, scratch = applied(bench)
    scratch.put(f"/run/seen/{SERVICES_UNIT}", "[Service]\nExecStart=/usr/bin/an-older-one\n")

    assert [drift.key for drift in drifts(case, scratch)] == [f"{SERVICES_UNIT} read"]
    run(case, scratch)

    assert scratch.commands()[-1] == "systemctl daemon-reload"
    assert drifts(case, scratch) == ()


def test_a_unit_that_this_boot_skipped_is_told_and_waits_for_the_next(bench: Bench) -> None:
    case, scratch = applied(bench)
    told = "ActiveState=inactive\nConditionResult=no\nConditionTimestampMonotonic=7100\n"
    scratch.put(f"/run/units/{SERVICES_UNIT}", told)

    (drift,) = drifts(case, scratch)

    assert drift.key == f"{SERVICES_UNIT} skipped"
    assert drift.pending is not None


def test_a_unit_that_somebody_disabled_is_enabled_again(bench: Bench) -> None:
    case, scratch = applied(bench)
    (scratch.tree / f"etc/systemd/system/multi-user.target.wants/{SERVICES_UNIT}").unlink()

    assert [drift.key for drift in drifts(case, scratch)] == [f"{SERVICES_UNIT} enabled"]
    run(case, scratch)

    assert drifts(case, scratch) == ()


def test_a_unit_that_somebody_masked_is_refused(bench: Bench) -> None:
    case, scratch = bench("boot_unit")
    (scratch.tree / "etc/systemd/system").mkdir(parents=True)
    (scratch.tree / f"etc/systemd/system/{SERVICES_UNIT}").symlink_to("/dev/null")

    (refusal,) = refusals(case, scratch)

    assert f"systemctl unmask {SERVICES_UNIT}" in refusal


def test_a_unit_that_was_edited_since_stays_and_is_named(bench: Bench) -> None:
    case, scratch = bench("boot_unit")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    scratch.put(f"{UNITS}/{SERVICES_UNIT}", "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")

    left = case.resource.rollback(machine, case.resource.image(state, changes), changes)

    assert [problem.where for problem in left] == [f"boot_unit: {UNITS}/{SERVICES_UNIT}"]
    assert (scratch.tree / f"etc/systemd/system/{SERVICES_UNIT}").exists()


def test_a_rollback_knows_the_files_of_an_older_nfvhost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    case, scratch = bench("boot_unit")
    before = scratch.snapshot()
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    kept = case.resource.image(state, changes)
    run(case, scratch)
    monkeypatch.setattr(sys, "executable", "/usr/bin/another-python")

    assert case.resource.rollback(scratch.machine(), kept, changes) == ()

    assert scratch.snapshot() == before


@pytest.mark.field_failure(34)
def test_row_34_in_a_container_nothing_is_written_and_the_machine_around_it_is_named(bench: Bench) -> None:
    case, scratch = bench("boot_unit")
    scratch.put("/run/systemd/container", "lxc\n")

    assert differences(case, scratch) == ()
    assert refusals(case, scratch) == []
    (remark,) = remarks(case, scratch)
    assert "lxc container" in remark


def test_without_systemd_nothing_is_written_and_what_a_person_has_to_do_is_told(bench: Bench) -> None:
    case, scratch = bench("boot_unit")
    (scratch.tree / "run/systemd/system").rmdir()

    assert differences(case, scratch) == ()
    assert refusals(case, scratch) == []
    (remark,) = remarks(case, scratch)
    assert "apply the plan again at each boot" in remark


def test_systemd_itself_finds_no_fault_in_the_units(bench: Bench, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    _, scratch = applied(bench)
    for name in (DEVICES_UNIT, SERVICES_UNIT):
        (tmp_path / name).write_text(scratch.read(f"{UNITS}/{name}"))

    done = subprocess.run(
        [analyze, "verify", "--man=no", *(str(tmp_path / name) for name in (DEVICES_UNIT, SERVICES_UNIT))],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stderr, done.returncode) == ("", 0)


def test_tunnels_with_several_segments_are_watched_from_the_apply_on(bench: Bench) -> None:
    case, scratch = bench("boot_unit-watch")
    run(case, scratch)

    watch = Unit(scratch.read(f"{UNITS}/{WATCH_UNIT}").splitlines())

    assert {"watch", PLAN_FILE} <= watch.words("ExecStart")
    assert watch.words("PartOf") == {"ovs-vswitchd.service"}
    assert watch.words("After") >= {SERVICES_UNIT, *SWITCH}
    assert f"systemctl enable --now {WATCH_UNIT}" in scratch.commands()


def test_a_plan_without_such_tunnels_has_nothing_to_watch(bench: Bench) -> None:
    _, scratch = applied(bench)

    with pytest.raises(FileNotFoundError):
        scratch.read(f"{UNITS}/{WATCH_UNIT}")
