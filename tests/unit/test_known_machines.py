"""Plans of machines that people have, read as an engineer who knows them would."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from plan_rules import broken_rules
from synthetic import host as make_host
from synthetic import nic

from nfvhost.inspect import inspect_host
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import CpuModel, Host, HugepagePool, Iommu, Netdev, Nic
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Role
from nfvhost.model.units import PageSize
from nfvhost.planfile import dump_plan, load_plan_text, load_profile
from nfvhost.planner import make_plan
from tests.conftest import Link

if TYPE_CHECKING:
    from tests.conftest import MakeTree

MANAGED = "carries the default route"


def cpu(vendor: str, architecture: str = "x86_64", *flags: str) -> CpuModel:
    known = flags or ("pse", "pdpe1gb")
    return CpuModel(architecture=architecture, vendor=vendor, name=None, flags=frozenset(known))


def board(pci: str = "0000:01:00.0", **facts: Any) -> Nic:  # noqa: ANN401 - fields of Nic
    known: dict[str, Any] = {"device": "1521", "driver": "igb", "speed_mbps": 1000, "management": MANAGED}
    return nic(pci, **known | facts)


def connectx(pci: str, **facts: Any) -> Nic:  # noqa: ANN401 - fields of Nic
    known: dict[str, Any] = {"vendor": "15b3", "device": "101d", "driver": "mlx5_core", "speed_mbps": 100_000}
    return nic(pci, **known | facts)


def virtio(pci: str, **facts: Any) -> Nic:  # noqa: ANN401 - fields of Nic
    known: dict[str, Any] = {"vendor": "1af4", "device": "1041", "driver": "virtio-pci", "speed_mbps": None}
    return nic(pci, **known | {"total_vfs": None, "iommu_group": None, "node": None} | facts)


def plan_of(host: Host, profile: str = "home") -> Plan:
    """The plan, which holds every rule and outlives its file."""
    plan = make_plan(host, load_profile(profile))
    assert broken_rules(host, plan) == []
    assert load_plan_text(dump_plan(plan), "plan.yaml") == plan
    return plan


def roles(plan: Plan) -> list[str]:
    return [one.role.value for one in plan.nics]


def reason(plan: Plan, subject: str) -> str:
    return next(one.reason for one in plan.decisions if one.subject == subject)


def test_an_epyc_of_four_nodes_a_socket_polls_each_card_in_one_cache_group_of_its_node() -> None:
    host = make_host(
        packages=2,
        nodes=4,
        groups=3,
        cores=8,
        threads=2,
        node_mib=98_304,
        nics=[board(), connectx("0000:41:00.0", node=2), connectx("0000:c1:00.0", node=5)],
        model=cpu("AuthenticAMD"),
    )
    plan = plan_of(host)
    assert str(plan.cpus.pmd) == "48-51,120-123,240-243,312-315"
    assert {str(one.l3) for one in host.cpus if one.id in plan.cpus.pmd} == {"48-55,240-247", "120-127,312-319"}
    assert {one.node for one in host.cpus if one.id in plan.cpus.host} == {0}
    assert plan.ovs is not None
    assert dict(plan.ovs.other_config)["dpdk-socket-mem"] == ",".join(["1024"] * 8)


def test_a_hybrid_desktop_polls_on_a_p_core_and_gives_the_host_an_e_core() -> None:
    cards = [nic("0000:01:00.0", node=None), nic("0000:01:00.1", node=None)]
    onboard = board("0000:03:00.0", device="15f3", driver="igc", node=None, total_vfs=None)
    host = make_host(cores=24, efficiency="16-23", node_mib=65_536, nics=[*cards, onboard], model=cpu("GenuineIntel"))
    pairs = [CpuSet({one.id & ~1, one.id | 1}) if one.id < 16 else CpuSet([one.id]) for one in host.cpus]
    cpus = tuple(replace(one, thread_siblings=pair) for one, pair in zip(host.cpus, pairs, strict=True))
    plan = plan_of(replace(host, cpus=cpus))
    assert (str(plan.cpus.host), str(plan.cpus.pmd)) == ("0-1,16", "2-3")
    assert any("P-cores and E-cores (17-23)" in one for one in plan.warnings)


def test_a_small_atom_with_four_ports_keeps_the_one_it_is_managed_by() -> None:
    ports = [nic(f"0000:0{bus}:00.{one}", device="15c4", driver="ixgbe", node=None) for bus in (6, 8) for one in (0, 1)]
    ports[0] = replace(ports[0], management=MANAGED)
    plan = plan_of(make_host(cores=4, node_mib=16_384, nics=ports, model=cpu("GenuineIntel")))
    assert roles(plan) == ["management", "dpdk", "dpdk", "dpdk"]
    assert (str(plan.cpus.host), str(plan.cpus.pmd), str(plan.cpus.dedicated)) == ("0", "1", "2-3")


def test_a_board_without_pci_still_hosts_guests() -> None:
    eth0 = Netdev(
        name="eth0",
        pci=None,
        kind="physical",
        mac=None,
        speed_mbps=1000,
        mtu=1500,
        operstate="up",
        driver="macb",
        lowers=(),
        addresses=(),
        management=MANAGED,
    )
    facts: dict[str, Any] = {"netdevs": (eth0,), "iommu": Iommu(enabled=None, groups=()), "pages": (2, 32, 1024)}
    plan = plan_of(make_host(cores=4, node_mib=8192, model=cpu("ARM", "aarch64", "asimd"), **facts))
    assert any("shows no NIC that DPDK could use" in one for one in plan.warnings)
    assert (str(plan.cpus.pmd), str(plan.cpus.dedicated)) == ("1", "2-3")
    assert not any(arg.startswith(("iommu", "intel_iommu")) for arg in plan.kernel_args)


def test_large_kernel_pages_on_arm_are_told_as_what_they_are() -> None:
    cards = [board(), connectx("0001:01:00.0"), connectx("0001:01:00.1")]
    machine: dict[str, Any] = {
        "cores": 80,
        "node_mib": 262_144,
        "pages": (2, 512, 16_384),
        "model": cpu("ARM", "aarch64", "asimd"),
    }
    plan = plan_of(make_host(**machine, nics=cards))
    assert "offers 2M, 512M, 16G and no pages of 1 GiB" in reason(plan, "memory.pageSize")
    assert roles(plan) == ["management", "dpdk", "dpdk"]
    assert {one.driver for one in plan.nics} == {None}


def test_a_xeon_whose_only_bond_carries_management_keeps_all_of_it() -> None:
    cards = [nic(f"0000:{bus}:00.{one}", management=MANAGED) for bus in ("18", "af") for one in (0, 1)]
    plan = plan_of(make_host(packages=2, cores=16, threads=2, nics=cards, model=cpu("GenuineIntel")))
    assert set(roles(plan)) == {"management"}
    assert any("no port is free for DPDK" in one for one in plan.warnings)


@pytest.mark.parametrize(("threads", "offline"), [(1, ""), (2, "32-63")], ids=["in the BIOS", "by nosmt"])
def test_without_hyperthreading_each_cpu_is_a_core(threads: int, offline: str) -> None:
    cards = [board(), nic("0000:18:00.0"), nic("0000:af:00.0", node=1)]
    machine: dict[str, Any] = {
        "packages": 2,
        "cores": 16,
        "threads": threads,
        "offline": offline,
        "model": cpu("GenuineIntel"),
    }
    pools = plan_of(make_host(**machine, nics=cards)).cpus
    assert [str(pool) for pool in (pools.host, pools.pmd, pools.dedicated)] == ["0-3", "4,16", "5-15,17-31"]


def test_pages_of_the_admin_are_seen_before_memory_is_given_out_twice() -> None:
    host = make_host(cores=8, threads=2, nics=[board(), nic("0000:18:00.0")], model=cpu("GenuineIntel"))
    pool = HugepagePool(size=PageSize.MIB_2, total=4096, free=4096, surplus=0)
    host = replace(host, nodes=tuple(replace(node, hugepages=(pool,)) for node in host.nodes))
    assert any("node 0 has 4096 pages of 2M reserved already" in one for one in plan_of(host).warnings)


def test_a_guest_with_one_virtio_card_is_managed_by_it_and_a_second_one_gets_af_xdp() -> None:
    guest: dict[str, Any] = {"cores": 4, "node_mib": 8192, "virtualization": "kvm"}
    guest["iommu"] = Iommu(enabled=False, groups=())
    first = virtio("0000:01:00.0", management=MANAGED)
    alone = plan_of(make_host(**guest, nics=[first]))
    assert roles(alone) == ["management"]
    assert any("no port is free for DPDK" in one for one in alone.warnings)
    both = plan_of(make_host(**guest, nics=[first, virtio("0000:02:00.0")]))
    assert roles(both) == ["management", "afxdp"]
    assert not any("iommu" in arg for arg in both.kernel_args)


def test_a_card_that_is_bound_to_vfio_is_taken_with_a_question() -> None:
    bound = nic("0000:18:00.0", driver="vfio-pci", netdevs=(), speed_mbps=None)
    plan = plan_of(make_host(cores=8, nics=[board(), bound], model=cpu("GenuineIntel")))
    assert roles(plan) == ["management", "dpdk"]
    assert any("0000:18:00.0 is bound to vfio-pci already" in one for one in plan.warnings)


def test_a_card_that_is_bound_to_vfio_gets_its_kernel_driver_back_for_vfs() -> None:
    bound = nic("0000:18:00.0", driver="vfio-pci", netdevs=(), speed_mbps=None)
    plan = plan_of(make_host(cores=8, nics=[board(), bound], model=cpu("GenuineIntel")), "sriov")
    (card,) = [one for one in plan.nics if one.role is Role.SRIOV]
    assert (card.driver, card.vfs) == ("i40e", 8)
    assert "i40e is to be bound for that, vfio-pci is now" in card.reason


def test_an_unknown_card_without_a_kernel_driver_makes_no_vfs() -> None:
    unknown = nic("0000:18:00.0", vendor="cafe", device="0001", driver="vfio-pci", netdevs=())
    plan = plan_of(make_host(cores=8, nics=[board(), unknown], model=cpu("GenuineIntel")), "sriov")
    assert Role.SRIOV not in {one.role for one in plan.nics}
    assert any("vfio-pci is bound to it, and nfvhost's table knows no" in one for one in plan.warnings)


def test_a_card_behind_a_controller_with_a_domain_of_five_digits_is_a_card() -> None:
    plan = plan_of(make_host(cores=8, nics=[board(), nic("10000:01:00.0")], model=cpu("GenuineIntel")))
    assert plan.ovs is not None
    assert "-a 10000:01:00.0" in dict(plan.ovs.other_config)["dpdk-extra"]


def test_both_ports_of_a_bond_below_the_vlan_with_the_default_route_are_never_touched(make_tree: MakeTree) -> None:
    net, bus = "/sys/class/net", "/sys/devices/pci0000:40"
    files: dict[str, str | bytes | Link] = {
        "/sys/devices/system/cpu/online": "0-7\n",
        "/proc/meminfo": "MemTotal: 33554432 kB\n",
        "/proc/net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "bond0.100\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
        "/proc/net/vlan/config": "VLAN Dev name | VLAN ID\nName-Type: VLAN_NAME_TYPE\nbond0.100 | 100 | bond0\n",
        f"{net}/bond0": Link("../../devices/virtual/net/bond0"),
        f"{net}/bond0.100": Link("../../devices/virtual/net/bond0.100"),
        "/sys/devices/virtual/net/bond0/bonding/slaves": "ens1f0np0 ens1f1np1\n",
        "/sys/devices/virtual/net/bond0.100/uevent": "DEVTYPE=vlan\n",
    }
    for number in (0, 1):
        folder, name = f"{bus}/0000:41:00.{number}", f"ens1f{number}np{number}"
        files[f"/sys/bus/pci/devices/0000:41:00.{number}"] = Link(f"../../..{folder.removeprefix('/sys')}")
        files[f"{net}/{name}"] = Link(f"../..{folder.removeprefix('/sys')}/net/{name}")
        files |= {f"{folder}/vendor": "0x15b3", f"{folder}/device": "0x1017", f"{folder}/class": "0x020000"}
        files |= {f"{folder}/net/{name}/type": "1\n", f"{folder}/net/{name}/operstate": "up\n"}
    plan = plan_of(inspect_host(make_tree(files)))
    assert roles(plan) == ["management", "management"]
    assert all("bond0" in one.reason for one in plan.nics)
