"""Who gets which NIC, and why not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic import host as make_host
from synthetic import nic

from nfvhost.model.host import Host, Iommu, IommuGroup, Netdev, Nic, OvsInstall
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import NicPlan
from nfvhost.model.profile import NicWish, OvsWish, Profile, Role
from nfvhost.planner.nics import assign_roles
from nfvhost.planner.notebook import Notebook

MANAGEMENT = "carries the default route of IPv4 (eno1)"
ON_BOARD = nic(
    "0000:05:00.0",
    vendor="10ec",
    device="8168",
    driver="r8169",
    netdevs=("eno1",),
    speed_mbps=1_000,
    total_vfs=None,
    management=MANAGEMENT,
)


def roles(host: Host, *wishes: NicWish, ovs: OvsWish | None = None) -> tuple[dict[str, NicPlan], Notebook]:
    notes = Notebook()
    plans = assign_roles(host, Profile(name="test", nics=wishes, ovs=ovs or OvsWish()), notes)
    assert [plan.pci for plan in plans] == [one.pci for one in host.nics]
    assert all(plan.reason for plan in plans)
    return {str(plan.pci): plan for plan in plans}, notes


def in_one_group(*nics: Nic, also: tuple[str, ...] = ()) -> tuple[Nic, ...]:
    every = [one.pci for one in nics] + [PciAddress.parse(pci) for pci in also]
    return tuple(replace(one, iommu_group=7, group_mates=tuple(sorted(set(every) - {one.pci}))) for one in nics)


def with_netdev(host: Host, name: str, **facts: object) -> Host:
    changed = [replace(one, **facts) if one.name == name else one for one in host.netdevs]  # type: ignore[arg-type]  # fields of Netdev
    return replace(host, netdevs=tuple(changed))


def netdev(name: str, kind: str, lowers: tuple[str, ...]) -> Netdev:
    return Netdev(
        name=name,
        pci=None,
        kind=kind,
        mac=None,
        speed_mbps=None,
        mtu=1500,
        operstate="up",
        driver=None,
        lowers=lowers,
        addresses=(),
    )


def test_without_wishes_the_idle_fast_ports_go_to_dpdk_and_management_stays() -> None:
    plans, notes = roles(make_host(nics=[ON_BOARD, nic("0000:10:00.0"), nic("0000:10:00.1")]))
    assert plans["0000:05:00.0"].role is Role.MANAGEMENT
    assert MANAGEMENT in plans["0000:05:00.0"].reason
    for pci in ("0000:10:00.0", "0000:10:00.1"):
        assert plans[pci].role is Role.DPDK
        assert plans[pci].driver == "vfio-pci"
    assert [plans[pci].physnet for pci in plans] == [None, "physnet1", "physnet2"]
    assert not notes.warnings
    assert {decision.subject for decision in notes.decisions} == {f"nics.{pci}" for pci in plans}


def test_without_wishes_slow_ports_stay_with_the_kernel_where_fast_ones_are() -> None:
    slow = nic("0000:07:00.0", device="1521", driver="igb", speed_mbps=1_000)
    plans, _ = roles(make_host(nics=[ON_BOARD, slow, nic("0000:10:00.0")]))
    assert plans["0000:07:00.0"].role is Role.KERNEL


def of_user_space(*, of_ovs: bool) -> Host:
    extra = (("dpdk-extra", "-a 0000:10:00.1"),) if of_ovs else ()
    ovs = OvsInstall(
        version="3.1.0", dpdk_version="22.11.1", running=True, database=None, bridges=(), other_config=extra
    )
    left = nic("0000:10:00.1", driver="vfio-pci", netdevs=())
    return make_host(nics=[ON_BOARD, nic("0000:10:00.0"), left], ovs=ovs)


def test_a_port_that_leaves_open_vswitch_goes_back_to_its_kernel_driver() -> None:
    plans, _ = roles(of_user_space(of_ovs=True), NicWish(pci=PciAddress.parse("0000:10:00.0"), role=Role.DPDK))
    left = plans["0000:10:00.1"]
    assert (left.role, left.driver) == (Role.KERNEL, "i40e")
    assert left.reason == "no entry of the profile asks for it; i40e is to be bound again, vfio-pci is now"


def test_a_port_of_an_unknown_user_space_program_stays_with_it_unless_the_kernel_is_asked_for() -> None:
    host = of_user_space(of_ovs=False)
    plans, _ = roles(host, NicWish(pci=PciAddress.parse("0000:10:00.0"), role=Role.DPDK))
    assert (plans["0000:10:00.1"].role, plans["0000:10:00.1"].driver) == (Role.UNUSED, None)
    plans, _ = roles(host, NicWish(pci=PciAddress.parse("0000:10:00.1"), role=Role.KERNEL))
    assert (plans["0000:10:00.1"].role, plans["0000:10:00.1"].driver) == (Role.KERNEL, "i40e")


def test_a_port_of_unknown_speed_is_not_called_slow() -> None:
    virtio = nic("0000:12:00.0", vendor="1af4", device="1041", driver="virtio-pci", speed_mbps=None)
    plans, _ = roles(make_host(nics=[ON_BOARD, nic("0000:10:00.0"), virtio]))
    assert plans["0000:12:00.0"].role is Role.KERNEL
    assert plans["0000:12:00.0"].reason.startswith("its speed is not known, and fast ports carry the traffic")


def test_without_wishes_one_slow_port_is_taken_where_no_fast_one_is() -> None:
    ports = [nic(f"0000:07:00.{n}", device="1521", driver="igb", speed_mbps=1_000) for n in range(3)]
    plans, _ = roles(make_host(nics=[ON_BOARD, *ports]))
    assert [plans[str(one.pci)].role for one in ports] == [Role.DPDK, Role.KERNEL, Role.KERNEL]


def test_a_port_without_a_link_is_left_where_others_have_one() -> None:
    host = make_host(nics=[ON_BOARD, nic("0000:10:00.0"), nic("0000:10:00.1")])
    plans, _ = roles(with_netdev(host, "ens16f0", operstate="down"))
    assert plans["0000:10:00.0"].role is Role.UNUSED
    assert "no link" in plans["0000:10:00.0"].reason
    assert plans["0000:10:00.1"].role is Role.DPDK


@pytest.mark.parametrize("facts", [{"addresses": ("192.0.2.7/24",)}, {"lowers": ()}])
def test_a_port_in_use_is_not_taken_without_being_named(facts: dict[str, object]) -> None:
    host = make_host(nics=[ON_BOARD, nic("0000:10:00.0")])
    if "addresses" in facts:
        host = with_netdev(host, "ens16f0", **facts)
    else:
        host = replace(host, netdevs=(*host.netdevs, netdev("br0", "bridge", ("ens16f0",))))
    for wishes in ((), (NicWish(role=Role.DPDK),)):
        plans, _ = roles(host, *wishes)
        assert plans["0000:10:00.0"].role is Role.KERNEL
        assert "ens16f0" in plans["0000:10:00.0"].reason


def test_a_link_local_address_is_no_use_of_a_port() -> None:
    host = with_netdev(make_host(nics=[ON_BOARD, nic("0000:10:00.0")]), "ens16f0", addresses=("fe80::1/64",))
    assert roles(host)[0]["0000:10:00.0"].role is Role.DPDK


def test_where_nothing_shows_management_one_nic_is_kept_for_it() -> None:
    slow = nic("0000:07:00.0", device="1521", driver="igb", speed_mbps=1_000)
    for wishes in ((), (NicWish(role=Role.DPDK),)):
        plans, notes = roles(make_host(nics=[slow, nic("0000:10:00.0")]), *wishes)
        assert plans["0000:07:00.0"].role is Role.KERNEL
        assert plans["0000:10:00.0"].role is Role.DPDK
        assert any("0000:07:00.0 is kept" in text for text in notes.warnings)


def test_a_named_nic_is_taken_although_nothing_shows_management() -> None:
    plans, _ = roles(
        make_host(nics=[nic("0000:10:00.0")]), NicWish(pci=PciAddress.parse("0000:10:00.0"), role=Role.DPDK)
    )
    assert plans["0000:10:00.0"].role is Role.DPDK


@pytest.mark.field_failure(5)
def test_realtek_alone_beside_management_is_carried_by_af_xdp() -> None:
    second = replace(ON_BOARD, pci=PciAddress.parse("0000:06:00.0"), netdevs=("enp6s0",), management=None)
    plans, _ = roles(make_host(nics=[ON_BOARD, second]))
    assert plans["0000:06:00.0"].role is Role.AFXDP
    assert plans["0000:06:00.0"].driver is None
    assert "25.07" in plans["0000:06:00.0"].reason


def test_realtek_gets_dpdk_from_the_release_that_has_it() -> None:
    second = replace(ON_BOARD, pci=PciAddress.parse("0000:06:00.0"), netdevs=("enp6s0",), management=None)
    plans, _ = roles(make_host(nics=[ON_BOARD, second]), ovs=OvsWish(version="4.0"))
    assert plans["0000:06:00.0"].role is Role.DPDK


def test_the_only_nic_carrying_management_stays_and_the_user_hears_what_to_do() -> None:
    plans, notes = roles(make_host(nics=[ON_BOARD]))
    assert plans["0000:05:00.0"].role is Role.MANAGEMENT
    assert any("second NIC" in text for text in notes.warnings)
    assert not notes.problems


@pytest.mark.parametrize("role", [Role.DPDK, Role.SRIOV, Role.VDPA, Role.AFXDP, Role.UNUSED])
def test_asking_for_the_management_nic_is_unsafe(role: Role) -> None:
    for wish in (NicWish(pci=ON_BOARD.pci, role=role), NicWish(netdev="eno1", role=role)):
        plans, notes = roles(make_host(nics=[ON_BOARD, nic("0000:10:00.0")]), wish)
        assert plans["0000:05:00.0"].role is Role.MANAGEMENT
        assert [danger.where for danger in notes.dangers] == ["nics[0].pci" if wish.pci else "nics[0].netdev"]
        assert MANAGEMENT in notes.dangers[0].what
        assert not notes.problems


def test_a_general_wish_never_reaches_the_management_nic() -> None:
    fast = nic("0000:10:00.0", management=MANAGEMENT)
    plans, notes = roles(make_host(nics=[fast, nic("0000:10:00.1")]), NicWish(role=Role.DPDK))
    assert plans["0000:10:00.0"].role is Role.MANAGEMENT
    assert plans["0000:10:00.1"].role is Role.DPDK
    assert not notes.dangers


def test_a_nic_that_is_not_there_is_refused_with_those_that_are() -> None:
    _, notes = roles(
        make_host(nics=[ON_BOARD, nic("0000:10:00.0")]), NicWish(pci=PciAddress.parse("0000:99:00.0"), role=Role.DPDK)
    )
    (problem,) = notes.problems
    assert problem.where == "nics[0].pci"
    assert "0000:99:00.0" in problem.what
    assert "0000:10:00.0" in (problem.hint or "")


def test_a_pci_function_that_is_no_nic_is_refused_as_that() -> None:
    disk = PciAddress.parse("0000:01:00.0")
    host = make_host(nics=[ON_BOARD], iommu=Iommu(enabled=True, groups=(IommuGroup(id=1, devices=(disk,)),)))
    _, notes = roles(host, NicWish(pci=disk, role=Role.DPDK))
    assert "not a NIC" in notes.problems[0].what


def test_the_first_entry_that_matches_decides_and_a_count_ends_it() -> None:
    ports = [nic(f"0000:10:00.{n}") for n in range(3)]
    plans, _ = roles(
        make_host(nics=[ON_BOARD, *ports]),
        NicWish(role=Role.SRIOV, count=1, physnet="fast"),
        NicWish(role=Role.DPDK, driver="i40e", physnet="slow"),
    )
    assert [plans[str(one.pci)].role for one in ports] == [Role.SRIOV, Role.DPDK, Role.DPDK]
    assert [plans[str(one.pci)].wish for one in ports] == [0, 1, 1]
    assert plans["0000:10:00.0"].vfs == 8
    assert plans["0000:10:00.0"].vf_driver == "vfio-pci"
    assert plans["0000:10:00.0"].driver is None
    assert "count them" in plans["0000:10:00.0"].reason


def test_each_wish_that_finds_no_nic_is_told_its_own_obstacle() -> None:
    card = nic("0000:10:00.0", vendor="10ec", device="8168", driver="r8169", total_vfs=None)
    _, notes = roles(
        make_host(nics=[ON_BOARD, card]), NicWish(role=Role.SRIOV, count=1), NicWish(role=Role.DPDK, count=2)
    )
    first, second = (text for text in notes.warnings if text.startswith("nics["))
    assert first.startswith("nics[0] of the profile asks for 1 NIC to be sriov, and none here can be (0000:10:00.0: it")
    assert "asks for 2 NICs to be dpdk" in second
    assert "has no driver for Realtek" in second


def test_a_nic_named_twice_is_refused() -> None:
    wish = NicWish(pci=PciAddress.parse("0000:10:00.0"), role=Role.DPDK)
    _, notes = roles(make_host(nics=[ON_BOARD, nic("0000:10:00.0")]), wish, wish)
    assert [problem.where for problem in notes.problems] == ["nics[1].pci"]


def test_more_vfs_than_the_card_has_are_refused_where_it_is_named() -> None:
    host = make_host(nics=[ON_BOARD, nic("0000:10:00.0", total_vfs=4)])
    _, notes = roles(host, NicWish(pci=PciAddress.parse("0000:10:00.0"), role=Role.SRIOV, vfs=5))
    assert "4" in notes.problems[0].what
    plans, notes = roles(host, NicWish(role=Role.SRIOV, vfs=5))
    assert plans["0000:10:00.0"].vfs == 4
    assert notes.warnings


def test_vfs_that_are_there_are_kept_in_number() -> None:
    port = nic("0000:10:00.0", num_vfs=3)
    plans, _ = roles(make_host(nics=[ON_BOARD, port]), NicWish(role=Role.SRIOV))
    assert plans["0000:10:00.0"].vfs == 3


def test_a_pf_with_vfs_is_not_bound_away_from_under_them() -> None:
    port = nic("0000:10:00.0", num_vfs=3)
    plans, _ = roles(make_host(nics=[ON_BOARD, port]))
    assert plans["0000:10:00.0"].role is not Role.DPDK
    assert "3 VFs" in plans["0000:10:00.0"].reason


def test_a_vf_is_left_alone_unless_it_is_named() -> None:
    port = nic("0000:10:00.0", num_vfs=1)
    vf = nic("0000:10:02.0", device="154c", driver="iavf", physfn=port.pci, total_vfs=None)
    host = make_host(nics=[ON_BOARD, port, vf])
    for wishes in ((), (NicWish(role=Role.DPDK),)):
        plans, _ = roles(host, *wishes)
        assert plans["0000:10:02.0"].role is Role.KERNEL
        assert "VF of 0000:10:00.0" in plans["0000:10:02.0"].reason
    plans, _ = roles(host, NicWish(pci=vf.pci, role=Role.DPDK))
    assert plans["0000:10:02.0"].role is Role.DPDK


@pytest.mark.field_failure(7)
def test_mlx5_is_never_bound_to_vfio() -> None:
    port = nic("0000:10:00.0", vendor="15b3", device="1017", driver="mlx5_core")
    plans, _ = roles(make_host(nics=[ON_BOARD, port]))
    assert plans["0000:10:00.0"].role is Role.DPDK
    assert plans["0000:10:00.0"].driver is None
    for role in (Role.SRIOV, Role.VDPA):
        plans, _ = roles(make_host(nics=[ON_BOARD, port]), NicWish(role=role, vfs=4))
        assert plans["0000:10:00.0"].role is role
        assert plans["0000:10:00.0"].vf_driver is None
        assert plans["0000:10:00.0"].vdpa_devices == (4 if role is Role.VDPA else None)


def test_vfs_of_a_card_that_speaks_virtio_are_bound_to_what_makes_vdpa_devices_of_them() -> None:
    port = nic("0000:10:00.0", vendor="1af4", device="1041", driver="virtio-pci", total_vfs=4)
    plans, notes = roles(make_host(nics=[ON_BOARD, port]), NicWish(pci=port.pci, role=Role.VDPA, vfs=2))
    plan = plans["0000:10:00.0"]
    assert (plan.driver, plan.vfs, plan.vf_driver, plan.vdpa_devices) == (None, 2, "vp-vdpa", 2)
    assert not notes.problems
    vf = nic("0000:10:00.1", vendor="1af4", device="1041", driver="virtio-pci", physfn=port.pci, total_vfs=None)
    plans, _ = roles(make_host(nics=[ON_BOARD, port, vf]), NicWish(pci=vf.pci, role=Role.VDPA))
    assert (plans["0000:10:00.1"].driver, plans["0000:10:00.1"].vdpa_devices) == ("vp-vdpa", 1)


def test_vdpa_of_a_card_without_a_driver_for_it_is_refused() -> None:
    host = make_host(nics=[ON_BOARD, nic("0000:10:00.0")])
    _, notes = roles(host, NicWish(pci=PciAddress.parse("0000:10:00.0"), role=Role.VDPA))
    assert "no vDPA driver" in notes.problems[0].what
    plans, notes = roles(host, NicWish(role=Role.VDPA))
    assert plans["0000:10:00.0"].role is Role.KERNEL
    assert notes.warnings
    assert not notes.problems


def test_infiniband_and_wifi_are_left_with_the_reason() -> None:
    wifi = nic("0000:02:00.0", device="51f0", driver="iwlwifi", class_code="028000")
    fabric = nic("0000:03:00.0", vendor="15b3", device="1013", driver="mlx5_core", class_code="020700")
    plans, _ = roles(make_host(nics=[ON_BOARD, wifi, fabric]), NicWish(role=Role.DPDK))
    assert "wifi" in plans["0000:02:00.0"].reason
    assert "InfiniBand" in plans["0000:03:00.0"].reason
    assert {plans[pci].role for pci in ("0000:02:00.0", "0000:03:00.0")} == {Role.KERNEL}


def test_a_group_with_the_management_nic_is_refused_when_asked_and_left_else() -> None:
    board, port = in_one_group(ON_BOARD, nic("0000:10:00.0"))
    host = make_host(nics=[board, port])
    plans, notes = roles(host)
    assert plans["0000:10:00.0"].role is not Role.DPDK
    assert "IOMMU group 7" in plans["0000:10:00.0"].reason
    assert not notes.problems
    _, notes = roles(host, NicWish(pci=port.pci, role=Role.DPDK))
    assert "IOMMU group 7" in notes.problems[0].what


def test_a_group_with_something_that_is_no_nic_is_not_given_away() -> None:
    (port,) = in_one_group(nic("0000:10:00.0"), also=("0000:10:00.7",))
    plans, _ = roles(make_host(nics=[ON_BOARD, port]))
    assert plans["0000:10:00.0"].role is not Role.DPDK
    assert "0000:10:00.7" in plans["0000:10:00.0"].reason


def test_an_idle_mate_goes_to_vfio_with_the_port_that_needs_it() -> None:
    first, second = in_one_group(nic("0000:10:00.0"), nic("0000:10:00.1"))
    plans, notes = roles(make_host(nics=[ON_BOARD, first, second]), NicWish(role=Role.DPDK, count=1))
    assert plans["0000:10:00.0"].role is Role.DPDK
    assert plans["0000:10:00.1"].role is Role.UNUSED
    assert plans["0000:10:00.1"].driver == "vfio-pci"
    assert any("0000:10:00.1" in text for text in notes.warnings)


def test_a_mate_that_the_profile_wants_elsewhere_is_refused() -> None:
    first, second = in_one_group(nic("0000:10:00.0"), nic("0000:10:00.1"))
    _, notes = roles(
        make_host(nics=[ON_BOARD, first, second]),
        NicWish(pci=first.pci, role=Role.DPDK),
        NicWish(pci=second.pci, role=Role.SRIOV),
    )
    assert notes.problems
    assert notes.problems[0].where == "nics[0].pci"


def test_an_iommu_that_is_off_is_told() -> None:
    host = make_host(nics=[ON_BOARD, nic("0000:10:00.0")], iommu=Iommu(enabled=False, groups=()))
    plans, notes = roles(host)
    assert plans["0000:10:00.0"].role is Role.DPDK
    assert any(decision.subject == "nics.iommu" and "reboot" in decision.choice for decision in notes.decisions)


def test_a_virtual_machine_without_an_iommu_uses_af_xdp_unless_it_insists() -> None:
    port = nic("0000:10:00.0", vendor="1af4", device="1041", driver="virtio-pci", speed_mbps=None)
    host = make_host(nics=[ON_BOARD, port], virtualization="kvm", iommu=Iommu(enabled=False, groups=()))
    assert roles(host)[0]["0000:10:00.0"].role is Role.AFXDP
    plans, notes = roles(host, NicWish(pci=port.pci, role=Role.DPDK))
    assert plans["0000:10:00.0"].role is Role.DPDK
    assert any("noiommu" in text for text in notes.warnings)


def test_no_pci_leaves_every_nic_to_the_kernel() -> None:
    host = make_host(nics=[ON_BOARD, nic("0000:10:00.0")])
    plans, notes = roles(host, ovs=OvsWish(no_pci=True))
    assert plans["0000:10:00.0"].role is Role.KERNEL
    assert not notes.warnings
    _, notes = roles(host, NicWish(pci=PciAddress.parse("0000:10:00.0"), role=Role.DPDK), ovs=OvsWish(no_pci=True))
    assert "noPci" in notes.problems[0].what


def test_the_dpdk_of_the_installed_ovs_decides() -> None:
    new = nic("0000:10:00.0", device="57b0", driver="ixgbe")
    ovs = OvsInstall(version="3.1.0", dpdk_version="22.11.1", running=True, database=None, bridges=(), other_config=())
    assert roles(make_host(nics=[ON_BOARD, new], ovs=ovs))[0]["0000:10:00.0"].role is Role.AFXDP
    ovs = replace(ovs, version="3.5.0", dpdk_version="24.11.1")
    assert roles(make_host(nics=[ON_BOARD, new], ovs=ovs))[0]["0000:10:00.0"].role is Role.DPDK


def test_a_nic_marked_as_management_by_the_profile_is_left_alone() -> None:
    host = make_host(nics=[nic("0000:10:00.0"), nic("0000:10:00.1")])
    plans, notes = roles(host, NicWish(netdev="ens16f0", role=Role.MANAGEMENT), NicWish(role=Role.DPDK))
    assert plans["0000:10:00.0"].role is Role.MANAGEMENT
    assert plans["0000:10:00.1"].role is Role.DPDK
    assert not notes.warnings


def test_a_named_realtek_is_refused_for_dpdk_and_pointed_to_af_xdp() -> None:
    second = replace(ON_BOARD, pci=PciAddress.parse("0000:06:00.0"), netdevs=("enp6s0",), management=None)
    host = make_host(nics=[ON_BOARD, second])
    _, notes = roles(host, NicWish(pci=second.pci, role=Role.DPDK))
    assert "afxdp" in (notes.problems[0].hint or "")
    plans, notes = roles(host, NicWish(pci=second.pci, role=Role.AFXDP))
    assert plans["0000:06:00.0"].role is Role.AFXDP
    assert not notes.problems
