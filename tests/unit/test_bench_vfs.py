"""The path through a NIC: which VFs it takes, and why it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import host, nic
from typer.testing import CliRunner

from nfvhost.access.root import DirectoryRoot
from nfvhost.bench.paths import PathKind, opened
from nfvhost.bench.vfs import free_vfs, near
from nfvhost.cli.app import app
from nfvhost.errors import ExitCode, PreconditionError, UsageError
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan
from nfvhost.model.profile import NicWish, Profile, Role
from nfvhost.planner import make_plan

PORT, *VFS = (PciAddress.parse(f"0000:{at}") for at in ("10:00.0", "11:02.0", "11:02.1", "11:02.2"))


def machine(*drivers: str | None) -> Host:
    """A card with a VF for each of these drivers."""
    vfs = tuple(VFS[: len(drivers)])
    functions = [nic(str(vf), driver=driver, physfn=PORT, netdevs=()) for vf, driver in zip(vfs, drivers, strict=True)]
    return host(nics=[nic("0000:10:00.0", vfs=vfs, num_vfs=len(vfs)), *functions])


@pytest.fixture
def plan() -> Plan:
    board = nic("0000:05:00.0", management="default route")
    profile = Profile(name="guests", nics=(NicWish(role=Role.SRIOV, vfs=3, physnet="physnet2"),))
    return make_plan(host(nics=[board, nic("0000:10:00.0")]), profile)


@pytest.fixture
def free(tmp_path: Path) -> DirectoryRoot:
    """Where nobody has a VF open."""
    return DirectoryRoot(str(tmp_path))


def take(root: Path, vf: PciAddress, group: int) -> None:
    """A guest that has this VF, the only one of its IOMMU group."""
    (root / f"sys/kernel/iommu_groups/{group}/devices/{vf}").mkdir(parents=True)
    (root / f"sys/bus/pci/devices/{vf}").mkdir(parents=True)
    (root / f"sys/bus/pci/devices/{vf}/iommu_group").symlink_to(f"/sys/kernel/iommu_groups/{group}")
    (root / "proc/4711/fd").mkdir(parents=True)
    (root / "proc/4711/comm").write_text("qemu-system-x86\n")
    (root / "proc/4711/fd/9").symlink_to(f"/dev/vfio/{group}")


def test_it_goes_through_the_first_two_vfs_that_wait_for_guests(plan: Plan, free: DirectoryRoot) -> None:
    pair = free_vfs(plan, machine("iavf", "vfio-pci", "vfio-pci"), root=free)
    with opened(PathKind.SRIOV, None, plan, vfs=pair) as path:
        assert (path.kind, path.ends.tx, path.ends.rx) == (PathKind.SRIOV, str(VFS[1]), str(VFS[2]))
        assert path.ends.addressed
        assert path.switch is None
    with pytest.raises(UsageError, match="--path kernel: it is made on a sandbox"), opened(PathKind.KERNEL, None, plan):
        pass


def test_a_guests_vf_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    take(tmp_path, VFS[0], group=40)
    root = DirectoryRoot(str(tmp_path))
    assert free_vfs(plan, machine(*("vfio-pci",) * 3), root=root) == (VFS[1], VFS[2])
    with pytest.raises(PreconditionError, match=r"in use by qemu-system-x86 \(pid 4711\)"):
        free_vfs(plan, machine(*("vfio-pci",) * 3), (VFS[0], VFS[1]), root=root)


@pytest.mark.parametrize("drivers", [(), ("vfio-pci",), ("iavf", "iavf", "vfio-pci")])
def test_one_vf_is_no_path(plan: Plan, free: DirectoryRoot, drivers: tuple[str, ...]) -> None:
    with pytest.raises(PreconditionError, match="no two VFs are bound to vfio-pci and free") as refused:
        free_vfs(plan, machine(*drivers), root=free)
    assert str(PORT) in str(refused.value)


def test_a_plan_without_sriov_needs_two_names(plan: Plan, free: DirectoryRoot) -> None:
    with pytest.raises(PreconditionError, match="--vfs names two functions"):
        free_vfs(replace(plan, nics=()), machine("vfio-pci", "vfio-pci"), root=free)


def test_two_functions_that_are_named_need_the_right_driver(plan: Plan, free: DirectoryRoot) -> None:
    there = machine("vfio-pci", "iavf", None)
    for other, said in ((VFS[1], "bound to iavf"), (VFS[2], "bound to no driver"), (PORT, "bound to i40e")):
        with pytest.raises(PreconditionError, match=said):
            free_vfs(plan, there, (VFS[0], other), root=free)
    with pytest.raises(PreconditionError, match="no such NIC"):
        free_vfs(plan, there, (VFS[0], PciAddress.parse("0000:77:00.0")), root=free)


def test_the_generator_is_on_the_node_of_the_card_where_it_has_a_cpu() -> None:
    there = host(packages=2, cores=2, nics=[nic(str(VFS[0]), node=1), nic(str(VFS[1]), node=None)])
    assert near((VFS[0], VFS[1]), CpuSet.parse("1-3"), there) == CpuSet.parse("2-3")
    assert near((VFS[0], VFS[1]), CpuSet.parse("0-1"), there) == CpuSet.parse("0-1")
    assert near((VFS[1], VFS[0]), CpuSet.parse("1-3"), there) == CpuSet.parse("1-3")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--path", "sriov", "--vfs", "0000:11:02.0"), "not two PCI addresses"),
        (("--path", "sriov", "--vfs", "0000:11:02.0,0000:11:02.0"), "same one twice"),
        (("--path", "sriov", "--sandbox", "one"), "without --sandbox"),
        (("--path", "kernel", "--tune", "--rounds", "5"), "no poll-mode thread"),
        (("--path", "port", "--vfs", "0000:11:02.0,0000:11:02.1"), "of the path sriov alone"),
    ],
)
def test_what_does_not_go_together_is_told(words: tuple[str, ...], said: str) -> None:
    ended = CliRunner().invoke(app, ["bench", "run", *words])
    assert ended.exit_code == ExitCode.USAGE
    assert said in ended.stderr
