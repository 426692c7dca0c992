"""Tunnels: what is refused before OVS would take it in silence, and the MTU inside."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic import host as make_host

from nfvhost.model.encapsulation import overhead
from nfvhost.model.host import Host, OvsInstall
from nfvhost.model.plan import OvsBridge, OvsPlan, OvsPort, TunnelPlan
from nfvhost.model.profile import OvsWish, Profile, TunnelType, TunnelWish
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.tunnels import plan_tunnels

SRV6 = TunnelWish(
    name="far",
    type=TunnelType.SRV6,
    local="fc00:a::1",
    remote="fc00:e1::1",
    segments=("fc00:e1::1", "fc00:e2::1", "fc00:d4::1"),
    gateway="fc00:a::2",
)
VXLAN = TunnelWish(name="vx0", type=TunnelType.VXLAN, local="192.0.2.1", remote="192.0.2.9", key=42)


def switch(version: str = "3.5", mtu: int = 1500) -> OvsPlan:
    port = OvsPort(
        name="dpdk0",
        type="dpdk",
        options=(("dpdk-devargs", "0000:10:00.0"),),
        other_config=(),
        mtu=mtu,
        tag=None,
        node=0,
        reason="",
    )
    bridges = tuple(
        OvsBridge(name=name, datapath_type="netdev", fail_mode=None, physnet=None, ports=ports)
        for name, ports in (("br-int", ()), ("br-phy", (port,)))
    )
    return OvsPlan(version=version, other_config=(), socket_dir="/run", bridges=bridges)


def planned(
    *wishes: TunnelWish, version: str = "3.5", mtu: int = 1500, host: Host | None = None
) -> tuple[tuple[TunnelPlan, ...], OvsPlan, Notebook]:
    notes = Notebook()
    profile = Profile(name="test", tunnels=wishes, ovs=OvsWish(version=version))
    tunnels, ovs = plan_tunnels(host or make_host(), profile, switch(version, mtu), notes)
    assert ovs is not None
    return tunnels, ovs, notes


def refused(*wishes: TunnelWish, version: str = "3.5", mtu: int = 1500) -> list[str | None]:
    tunnels, ovs, notes = planned(*wishes, version=version, mtu=mtu)
    assert len(tunnels) < len(wishes)
    assert all(problem.hint for problem in notes.problems)
    assert sum(len(bridge.ports) for bridge in ovs.bridges) < len(wishes) + 2 + 1
    return [problem.where for problem in notes.problems]


@pytest.mark.parametrize(
    ("kind", "ipv6", "segments", "key", "expected"),
    [
        (TunnelType.SRV6, True, 1, False, 64),
        (TunnelType.SRV6, True, 3, False, 96),
        (TunnelType.SRV6, True, 6, False, 144),
        (TunnelType.VXLAN, False, 0, True, 50),
        (TunnelType.VXLAN, True, 0, True, 70),
        (TunnelType.GENEVE, False, 0, True, 50),
        (TunnelType.GRE, False, 0, False, 38),
        (TunnelType.GRE, True, 0, True, 62),
    ],
)
def test_the_overhead_is_that_of_the_headers(
    kind: TunnelType, *, ipv6: bool, segments: int, key: bool, expected: int
) -> None:
    assert overhead(kind, ipv6=ipv6, segments=segments, key=key) == expected


def test_srv6_is_planned_with_its_segments_and_a_port_that_receives() -> None:
    (tunnel,), ovs, notes = planned(SRV6, mtu=9000)
    assert not notes.problems
    assert tunnel.mtu == 9000 - 96
    assert (tunnel.bridge, tunnel.underlay_bridge, tunnel.underlay_prefix) == ("br-int", "br-phy", 64)
    far, receiver = next(bridge.ports for bridge in ovs.bridges if bridge.name == "br-int")
    assert dict(far.options) == {
        "local_ip": "fc00:a::1",
        "remote_ip": "fc00:e1::1",
        "srv6_segs": "fc00:e1::1,fc00:e2::1,fc00:d4::1",
    }
    assert dict(receiver.options) == {"local_ip": "fc00:a::1", "remote_ip": "flow"}
    assert receiver.type == "srv6"


def test_tunnels_of_one_address_share_one_receiver_and_a_named_one_serves() -> None:
    other = replace(SRV6, name="far2", remote="fc00:e9::1", segments=("fc00:e9::1",))
    _, ovs, _ = planned(SRV6, other)
    assert sum(dict(port.options).get("remote_ip") == "flow" for bridge in ovs.bridges for port in bridge.ports) == 1
    own = TunnelWish(name="rx", type=TunnelType.SRV6, local="fc00:a::1", remote="flow")
    _, ovs, notes = planned(SRV6, own)
    assert [port.name for bridge in ovs.bridges for port in bridge.ports if port.type == "srv6"] == ["far", "rx"]
    assert not notes.problems


def test_a_single_segment_needs_no_list_and_costs_the_header_all_the_same() -> None:
    (tunnel,), ovs, _ = planned(replace(SRV6, segments=()))
    assert tunnel.segments == ("fc00:e1::1",)
    assert tunnel.mtu == 1500 - 64
    port = next(port for bridge in ovs.bridges for port in bridge.ports if port.name == "far")
    assert "srv6_segs" not in dict(port.options)


def test_several_segments_are_warned_of_and_one_is_not() -> None:
    assert any("forgets" in text for text in planned(SRV6)[2].warnings)
    assert not planned(replace(SRV6, segments=()))[2].warnings


def test_seven_segments_are_refused_and_six_are_not() -> None:
    six = ("fc00:e1::1", *(f"fc00:{n}::1" for n in range(2, 7)))
    assert planned(replace(SRV6, segments=six), mtu=9000)[0]
    assert refused(replace(SRV6, segments=(*six, "fc00:7::1"))) == ["tunnels[0].segments"]


@pytest.mark.parametrize("version", ["2.17", "3.0", "3.1"])
def test_srv6_before_ovs_3_2_is_refused(version: str) -> None:
    assert refused(SRV6, version=version) == ["tunnels[0].type"]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"segments": ("fc00:e2::1", "fc00:e1::1")}, "tunnels[0].segments[0]"),
        ({"segments": ("fc00:e1::1", "192.0.2.1")}, "tunnels[0].segments[1]"),
        ({"segments": ("fc00:e1::1", "nonsense")}, "tunnels[0].segments[1]"),
        ({"segments": ("fc00:e1::1", "ff02::1")}, "tunnels[0].segments[1]"),
        ({"remote": "192.0.2.9", "segments": ()}, "tunnels[0].remote"),
        ({"local": "192.0.2.9"}, "tunnels[0].local"),
        ({"local": "nonsense"}, "tunnels[0].local"),
        ({"flow_label": "bogus"}, "tunnels[0].flowLabel"),
        ({"key": 7}, "tunnels[0].key"),
        ({"gateway": None}, "tunnels[0].gateway"),
        ({"gateway": "fc00:b::2"}, "tunnels[0].gateway"),
        ({"gateway": "fc00:a::1"}, "tunnels[0].gateway"),
        ({"gateway": "192.0.2.1"}, "tunnels[0].gateway"),
        ({"gateway_mac": "01:00:5e:00:00:01"}, "tunnels[0].gatewayMac"),
        ({"gateway_mac": "nonsense"}, "tunnels[0].gatewayMac"),
        ({"underlay_prefix": 129}, "tunnels[0].underlayPrefix"),
        ({"underlay_bridge": "br-none"}, "tunnels[0].underlayBridge"),
        ({"networks": ("10.0.0.0/24", "10.0.0.1/24")}, "tunnels[0].networks[1]"),
        ({"name": "a-name-that-is-too-long"}, "tunnels[0].name"),
        ({"name": "dpdk0"}, "tunnels[0].name"),
    ],
)
def test_what_ovs_would_take_in_silence_is_refused(change: dict[str, object], where: str) -> None:
    assert refused(replace(SRV6, **change)) == [where]  # type: ignore[arg-type]  # fields of TunnelWish


def test_segments_and_flow_labels_are_for_srv6_alone() -> None:
    wish = replace(VXLAN, segments=("fc00:e1::1",), flow_label="copy")
    assert refused(wish) == ["tunnels[0].segments", "tunnels[0].flowLabel"]


def test_a_vni_has_24_bits_and_a_gre_key_32() -> None:
    assert refused(replace(VXLAN, key=1 << 24)) == ["tunnels[0].key"]
    assert planned(replace(VXLAN, type=TunnelType.GRE, key=1 << 24))[0]


def test_vxlan_is_planned_with_the_mtu_that_is_left() -> None:
    (tunnel,), ovs, notes = planned(VXLAN)
    assert tunnel.mtu == 1450
    port = next(port for bridge in ovs.bridges for port in bridge.ports if port.name == "vx0")
    assert (port.type, dict(port.options)) == (
        "vxlan",
        {"key": "42", "local_ip": "192.0.2.1", "remote_ip": "192.0.2.9"},
    )
    assert not notes.warnings


def test_ends_of_different_families_or_the_same_address_are_refused() -> None:
    assert refused(replace(VXLAN, remote="fc00::1")) == ["tunnels[0].remote"]
    assert refused(replace(VXLAN, remote="192.0.2.1")) == ["tunnels[0].remote"]


def test_twins_are_refused() -> None:
    assert refused(VXLAN, replace(VXLAN, name="vx1")) == ["tunnels[1].remote"]
    assert refused(VXLAN, replace(VXLAN, key=43)) == ["tunnels[1].name"]
    assert len(planned(VXLAN, replace(VXLAN, name="vx1", key=43))[0]) == 2


def test_a_small_underlay_is_warned_of_and_a_tiny_one_refused() -> None:
    assert any("1280" in text for text in planned(SRV6, mtu=1300)[2].warnings)
    assert refused(SRV6, mtu=128) == ["tunnels[0]"]


def test_an_underlay_bridge_that_ovs_has_already_will_do() -> None:
    ovs = OvsInstall(
        version="3.5.0", dpdk_version=None, running=True, database=None, bridges=("br-old",), other_config=()
    )
    (tunnel,), _, _ = planned(replace(SRV6, underlay_bridge="br-old"), host=make_host(ovs=ovs))
    assert tunnel.underlay_bridge == "br-old"


def test_without_ovs_tunnels_are_left_out_with_a_warning() -> None:
    notes = Notebook()
    assert plan_tunnels(make_host(), Profile(name="x", tunnels=(SRV6,)), None, notes) == ((), None)
    assert notes.warnings


def test_all_problems_of_a_tunnel_are_told_at_once() -> None:
    wish = replace(SRV6, segments=(*("fc00:e1::1",) * 7,), flow_label="bogus", key=1, gateway=None)
    assert refused(wish) == [
        "tunnels[0].key",
        "tunnels[0].segments",
        "tunnels[0].flowLabel",
        "tunnels[0].gateway",
    ]


STEERED = replace(SRV6, networks=("10.2.0.0/24", "fd02::/64"), guest_port="vhu0", guest_mac="02:00:00:00:01:0A")


def test_a_guests_port_is_planned_with_its_reason_and_warned_of_where_the_plan_makes_none() -> None:
    (tunnel,), _, notes = planned(STEERED)

    assert (tunnel.guest_port, tunnel.guest_mac) == ("vhu0", "02:00:00:00:01:0a")
    assert "tunnels.far.guestPort" in {one.subject for one in notes.decisions}
    assert any("makes no port vhu0" in text for text in notes.warnings)
    own = planned(replace(STEERED, guest_port="br-int"))
    assert not any("makes no port" in text for text in own[2].warnings)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"guest_mac": None}, "tunnels[0].guestMac"),
        ({"guest_port": None}, "tunnels[0].guestPort"),
        ({"guest_mac": "02:00"}, "tunnels[0].guestMac"),
        ({"guest_mac": "01:00:00:00:00:01"}, "tunnels[0].guestMac"),
        ({"guest_port": "a name"}, "tunnels[0].guestPort"),
        ({"guest_port": "dpdk0"}, "tunnels[0].guestPort"),
        ({"remote": "flow", "segments": ()}, "tunnels[0].networks"),
    ],
)
def test_a_guest_that_no_flow_could_serve_is_refused(change: dict[str, object], where: str) -> None:
    assert refused(replace(STEERED, **change)) == [where]  # type: ignore[arg-type] # fields by name


def test_tunnels_of_ethernet_need_no_flows() -> None:
    assert refused(replace(VXLAN, guest_port="vhu0", guest_mac="02:00:00:00:01:02")) == ["tunnels[0].guestPort"]


def test_two_guests_need_local_addresses_of_their_own_and_may_have_the_same_networks() -> None:
    second = replace(STEERED, name="far2", remote="fc00:e1::2", segments=("fc00:e1::2",), guest_port="vhu1")

    assert refused(STEERED, second) == ["tunnels[1].guestPort"]
    assert refused(STEERED, replace(second, guest_port="vhu0", bridge="br-other")) == ["tunnels[1].guestPort"]
    assert len(planned(STEERED, replace(second, local="fc00:a::9"))[0]) == 2


def test_a_network_goes_into_one_tunnel_of_a_guest() -> None:
    second = replace(STEERED, name="far2", remote="fc00:e1::2", segments=("fc00:e1::2",))

    assert refused(STEERED, second) == ["tunnels[1].networks"]
    assert len(planned(STEERED, replace(second, networks=("10.2.0.0/25",)))[0]) == 2


def test_a_guests_own_port_is_no_way_to_the_underlay() -> None:
    ovs = switch()
    ports = tuple(replace(port, name="guest0") for bridge in ovs.bridges for port in bridge.ports)
    own = OvsBridge(name="br-a", datapath_type="netdev", fail_mode=None, physnet=None, ports=ports)
    before = replace(ovs, bridges=(own, *ovs.bridges))
    wish = replace(STEERED, bridge="br-a", guest_port="guest0")

    (steered,), _ = plan_tunnels(make_host(), Profile(name="test", tunnels=(wish,)), before, Notebook())
    (plain,), _ = plan_tunnels(make_host(), Profile(name="test", tunnels=(SRV6,)), before, Notebook())

    assert (steered.underlay_bridge, plain.underlay_bridge) == ("br-phy", "br-a")
