"""What needs a network card, or two nodes, to be refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import synthetic
from ovs_model import bridge, port, rows, state
from ovs_plans import OvsPlans

from nfvhost.model.host import HugepagePool, Netdev
from nfvhost.model.pci import PciAddress
from nfvhost.model.units import PageSize
from nfvhost.resources.ovs_dpdk import OvsDpdk

if TYPE_CHECKING:
    from nfvhost.access.ovs_rows import OpenVswitch
    from nfvhost.model.host import Host, Nic
    from nfvhost.model.plan import OvsPort

OVS = OvsPlans()
PCI = "0000:01:00.0"


def netdev(name: str, **facts: Any) -> Netdev:  # noqa: ANN401 - fields of Netdev
    known: dict[str, Any] = {
        **dict.fromkeys(("pci", "mac", "speed_mbps", "mtu", "operstate", "driver")),
        "kind": "physical",
        "lowers": (),
        "addresses": (),
    }
    return Netdev(name=name, **(known | facts))


def told(*ports: OvsPort, host: Host | None = None, database: OpenVswitch | None = None, **keys: str) -> list[str]:
    """What is wrong with a plan of these ports in br0."""
    plan = OVS.plan(OVS.bridge("br0", *ports), **({"dpdk_init": "true"} | keys))
    problems = OvsDpdk().check(state(database or rows()), plan, host or synthetic.host())
    assert all(problem.hint and problem.where for problem in problems)
    return [problem.what for problem in problems]


def told_of_card(**facts: Any) -> list[str]:  # noqa: ANN401 - fields of Nic
    """What is wrong with a port on one card with these facts."""
    return told_of_cards(synthetic.nic(PCI, **facts))


def told_of_cards(*nics: Nic) -> list[str]:
    return told(OVS.port("p0", "dpdk", dpdk_devargs=PCI), host=synthetic.host(nics=nics))


def test_a_card_on_vfio_is_fine() -> None:
    assert told_of_card(driver="vfio-pci") == []


def test_a_card_on_its_kernel_driver_is_refused() -> None:
    assert told_of_card(driver="i40e") == [f"{PCI} is bound to i40e, and DPDK cannot drive it there"]
    assert told_of_card(driver=None) == [f"{PCI} is bound to no driver, and DPDK cannot drive it there"]


def test_a_card_that_carries_management_is_refused_before_all_else() -> None:
    (what,) = told_of_card(driver="i40e", management="carries the default route")
    assert what.endswith("giving it to DPDK would cut this host off")


def test_a_bifurcated_card_stays_with_its_kernel_driver() -> None:
    assert told_of_card(vendor="15b3", device="1017", driver="mlx5_core") == []
    (what,) = told_of_card(vendor="15b3", device="1017", driver="vfio-pci")
    assert "DPDK drives it by way of its kernel driver alone" in what


@pytest.mark.field_failure(3)
def test_a_group_that_the_kernel_still_uses_is_not_viable() -> None:
    mate = PciAddress.parse("0000:01:00.1")
    card = synthetic.nic(PCI, driver="vfio-pci", iommu_group=3, group_mates=(mate,))
    assert told_of_cards(card, synthetic.nic(str(mate), driver="vfio-pci")) == []
    (what,) = told_of_cards(card, synthetic.nic(str(mate), driver="i40e"))
    assert what == f"IOMMU group 3 of {PCI} is not viable: the kernel still uses {mate} (i40e) of it"


def test_a_card_and_its_representors_are_several_devices() -> None:
    card = synthetic.nic(PCI, vendor="15b3", device="1017", driver="mlx5_core")
    names = ["", ",representor=[0]", ",representor=[1]", ",representor=[1],dv_flow_en=1"]
    ports = [OVS.port(f"p{number}", "dpdk", dpdk_devargs=f"{PCI}{name}") for number, name in enumerate(names)]
    assert told(*ports[:3], host=synthetic.host(nics=(card,))) == []
    (what,) = told(*ports, host=synthetic.host(nics=(card,)))
    assert what == f"{PCI},representor=[1] is in use by ovs.bridges.br0.ports.p2"


def test_a_port_over_the_interface_that_carries_management_is_refused() -> None:
    host = synthetic.host(netdevs=(netdev("eth0", management="carries the default route"),))
    for one in (OVS.port("eth0", "afxdp"), OVS.port("p0", "dpdk", dpdk_devargs="net_af_packet0,iface=eth0")):
        (what,) = told(one, host=host)
        assert "eth0 carries management" in what


@pytest.mark.field_failure(28)
@pytest.mark.parametrize(
    ("asked", "there", "harm"),
    [(2, 4, "packets of the others would never arrive"), (4, 2, "Open vSwitch could not open them"), (2, 2, None)],
)
def test_af_xdp_needs_a_socket_for_each_queue_of_the_interface(asked: int, there: int, harm: str | None) -> None:
    device = f"net_af_xdp0,iface=eth0,queue_count={asked}"
    for one in (OVS.port("eth0", "afxdp", n_rxq=asked), OVS.port("p0", "dpdk", dpdk_devargs=device)):
        problems = OvsDpdk().check(
            state(rows(), queues=(("eth0", there),)),
            OVS.plan(OVS.bridge("br0", one), dpdk_init="true"),
            synthetic.host(),
        )
        assert [(harm or "") in problem.what for problem in problems] == ([] if harm is None else [True])


def test_af_xdp_needs_a_switch_that_may_lock_its_memory() -> None:
    plan = OVS.plan(OVS.bridge("br0", OVS.port("eth0", "afxdp")))
    (problem,) = OvsDpdk().check(state(rows(), locks_memory=False), plan, synthetic.host())
    assert "may not lock the memory" in problem.what
    assert "LimitMEMLOCK=infinity" in (problem.hint or "")


def test_an_interface_of_that_name_in_another_network_namespace_is_another_one() -> None:
    host = synthetic.host(netdevs=(netdev("eth0", management="carries the default route"),))
    plan = OVS.plan(OVS.bridge("br0", OVS.port("eth0", "afxdp")))
    assert OvsDpdk().check(state(rows(), shares_host_network=False), plan, host) == ()


@pytest.mark.field_failure(11)
@pytest.mark.parametrize(
    ("asked", "whats"),
    [
        ("512,512", []),
        ("512,1024", ["asks 1024 MiB of hugepages on node 1, where 512 MiB are free; ovs-vswitchd would end"]),
        ("0,512", []),
        ("512", []),
        ("0,0,1", ["asks 1 MiB of NUMA node 2, which is not here; ovs-vswitchd would end"]),
    ],
)
def test_memory_is_weighed_node_by_node(asked: str, whats: list[str]) -> None:
    assert told(host=two_nodes(), dpdk_socket_mem=asked) == whats


def test_memory_that_dpdk_holds_already_is_its_own_at_the_next_start() -> None:
    running = rows(dpdk_initialized=True, other_config={"dpdk-init": "true", "dpdk-socket-mem": "900,0"})
    assert told(host=two_nodes(), database=running, dpdk_socket_mem="900,0") == []
    assert told(host=two_nodes(), database=running, dpdk_socket_mem="1024,0") == []
    (what,) = told(host=two_nodes(), database=running, dpdk_socket_mem="1025,0")
    assert "where 1024 MiB are reserved" in what


def two_nodes() -> Host:
    """Two nodes with 1 GiB of pages each, half of them free."""
    made = synthetic.host(nodes=2)
    pool = HugepagePool(size=PageSize.MIB_2, total=512, free=256, surplus=0)
    return replace(made, nodes=tuple(replace(node, hugepages=(pool,)) for node in made.nodes))


def test_a_patch_cable_has_two_ends_in_two_bridges() -> None:
    ends = OVS.port("a", "patch", peer="b"), OVS.port("b", "patch", peer="a")
    assert len(told(*ends)) == 2
    plan = OVS.plan(OVS.bridge("br0", ends[0]), OVS.bridge("br1", ends[1]))
    assert OvsDpdk().check(state(rows()), plan, synthetic.host()) == ()
    theirs = rows(bridge("br-theirs", port("b", "patch", options={"peer": "a"})))
    assert told(ends[0], database=theirs) == []


def test_a_bridge_of_others_with_an_address_of_the_host_is_not_converted() -> None:
    theirs = rows(bridge("br0", kind="system"))
    assert told(database=theirs) == []
    host = synthetic.host(netdevs=(netdev("br0", addresses=("192.0.2.1/24",)),))
    (what,) = told(database=theirs, host=host)
    assert "the addresses 192.0.2.1/24" in what


def test_a_bond_in_the_way_is_refused() -> None:
    member = port("p0", "dpdk").interfaces[0]
    bond = replace(port("p0"), interfaces=(member, replace(member, name="p1")))
    (what,) = told(OVS.port("p0", "dpdk", dpdk_devargs="net_null0"), database=rows(bridge("br0", bond)))
    assert what == "is a bond of p0, p1 that others made"


def test_srv6_is_refused_before_3_2_and_checked_after_it() -> None:
    tunnel = OVS.port("t0", "srv6", remote_ip="fc00::1", local_ip="fc00::9", srv6_segs="fc00::1,fc00::2")
    plan = OVS.plan(OVS.bridge("br0", tunnel))
    types = (*rows().iface_types, "srv6")
    old = OvsDpdk().check(state(rows(), version="3.1.0"), plan, synthetic.host())
    new = OvsDpdk().check(state(rows(iface_types=types), version="3.5.0"), plan, synthetic.host())
    assert any("has no port type srv6" in problem.what for problem in old)
    assert new == ()
    (finding,) = OvsDpdk().findings(state(rows(iface_types=types), version="3.5.0"), plan)
    assert "forgets all segments but the first" in finding.what


@pytest.mark.field_failure(22)
def test_a_kernel_interface_in_a_userspace_bridge_is_told() -> None:
    theirs = rows(bridge("br0", port("eth0", "system")))
    (finding,) = OvsDpdk().findings(state(theirs), OVS.plan(OVS.bridge("br0")))
    assert "the main thread serves them" in finding.what


def test_a_process_that_is_not_there_is_one_problem() -> None:
    (problem,) = OvsDpdk().check(replace(state(rows()), switch=None), OVS.plan(pmd_cpu_mask="0"), synthetic.host())
    assert problem.what.startswith("ovs-vswitchd is not running")
