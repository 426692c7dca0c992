"""Arguments of the kernel, loader by loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cases import ARGUMENTS, Case
from contract import differences, drifts, refusals, remarks, run
from scratch import ScratchMachine

from nfvhost.errors import PreconditionError
from nfvhost.model.change import Activation

Bench = Callable[[str], tuple[Case, ScratchMachine]]
DROP_IN = "/etc/default/grub.d/zz-nfvhost.cfg"
MENU = "/boot/grub/grub.cfg"
LOADERS = ["grub", "bls", "systemd-boot"]
GRUB = "kernel_cmdline-grub"


def menu(scratch: ScratchMachine) -> list[str]:
    return [line.strip() for line in scratch.read(MENU).splitlines() if "linux\t" in line]


def test_grubs_menu_holds_everyones_arguments_and_ours_last_and_recovery_and_other_systems_do_not(bench: Bench) -> None:
    case, scratch = bench(GRUB)

    run(case, scratch)

    normal, recovery, other = menu(scratch)
    assert normal.endswith(f"ro net.ifnames=0 quiet crashkernel=256M {' '.join(ARGUMENTS)}")
    assert recovery.endswith("single net.ifnames=0")
    assert other.endswith("root=/dev/sdb1")


@pytest.mark.field_failure(14)
@pytest.mark.parametrize("loader", LOADERS)
def test_row_14_after_the_boot_nothing_is_pending(bench: Bench, loader: str) -> None:
    case, scratch = bench(f"kernel_cmdline-{loader}")
    run(case, scratch)
    waiting = drifts(case, scratch)
    assert {drift.pending for drift in waiting} == {Activation.REBOOT}
    assert [drift.planned for drift in waiting] == list(ARGUMENTS)

    scratch.put("/proc/cmdline", f"BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro {' '.join(ARGUMENTS)}\n")

    assert drifts(case, scratch) == ()


@pytest.mark.parametrize("loader", LOADERS)
def test_another_plan_replaces_ours_and_one_without_arguments_takes_them_away(bench: Bench, loader: str) -> None:
    case, scratch = bench(f"kernel_cmdline-{loader}")
    before = scratch.snapshot()
    run(case, scratch)

    run(case, scratch, plan=replace(case.plan, kernel_args=("iommu=pt", "isolcpus=2-3")))
    assert differences(case, scratch)[0].before == "iommu=pt isolcpus=2-3"
    run(case, scratch, plan=replace(case.plan, kernel_args=()))

    after = scratch.snapshot()
    kept = {path: after[path] for path in before}
    assert {path: content for path, (_, content) in kept.items()} == {
        path: content for path, (_, content) in before.items()
    }


@pytest.mark.parametrize("loader", LOADERS)
def test_a_plan_without_arguments_asks_for_nothing(bench: Bench, loader: str) -> None:
    case, scratch = bench(f"kernel_cmdline-{loader}")
    without = replace(case, plan=replace(case.plan, kernel_args=()))

    assert differences(without, scratch) == ()
    assert refusals(without, scratch, container="docker") == []


@pytest.mark.parametrize(
    ("loader", "file", "text"),
    [
        ("grub", "/etc/default/grub", "GRUB_CMDLINE_LINUX='isolcpus=6-7'\n"),
        ("grub", "/etc/default/grub.d/50-a.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet isolcpus=6-7"\n'),
        ("bls", "/boot/loader/entries/a.conf", "title x\noptions root=/dev/sda1 isolcpus=6-7\n"),
        ("bls", "/boot/loader/entries/a.conf", "title x\noptions $kernelopts\n"),
        ("systemd-boot", "/etc/kernel/cmdline", "root=/dev/sda1 isolcpus=6-7\n"),
    ],
)
def test_a_foreign_value_of_the_same_argument_is_refused_by_file_and_value(
    bench: Bench, loader: str, file: str, text: str
) -> None:
    case, scratch = bench(f"kernel_cmdline-{loader}")
    scratch.put(file, text)
    if "$" in text:
        scratch.put("/boot/grub2/grubenv", "kernelopts=root=/dev/sda1 isolcpus=6-7\n")

    (refusal,) = refusals(case, scratch)
    assert f"isolcpus: {file} says isolcpus=6-7, planned is isolcpus=managed_irq,domain,1-3,5-7" in refusal
    assert f"take it out of {file}" in refusal


@pytest.mark.parametrize("theirs", ["hugepages=64", "default_hugepagesz=1G hugepages=4", "hugepagesz=2M"])
def test_counts_of_hugepages_are_one_whole(bench: Bench, theirs: str) -> None:
    case, scratch = bench(GRUB)
    scratch.put("/etc/default/grub.d/50-a.cfg", f'GRUB_CMDLINE_LINUX="{theirs}"\n')

    assert len(refusals(case, scratch)) == len(theirs.split())


def test_what_others_say_already_is_not_said_again(bench: Bench) -> None:
    case, scratch = bench(GRUB)
    pages = " ".join(argument for argument in ARGUMENTS if "page" in argument)
    scratch.put("/etc/default/grub.d/50-a.cfg", f'GRUB_CMDLINE_LINUX="{pages} iommu=pt,strict"\n')

    run(case, scratch)

    assert (
        scratch.read(DROP_IN)
        .splitlines()[-1]
        .endswith('{GRUB_CMDLINE_LINUX_DEFAULT} isolcpus=managed_irq,domain,1-3,5-7"')
    )
    assert {drift.pending for drift in drifts(case, scratch)} == {Activation.REBOOT}


@pytest.mark.field_failure(16)
def test_row_16_a_later_file_that_drops_ours_is_named_before_anything_is_written(bench: Bench) -> None:
    case, scratch = bench(GRUB)
    scratch.put("/etc/default/grub.d/zzz-cloud.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="console=ttyS0"\n')

    (refusal,) = refusals(case, scratch)
    assert "/etc/default/grub.d/zzz-cloud.cfg is read after it and drops what it says" in refusal
    with pytest.raises(PreconditionError):
        run(case, scratch)
    assert scratch.kernel.calls == []


@pytest.mark.field_failure(16)
def test_row_16_a_later_file_that_comes_after_the_apply_is_drift_once_the_menu_is_made_anew(bench: Bench) -> None:
    case, scratch = bench(GRUB)
    run(case, scratch)
    scratch.put("/etc/default/grub.d/zzz-cloud.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="console=ttyS0"\n')
    scratch.machine().check(["update-grub"], timeout_s=5)

    assert [drift.pending for drift in drifts(case, scratch)] == [None]


@pytest.mark.field_failure(15)
def test_row_15_a_menu_that_was_made_before_our_file_is_made_anew(bench: Bench) -> None:
    case, scratch = bench(GRUB)
    old = scratch.read(MENU)
    run(case, scratch)
    scratch.put(MENU, old)

    assert [change.key for change in differences(case, scratch)] == ["boot entries"]
    run(case, scratch)

    assert ARGUMENTS[-1] in menu(scratch)[0]


def test_files_that_only_sh_could_work_out_are_named_and_stop_nothing(bench: Bench) -> None:
    case, scratch = bench(GRUB)
    scratch.put("/etc/default/grub.d/50-a.cfg", 'if true; then GRUB_CMDLINE_LINUX_DEFAULT="$(echo nosplash)"; fi\n')

    assert refusals(case, scratch) == []
    assert any("/etc/default/grub.d/50-a.cfg" in remark for remark in remarks(case, scratch))
    run(case, scratch)
    assert f"nosplash crashkernel=256M {ARGUMENTS[0]}" in menu(scratch)[0]


@pytest.mark.parametrize(
    "argument",
    ["init=/tmp/evil", 'isolcpus=1"; touch /evil; "', "isolcpus=$(id)", "isolcpus=`id`", "nosmt", "iommu=a b"],
)
def test_a_plan_from_a_stranger_cannot_say_anything_else_to_the_kernel_or_to_a_shell(
    bench: Bench, argument: str
) -> None:
    case, scratch = bench(GRUB)
    strange = replace(case, plan=replace(case.plan, kernel_args=(argument,)))

    assert any("nfvhost sets no" in refusal for refusal in refusals(strange, scratch))
    state = case.resource.read(scratch.machine(), strange.plan)
    with pytest.raises(PreconditionError):
        case.resource.apply(scratch.machine(), state, case.resource.diff(state, strange.plan))
    assert scratch.kernel.calls == []


def test_a_container_is_told_whose_arguments_they_are(bench: Bench) -> None:
    case, scratch = bench(GRUB)

    assert any("docker container" in refusal for refusal in refusals(case, scratch, container="docker"))


@pytest.mark.parametrize(("loader", "program"), [("grub", "update-grub"), ("bls", "grubby")])
def test_a_missing_program_is_named(bench: Bench, loader: str, program: str) -> None:
    case, scratch = bench(f"kernel_cmdline-{loader}")
    (scratch.programs / program).unlink()

    assert any(f"{program} is not installed" in refusal for refusal in refusals(case, scratch))


def test_a_grub_that_reads_no_drop_ins_is_refused(bench: Bench) -> None:
    case, scratch = bench(GRUB)
    scratch.put("/usr/sbin/grub-mkconfig", ". /etc/default/grub\n")

    assert any("reads no drop-in files" in refusal for refusal in refusals(case, scratch))


def test_without_a_boot_loader_that_is_known_it_is_said(bench: Bench) -> None:
    case, scratch = bench(GRUB)
    for path in (MENU, "/etc/default/grub"):
        (scratch.tree / path.strip("/")).unlink()

    assert any("no boot loader is seen" in refusal for refusal in refusals(case, scratch))


@pytest.mark.field_failure(15)
def test_row_15_the_next_kernel_of_systemd_boot_gets_what_the_running_one_has_where_no_file_says(bench: Bench) -> None:
    case, scratch = bench("kernel_cmdline-systemd-boot")
    (scratch.tree / "etc/kernel/cmdline").unlink()

    run(case, scratch)

    assert scratch.read("/etc/kernel/cmdline") == f"root=/dev/sda1 ro quiet {' '.join(ARGUMENTS)}\n"


def test_a_file_that_someone_else_has_written_since_stays_unless_forced(bench: Bench) -> None:
    case, scratch = bench(GRUB)
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    scratch.put(DROP_IN, "# mine\n")

    assert [problem.where for problem in case.resource.foreign(machine, state, changes)] == [
        f"kernel_cmdline: {DROP_IN}"
    ]
    assert case.resource.rollback(machine, state, changes) != ()
    assert scratch.read(DROP_IN) == "# mine\n"
    assert case.resource.rollback(machine, state, changes, force=True) == ()
    assert not (scratch.tree / DROP_IN.strip("/")).exists()


@pytest.mark.parametrize("loader", LOADERS)
def test_no_argument_of_someone_else_is_kept_for_a_rollback(bench: Bench, loader: str) -> None:
    case, scratch = bench(f"kernel_cmdline-{loader}")
    scratch.put("/proc/cmdline", "root=/dev/sda1 rd.iscsi.password=secret\n")
    state = case.resource.read(scratch.machine(), case.plan)

    kept = case.resource.image(state, case.resource.diff(state, case.plan))

    assert (kept.foreign, kept.lines, kept.active) == ((), (), None)
    assert "secret" not in repr(kept)


def test_grubby_leaves_the_defaults_of_grub_alone_where_it_can_be_told_so(bench: Bench) -> None:
    case, scratch = bench("kernel_cmdline-bls")
    defaults = scratch.read("/etc/default/grub")

    run(case, scratch)

    assert scratch.commands() == [f"grubby --update-kernel=ALL --no-etc-grub-update --args={' '.join(ARGUMENTS)}"]
    assert scratch.read("/etc/default/grub") == defaults
    # The next kernel has them too.
    assert scratch.read("/etc/kernel/cmdline").split()[-len(ARGUMENTS) :] == list(ARGUMENTS)


def test_a_grubby_that_does_not_know_how_is_not_asked(bench: Bench) -> None:
    case, scratch = bench("kernel_cmdline-bls")
    scratch.put("/usr/sbin/grubby", "#!/bin/bash\n")

    run(case, scratch)

    assert scratch.commands() == [f"grubby --update-kernel=ALL --args={' '.join(ARGUMENTS)}"]


def test_entries_that_name_the_options_of_grubs_environment_keep_doing_so(bench: Bench) -> None:
    case, scratch = bench("kernel_cmdline-kernelopts")

    run(case, scratch)

    assert scratch.read("/boot/loader/entries/0123-5.14.0.conf").endswith("options $kernelopts\n")
    assert f"kernelopts=root=/dev/sda1 ro {' '.join(ARGUMENTS)}\n" in scratch.read("/boot/grub2/grubenv")
    assert differences(case, scratch) == ()


@pytest.mark.field_failure(15)
def test_row_15_a_file_for_the_next_kernel_that_lacks_ours_is_a_difference(bench: Bench) -> None:
    case, scratch = bench("kernel_cmdline-bls")
    run(case, scratch)
    scratch.put("/etc/kernel/cmdline", "root=/dev/sda1 ro\n")

    assert differences(case, scratch) != ()
    run(case, scratch)
    assert scratch.read("/etc/kernel/cmdline") == f"root=/dev/sda1 ro {' '.join(ARGUMENTS)}\n"
