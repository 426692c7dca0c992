"""Settings of VFs, from the profile into the plan."""

from __future__ import annotations

from typing import Any

import pytest
from plan_rules import broken_rules
from synthetic import host as make_host
from synthetic import nic

from nfvhost.errors import DocumentError, Problem
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan, VfSettings
from nfvhost.model.profile import LinkState, NicWish, Profile, Role
from nfvhost.planner import make_plan

BOARD = nic("0000:05:00.0", device="1533", driver="igb", netdevs=("eno1",), speed_mbps=1000, management="default route")
HOST = make_host(cores=16, nics=(BOARD, nic("0000:10:00.0"), nic("0000:10:00.1")), node_mib=64_000)
MACS = ("02:00:00:00:00:0a", "02:00:00:00:00:0b")


def plan(*wishes: NicWish) -> Plan:
    made = make_plan(HOST, Profile(name="test", nics=wishes))
    assert broken_rules(HOST, made) == []
    return made


def refused(*wishes: NicWish) -> list[Problem]:
    with pytest.raises(DocumentError) as caught:
        make_plan(HOST, Profile(name="test", nics=wishes))
    return list(caught.value.problems)


def wish(**facts: Any) -> NicWish:  # noqa: ANN401 - fields of NicWish
    return NicWish(**{"pci": PciAddress.parse("0000:10:00.0"), "role": Role.SRIOV, **facts})


def test_what_the_profile_says_of_vfs_is_in_the_plan_and_in_its_reason() -> None:
    made = plan(
        wish(
            vfs=4,
            vf_macs=("02:00:00:00:00:0A", MACS[1]),
            vlan=100,
            trusted=True,
            vf_spoof_check=False,
            vf_link_state=LinkState.ENABLE,
            vf_max_tx_mbps=1000,
        )
    )
    port = made.nics[1]
    assert port.vf_settings == VfSettings(
        macs=MACS, vlan=100, trust=True, spoof_check=False, link_state=LinkState.ENABLE, max_tx_mbps=1000
    )
    assert (
        "4 of 64 VFs: VLAN 100, trusted, spoof check off, link state enable, at most 1000 Mbit/s each, "
        "addresses 02:00:00:00:00:0a, 02:00:00:00:00:0b"
    ) in port.reason


def test_vfs_of_which_nothing_is_said_stay_as_the_driver_makes_them() -> None:
    made = plan(wish(vfs=4))
    assert made.nics[1].vf_settings == VfSettings()
    assert "4 of 64 VFs" in made.nics[1].reason


@pytest.mark.parametrize(
    ("key", "facts"),
    [
        ("vfMacs", {"vf_macs": MACS}),
        ("vfSpoofCheck", {"vf_spoof_check": False}),
        ("vfLinkState", {"vf_link_state": LinkState.AUTO}),
        ("vfMaxTxMbps", {"vf_max_tx_mbps": 0}),
        ("trusted", {"trusted": True}),
        ("vfs", {"vfs": 0}),
    ],
)
@pytest.mark.parametrize("role", [Role.DPDK, Role.AFXDP, Role.KERNEL, Role.UNUSED, None])
def test_settings_of_vfs_are_refused_where_none_are_made(key: str, facts: dict[str, Any], role: Role | None) -> None:
    (problem,) = refused(wish(role=role, **facts))
    assert problem.where == f"nics[0].{key}"
    assert problem.what.endswith("makes no VFs")


@pytest.mark.parametrize("role", [Role.KERNEL, Role.UNUSED, Role.MANAGEMENT])
def test_a_vlan_is_refused_on_a_nic_that_is_not_touched(role: Role) -> None:
    assert [problem.where for problem in refused(wish(role=role, vlan=7))] == ["nics[0].vlan"]


def test_more_addresses_than_vfs_are_refused() -> None:
    (problem,) = refused(wish(vfs=1, vf_macs=MACS))
    assert problem.where == "nics[0].vfMacs"
    assert problem.what == "more addresses (2) than VFs: 0000:10:00.0 gets 1"


def test_an_address_that_is_there_twice_is_refused_in_whatever_case() -> None:
    (problem,) = refused(
        wish(vfs=2, vf_macs=MACS), wish(pci=PciAddress.parse("0000:10:00.1"), vfs=2, vf_macs=("02:00:00:00:00:0A",))
    )
    assert problem.where == "nics[1].vfMacs[0]"
    assert problem.what == "02:00:00:00:00:0A is the address of nics[0].vfMacs[0] too"


def test_addresses_for_the_vfs_of_two_nics_at_once_are_refused() -> None:
    (problem,) = refused(NicWish(driver="i40e", role=Role.SRIOV, vfs=2, vf_macs=MACS))
    assert problem.where == "nics[0].vfMacs"
    assert "0000:10:00.0, 0000:10:00.1" in problem.what


def test_a_vf_itself_cannot_be_given_settings_of_vfs() -> None:
    virtual = nic(
        "0000:20:02.0",
        vendor="15b3",
        device="101e",
        driver="mlx5_core",
        total_vfs=None,
        physfn=PciAddress.parse("0000:20:00.0"),
    )
    host = make_host(cores=16, nics=(BOARD, virtual), node_mib=64_000)
    with pytest.raises(DocumentError) as caught:
        make_plan(host, Profile(name="test", nics=(wish(pci=virtual.pci, role=Role.VDPA, trusted=True),)))
    (problem,) = caught.value.problems
    assert (problem.where, problem.hint) == ("nics[0].trusted", "say it in an entry for 0000:20:00.0")


def test_a_rate_above_the_ports_own_is_told() -> None:
    assert any("40000 Mbit/s" in warning for warning in plan(wish(vfs=2, vf_max_tx_mbps=40_000)).warnings)


def test_that_nova_sets_vfs_of_guests_is_told_where_it_matters() -> None:
    said = "what the profile says holds for VFs that no guest has"
    assert any(said in one for one in plan(wish(vfs=2, vlan=100, physnet="physnet2")).warnings)
    assert not any(said in one for one in plan(wish(vfs=2, trusted=True, physnet="physnet2")).warnings)
    assert not any(said in one for one in plan(wish(vfs=2, vlan=100)).warnings)
