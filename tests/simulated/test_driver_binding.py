"""Drivers of PCI functions."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pci_machines
import pytest
import sriov_kernel
from cases import Case, nic, plan
from contract import differences, drifts, refusals, remarks, run
from forked import in_a_process
from pci_kernel import PciFunction, PciKernel, netdev_of
from pci_machines import FORGOTTEN, HOST, IGB, IGB_VFS, MLX5, ROOT_PORT, X710, X710_TWIN
from scratch import ScratchMachine

from nfvhost import engine
from nfvhost.access.root import DirectoryRoot
from nfvhost.errors import ApplyError, PreconditionError
from nfvhost.inspect import inspect_host
from nfvhost.model.change import Activation, Disruption
from nfvhost.model.host import Host, Netdev
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan
from nfvhost.model.profile import NicWish, Profile, Role
from nfvhost.planner import make_plan
from nfvhost.planner.planned_host import planned_host
from nfvhost.resources import Unmet
from nfvhost.resources.driver_binding import DRIVER_BINDING, VF_DRIVER_BINDING
from nfvhost.resources.sriov import Sriov

Bench = Callable[[str], tuple[Case, ScratchMachine]]
DEVICES = "/sys/bus/pci/devices"


def kernel_of(scratch: ScratchMachine) -> PciKernel:
    (made,) = (one for one in scratch.kernel.reactions if isinstance(one, PciKernel))
    return made


def driver_of(scratch: ScratchMachine, pci: str) -> str | None:
    link = scratch.tree / DEVICES.strip("/") / pci / "driver"
    return link.resolve().name if link.is_symlink() else None


def override_of(scratch: ScratchMachine, pci: str) -> str:
    return scratch.read(f"{DEVICES}/{pci}/driver_override").strip()


def ports(*nics: Any) -> Plan:  # noqa: ANN401 - NicPlans
    """A plan for the machine of pci_machines with these NICs alone."""
    return replace(plan(nics=nics), host=planned_host(HOST))


def managing(pci: str, reason: str = "carries the default route of IPv4 (eth0)") -> tuple[Any, ...]:
    """The NICs of the machine, one of which carries management by now."""
    return tuple(replace(one, management=reason) if str(one.pci) == pci else one for one in HOST.nics)


def netdev(name: str, pci: str, *addresses: str) -> Netdev:
    """An interface of a port that is up and has these addresses."""
    return Netdev(
        name=name,
        pci=PciAddress.parse(pci),
        kind="physical",
        mac=None,
        speed_mbps=10_000,
        mtu=1500,
        operstate="up",
        driver="i40e",
        lowers=(),
        addresses=addresses,
    )


def attribute_writes(scratch: ScratchMachine) -> list[str]:
    return [call.rpartition("/")[2] for call in scratch.kernel.calls]


def inspected(scratch: ScratchMachine) -> Host:
    """The scratch machine as `nfvhost inspect` sees it."""
    for cpu in range(4):
        scratch.put(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu}\n")
    for name in ("online", "present", "possible"):
        scratch.put(f"/sys/devices/system/cpu/{name}", "0-3\n")
    return inspect_host(scratch.machine().root)


def route_over(scratch: ScratchMachine, netdev: str) -> None:
    """Lets the default route of IPv6 leave by this interface, which nothing of IPv4 shows."""
    scratch.put(
        "/proc/net/ipv6_route",
        f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 27}1 00000400 00000001 00000000 00000003 {netdev:>8}\n",
    )


# What an apply does


def test_ports_for_dpdk_go_to_vfio_pci_and_one_that_makes_vfs_to_its_kernel_driver(bench: Bench) -> None:
    case, scratch = bench("driver_binding")

    changes = differences(case, scratch)
    run(case, scratch)

    assert [(change.key, change.before, change.after) for change in changes] == [
        (X710, "i40e", "vfio-pci"),
        (X710_TWIN, "i40e", "vfio-pci"),
        (FORGOTTEN, "vfio-pci", "igb"),
    ]
    assert [driver_of(scratch, pci) for pci in (X710, X710_TWIN, FORGOTTEN, IGB)] == [
        "vfio-pci",
        "vfio-pci",
        "igb",
        "igb",
    ]
    assert not (scratch.tree / "sys/class/net" / netdev_of(X710)).exists()
    assert (scratch.tree / "sys/class/net" / netdev_of(FORGOTTEN)).exists()


def test_the_override_is_written_before_the_old_driver_lets_go(bench: Bench) -> None:
    case, scratch = bench("driver_binding")

    run(case, scratch)

    assert attribute_writes(scratch)[:3] == ["driver_override", "unbind", "bind"]


def test_vfs_are_bound_by_pf_and_number_although_autoprobe_is_off(bench: Bench) -> None:
    case, scratch = bench("vf_driver_binding")
    assert scratch.read(f"{DEVICES}/{IGB}/sriov_drivers_autoprobe") == "0\n"

    changes = differences(case, scratch)
    run(case, scratch)

    assert [(change.key, change.before) for change in changes] == [(f"{IGB} vf 0", "igbvf"), (f"{IGB} vf 1", None)]
    assert [driver_of(scratch, pci) for pci in IGB_VFS] == ["vfio-pci", "vfio-pci"]


def test_vfs_that_are_not_made_yet_are_listed_all_the_same(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    late = replace(case, resource=VF_DRIVER_BINDING)

    changes = differences(late, scratch)
    state = VF_DRIVER_BINDING.read(scratch.machine(), case.plan)
    problems = VF_DRIVER_BINDING.check(state, case.plan, HOST)

    assert [(change.key, change.before, change.after) for change in changes] == [
        (f"{IGB} vf 0", None, "vfio-pci"),
        (f"{IGB} vf 1", None, "vfio-pci"),
    ]
    assert [(problem.where, problem.met_by) for problem in problems if isinstance(problem, Unmet)] == [
        (f"vf_driver_binding: {IGB} vf 0", "sriov"),
        (f"vf_driver_binding: {IGB} vf 1", "sriov"),
    ]
    assert len(problems) == 2


def test_a_vf_with_an_entry_of_its_own_is_bound_after_the_vfs_are_made(bench: Bench) -> None:
    case, scratch = bench("vf_driver_binding")
    own = ports(nic(IGB_VFS[0], Role.DPDK, driver="vfio-pci", current_driver="igbvf"))

    assert DRIVER_BINDING.diff(DRIVER_BINDING.read(scratch.machine(), own), own) == ()
    run(case, scratch, plan=own)

    assert driver_of(scratch, IGB_VFS[0]) == "vfio-pci"
    assert driver_of(scratch, IGB_VFS[1]) is None


def test_any_of_the_changes_can_be_made_alone_as_a_boot_does(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)

    for change in reversed(changes):
        case.resource.apply(machine, state, (change,))

    assert drifts(case, scratch) == ()


def test_a_port_that_is_up_tells_that_its_link_goes(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    scratch.put(f"/sys/devices/pci0000:00/{X710}/net/{netdev_of(X710)}/flags", "0x1003\n")

    changes = differences(case, scratch)

    assert {change.key: change.disruption for change in changes} == {
        X710: Disruption.LINK,
        X710_TWIN: Disruption.NONE,
        FORGOTTEN: Disruption.NONE,
    }
    assert netdev_of(X710) in changes[0].reason
    assert any(f"{netdev_of(X710)} is up" in one for one in remarks(case, scratch))


def test_a_driver_that_driverctl_keeps_against_the_plan_is_told(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    scratch.put(f"/etc/driverctl.d/pci-{FORGOTTEN}", "vfio-pci\n")
    scratch.put(f"/etc/driverctl.d/pci-{X710}", "vfio-pci\n")

    (remark,) = remarks(case, scratch)

    assert "driverctl binds it to vfio-pci at each boot, and the plan to igb" in remark
    assert f"remove /etc/driverctl.d/pci-{FORGOTTEN}" in remark


# Field failures


@pytest.mark.field_failure(1)
def test_row_1_a_port_that_carries_the_default_route_of_ipv6_alone_is_not_taken(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    route_over(scratch, netdev_of(X710))
    host = inspected(scratch)

    found = [str(one) for one in refused(case, scratch, host)]

    assert len(found) == 1
    assert found[0].startswith(f"driver_binding: {X710}: carries management now: carries the default route of IPv6")


@pytest.mark.field_failure(2)
def test_row_2_a_slave_of_the_bond_that_carries_management_is_not_taken(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    for name in (X710, X710_TWIN):
        scratch.put(f"/sys/class/net/bond0/lower_{netdev_of(name)}/", "")
    scratch.put("/sys/class/net/bond0/bonding/slaves", f"{netdev_of(X710)} {netdev_of(X710_TWIN)}\n")
    route_over(scratch, "bond0")
    host = inspected(scratch)

    found = [str(one) for one in refused(case, scratch, host)]

    assert [one.split(": ")[1] for one in found] == [X710, X710_TWIN]
    assert all(f"(bond0 over {netdev_of(pci)})" in one for pci, one in zip((X710, X710_TWIN), found, strict=True))


@pytest.mark.field_failure(1)
def test_row_1_an_apply_to_a_port_that_carries_management_writes_nothing(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    before = scratch.snapshot()

    with pytest.raises(PreconditionError, match="carries management now"):
        run(replace(case, host=replace(HOST, nics=managing(X710))), scratch)

    assert scratch.snapshot() == before


@pytest.mark.field_failure(3)
def test_row_3_a_group_that_the_kernel_keeps_a_part_of_is_refused_by_name(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    kernel_of(scratch).add(
        scratch.tree,
        PciFunction(pci="0000:10:00.7", ids="1000:005d", class_code="0x010400", driver="i40e", group=11),
    )

    (problem,) = refusals(case, scratch)

    assert problem.startswith(f"driver_binding: {X710}: shares IOMMU group 11 with 0000:10:00.7 (i40e)")
    assert ROOT_PORT not in problem  # a bridge may stay where it is


@pytest.mark.field_failure(3)
def test_row_3_a_group_all_of_which_the_plan_gives_away_is_taken(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    kernel = kernel_of(scratch)
    kernel.add(scratch.tree, PciFunction(pci="0000:10:00.2", driver="i40e", group=11))
    whole = replace(
        case.plan,
        nics=(
            *case.plan.nics,
            nic("0000:10:00.2", Role.UNUSED, driver="vfio-pci", group_mates=(PciAddress.parse(X710),)),
        ),
    )

    assert refusals(replace(case, plan=whole), scratch) == []


@pytest.mark.field_failure(3)
def test_row_3_vfs_of_one_group_that_all_go_to_vfio_are_taken(bench: Bench) -> None:
    case, scratch = bench("vf_driver_binding")
    for pci in IGB_VFS:
        (scratch.tree / "sys/kernel/iommu_groups" / str(20 + IGB_VFS.index(pci)) / "devices" / pci).unlink()
        (scratch.tree / "sys/devices/pci0000:00" / pci / "iommu_group").unlink()
        (scratch.tree / "sys/devices/pci0000:00" / pci / "iommu_group").symlink_to("../../../kernel/iommu_groups/30")
        scratch.put("/sys/kernel/iommu_groups/30/devices/", "")
        (scratch.tree / "sys/kernel/iommu_groups/30/devices" / pci).symlink_to(f"../../../../devices/pci0000:00/{pci}")
    one_alone = replace(case.plan, nics=(replace(case.plan.nics[2], vfs=1),))
    scratch.machine().root.write_attribute(f"{DEVICES}/{IGB_VFS[1]}/driver_override", "igbvf")
    scratch.machine().root.write_attribute("/sys/bus/pci/drivers_probe", IGB_VFS[1])

    assert refusals(case, scratch) == []
    (problem,) = refusals(replace(case, plan=replace(one_alone, host=case.plan.host)), scratch)
    assert f"{IGB} vf 0: shares IOMMU group 30 with {IGB_VFS[1]} (igbvf)" in problem


@pytest.mark.field_failure(3)
def test_row_3_mates_without_a_driver_or_with_a_stub_do_no_harm(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    kernel = kernel_of(scratch)
    kernel.drivers = {**kernel.drivers, "pci-stub": (), "mlx5_vfio_pci": ()}
    for driver in ("pci-stub", "mlx5_vfio_pci"):
        kernel.register(scratch, driver)
    kernel.add(scratch.tree, PciFunction(pci="0000:10:00.4", group=11))
    kernel.add(scratch.tree, PciFunction(pci="0000:10:00.5", driver="pci-stub", group=11))
    kernel.add(scratch.tree, PciFunction(pci="0000:10:00.6", driver="mlx5_vfio_pci", group=11))

    assert refusals(case, scratch) == []


@pytest.mark.field_failure(3)
def test_row_3_a_mate_that_carries_management_is_said_to_be_one(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    (scratch.tree / "sys/kernel/iommu_groups/11/devices" / MLX5).symlink_to(f"../../../../devices/pci0000:00/{MLX5}")

    (problem,) = refusals(case, scratch, nics=managing(MLX5, "carries an SSH session into this machine (eth7)"))

    assert f"{MLX5} (mlx5_core, which carries an SSH session into this machine (eth7))" in problem


@pytest.mark.field_failure(3)
def test_row_3_a_group_that_stopped_being_viable_is_told_of_ports_that_are_bound(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    run(case, scratch)
    kernel_of(scratch).add(scratch.tree, PciFunction(pci="0000:10:00.2", driver="i40e", group=11))

    assert refusals(case, scratch) == []
    assert any(f"{X710}: shares IOMMU group 11 with 0000:10:00.2" in one for one in remarks(case, scratch))


@pytest.mark.field_failure(4)
def test_row_4_groups_that_have_other_numbers_after_a_boot_change_nothing(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    kept = case.resource.image(state, changes)
    run(case, scratch)
    kernel = kernel_of(scratch)
    kernel.reboot(scratch.tree)
    renumber(scratch, {X710: 31, X710_TWIN: 11, IGB: 12})

    again = differences(case, scratch)
    assert [change.key for change in again] == [X710, X710_TWIN]
    assert refusals(case, scratch) == []
    run(case, scratch)
    assert drifts(case, scratch) == ()
    assert case.resource.rollback(scratch.machine(), kept, changes) == ()
    assert [driver_of(scratch, pci) for pci in (X710, X710_TWIN)] == ["i40e", "i40e"]


@pytest.mark.field_failure(4)
def test_row_4_another_card_at_the_address_is_not_taken(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    kernel = kernel_of(scratch)
    kernel.remove(scratch.tree, X710)
    kernel.add(scratch.tree, PciFunction(pci=X710, ids="144d:a808", class_code="0x010802", group=11))

    (problem,) = refusals(case, scratch)

    assert problem.startswith(
        f"driver_binding: {X710}: is another card by now: planned is 8086:1572, there is 144d:a808"
    )


@pytest.mark.field_failure(6)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.ENOMEM])
def test_row_6_a_port_whose_new_driver_fails_has_its_old_one_at_once(bench: Bench, number: int) -> None:
    case, scratch = bench("driver_binding")
    before = scratch.snapshot()
    kernel_of(scratch).refuses["vfio-pci", X710_TWIN] = number
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)

    with pytest.raises(ApplyError, match=r"vfio-pci was not bound .*; i40e has it now"):
        case.resource.apply(machine, state, changes)

    # Before any rollback of the engine.
    assert (driver_of(scratch, X710_TWIN), override_of(scratch, X710_TWIN)) == ("i40e", "(null)")
    assert case.resource.rollback(machine, state, changes) == ()
    assert scratch.snapshot() == before


@pytest.mark.field_failure(6)
def test_row_6_without_groups_nothing_is_unbound_and_the_iommu_is_what_is_missing(bench: Bench, tmp_path: Path) -> None:
    case, _ = bench("driver_binding")
    scratch = replace(case, prepare=pci_machines.booted_without_iommu).machine(tmp_path / "without")
    before = scratch.snapshot()
    some = replace(case, plan=replace(case.plan, nics=case.plan.nics[:2]))

    state = case.resource.read(scratch.machine(), some.plan)
    problems = case.resource.check(state, some.plan, HOST)

    assert [(one.where, one.met_by) for one in problems if isinstance(one, Unmet)] == [
        (f"driver_binding: {X710}", "iommu"),
        (f"driver_binding: {X710_TWIN}", "iommu"),
    ]
    # And were it done all the same, the port would not stay without a driver.
    with pytest.raises(ApplyError, match=r"Invalid argument.*i40e has it now"):
        case.resource.apply(scratch.machine(), state, case.resource.diff(state, some.plan))
    assert scratch.snapshot() == before


@pytest.mark.field_failure(6)
def test_row_6_a_port_whose_old_driver_refuses_as_well_gets_any_driver_of_the_kernel(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    kernel = kernel_of(scratch)
    kernel.drivers = {**kernel.drivers, "i40e_spare": ("8086:1572",)}
    kernel.register(scratch, "i40e_spare")
    kernel.refuses |= {("vfio-pci", X710): errno.EINVAL, ("i40e", X710): errno.EIO}
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)

    with pytest.raises(ApplyError) as caught:
        case.resource.apply(machine, state, case.resource.diff(state, case.plan))

    assert "i40e_spare has it now" in caught.value.problems[0].what
    assert any("not put back" in problem.what for problem in caught.value.problems)
    left = case.resource.rollback(machine, state, case.resource.diff(state, case.plan))
    assert [problem.where for problem in left] == [f"driver_binding: {X710}"]


@pytest.mark.field_failure(6)
def test_row_6_a_rollback_whose_old_driver_refuses_leaves_the_planned_one(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    case.resource.apply(machine, state, changes)
    kernel_of(scratch).refuses["i40e", X710] = errno.EBUSY

    (left,) = case.resource.rollback(machine, state, changes)

    assert left.where == f"driver_binding: {X710}"
    assert "vfio-pci has it instead of i40e: the kernel refused" in left.what
    assert (driver_of(scratch, X710), override_of(scratch, X710)) == ("vfio-pci", "vfio-pci")
    del kernel_of(scratch).refuses["i40e", X710]
    assert case.resource.rollback(machine, state, changes) == ()
    assert driver_of(scratch, X710) == "i40e"


@pytest.mark.field_failure(7)
def test_row_7_a_bifurcated_driver_is_never_replaced_by_vfio(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    wrong = ports(nic(MLX5, Role.DPDK, driver="vfio-pci", current_driver="mlx5_core"))

    (problem,) = refusals(replace(case, plan=wrong), scratch)

    assert problem.startswith(f"driver_binding: {MLX5}: ")
    assert "works through its kernel driver mlx5_core (bifurcated)" in problem


@pytest.mark.field_failure(7)
def test_row_7_nor_are_those_of_its_vfs_before_they_are_made(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    wrong = ports(nic(MLX5, Role.SRIOV, current_driver="mlx5_core", vfs=1, vf_driver="vfio-pci"))

    found = refusals(replace(case, plan=wrong, resource=VF_DRIVER_BINDING), scratch)

    assert any(f"{MLX5} vf 0" in one and "bifurcated" in one for one in found)


@pytest.mark.field_failure(34)
def test_row_34_a_sys_that_is_read_only_is_said_before_anything_is_tried(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    scratch.put("/proc/self/mounts", "sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0\n")

    (problem,) = refusals(case, scratch, container="docker")

    assert "this is a docker container, whose /sys is mounted read-only" in problem


@pytest.mark.field_failure(34)
def test_row_34_where_nothing_is_to_be_bound_a_read_only_sys_is_no_obstacle(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    run(case, scratch)
    scratch.put("/proc/self/mounts", "sysfs /sys sysfs ro,relatime 0 0\n")

    assert refusals(case, scratch, container="docker") == []


# Other refusals


def test_a_port_that_a_guest_holds_does_not_leave_vfio(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    hold(scratch, FORGOTTEN, f"/dev/vfio/{14}")
    kernel_of(scratch).held.add(FORGOTTEN)
    before = scratch.snapshot()

    (problem,) = refusals(case, scratch)
    with pytest.raises(PreconditionError, match="is held by"):
        run(case, scratch)

    assert problem.startswith(f"driver_binding: {FORGOTTEN}: is held by qemu-system-x86 (pid 4711)")
    assert scratch.snapshot() == before


def test_who_holds_a_mate_holds_the_whole_group(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    kernel_of(scratch).add(
        scratch.tree, PciFunction(pci="0000:22:00.1", ids="8086:10c9", driver="vfio-pci", override="vfio-pci", group=14)
    )
    scratch.put("/sys/devices/pci0000:00/0000:22:00.1/vfio-dev/vfio4/", "")
    hold(scratch, "0000:22:00.1", "/dev/vfio/devices/vfio4")

    (problem,) = refusals(case, scratch)

    assert problem.startswith(f"driver_binding: {FORGOTTEN}: is held by qemu-system-x86 (pid 4711)")


@pytest.mark.parametrize("path", ["/dev/vfio/devices/vfio3", "anon_inode:[vfio-device]"])
def test_holders_are_seen_by_the_newer_files_of_vfio_as_well(bench: Bench, path: str) -> None:
    case, scratch = bench("driver_binding")
    scratch.put(f"/sys/devices/pci0000:00/{FORGOTTEN}/vfio-dev/vfio3/", "")
    hold(scratch, FORGOTTEN, path)

    assert any("qemu-system-x86 (pid 4711)" in one for one in refusals(case, scratch))


def test_a_port_that_came_into_use_between_check_and_apply_stays_where_it_is(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    hold(scratch, FORGOTTEN, "/dev/vfio/14")
    kernel_of(scratch).held.add(FORGOTTEN)

    with pytest.raises(ApplyError, match="is held by qemu-system-x86"):
        case.resource.apply(machine, state, changes)

    assert driver_of(scratch, FORGOTTEN) == "vfio-pci"


def test_a_rollback_names_who_holds_a_port_and_does_not_wait_for_it(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    case.resource.apply(machine, state, changes)
    hold(scratch, X710, "/dev/vfio/11")
    kernel_of(scratch).held.add(X710)

    (left,) = case.resource.rollback(machine, state, changes)

    assert left.where == f"driver_binding: {X710}"
    assert "held by qemu-system-x86 (pid 4711)" in left.what
    assert (driver_of(scratch, X710), override_of(scratch, X710)) == ("vfio-pci", "vfio-pci")
    assert (driver_of(scratch, X710_TWIN), override_of(scratch, X710_TWIN)) == ("i40e", "(null)")


def test_a_port_with_vfs_is_not_moved(bench: Bench) -> None:
    case, scratch = bench("vf_driver_binding")
    moved = ports(nic(IGB, Role.DPDK, driver="vfio-pci", current_driver="igb"))

    (problem,) = refusals(replace(case, plan=moved, resource=DRIVER_BINDING), scratch)

    assert f"{IGB}: has 2 VFs, which would go with its driver igb" in problem


def test_a_port_that_is_in_use_since_it_was_planned_is_not_taken(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    busy = netdev("ens16f0", X710, "192.0.2.7/24")

    (problem,) = refusals(case, scratch, netdevs=(busy,))

    assert "is in use, which it was not when it was planned: ens16f0 has the address 192.0.2.7/24" in problem


def test_a_port_whose_only_address_is_of_its_own_making_is_taken(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    idle = netdev("ens16f0", X710, "fe80::1/64")

    assert refusals(case, scratch, netdevs=(idle,)) == []


def test_a_port_that_the_profile_names_although_it_is_in_use_is_taken(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    busy = netdev("ens16f0", X710, "192.0.2.7/24")
    way_in = replace(netdev("ens16f1", X710_TWIN), management="carries the default route")
    nics = [
        replace(one, management="carries the default route" if str(one.pci) == X710_TWIN else None) for one in HOST.nics
    ]
    host = replace(HOST, netdevs=(busy, way_in), nics=tuple(nics))
    made = make_plan(
        host, Profile(name="x", nics=(NicWish(pci=PciAddress.parse(X710), role=Role.DPDK, physnet="physnet1"),))
    )

    assert [one.driver for one in made.nics if str(one.pci) == X710] == ["vfio-pci"]
    assert refused(replace(case, plan=made), scratch, host) == []


def test_a_driver_that_the_kernel_has_not_is_for_modules_to_bring(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    for name in ("bind", "unbind"):
        (scratch.tree / "sys/bus/pci/drivers/igb" / name).unlink()
    (scratch.tree / "sys/bus/pci/drivers/igb" / IGB).unlink()
    (scratch.tree / "sys/bus/pci/drivers/igb").rmdir()

    state = case.resource.read(scratch.machine(), case.plan)
    (problem,) = case.resource.check(state, case.plan, HOST)

    assert isinstance(problem, Unmet)
    assert (problem.where, problem.met_by) == (f"driver_binding: {FORGOTTEN}", "modules")


def test_a_card_that_has_vanished_is_a_problem_of_its_own_key_alone(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    kernel_of(scratch).remove(scratch.tree, X710)
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)

    (problem,) = case.resource.check(state, case.plan, HOST)
    with pytest.raises(ApplyError, match="there is no such function"):
        case.resource.apply(machine, state, changes[:1])
    case.resource.apply(machine, state, changes[1:])

    assert problem.where == f"driver_binding: {X710}"
    assert [change.key for change in changes] == [X710, X710_TWIN, FORGOTTEN]
    assert [(one.key, one.actual) for one in drifts(case, scratch)] == [(X710, None)]


def test_until_the_reboot_that_turns_the_iommu_on_a_port_is_pending(bench: Bench, tmp_path: Path) -> None:
    case, _ = bench("driver_binding")
    scratch = replace(case, prepare=pci_machines.booted_without_iommu).machine(tmp_path / "without")
    told = replace(case.plan, nics=case.plan.nics[:1], kernel_args=("intel_iommu=on", "iommu=pt"))

    assert [one.pending for one in drifts(case, scratch, plan=told)] == [Activation.REBOOT]
    scratch.put("/proc/cmdline", "root=/dev/sda1 intel_iommu=on iommu=pt\n")
    assert [one.pending for one in drifts(case, scratch, plan=told)] == [None]


# Rollback


def test_after_a_reboot_a_rollback_finds_all_as_before_and_writes_nothing(bench: Bench) -> None:
    case, scratch = bench("vf_driver_binding")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    case.resource.apply(machine, state, changes)
    kernel_of(scratch).reboot(scratch.tree)
    scratch.kernel.calls.clear()

    assert case.resource.foreign(machine, state, changes) == ()
    assert case.resource.rollback(machine, state, changes) == ()

    assert scratch.kernel.calls == []


def test_a_port_that_was_on_vfio_before_a_reboot_goes_back_there(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    case.resource.apply(machine, state, changes)
    kernel_of(scratch).reboot(scratch.tree)

    assert case.resource.rollback(machine, state, changes) == ()

    assert (driver_of(scratch, FORGOTTEN), override_of(scratch, FORGOTTEN)) == ("vfio-pci", "vfio-pci")


def test_a_vf_goes_back_to_its_driver_although_autoprobe_is_off(bench: Bench) -> None:
    case, scratch = bench("vf_driver_binding")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    case.resource.apply(machine, state, changes)

    assert case.resource.rollback(machine, state, changes) == ()

    assert [(driver_of(scratch, pci), override_of(scratch, pci)) for pci in IGB_VFS] == [
        ("igbvf", "(null)"),
        (None, "(null)"),
    ]


def test_a_card_that_is_gone_by_the_rollback_is_told(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    case.resource.apply(machine, state, changes)
    kernel_of(scratch).remove(scratch.tree, X710)

    (left,) = case.resource.rollback(machine, state, changes)

    assert left.where == f"driver_binding: {X710}"
    assert "is not there any more" in left.what


def test_a_driver_that_someone_else_has_bound_since_stays_unless_forced(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    machine = scratch.machine()
    kernel = kernel_of(scratch)
    kernel.drivers = {**kernel.drivers, "uio_pci_generic": ()}
    kernel.register(scratch, "uio_pci_generic")
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    case.resource.apply(machine, state, changes)
    for path, text in (
        (f"{DEVICES}/{X710}/driver_override", "uio_pci_generic"),
        (f"{DEVICES}/{X710}/driver/unbind", X710),
        ("/sys/bus/pci/drivers_probe", X710),
    ):
        machine.root.write_attribute(path, text)

    (foreign,) = case.resource.foreign(machine, state, changes)
    (left,) = case.resource.rollback(machine, state, changes)
    assert driver_of(scratch, X710) == "uio_pci_generic"
    assert foreign.where == left.where == f"driver_binding: {X710}"
    assert "uio_pci_generic has it" in foreign.what

    assert case.resource.rollback(machine, state, changes, force=True) == ()
    assert (driver_of(scratch, X710), override_of(scratch, X710)) == ("i40e", "(null)")


def test_an_override_of_someone_else_is_restored_as_it_was(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    scratch.put(f"{DEVICES}/{X710}/driver_override", "i40e\n")
    before = scratch.snapshot()
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    case.resource.apply(machine, state, changes)

    assert case.resource.rollback(machine, state, changes) == ()

    assert scratch.snapshot() == before


def test_what_is_kept_for_a_rollback_names_no_group_and_no_process(bench: Bench) -> None:
    case, scratch = bench("driver_binding")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)

    kept = case.resource.image(state, changes[:1])

    assert [(one.key, one.group, one.mates, one.holders) for one in kept.functions] == [(X710, None, (), ())]


# The scratch kernel itself: what it answers is what drivers/base/bus.c answers.


@pytest.mark.parametrize(
    ("path", "text", "answer"),
    [
        ("/sys/bus/pci/drivers/vfio-pci/bind", X710, "No such device"),  # no id of it matches, and no override
        ("/sys/bus/pci/drivers/i40e/bind", X710, "Device or resource busy"),
        ("/sys/bus/pci/drivers/i40e/bind", IGB, "No such device"),
        ("/sys/bus/pci/drivers/igb/unbind", X710, "No such device"),
        ("/sys/bus/pci/drivers/i40e/unbind", "0000:99:00.0", "No such device"),
        ("/sys/bus/pci/drivers_probe", "0000:99:00.0", "No such device"),
    ],
)
def test_the_kernel_refuses(bench: Bench, path: str, text: str, answer: str) -> None:
    _, scratch = bench("driver_binding")
    before = scratch.snapshot()

    with pytest.raises(ApplyError, match=answer):
        scratch.machine().root.write_attribute(path, text)

    assert scratch.snapshot() == before


def test_the_kernel_prefers_the_override_to_ids_and_forgets_it_by_a_newline(bench: Bench) -> None:
    _, scratch = bench("driver_binding")
    root = scratch.machine().root

    root.write_attribute(f"{DEVICES}/{X710}/driver_override", "vfio-pci")
    root.write_attribute("/sys/bus/pci/drivers/i40e/unbind", X710)
    with pytest.raises(ApplyError, match="No such device"):
        root.write_attribute("/sys/bus/pci/drivers/i40e/bind", X710)
    root.write_attribute("/sys/bus/pci/drivers_probe", X710)
    assert driver_of(scratch, X710) == "vfio-pci"

    root.write_attribute(f"{DEVICES}/{X710}/driver_override", "\n")
    assert override_of(scratch, X710) == "(null)"
    assert driver_of(scratch, X710) == "vfio-pci"


def refused(case: Case, scratch: ScratchMachine, host: Host) -> list[Any]:
    state = case.resource.read(scratch.machine(), case.plan)
    return list(case.resource.check(state, case.plan, host))


def hold(scratch: ScratchMachine, pci: str, path: str) -> None:
    """Lets a QEMU have this file open."""
    scratch.put("/proc/4711/comm", "qemu-system-x86\n")
    scratch.put("/proc/4711/fd/", "")
    scratch.put("/proc/4711/fdinfo/17", f"pos:\t0\nvfio-device-syspath: /sys/devices/pci0000:00/{pci}\n")
    (scratch.tree / "proc/4711/fd/17").symlink_to(path)


def renumber(scratch: ScratchMachine, groups: dict[str, int]) -> None:
    """Gives these functions other groups, as the next boot may."""
    kernel = kernel_of(scratch)
    bound = {pci: driver_of(scratch, pci) for pci in groups}
    ids = {X710: "8086:1572", X710_TWIN: "8086:1572", IGB: "8086:10c9"}
    for pci in groups:
        kernel.remove(scratch.tree, pci)
    for pci, group in groups.items():
        total = 7 if pci == IGB else None
        kernel.add(scratch.tree, PciFunction(pci=pci, ids=ids[pci], driver=bound[pci], group=group, total_vfs=total))


# With sriov between the two


def chain(tmp_path: Path) -> tuple[Case, ScratchMachine]:
    """A port on vfio-pci that is to make VFs for guests: its kernel driver, the VFs, then their driver."""
    pf = nic(sriov_kernel.FORGOTTEN, Role.SRIOV, current_driver="vfio-pci", driver="i40e", vfs=2, vf_driver="vfio-pci")
    case = Case(
        name="chain",
        resource=DRIVER_BINDING,
        plan=replace(plan(nics=(pf,)), host=planned_host(sriov_kernel.HOST)),
        files=sriov_kernel.MANAGED,
        programs=sriov_kernel.PROGRAMS,
        host=sriov_kernel.HOST,
        prepare=sriov_kernel.booted,
    )
    return case, case.machine(tmp_path)


CHAIN = (DRIVER_BINDING, Sriov(settle_s=0.0, appear_s=0.0), VF_DRIVER_BINDING)


def apply_chain(case: Case, scratch: ScratchMachine) -> list[str]:
    machine = scratch.machine()
    assert isinstance(machine.root, DirectoryRoot)
    store = engine.Store(machine, changing=machine.root.changing)
    report = engine.apply(case.plan, machine, case.host, resources=CHAIN, store=store)
    return [f"{one.change.resource}: {one.change.key}" for one in report.results]


def test_a_port_on_vfio_makes_vfs_for_guests_in_one_apply_and_all_of_it_goes_back(tmp_path: Path) -> None:
    case, scratch = chain(tmp_path)
    before = scratch.snapshot()

    made = apply_chain(case, scratch)

    assert made[0] == f"driver_binding: {sriov_kernel.FORGOTTEN}"
    assert made[-2:] == [f"vf_driver_binding: {sriov_kernel.FORGOTTEN} vf {number}" for number in (0, 1)]
    assert driver_of(scratch, sriov_kernel.FORGOTTEN) == "i40e"
    assert [driver_of(scratch, sriov_kernel.vf_of(sriov_kernel.FORGOTTEN, number)) for number in (0, 1)] == [
        "vfio-pci",
        "vfio-pci",
    ]
    assert apply_chain(case, scratch) == []

    assert [undone.problems for undone in engine.rollback(scratch.machine(), resources=CHAIN)] == [()]
    assert scratch.snapshot() == before


def test_the_chain_killed_at_any_write_goes_back_as_a_whole(tmp_path: Path) -> None:
    case, whole = chain(tmp_path / "whole")
    apply_chain(case, whole)
    points = len(whole.kernel.calls)
    assert points > len(CHAIN)
    for point in range(1, points + 1):
        _, scratch = chain(tmp_path / str(point))
        before = scratch.snapshot()
        scratch.kernel.kill_at = point
        assert in_a_process(lambda: apply_chain(case, scratch)) == signal.SIGKILL  # noqa: B023 - runs at once
        scratch.unharmed()

        problems = [undone.problems for undone in engine.rollback(scratch.machine(), resources=CHAIN)]

        assert [one for one in problems if one] == [], point
        assert scratch.snapshot() == before, point
