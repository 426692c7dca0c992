"""The profiles that come with nfvhost."""

from __future__ import annotations

from pathlib import Path

import pytest
from plan_rules import broken_rules
from synthetic import host as make_host
from synthetic import nic

from nfvhost.errors import DocumentError
from nfvhost.model.profile import Role
from nfvhost.planfile import load_profile, shipped_profiles
from nfvhost.planner import make_plan

NAMES = ("density", "home", "sandbox", "sriov", "srv6-edge", "throughput", "vdpa")
BOARD = nic("0000:05:00.0", device="1533", driver="igb", netdevs=("eno1",), speed_mbps=1000, management="default route")
CARDS = {
    "none": (),
    "board": (BOARD,),
    "x710": (BOARD, nic("0000:10:00.0"), nic("0000:10:00.1"), nic("0000:10:00.2")),
    "connectx": (BOARD, *(nic(f"0000:20:00.{n}", vendor="15b3", device="101d", driver="mlx5_core") for n in range(3))),
}


def test_these_profiles_are_shipped() -> None:
    assert tuple(sorted(shipped_profiles())) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_opens_with_what_it_is_for_and_bears_its_files_name(name: str) -> None:
    path = shipped_profiles()[name]
    assert Path(path).read_text().startswith("# For ")
    assert load_profile(path).name == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cards", CARDS)
@pytest.mark.parametrize("size", [1, 2, 4, 16])
def test_a_profile_plans_on_machines_of_all_sizes(name: str, cards: str, size: int) -> None:
    host = make_host(cores=size, nics=CARDS[cards], node_mib=size * 4096)
    plan = make_plan(host, load_profile(shipped_profiles()[name]))
    assert broken_rules(host, plan) == []


def test_each_profile_uses_the_cards_for_what_it_says() -> None:
    def roles(name: str, cards: str) -> list[Role]:
        plan = make_plan(make_host(cores=16, nics=CARDS[cards]), load_profile(shipped_profiles()[name]))
        return [one.role for one in plan.nics if one.role is not Role.MANAGEMENT]

    assert roles("home", "x710") == [Role.DPDK] * 3
    assert roles("throughput", "x710") == [Role.DPDK, Role.DPDK, Role.KERNEL]
    assert roles("density", "x710") == [Role.DPDK, Role.KERNEL, Role.KERNEL]
    assert roles("sriov", "x710") == [Role.SRIOV, Role.DPDK, Role.KERNEL]
    assert roles("vdpa", "connectx") == [Role.VDPA, Role.DPDK, Role.KERNEL]
    assert roles("srv6-edge", "x710") == [Role.DPDK, Role.SRIOV, Role.DPDK]
    assert roles("sandbox", "x710") == [Role.KERNEL] * 3


def test_the_edge_has_a_port_of_each_kind_and_4_vfs_that_guests_may_route_with() -> None:
    realtek = nic(
        "0000:30:00.0", vendor="10ec", device="8168", driver="r8169", netdevs=("enp48s0",), speed_mbps=1000, total_vfs=0
    )
    host = make_host(packages=2, cores=8, nics=(*CARDS["x710"][:3], realtek), node_mib=64_000)
    plan = make_plan(host, load_profile(shipped_profiles()["srv6-edge"]))
    _, underlay, guests, third = plan.nics
    assert (underlay.role, underlay.driver) == (Role.DPDK, "vfio-pci")
    assert (guests.role, guests.vfs, guests.vf_settings.trust) == (Role.SRIOV, 4, True)
    assert (third.role, third.driver) == (Role.AFXDP, None)
    assert any(argument.startswith("isolcpus=") for argument in plan.kernel_args)
    assert {pages.size_mib for node in plan.memory.nodes for pages in node.pages} == {1024}
    assert plan.nova is not None
    assert [str(spec.address) for spec in plan.nova.pci_device_specs] == ["0000:10:00.1"]
    assert [tunnel.underlay_bridge for tunnel in plan.tunnels] == ["br-underlay"]


def test_the_sandbox_needs_no_reboot() -> None:
    plan = make_plan(
        make_host(cores=16, nics=CARDS["x710"], node_mib=200_000), load_profile(shipped_profiles()["sandbox"])
    )
    assert plan.kernel_args == ()
    assert all(not pages.at_boot for node in plan.memory.nodes for pages in node.pages)


def test_an_installation_whose_profiles_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="the profiles of nfvhost itself cannot be read: No such file or directory"):
        shipped_profiles(str(tmp_path / "gone"))
