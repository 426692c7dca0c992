"""The IOMMU, and vfio without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pci_machines
import pytest
from cases import PORTS_PLAN, Case
from contract import differences, drifts, refusals, remarks, run
from pci_machines import HOST, X710
from scratch import ScratchMachine

from nfvhost.model.change import Activation, Disruption
from nfvhost.model.plan import Plan
from nfvhost.model.report import Outcome
from nfvhost.resources import Unmet
from nfvhost.resources.driver_binding import DRIVER_BINDING
from nfvhost.resources.iommu import Iommu

Bench = Callable[[str], tuple[Case, ScratchMachine]]
FILE = "/etc/modprobe.d/nfvhost-vfio.conf"
SWITCH = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
ARGUMENTS = ("intel_iommu=on", "iommu=pt")
# As the profile says it, and as it is without that.
TOLD = replace(PORTS_PLAN, nics=PORTS_PLAN.nics[:1], kernel_args=ARGUMENTS)
UNSAFE = replace(TOLD, kernel_args=(), unsafe_no_iommu=True)


def without(tmp_path: Path, plan: Plan) -> tuple[Case, ScratchMachine]:
    """The machine without an IOMMU."""
    case = Case(
        name="iommu",
        resource=Iommu(settle_s=0.0),
        plan=plan,
        files={},
        host=HOST,
        prepare=pci_machines.booted_without_iommu,
    )
    return case, case.machine(tmp_path / "without")


def booted_with(scratch: ScratchMachine, *arguments: str) -> None:
    scratch.put("/proc/cmdline", f"root=/dev/sda1 ro {' '.join(arguments)}\n")


def test_where_groups_are_there_is_nothing_to_say(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    there = replace(case, resource=Iommu(settle_s=0.0), plan=replace(case.plan, kernel_args=ARGUMENTS))

    assert differences(there, scratch) == ()
    assert refusals(there, scratch) == []
    assert drifts(there, scratch) == ()
    assert remarks(there, scratch) == []


def test_a_plan_that_gives_nothing_away_needs_no_iommu(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, replace(TOLD, nics=()))

    assert refusals(case, scratch) == []
    assert drifts(case, scratch) == ()


def test_until_the_kernel_is_told_the_arguments_are_what_is_missing(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, TOLD)

    state = case.resource.read(scratch.machine(), case.plan)
    (problem,) = case.resource.check(state, case.plan, HOST)

    assert isinstance(problem, Unmet)
    assert (problem.where, problem.met_by) == ("iommu: groups", "kernel_cmdline")
    assert [(drift.key, drift.pending) for drift in drifts(case, scratch)] == [("groups", Activation.REBOOT)]


def test_a_kernel_that_was_told_and_has_no_groups_points_at_the_firmware(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, TOLD)
    booted_with(scratch, *ARGUMENTS)

    (problem,) = refusals(case, scratch)

    assert f"the kernel has no IOMMU groups, and {X710} cannot be given away so" in problem
    assert "turn it on in the firmware: VT-d (Intel), AMD-Vi or IOMMU besides SVM (AMD)" in problem
    assert [(drift.key, drift.pending) for drift in drifts(case, scratch)] == [("groups", None)]


def test_a_firmware_that_announces_it_points_at_dmesg(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, TOLD)
    booted_with(scratch, *ARGUMENTS)
    scratch.put("/sys/firmware/acpi/tables/DMAR", "")

    (problem,) = refusals(case, scratch)

    assert "the firmware announces it (DMAR): dmesg | grep" in problem


def test_a_kernel_that_was_told_to_do_without_is_told_so(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, replace(TOLD, kernel_args=()))
    booted_with(scratch, "intel_iommu=off")
    scratch.put("/sys/firmware/acpi/tables/DMAR", "")

    (problem,) = refusals(case, scratch, virtualization="kvm")

    assert "this kernel was told intel_iommu=off: take it out" in problem


def test_a_virtual_machine_whose_iommu_is_there_and_off_is_told_the_argument(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, replace(TOLD, kernel_args=()))
    scratch.put("/sys/firmware/acpi/tables/DMAR", "")

    (problem,) = refusals(case, scratch, virtualization="kvm")

    assert "the firmware announces it (DMAR): boot with intel_iommu=on" in problem


@pytest.mark.field_failure(34)
def test_row_34_a_virtual_machine_is_told_to_ask_its_hypervisor(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, replace(TOLD, kernel_args=()))

    (problem,) = refusals(case, scratch, virtualization="kvm")

    assert "give this virtual machine (kvm) a virtual IOMMU" in problem


@pytest.mark.field_failure(6)
def test_row_6_a_firmware_without_an_iommu_is_told_before_the_reboot_that_would_not_help(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, TOLD)
    scratch.put("/sys/firmware/acpi/tables/APIC", "")

    (remark,) = remarks(case, scratch)

    assert "the firmware announces no IOMMU" in remark
    assert "on the way through that reboot" in remark


def test_a_function_that_the_iommu_does_not_reach_is_named(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    (scratch.tree / "sys/devices/pci0000:00" / X710 / "iommu_group").unlink()
    there = replace(case, resource=Iommu(settle_s=0.0))

    (problem,) = refusals(there, scratch)

    assert problem.startswith(f"iommu: {X710}: is in no IOMMU group, while other functions are")
    assert [drift.key for drift in drifts(there, scratch)] == [X710]
    # Whoever binds it leaves the saying to iommu.
    state = DRIVER_BINDING.read(scratch.machine(), case.plan)
    (unmet,) = DRIVER_BINDING.check(state, case.plan, HOST)
    assert isinstance(unmet, Unmet)
    assert unmet.met_by == "iommu"


def test_groups_that_vfio_made_itself_are_no_iommu(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, UNSAFE)
    run(case, scratch)
    binding = replace(case, resource=DRIVER_BINDING)
    assert run(binding, scratch) == [Outcome.APPLIED]
    assert (scratch.tree / "sys/devices/pci0000:00" / X710 / "iommu_group").is_symlink()
    booted_with(scratch, *ARGUMENTS)

    (problem,) = refusals(replace(case, plan=TOLD), scratch)

    assert "the kernel has no IOMMU groups" in problem
    # And where the profile says so, all stays as it is.
    assert differences(case, scratch) == ()
    assert drifts(case, scratch) == ()
    assert drifts(binding, scratch) == ()


def test_the_unsafe_mode_is_set_for_now_and_each_boot_and_called_unsafe(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, UNSAFE)

    (remark,) = remarks(case, scratch)
    outcomes = run(case, scratch)

    assert outcomes == [Outcome.APPLIED, Outcome.APPLIED]
    assert scratch.read(FILE).splitlines()[1:] == ["options vfio enable_unsafe_noiommu_mode=1"]
    assert scratch.read(SWITCH) == "Y\n"
    assert "UNSAFE" in remark
    assert "read and write all memory of this machine" in remark
    assert "tainted" in remark


def test_without_the_line_in_the_profile_the_mode_is_never_set(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, TOLD)

    assert differences(case, scratch) == ()
    assert remarks(case, scratch) == []


def test_the_mode_is_not_set_where_an_iommu_is_on(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    there = replace(case, resource=Iommu(settle_s=0.0), plan=replace(case.plan, unsafe_no_iommu=True))

    assert differences(there, scratch) == ()
    assert remarks(there, scratch) == []


def test_vfs_for_guests_need_an_iommu_whatever_the_profile_says(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, replace(PORTS_PLAN, unsafe_no_iommu=True))

    found = refusals(case, scratch)

    assert len(found) == 1
    assert "0000:21:00.0, 0000:22:00.0 cannot be given away so" in found[0]


def test_a_plan_without_it_takes_the_mode_away_again(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, UNSAFE)
    before = scratch.snapshot()
    run(case, scratch)
    safe = replace(UNSAFE, unsafe_no_iommu=False, nics=())

    changes = differences(case, scratch, plan=safe)
    run(case, scratch, plan=safe)

    assert [(change.key, change.before, change.after) for change in changes] == [
        ("enable_unsafe_noiommu_mode", "Y", "N"),
        (FILE, "options vfio enable_unsafe_noiommu_mode=1", None),
    ]
    assert {change.disruption for change in changes} == {Disruption.NONE}
    after = scratch.snapshot()
    assert {path for path in after if path not in before} == {"/etc/modprobe.d"}
    assert {path for path in before if after[path] != before[path]} == set()


def test_a_mode_that_someone_else_has_set_is_left_alone(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, replace(TOLD, nics=()))
    scratch.put(SWITCH, "Y\n")

    assert differences(case, scratch) == ()


def test_a_vfio_that_is_not_loaded_is_for_modules_to_bring(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, UNSAFE)
    for path in (SWITCH, SWITCH.rpartition("/")[0], "/sys/module/vfio"):
        place = scratch.tree / path.strip("/")
        place.rmdir() if place.is_dir() else place.unlink()

    state = case.resource.read(scratch.machine(), case.plan)
    (problem,) = case.resource.check(state, case.plan, HOST)

    assert isinstance(problem, Unmet)
    assert problem.met_by == "modules"
    assert [change.key for change in differences(case, scratch)] == [FILE, "enable_unsafe_noiommu_mode"]


def test_a_kernel_without_the_mode_is_said_to_have_none(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, UNSAFE)
    (scratch.tree / SWITCH.strip("/")).unlink()

    (problem,) = refusals(case, scratch)

    assert "CONFIG_VFIO_NOIOMMU is off" in problem


@pytest.mark.field_failure(34)
def test_row_34_a_read_only_sys_is_said_before_the_mode_is_tried(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, UNSAFE)
    scratch.put("/proc/self/mounts", "sysfs /sys sysfs ro,relatime 0 0\n")

    (problem,) = refusals(case, scratch, container="lxc")

    assert "the /sys of this lxc container is read-only" in problem


def test_after_a_reboot_with_the_module_gone_a_rollback_puts_the_file_back(tmp_path: Path) -> None:
    case, scratch = without(tmp_path, UNSAFE)
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    case.resource.apply(machine, state, changes)
    (scratch.tree / SWITCH.strip("/")).unlink()

    assert case.resource.rollback(machine, state, changes) == ()

    assert not (scratch.tree / FILE.strip("/")).exists()
