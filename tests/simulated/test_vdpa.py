"""vDPA devices: on which VF, for whom, and how much memory their guests may pin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sriov_kernel
from cases import Case
from contract import differences, drifts, refusals, remarks, run
from scratch import ScratchMachine
from sriov_kernel import HOST, MLX5, hold, kernel_of, vdpa_driver, vf_of

from nfvhost.errors import ApplyError, PreconditionError
from nfvhost.model.pci import PciAddress
from nfvhost.resources import Unmet

Bench = Callable[[str], tuple[Case, ScratchMachine]]
KEYS = tuple(f"{MLX5} vf {number} vdpa" for number in range(2))
NAMES = tuple(f"vdpa-{vf_of(MLX5, number)}" for number in range(2))


def configs(scratch: ScratchMachine) -> dict[str, tuple[str | None, int | None, int | None]]:
    """Name -> MAC, queue pairs, MTU."""
    links = scratch.machine().links
    return {config.name: (config.mac, config.queue_pairs, config.mtu) for config in links.vdpa_configs()}


def problems(case: Case, scratch: ScratchMachine) -> list[Any]:
    state = case.resource.read(scratch.machine(), case.plan)
    return list(case.resource.check(state, case.plan, HOST))


def test_each_vf_gets_a_device_that_is_called_after_its_address(bench: Bench) -> None:
    case, scratch = bench("vdpa")

    run(case, scratch)

    assert configs(scratch) == {
        NAMES[0]: ("52:54:00:61:00:00", 1, 9000),
        NAMES[1]: ("00:00:00:00:00:00", 1, 9000),
    }


def test_a_device_that_another_driver_took_first_is_given_to_vhost(bench: Bench) -> None:
    case, scratch = bench("vdpa")

    run(case, scratch)

    assert [vdpa_driver(scratch, name) for name in NAMES] == ["vhost_vdpa", "vhost_vdpa"]


def test_a_device_that_nothing_took_is_given_to_vhost(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    kernel_of(scratch).vdpa_driver = None

    run(case, scratch)

    assert vdpa_driver(scratch, NAMES[0]) == "vhost_vdpa"


def test_a_vf_that_is_planned_by_itself_has_its_own_key(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    vf = vf_of(MLX5, 1)
    nic = replace(case.plan.nics[0], pci=PciAddress.parse(vf), vfs=None, vdpa_devices=1)
    case = replace(case, plan=replace(case.plan, nics=(nic,)))

    assert [change.key for change in differences(case, scratch)] == [f"{vf} vdpa"]
    run(case, scratch)

    assert list(configs(scratch)) == [NAMES[1]]


def test_devices_are_listed_before_their_vfs_are_there_and_wait_for_them(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    keys = [change.key for change in differences(case, scratch)]
    scratch.machine().root.write_attribute(f"/sys/bus/pci/devices/{MLX5}/sriov_numvfs", "0")

    assert [change.key for change in differences(case, scratch)] == keys == list(KEYS)
    found = problems(case, scratch)
    assert {problem.met_by for problem in found if isinstance(problem, Unmet)} == {"sriov"}
    assert [problem.where for problem in found] == [f"vdpa: {key}" for key in KEYS]


def test_without_vhost_the_modules_are_waited_for(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    (scratch.tree / "sys/bus/vdpa/drivers/vhost_vdpa").rename(scratch.top / "gone")

    found = problems(case, scratch)

    assert [(isinstance(problem, Unmet), problem.met_by) for problem in found] == [(True, "modules")] * 2
    assert "vhost_vdpa is not loaded" in found[0].what


def test_a_vf_of_which_nothing_makes_devices_waits_for_the_module_of_its_card(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    # As without mlx5_vdpa: the VF has its driver, and is no management device.
    kernel_of(scratch).makes_vdpa = ()

    found = problems(case, scratch)

    assert {problem.met_by for problem in found} == {"modules"}
    assert f"nothing makes vDPA devices of {vf_of(MLX5, 0)} (mlx5_core)" in found[0].what


def test_a_vf_that_is_to_have_another_driver_waits_for_it(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    case = replace(case, plan=replace(case.plan, nics=(replace(case.plan.nics[0], vf_driver="vp-vdpa"),)))

    found = problems(case, scratch)

    assert [(isinstance(problem, Unmet), problem.met_by) for problem in found] == [(True, "vf_driver_binding")] * 2
    assert found[0].what == f"mlx5_core is bound to {vf_of(MLX5, 0)}, and vp-vdpa makes vDPA devices of it"


def test_a_vf_that_was_given_to_vfio_is_refused_with_the_way_back(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    sriov_kernel.give_to_vfio(scratch, vf_of(MLX5, 0))

    (refused,) = refusals(case, scratch)

    assert refused.startswith(f"vdpa: {KEYS[0]}: vfio-pci is bound to {vf_of(MLX5, 0)}")
    assert "/sys/bus/pci/drivers_probe" in refused


def test_what_its_maker_refuses_is_a_failure_that_names_the_device_and_leaves_none(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    before = scratch.snapshot()
    kernel_of(scratch).vdpa_macs = False

    with pytest.raises(ApplyError) as caught:
        run(case, scratch)

    assert f"vdpa: {KEYS[0]}: " in str(caught.value)
    assert "Operation not supported" in str(caught.value)
    assert scratch.snapshot() == before


def test_a_device_of_somebody_else_that_is_as_planned_is_taken_as_it_is(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    sriov_kernel.with_vdpa(scratch, vf_of(MLX5, 0), "vdpa0", driver="vhost_vdpa", mac="52:54:00:61:00:00")

    assert [change.key for change in differences(case, scratch)] == [KEYS[1]]
    run(case, scratch)

    assert sorted(configs(scratch)) == [NAMES[1], "vdpa0"]


def test_a_device_with_another_address_is_made_anew_and_comes_back_by_a_rollback(bench: Bench) -> None:
    case, scratch = bench("vdpa-instead")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    assert changes[0].before == "virtio_vdpa mac 52:54:00:99:00:00 mtu 9000"
    assert changes[0].after == "vhost_vdpa mac 52:54:00:61:00:00 mtu 9000"

    run(case, scratch)

    assert configs(scratch)[NAMES[0]] == ("52:54:00:61:00:00", 1, 9000)
    # The other one was as planned but for its driver.
    assert configs(scratch)["vdpa1"] == ("52:54:00:99:00:00", 4, 9000)
    assert vdpa_driver(scratch, "vdpa1") == "vhost_vdpa"
    assert case.resource.rollback(machine, case.resource.image(state, changes), changes) == ()
    assert configs(scratch) == dict.fromkeys(("vdpa0", "vdpa1"), ("52:54:00:99:00:00", 4, 9000))
    assert [vdpa_driver(scratch, name) for name in ("vdpa0", "vdpa1")] == ["virtio_vdpa", "virtio_vdpa"]


def test_a_device_that_a_guest_has_open_is_not_changed(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    sriov_kernel.with_vdpa(scratch, vf_of(MLX5, 0), "vdpa0", driver="vhost_vdpa")
    hold(scratch, "/dev/vhost-vdpa-0")

    (refused,) = refusals(case, scratch)

    assert refused.startswith(f"vdpa: {KEYS[0]}: vdpa0 is in use: guest vnf-1 (qemu-system-x86, pid 4711)")


def test_a_guest_that_came_between_the_check_and_the_change_keeps_its_device(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    sriov_kernel.with_vdpa(scratch, vf_of(MLX5, 0), "vdpa0", driver="vhost_vdpa")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    hold(scratch, "/dev/vhost-vdpa-0")

    with pytest.raises(PreconditionError, match="vdpa0 is in use: guest vnf-1"):
        case.resource.apply(machine, state, changes)

    assert list(configs(scratch)) == ["vdpa0"]


def test_a_device_that_a_guest_has_by_now_stays_at_a_rollback_and_is_named(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    hold(scratch, "/dev/vhost-vdpa-0")

    (left,) = case.resource.rollback(machine, case.resource.image(state, changes), changes)

    assert left.where == f"vdpa: {KEYS[0]}"
    assert "guest vnf-1" in left.what
    assert list(configs(scratch)) == [NAMES[0]]


def test_a_device_that_someone_else_made_since_stays_unless_forced(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    machine.links.remove_vdpa(NAMES[0])
    sriov_kernel.with_vdpa(scratch, vf_of(MLX5, 0), "theirs")

    assert [problem.where for problem in case.resource.foreign(machine, state, changes)] == [f"vdpa: {KEYS[0]}"]
    assert [problem.where for problem in case.resource.rollback(machine, state, changes)] == [f"vdpa: {KEYS[0]}"]
    assert list(configs(scratch)) == ["theirs"]
    assert case.resource.rollback(machine, state, changes, force=True) == ()
    assert configs(scratch) == {}


def test_a_reboot_has_taken_the_devices_back_already(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    machine.root.write_attribute(f"/sys/bus/pci/devices/{MLX5}/sriov_numvfs", "0")

    assert case.resource.rollback(machine, case.resource.image(state, changes), changes) == ()


def test_a_device_that_went_is_drift(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    run(case, scratch)
    scratch.machine().links.remove_vdpa(NAMES[1])

    (drift,) = drifts(case, scratch)

    assert (drift.key, drift.planned, drift.actual) == (KEYS[1], "vhost_vdpa mtu 9000", None)


@pytest.mark.field_failure(27)
@pytest.mark.parametrize(
    ("limit_mib", "devices", "short"), [(4096, 1, False), (4096, 2, True), (64, 1, True), (8200, 2, False)]
)
def test_row_27_a_guest_whose_memory_lock_limit_is_below_what_its_vdpa_devices_pin_is_named(
    bench: Bench, limit_mib: int, devices: int, *, short: bool
) -> None:
    case, scratch = bench("vdpa")
    run(case, scratch)
    hold(scratch, "/dev/vhost-vdpa-0")
    if devices > 1:
        (scratch.tree / "proc/4711/fd/34").symlink_to("/dev/vhost-vdpa-1")
    bound = limit_mib * 1024 * 1024
    scratch.put("/proc/4711/limits", f"Max locked memory         {bound}            {bound}            bytes\n")
    # 4 GiB of hugepages and a little more.
    scratch.put("/proc/4711/status", "Name:\tqemu-system-x86\nVmRSS:\t    1024 kB\nHugetlbPages:\t 4193280 kB\n")

    told = remarks(case, scratch)

    assert bool(told) == short
    if short:
        files = ", ".join(f"/dev/vhost-vdpa-{number}" for number in range(devices))
        needed = 4096 * devices
        assert f"qemu-system-x86 (pid 4711) may lock {limit_mib} MiB and needs {needed} MiB for {files}" in told[0]
        assert "hard_limit" in told[0]


@pytest.mark.field_failure(27)
def test_row_27_a_guest_without_a_memory_lock_limit_is_not_spoken_of(bench: Bench) -> None:
    case, scratch = bench("vdpa")
    run(case, scratch)
    hold(scratch, "/dev/vhost-vdpa-0")
    scratch.put("/proc/4711/limits", "Max locked memory         unlimited            unlimited            bytes\n")
    scratch.put("/proc/4711/status", "HugetlbPages:\t 4193280 kB\n")

    assert remarks(case, scratch) == []
