"""Kernel modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cases import RELEASE, Case
from contract import differences, refusals, run
from scratch import ScratchMachine

from nfvhost.errors import ApplyError
from nfvhost.model.profile import Role

Bench = Callable[[str], tuple[Case, ScratchMachine]]
BUILT_IN = f"/lib/modules/{RELEASE}/modules.builtin"
DEP = f"/lib/modules/{RELEASE}/modules.dep"


def test_the_modules_of_the_plan_are_loaded_now_and_at_each_boot(bench: Bench) -> None:
    case, scratch = bench("modules")

    run(case, scratch)

    assert scratch.read("/etc/modules-load.d/nfvhost.conf").splitlines()[1:] == ["vfio-pci", "vhost_vdpa"]
    assert scratch.commands() == ["modprobe vfio-pci", "modprobe vhost_vdpa"]


def test_a_module_that_is_built_in_needs_nothing(bench: Bench) -> None:
    case, scratch = bench("modules")
    scratch.put(BUILT_IN, "kernel/drivers/vfio/pci/vfio-pci.ko\nkernel/drivers/vhost/vhost_vdpa.ko\n")
    scratch.put(DEP, "")

    assert differences(case, scratch) == ()
    assert refusals(case, scratch) == []


def test_a_module_of_a_kernel_without_a_list_of_its_own_is_built_in_where_the_kernel_shows_it(bench: Bench) -> None:
    case, scratch = bench("modules")
    for path in (BUILT_IN, DEP):
        (scratch.tree / path.strip("/")).unlink()
    scratch.put("/sys/module/vfio_pci/", "")
    scratch.put("/sys/module/vhost_vdpa/", "")

    assert differences(case, scratch) == ()
    assert refusals(case, scratch) == []


def test_a_kernel_driver_that_a_nic_is_given_back_to_is_a_module_too(bench: Bench) -> None:
    case, scratch = bench("modules")
    plan = replace(case.plan, nics=(replace(case.plan.nics[0], driver="i40e"),))

    assert [change.key for change in differences(case, scratch, plan=plan)] == ["/etc/modules-load.d/nfvhost.conf"]


def test_what_makes_vdpa_devices_of_virtio_cards_is_named_once_by_the_driver_of_their_vfs(bench: Bench) -> None:
    case, scratch = bench("modules")
    port = next(nic for nic in case.plan.nics if nic.role is Role.VDPA)
    plan = replace(case.plan, nics=(replace(port, current_driver="virtio-pci", vf_driver="vp-vdpa"),))

    changes = differences(case, scratch, plan=plan)

    assert [change.key for change in changes] == ["/etc/modules-load.d/nfvhost.conf", "vhost_vdpa", "vp-vdpa"]


def test_a_module_that_is_loaded_already_is_loaded_at_each_boot_alone(bench: Bench) -> None:
    case, scratch = bench("modules")
    scratch.put("/proc/modules", "vfio_pci 1 0 - Live 0x0\nvhost_vdpa 1 0 - Live 0x0\n")

    run(case, scratch)

    assert scratch.commands() == []


def test_a_module_that_the_kernel_lacks_is_refused(bench: Bench) -> None:
    case, scratch = bench("modules")
    scratch.put(DEP, "kernel/drivers/vhost/vhost_vdpa.ko.zst: x\n")

    (refusal,) = refusals(case, scratch)

    assert f"the kernel {RELEASE} has no module vfio-pci" in refusal


def test_a_kernel_whose_modules_were_removed_by_an_upgrade_asks_for_a_reboot(bench: Bench) -> None:
    case, scratch = bench("modules")
    (scratch.tree / DEP.strip("/")).unlink()

    (refusal,) = refusals(case, scratch)

    assert "reboot into the kernel that is installed" in refusal


def test_a_container_cannot_load_modules(bench: Bench) -> None:
    case, scratch = bench("modules")

    assert ["docker container" in one for one in refusals(case, scratch, container="docker")] == [True]


def test_a_module_that_does_not_stay_is_a_failure_although_modprobe_was_content(bench: Bench) -> None:
    case, scratch = bench("modules")
    before = scratch.snapshot()
    (scratch.programs / "modprobe").write_text("#!/bin/sh\n")

    with pytest.raises(ApplyError) as caught:
        run(case, scratch)

    assert any(problem.where == "modules: vfio-pci" for problem in caught.value.problems)
    assert scratch.snapshot() == before


def test_a_plan_without_modules_takes_our_file_away_and_unloads_nothing(bench: Bench) -> None:
    case, scratch = bench("modules")
    run(case, scratch)
    loaded = scratch.read("/proc/modules")

    run(case, scratch, plan=replace(case.plan, nics=()))

    assert not (scratch.tree / "etc/modules-load.d/nfvhost.conf").exists()
    assert scratch.read("/proc/modules") == loaded


def test_a_module_that_is_in_use_by_now_stays_and_is_named(bench: Bench) -> None:
    case, scratch = bench("modules")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    (scratch.programs / "modprobe").write_text("#!/bin/sh\necho Module vfio_pci is in use. >&2\nexit 1\n")

    left = case.resource.rollback(machine, state, changes)

    assert {problem.where for problem in left} == {"modules: vfio-pci", "modules: vhost_vdpa"}
    assert not (scratch.tree / "etc/modules-load.d/nfvhost.conf").exists()


def test_a_module_whose_driver_has_devices_by_now_stays_so_that_they_keep_it(bench: Bench) -> None:
    case, scratch = bench("modules")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    drivers = scratch.tree / "sys/module/vfio_pci/drivers"
    scratch.put("/sys/bus/pci/drivers/vfio-pci/bind", "")
    scratch.put("/sys/devices/pci0000:00/0000:10:00.0/vendor", "0x8086\n")
    (scratch.tree / "sys/bus/pci/drivers/vfio-pci/0000:10:00.0").symlink_to(
        "../../../../devices/pci0000:00/0000:10:00.0"
    )
    drivers.mkdir(parents=True)
    (drivers / "pci:vfio-pci").symlink_to("../../../bus/pci/drivers/vfio-pci")

    (left,) = case.resource.rollback(machine, state, changes)

    assert left.where == "modules: vfio-pci"
    assert "0000:10:00.0 is bound to its driver" in left.what
    assert scratch.commands()[2:] == ["modprobe -r vhost_vdpa"]
