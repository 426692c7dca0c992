"""Interrupts of devices."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cpu_kernel
import pytest
from cases import Case
from contract import differences, drifts, refusals, remarks, run
from scratch import ScratchMachine, ScratchRoot

from nfvhost.access.cpulist import grouped_mask
from nfvhost.access.interrupts import came_in, interrupts_on
from nfvhost.errors import ApplyError
from nfvhost.model.change import Change
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.profile import Isolation
from nfvhost.resources.irq import Irq, State
from nfvhost.resources.irqbalance import stated_ban

Bench = Callable[[str], tuple[Case, ScratchMachine]]
DROP_IN = "/etc/systemd/system/irqbalance.service.d/zz-nfvhost.conf"
SETTINGS = "/etc/nfvhost/irqbalance.env"


def affinity(scratch: ScratchMachine, number: int) -> str:
    """Where an interrupt may come in."""
    return scratch.read(f"/proc/irq/{number}/smp_affinity_list").strip()


def applied(case: Case, scratch: ScratchMachine) -> tuple[State, tuple[Change, ...]]:
    """What a journal would hold of an apply."""
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    return case.resource.image(state, changes), changes


@pytest.mark.field_failure(20)
def test_row_20_irqbalance_is_told_all_isolated_cpus_and_those_that_others_banned(bench: Bench) -> None:
    case, scratch = bench("irq-irqbalance")
    scratch.put("/sys/devices/system/cpu/isolated", "6\n")

    run(case, scratch)

    # 7 is Debian's file's, 6 isolcpus=, 1-2 nohz_full=, 1-3 and 5-7 the plan's.
    assert "IRQBALANCE_BANNED_CPULIST=1-3,5-7\n" in scratch.read(SETTINGS)
    assert "IRQBALANCE_BANNED_CPUS=\n" in scratch.read(SETTINGS)
    assert f"EnvironmentFile=-{SETTINGS}" in scratch.read(DROP_IN)
    assert scratch.read("/etc/default/irqbalance") == "IRQBALANCE_BANNED_CPULIST=7\n"
    assert scratch.commands() == ["systemctl daemon-reload", "systemctl try-restart irqbalance.service"]


@pytest.mark.field_failure(20)
def test_row_20_an_old_irqbalance_gets_a_mask_in_groups_of_32_bits(bench: Bench) -> None:
    case, scratch = bench("irq-irqbalance")
    scratch.put("/usr/sbin/irqbalance", "\x7fELF IRQBALANCE_BANNED_CPUS")

    run(case, scratch)

    assert scratch.read(SETTINGS).splitlines()[1:] == ["IRQBALANCE_BANNED_CPUS=ee"]


def test_masks_are_written_in_groups_of_32_bits() -> None:
    masks = {str(cpus): grouped_mask(cpus) for cpus in map(CpuSet.parse, ("0", "31", "32", "4,36-39,64"))}
    assert masks == {"0": "1", "31": "80000000", "32": "1,00000000", "4,36-39,64": "1,000000f0,00000010"}


@pytest.mark.field_failure(20)
def test_row_20_interrupts_leave_isolated_cpus_for_those_of_their_node(bench: Bench) -> None:
    case, scratch = bench("irq")

    run(case, scratch)

    assert {number: affinity(scratch, number) for number in (0, 9, 40, 41, 50, 51)} == {
        0: "0",
        9: "0,4",
        40: "0",
        41: "4",
        50: "2-3",  # the kernel's own
        51: "0-7",  # nobody handles it
    }
    assert scratch.read("/proc/irq/default_smp_affinity") == "11\n"


def test_changes_name_no_interrupt_by_its_number(bench: Bench) -> None:
    case, scratch = bench("irq")

    changes = {change.key: (change.before, change.after) for change in differences(case, scratch)}

    assert changes == {"default affinity": ("0-7", "0,4"), "affinities": ("3 on CPUs 1-3,5-7", "none")}


@pytest.mark.parametrize("key", ["irqbalance", "default affinity", "affinities"])
def test_each_change_can_be_made_by_itself(bench: Bench, key: str) -> None:
    case, scratch = bench("irq-irqbalance")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = {change.key: change for change in case.resource.diff(state, case.plan)}

    case.resource.apply(scratch.machine(), state, (changes.pop(key),))

    assert {change.key for change in differences(case, scratch)} == set(changes)


def test_a_managed_interrupt_is_told_and_is_no_failure(bench: Bench) -> None:
    case, scratch = bench("irq")

    run(case, scratch)

    (remark,) = remarks(case, scratch)
    assert "the kernel alone places 1 interrupts of isolated CPUs: 50 nvme0q3 (2-3)" in remark
    assert "isolcpus=managed_irq" in remark
    assert drifts(case, scratch) == ()


def test_a_managed_interrupt_that_comes_in_on_the_host_is_nobodys_trouble(bench: Bench) -> None:
    case, scratch = bench("irq")
    scratch.put("/proc/irq/50/effective_affinity_list", "0\n")

    assert remarks(case, scratch) == []


def test_an_interrupt_that_only_a_write_shows_to_be_managed_is_left(bench: Bench) -> None:
    # Its device got its vectors anew between read and write.
    case, scratch = bench("irq")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    cpu_kernel.managed(scratch, 40)

    case.resource.apply(scratch.machine(), state, changes)

    assert (affinity(scratch, 40), affinity(scratch, 9)) == ("0-7", "0,4")


def test_an_interrupt_that_goes_between_read_and_write_is_no_failure(bench: Bench) -> None:
    case, scratch = bench("irq")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    (scratch.tree / "proc/irq/40/smp_affinity_list").unlink()

    case.resource.apply(scratch.machine(), state, changes)

    assert affinity(scratch, 41) == "4"


def test_a_node_without_a_free_vector_gives_the_interrupt_to_another(bench: Bench) -> None:
    case, scratch = bench("irq")

    def full(tree: Path, path: str, text: str, before: str | None) -> None:
        if path == "/proc/irq/40/smp_affinity_list" and text == "0":
            (tree / path.strip("/")).write_text(before or "")
            raise OSError(errno.ENOSPC, "No space left on device")

    scratch.kernel.reactions.insert(0, full)

    run(case, scratch)

    assert affinity(scratch, 40) == "0,4"


def test_host_cpus_without_any_free_vector_are_a_failure_with_a_way_out(bench: Bench) -> None:
    case, scratch = bench("irq")
    before = scratch.snapshot()

    def full(tree: Path, path: str, _text: str, before: str | None) -> None:
        if path == "/proc/irq/40/smp_affinity_list":
            (tree / path.strip("/")).write_text(before or "")
            raise OSError(errno.ENOSPC, "No space left on device")

    scratch.kernel.reactions.insert(0, full)

    with pytest.raises(ApplyError) as caught:
        run(case, scratch)

    assert any("CPUs 0,4 have no vector left" in problem.what for problem in caught.value.problems)
    assert scratch.snapshot() == before


@pytest.mark.field_failure(19, 20)
def test_rows_19_and_20_verify_sees_that_someone_moved_an_interrupt_back(bench: Bench) -> None:
    case, scratch = bench("irq")
    run(case, scratch)
    scratch.put("/proc/irq/40/smp_affinity_list", "2\n")

    (drift,) = drifts(case, scratch)

    assert (drift.key, drift.planned, drift.actual) == ("affinities", "none", "1 on CPU 2")
    assert drift.hint is not None
    assert "40 i40e-eth0-TxRx-0 (2)" in drift.hint


@pytest.mark.field_failure(20)
def test_row_20_verify_sees_that_irqbalance_runs_with_another_list(bench: Bench) -> None:
    case, scratch = bench("irq-irqbalance")
    run(case, scratch)
    scratch.put("/proc/700/environ", "IRQBALANCE_BANNED_CPULIST=7\0")

    (drift,) = drifts(case, scratch)

    assert (drift.key, drift.planned, drift.actual) == ("irqbalance", "1-3,5-7", "7")
    assert "systemctl cat irqbalance" in (drift.hint or "")


@pytest.mark.field_failure(20)
def test_row_20_verify_counts_what_comes_in_on_isolated_cpus_although_it_may_not(bench: Bench) -> None:
    case, scratch = bench("irq")
    run(case, scratch)
    looks = iter(range(3))

    class Counting(ScratchRoot):
        def read_bytes(self, path: str) -> bytes | None:
            if path != "/proc/interrupts":
                return super().read_bytes(path)
            number = next(looks)
            head = "     " + "".join(f"CPU{cpu}  " for cpu in range(8))
            rows = {"  9": (number, 4), " 40": (number, 2), " 50": (number, 3), "LOC": (number, 2)}
            lines = [
                f"{name}: " + " ".join(str(count if cpu == at else 0) for cpu in range(8)) + "  MSI  x"
                for name, (count, at) in rows.items()
            ]
            return "\n".join([head, *lines]).encode()

    machine = replace(scratch.machine(), root=Counting(scratch.tree, scratch.kernel))

    # 9 came in on a host CPU, 50 is the kernel's own, LOC is no device's.
    (drift,) = case.resource.verify(machine, case.plan)

    assert drift.actual == "40 i40e-eth0-TxRx-0 came in on CPU 2"


def test_only_rows_of_devices_count_and_a_new_one_counts_from_zero() -> None:
    head = "     CPU0 CPU1"
    before = (head, " 9:  1  1  IO-APIC  acpi", "RES:  0  0  Rescheduling interrupts")
    after = (head, " 9:  2  1  IO-APIC  acpi", "45:  0  3  PCI-MSI  eth0", "RES:  0  9  Rescheduling interrupts")

    assert came_in(before, after, CpuSet.parse("1")) == {45: CpuSet.parse("1")}
    assert came_in(before, before, CpuSet.parse("0-1")) == {}


def test_a_list_of_cpus_that_leaves_irqbalance_none_is_refused(bench: Bench) -> None:
    case, scratch = bench("irq-irqbalance")
    scratch.put("/etc/default/irqbalance", "IRQBALANCE_BANNED_CPUS=11\n")

    (refusal,) = refusals(case, scratch)

    assert "no CPU would be left to it; /etc/default/irqbalance bans CPUs 0,4" in refusal


def test_a_drop_in_that_is_read_after_ours_is_named(bench: Bench) -> None:
    case, scratch = bench("irq-irqbalance")
    scratch.put(
        "/etc/systemd/system/irqbalance.service.d/zzz.conf", "[Service]\nEnvironmentFile=/etc/site/irqbalance\n"
    )

    (refusal,) = refusals(case, scratch)

    assert "irqbalance.service.d/zzz.conf is read after" in refusal


def test_an_irqbalance_without_systemd_is_told_what_to_do_by_hand(bench: Bench) -> None:
    case, scratch = bench("irq-irqbalance")
    (scratch.tree / "run/systemd/system").rmdir()

    (refusal,) = refusals(case, scratch)

    assert "may use CPUs 1-3,5-6" in refusal
    assert "IRQBALANCE_BANNED_CPULIST=1-3,5-7" in refusal


def test_without_irqbalance_no_file_of_it_is_made(bench: Bench) -> None:
    case, scratch = bench("irq")

    run(case, scratch)

    assert not (scratch.tree / DROP_IN.strip("/")).exists()


def test_an_irqbalance_that_does_not_run_is_configured_for_when_it_does(bench: Bench) -> None:
    case, scratch = bench("irq-irqbalance")
    (scratch.tree / "proc/700/comm").unlink()

    run(case, scratch)

    assert (scratch.tree / SETTINGS.strip("/")).exists()
    assert drifts(case, scratch) == ()


def test_a_container_is_refused(bench: Bench) -> None:
    case, scratch = bench("irq")

    assert ["docker container" in one for one in refusals(case, scratch, container="docker")] == [True]


def test_without_isolation_nothing_is_moved_and_our_files_go(bench: Bench) -> None:
    case, scratch = bench("irq-irqbalance")
    run(case, scratch)
    moved = affinity(scratch, 40)

    run(case, scratch, plan=replace(case.plan, isolation=Isolation.NONE))

    assert not (scratch.tree / DROP_IN.strip("/")).exists()
    assert not (scratch.tree / SETTINGS.strip("/")).exists()
    assert affinity(scratch, 40) == moved
    assert "CPULIST=7\0" in scratch.read("/proc/700/environ")


def test_a_rollback_moves_back_what_irqbalance_has_moved_among_the_hosts_cpus(bench: Bench) -> None:
    case, scratch = bench("irq")
    kept, changes = applied(case, scratch)
    scratch.put("/proc/irq/9/smp_affinity_list", "4\n")

    assert case.resource.foreign(scratch.machine(), kept, changes) == ()
    assert case.resource.rollback(scratch.machine(), kept, changes) == ()

    assert affinity(scratch, 9) == "0-7"


def test_a_rollback_leaves_what_someone_else_moved_onto_isolated_cpus(bench: Bench) -> None:
    case, scratch = bench("irq")
    kept, changes = applied(case, scratch)
    scratch.put("/proc/irq/40/smp_affinity_list", "2\n")

    (left,) = case.resource.rollback(scratch.machine(), kept, changes)

    assert left.where == "irq: affinities"
    assert "40 i40e-eth0-TxRx-0 (2)" in left.what
    assert (affinity(scratch, 40), affinity(scratch, 41)) == ("2", "4-7")
    assert case.resource.rollback(scratch.machine(), kept, changes, force=True) == ()
    assert affinity(scratch, 40) == "0-7"


def test_a_rollback_after_a_boot_finds_interrupts_by_their_handlers_and_leaves_strangers(bench: Bench) -> None:
    case, scratch = bench("irq")
    kept, changes = applied(case, scratch)
    # After the boot 40 is another device's, and i40e-eth0-TxRx-0 has become 60.
    scratch.put("/sys/kernel/irq/40/actions", "megasas0\n")
    for path, text in cpu_kernel.interrupt_files(60, "i40e-eth0-TxRx-0", "0", effective="0", node=0).items():
        scratch.put(path, text)

    assert case.resource.rollback(scratch.machine(), kept, changes) == ()

    assert {number: affinity(scratch, number) for number in (9, 40, 41, 60)} == {
        9: "0-7",
        40: "0",
        41: "4-7",
        60: "0-7",
    }


def test_the_doctor_and_the_resource_read_the_same_ban(bench: Bench) -> None:
    case, scratch = bench("irq-irqbalance")
    root = scratch.machine().root
    before = stated_ban(root)
    run(case, scratch)
    after = stated_ban(root)

    assert before is not None
    assert (before.path, str(before.cpus)) == ("/etc/default/irqbalance", "7")
    assert after is not None
    assert (after.path, str(after.cpus)) == (SETTINGS, "1-3,5-7")


def test_interrupts_that_spare_the_cpus_are_not_looked_into(bench: Bench) -> None:
    case, scratch = bench("irq")
    del case

    assert [one.number for one in interrupts_on(scratch.machine().root, CpuSet.parse("2"))] == [9, 40, 50]


def test_a_plan_that_isolates_no_cpu_reads_no_interrupt(bench: Bench) -> None:
    case, scratch = bench("irq")

    assert Irq().read(scratch.machine(), replace(case.plan, isolation=Isolation.NONE)) == State()
