"""Keys, bridges and ports of Open vSwitch."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic import host as make_host
from synthetic import nic

from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import Host, OvsInstall
from nfvhost.model.ovs_keys import KEYS, key_known, option_known, release
from nfvhost.model.plan import CpuPools, MemoryPlan, NodeMemory, OvsPlan
from nfvhost.model.profile import (
    MemoryWish,
    NicWish,
    NovaWish,
    OvsWish,
    PatchPair,
    Profile,
    Role,
    VhostPort,
    VirtualPort,
)
from nfvhost.model.vdevs import parse_vdev
from nfvhost.planner import nics, ovs
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.releases import planned_releases

BOARD = nic("0000:05:00.0", vendor="10ec", device="8168", driver="r8169", netdevs=("eno1",), management="default route")
X710 = nic("0000:10:00.0")


def pools(pmd: str = "2-3", host: str = "0-1") -> CpuPools:
    cpus = CpuSet.parse(host)
    return CpuPools(host=cpus, shared=cpus, pmd=CpuSet.parse(pmd), dedicated=EMPTY, idle=EMPTY, isolated=EMPTY)


def memory(*ovs_mib: int, first: int = 0) -> MemoryPlan:
    return MemoryPlan(
        nodes=tuple(
            NodeMemory(node=node, total_mib=32768, host_mib=2048, ovs_mib=mib, guest_mib=0, pages=())
            for node, mib in enumerate(ovs_mib, start=first)
        )
    )


def planned(
    host: Host | None = None,
    *,
    cpus: CpuPools | None = None,
    mib: MemoryPlan | None = None,
    **wishes: Any,  # noqa: ANN401 - fields of Profile
) -> tuple[OvsPlan | None, Notebook]:
    host = host or make_host(nics=[BOARD, X710])
    profile = Profile(name="test", **wishes)
    notes = Notebook()
    roles = nics.assign_roles(host, profile, notes)
    cpus = cpus or pools()
    ports = ovs.queues(profile, ovs.dpdk_ports(host, profile, roles, notes), cpus, host)
    return ovs.plan_ovs(host, profile, roles, ports, cpus, mib or memory(1024), notes), notes


def keys(plan: OvsPlan | None) -> dict[str, str]:
    assert plan is not None
    return dict(plan.other_config)


def test_masks_name_the_pmd_pool_and_one_cpu_of_the_host_pool() -> None:
    plan, notes = planned()
    assert keys(plan)["pmd-cpu-mask"] == "0xc"
    assert keys(plan)["dpdk-lcore-mask"] in {"0x1", "0x2"}
    assert keys(plan)["dpdk-init"] == "true"
    assert not notes.problems


@pytest.mark.field_failure(21)
def test_handler_and_revalidator_threads_are_counted_for_the_one_cpu_that_they_share() -> None:
    plan, _ = planned()
    assert (keys(plan)["n-handler-threads"], keys(plan)["n-revalidator-threads"]) == ("1", "1")


def test_the_lcore_avoids_cpus_that_an_old_mask_cannot_name() -> None:
    host = make_host(cores=256, nics=[BOARD, X710])
    far = pools(pmd="2", host="200-201")
    assert "dpdk-lcore-mask" not in keys(planned(host, cpus=far, ovs=OvsWish(version="3.5"))[0])
    assert keys(planned(host, cpus=far, ovs=OvsWish(version="3.7"))[0])["dpdk-lcore-mask"] == hex(1 << 200)
    near = pools(pmd="2", host="0,200")
    assert keys(planned(host, cpus=near, ovs=OvsWish(version="3.5"))[0])["dpdk-lcore-mask"] == "0x1"


def test_the_lcore_is_no_pmd_cpu_where_the_pools_overlap() -> None:
    plan, _ = planned(cpus=pools(pmd="1", host="0-1"))
    assert keys(plan)["dpdk-lcore-mask"] == "0x1"


def test_socket_memory_is_listed_up_to_the_highest_node() -> None:
    host = make_host(packages=4, nics=[BOARD, X710])
    assert keys(planned(host, mib=memory(0, 1024, 0, 2048))[0])["dpdk-socket-mem"] == "0,1024,0,2048"
    assert keys(planned(host, mib=memory(1024, 0, 0, 0))[0])["dpdk-socket-mem"] == "1024"
    assert "dpdk-socket-mem" not in keys(planned(host, mib=memory(0, 0))[0])


@pytest.mark.parametrize(
    ("version", "key"), [("2.17", None), ("3.1", "pmd-maxsleep"), ("3.2", "pmd-sleep-max"), ("4.0", "pmd-sleep-max")]
)
def test_sleep_is_written_by_the_name_that_the_release_knows(version: str, key: str | None) -> None:
    plan, _ = planned(ovs=OvsWish(version=version, sleep_max_us=100))
    found = {name: value for name, value in keys(plan).items() if "sleep" in name}
    assert found == ({key: "100"} if key else {})


@pytest.mark.field_failure(30)
@pytest.mark.parametrize("version", ["2.13", "2.15", "2.17", "3.0", "3.1", "3.3", "3.5", "3.7", "4.0"])
def test_no_key_is_written_that_the_release_lacks(version: str) -> None:
    wish = OvsWish(version=version, auto_lb=True, sleep_max_us=50, rxq_assign="group")
    plan, _ = planned(ovs=wish, memory=MemoryWish(per_port=True))
    number = release(version)
    assert number is not None
    assert plan is not None
    assert plan.version == version
    assert all(key_known(key, number) for key in keys(plan))
    for port in (port for bridge in plan.bridges for port in bridge.ports):
        assert all(option_known(port.type, option, number) for option, _ in port.options)


def test_group_becomes_cycles_before_the_release_that_has_it() -> None:
    plan, notes = planned(ovs=OvsWish(version="2.15", rxq_assign="group"))
    assert keys(plan)["pmd-rxq-assign"] == "cycles"
    assert any("2.16" in text for text in notes.warnings)


def test_auto_load_balance_is_off_or_on_by_the_profile() -> None:
    assert keys(planned()[0])["pmd-auto-lb"] == "false"
    on = keys(planned(ovs=OvsWish(version="3.5", auto_lb=True))[0])
    assert on["pmd-auto-lb"] == "true"
    assert "pmd-auto-lb-load-threshold" in on


def test_dpdk_probes_the_planned_functions_and_nothing_else() -> None:
    assert keys(planned(ovs=OvsWish(version="3.5"))[0])["dpdk-extra"] == "-a 0000:10:00.0"
    assert "dpdk-extra" not in keys(planned(ovs=OvsWish(version="4.0"))[0])
    virtual = OvsWish(no_pci=True, virtual_ports=(VirtualPort(name="p0", devargs="net_null0"),))
    assert keys(planned(ovs=virtual)[0])["dpdk-extra"] == "--no-pci --iova-mode=va"


def test_a_port_has_one_queue_per_pmd_thread_of_its_node_and_at_most_four() -> None:
    for cpus, expected in (("2", "1"), ("2-3", "2"), ("2-7", "4")):
        plan, _ = planned(make_host(cores=8, nics=[BOARD, X710]), cpus=pools(pmd=cpus))
        assert plan is not None
        (port,) = next(bridge for bridge in plan.bridges if bridge.physnet == "physnet1").ports
        assert dict(port.options)["n_rxq"] == expected


def test_a_card_gets_no_more_queues_than_it_has() -> None:
    card = nic("0000:10:00.0", device="100e", driver="e1000", speed_mbps=1000)
    plan, _ = planned(make_host(cores=8, nics=[BOARD, card]), cpus=pools(pmd="2-7"))
    assert plan is not None
    (port,) = next(bridge for bridge in plan.bridges if bridge.physnet == "physnet1").ports
    assert dict(port.options)["n_rxq"] == "2"


def test_a_tap_has_one_queue_more_than_pmd_threads() -> None:
    wish = OvsWish(no_pci=True, virtual_ports=(VirtualPort(name="t0", devargs="net_tap0,iface=t0k"),))
    plan, _ = planned(ovs=wish, cpus=pools(pmd="2-4"))
    assert plan is not None
    port = next(port for bridge in plan.bridges for port in bridge.ports)
    assert dict(port.options)["n_rxq"] == "4"


def test_names_of_nics_step_over_names_that_the_profile_takes() -> None:
    wish = OvsWish(virtual_ports=(VirtualPort(name="dpdk0", devargs="net_null0", bridge="br-x"),))
    plan, notes = planned(ovs=wish)
    assert plan is not None
    assert sorted(port.name for bridge in plan.bridges for port in bridge.ports) == ["dpdk0", "dpdk1"]
    assert not notes.problems


REALTEK = nic("0000:06:00.0", vendor="10ec", device="8168", driver="r8169", netdevs=("enp6s0",), speed_mbps=1000)


@pytest.mark.parametrize(("version", "wakes"), [("3.1", {"use-need-wakeup": "true"}), ("3.7", {})])
def test_af_xdp_is_a_port_of_open_vswitch_itself_where_the_release_has_it(version: str, wakes: dict[str, str]) -> None:
    wish = NicWish(role=Role.AFXDP, pci=REALTEK.pci)
    plan, notes = planned(make_host(nics=[BOARD, REALTEK]), ovs=OvsWish(version=version), nics=(wish,))
    assert plan is not None
    (port,) = (port for bridge in plan.bridges for port in bridge.ports)
    assert (port.name, port.type) == ("enp6s0", "afxdp")
    assert dict(port.options) == {"n_rxq": "1", "xdp-mode": "best-effort"} | wakes
    told = {one.subject: (one.choice, one.reason) for one in notes.decisions}
    assert "ethtool -L enp6s0 combined 1" in told["ovs.afxdp.enp6s0"][1]
    assert "the slowest of the three" in told["ovs.afxdp.enp6s0.xdp-mode"][1]
    assert told["ovs.afxdp.enp6s0.use-need-wakeup"][0] == "true"
    assert told["ovs.afxdp.enp6s0.lockedMemory"][0] == "64 MiB"
    assert not notes.problems


@pytest.mark.field_failure(28)
def test_more_queues_of_af_xdp_than_open_vswitch_opens_are_refused() -> None:
    wish = NicWish(role=Role.AFXDP, pci=REALTEK.pci, rx_queues=17)
    _, notes = planned(make_host(nics=[BOARD, REALTEK]), ovs=OvsWish(version="3.5"), nics=(wish,))
    (problem,) = notes.problems
    assert problem.where == "nics[0].rxQueues"
    assert "16 queues" in problem.what


@pytest.mark.parametrize(("mtu", "fits"), [(3498, True), (3499, False), (9000, False)])
def test_a_frame_of_af_xdp_has_to_fit_into_a_page(mtu: int, fits: bool) -> None:  # noqa: FBT001 - an outcome
    wish = NicWish(role=Role.AFXDP, pci=REALTEK.pci, mtu=mtu)
    _, notes = planned(make_host(nics=[BOARD, REALTEK]), ovs=OvsWish(version="3.5"), nics=(wish,))
    assert [problem.where for problem in notes.problems] == ([] if fits else ["nics[0].mtu"])


def test_af_xdp_of_an_older_release_becomes_a_virtual_device_with_a_number_of_its_own() -> None:
    port = REALTEK
    wish = OvsWish(virtual_ports=(VirtualPort(name="x0", devargs="net_af_xdp0,iface=veth0", bridge="br-x"),))
    plan, notes = planned(make_host(nics=[BOARD, port]), ovs=wish)
    assert plan is not None
    found = {port.name: dict(port.options)["dpdk-devargs"] for bridge in plan.bridges for port in bridge.ports}
    assert found == {"x0": "net_af_xdp0,iface=veth0", "dpdk0": "net_af_xdp1,iface=enp6s0"}
    assert not notes.problems


def test_a_physnet_has_its_bridge_and_br_int_waits_for_neutron() -> None:
    wish = NicWish(role=Role.DPDK, physnet="physnet7", mtu=9000, vlan=12)
    plan, _ = planned(nics=(wish,))
    assert plan is not None
    bridges = {bridge.name: bridge for bridge in plan.bridges}
    assert sorted(bridges) == ["br-int", "br-physnet7"]
    assert bridges["br-int"].fail_mode == "secure"
    assert {bridge.datapath_type for bridge in plan.bridges} == {"netdev"}
    (port,) = bridges["br-physnet7"].ports
    assert (port.mtu, port.tag) == (9000, 12)


def test_a_bridge_name_that_is_too_long_is_refused_where_it_comes_from() -> None:
    _, notes = planned(nics=(NicWish(role=Role.DPDK, physnet="a-very-long-physnet"),))
    assert [problem.where for problem in notes.problems] == ["nics[0].physnet"]


def test_several_ports_of_one_bridge_are_warned_of() -> None:
    host = make_host(nics=[BOARD, X710, nic("0000:10:00.1")])
    _, notes = planned(host, nics=(NicWish(role=Role.DPDK, physnet="one"),))
    assert any("go round" in text for text in notes.warnings)
    _, notes = planned(host)
    assert not notes.warnings


@pytest.mark.field_failure(31)
def test_vhost_user_ports_are_clients_of_sockets_in_the_socket_directory() -> None:
    wish = OvsWish(socket_dir="/run/vm", vhost_ports=(VhostPort(name="vm1", bridge="br-x", vlan=7),))
    plan, _ = planned(ovs=wish)
    assert plan is not None
    assert plan.socket_dir == "/run/vm"
    port = next(bridge for bridge in plan.bridges if bridge.name == "br-x").ports[0]
    assert port.type == "dpdkvhostuserclient"
    assert dict(port.options) == {"vhost-server-path": "/run/vm/vm1"}
    assert port.tag == 7


@pytest.mark.parametrize("socket", ["relative/path", "/" + "x" * 107])
def test_a_socket_that_cannot_be_is_refused(socket: str) -> None:
    _, notes = planned(ovs=OvsWish(vhost_ports=(VhostPort(name="vm1", socket=socket),)))
    assert [problem.where for problem in notes.problems] == ["ovs.vhostPorts[0].socket"]


def test_a_virtual_port_over_the_management_interface_is_unsafe() -> None:
    for devargs in (
        "net_af_packet0,iface=eno1",
        "net_af_xdp0,iface=eno1",
        "net_pcap0,iface=eno1",
        "net_tap0,remote=eno1",
    ):
        _, notes = planned(ovs=OvsWish(virtual_ports=(VirtualPort(name="p0", devargs=devargs),)))
        assert [danger.where for danger in notes.dangers] == ["ovs.virtualPorts[0].devargs"]


def test_a_virtual_port_over_a_nic_that_goes_to_dpdk_is_refused() -> None:
    wish = OvsWish(virtual_ports=(VirtualPort(name="p0", devargs="net_af_packet0,iface=ens16f0", bridge="br-x"),))
    _, notes = planned(ovs=wish)
    assert "0000:10:00.0" in notes.problems[0].what


def test_a_device_that_is_used_twice_is_refused() -> None:
    ports = tuple(VirtualPort(name=name, devargs="net_null0") for name in ("p0", "p1"))
    _, notes = planned(ovs=OvsWish(virtual_ports=ports))
    assert [problem.where for problem in notes.problems] == ["ovs.virtualPorts[1].devargs"]


def test_two_ports_of_one_name_are_refused() -> None:
    ports = tuple(VirtualPort(name="p0", devargs=f"net_null{n}") for n in range(2))
    _, notes = planned(ovs=OvsWish(virtual_ports=ports))
    assert "p0" in notes.problems[0].what


def test_patch_ports_tie_two_bridges() -> None:
    wish = OvsWish(patches=(PatchPair(bridges=("br-int", "br-physnet1")),))
    plan, notes = planned(ovs=wish)
    assert plan is not None
    ends = {
        port.name: dict(port.options)["peer"]
        for bridge in plan.bridges
        for port in bridge.ports
        if port.type == "patch"
    }
    assert ends == {"patch0a": "patch0b", "patch0b": "patch0a"}
    assert not notes.problems
    _, notes = planned(ovs=OvsWish(patches=(PatchPair(bridges=("br-int", "br-none")),)))
    assert [problem.where for problem in notes.problems] == ["ovs.patches[0].bridges"]


def test_descriptors_that_ovs_would_not_take_are_refused() -> None:
    _, notes = planned(ovs=OvsWish(rx_descriptors=1000))
    assert [problem.where for problem in notes.problems] == ["ovs.rxDescriptors"]
    plan, notes = planned(ovs=OvsWish(rx_descriptors=1024, tx_descriptors=512))
    assert plan is not None
    port = next(port for bridge in plan.bridges for port in bridge.ports if port.type == "dpdk")
    assert (dict(port.options)["n_rxq_desc"], dict(port.options)["n_txq_desc"]) == ("1024", "512")


def test_an_mtu_beyond_ovs_dpdk_is_refused_at_its_place() -> None:
    _, notes = planned(ovs=OvsWish(mtu=9800), nics=(NicWish(role=Role.DPDK, mtu=9703),))
    assert [problem.where for problem in notes.problems] == ["ovs.mtu", "nics[0].mtu"]


def test_nothing_to_switch_and_nobody_to_poll_is_no_ovs() -> None:
    plan, notes = planned(make_host(nics=[BOARD]), cpus=pools(pmd=""), nova=NovaWish(enabled=False))
    assert plan is None
    assert any(decision.subject == "ovs" for decision in notes.decisions)


def test_guests_get_a_switch_where_no_port_goes_outside() -> None:
    plan, _ = planned(make_host(nics=[BOARD]))
    assert plan is not None
    assert [bridge.name for bridge in plan.bridges] == ["br-int"]


def test_an_installed_ovs_without_dpdk_or_of_another_release_is_told() -> None:
    installed = OvsInstall(version="3.1.0", dpdk_version=None, running=True, database=None, bridges=(), other_config=())
    _, notes = planned(make_host(nics=[BOARD, X710], ovs=installed), ovs=OvsWish(version="3.5"))
    assert len([text for text in notes.warnings if "3.1.0" in text]) == 2


def test_the_release_is_the_named_one_then_the_installed_one_then_the_distributions() -> None:
    installed = OvsInstall(
        version="3.3.4", dpdk_version="23.11.1", running=True, database=None, bridges=(), other_config=()
    )
    host = make_host(ovs=installed)
    assert planned_releases(host, Profile(name="x")).ovs == (3, 3)
    assert planned_releases(host, Profile(name="x", ovs=OvsWish(version="3.7"))).ovs == (3, 7)
    assert planned_releases(make_host(), Profile(name="x")).ovs == (2, 17)


def test_every_successor_is_a_key() -> None:
    names = [key.name for key in KEYS]
    assert len(set(names)) == len(names)
    assert all(key.successor in names for key in KEYS if key.successor)


@pytest.mark.parametrize(
    ("devargs", "part"),
    [
        ("net_af_packet0", "iface="),
        ("net_af_packet0,iface", "no value"),
        ("net_af_packet0,ifaec=x", "iface"),
        ("net_nul0", "net_null"),
        ("net_bonding0,mode=0", "no virtual device"),
        ("0000:10:00.0", "nics"),
        ("eth0", "virtual device"),
        ("", "virtual device"),
        ("net_pcap0", "rx_pcap"),
    ],
)
def test_devargs_that_ovs_cannot_open_are_told_apart(devargs: str, part: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_vdev(devargs)
    assert part in str(caught.value)


def test_devargs_are_read() -> None:
    vdev = parse_vdev("net_pcap3,rx_iface=eth1,tx_iface=eth2")
    assert (vdev.name, vdev.kind, vdev.netdevs) == ("net_pcap3", "pcap", ("eth1", "eth2"))
    assert parse_vdev("net_tap0,iface=tap7").netdevs == ()


@pytest.mark.parametrize("version", ["latest", "", "2.4"])
def test_a_release_that_is_none_is_refused(version: str) -> None:
    _, notes = planned(ovs=OvsWish(version=version))
    assert [problem.where for problem in notes.problems] == ["ovs.version"]
