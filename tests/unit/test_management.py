"""Which NICs carry management, and why."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import Any

import pytest

from nfvhost.model.live import BridgePort, Conclusion
from nfvhost.model.pci import PciAddress

# Fixtures of tests/unit/conftest.py have no importable type.
Network = Any

PORT = "0000:10:00.0"
SECOND = "0000:10:00.1"
OTHER = "0000:20:00.0"


@pytest.fixture
def two_ports(network: Network) -> Network:
    network.port(PORT, "eth0")
    network.port(SECOND, "eth1")
    network.port(OTHER, "eth2")
    return network


def test_the_port_of_the_ipv4_default_route_is_management(two_ports: Network) -> None:
    two_ports.ipv4_route("eth0")
    assert two_ports.managing() == {PORT: "carries the default route of IPv4 (eth0)"}


@pytest.mark.field_failure(1)
def test_a_default_route_of_ipv6_alone_is_enough(two_ports: Network) -> None:
    two_ports.ipv6_route("eth1")
    assert two_ports.managing() == {SECOND: "carries the default route of IPv6 (eth1)"}


def test_both_default_routes_are_one_sentence(two_ports: Network) -> None:
    two_ports.ipv4_route("eth0")
    two_ports.ipv6_route("eth0")
    assert two_ports.managing() == {PORT: "carries the default routes of IPv4 and IPv6 (eth0)"}


def test_a_default_route_that_rejects_leads_nowhere(two_ports: Network) -> None:
    two_ports.ipv4_route("eth0", flags="0201")
    two_ports.ipv6_route("lo", flags="00200200")
    assert two_ports.managing() == {}


def test_a_route_to_one_network_is_not_management(two_ports: Network) -> None:
    two_ports.ipv4_route("eth1", destination="0002000A", mask="00FFFFFF", flags="0001")
    two_ports.ipv4_route("eth0")
    assert set(two_ports.managing()) == {PORT}


@pytest.mark.field_failure(2)
def test_all_slaves_of_a_bond_below_a_vlan_below_a_bridge_are_management(two_ports: Network) -> None:
    two_ports.bond("bond0", "eth0", "eth1")
    two_ports.vlan("bond0.100", "bond0")
    two_ports.bridge("br0", "bond0.100")
    two_ports.ipv4_route("br0")
    reason = "carries the default route of IPv4 (br0 over bond0.100 over bond0 over {})"
    assert two_ports.managing() == {PORT: reason.format("eth0"), SECOND: reason.format("eth1")}


def test_the_interfaces_on_the_way_down_say_so_too(two_ports: Network) -> None:
    two_ports.bond("bond0", "eth0", "eth1")
    two_ports.vlan("bond0.100", "bond0")
    two_ports.ipv4_route("bond0.100")
    netdevs = two_ports.netdevs()
    assert {name for name, one in netdevs.items() if one.management} == {"bond0.100", "bond0", "eth0", "eth1"}
    assert netdevs["bond0"].management == "carries the default route of IPv4 (bond0.100 over bond0)"


def test_a_vlan_that_only_proc_knows_is_walked_down(two_ports: Network) -> None:
    two_ports.virtual("vlan7")
    two_ports.write("/proc/net/vlan/config", "VLAN Dev name\t | VLAN ID\nName-Type: X\nvlan7      | 7  | eth1\n")
    two_ports.ipv4_route("vlan7")
    assert set(two_ports.managing()) == {SECOND}
    assert two_ports.netdevs()["vlan7"].kind == "vlan"


def test_both_ports_of_a_team_are_management(two_ports: Network) -> None:
    two_ports.virtual("team0", master_of=("eth0", "eth1"))
    two_ports.ipv4_route("team0")
    assert two_ports.netdevs()["team0"].kind == "team"
    assert set(two_ports.managing()) == {PORT, SECOND}


def test_a_macvlan_leads_to_its_port(two_ports: Network) -> None:
    two_ports.virtual("macvlan0", over=("eth2",), iflink="3")
    two_ports.ipv4_route("macvlan0")
    assert two_ports.netdevs()["macvlan0"].kind == "virtual"
    assert set(two_ports.managing()) == {OTHER}


def test_an_ssh_session_makes_a_port_management_beside_the_default_route(two_ports: Network) -> None:
    two_ports.ipv4_route("eth0")
    two_ports.facts = replace(two_ports.facts, ssh_netdevs=("eth1", "lo"))
    assert two_ports.managing()[SECOND] == "carries an SSH session into this machine (eth1)"
    assert set(two_ports.managing()) == {PORT, SECOND}


def test_without_a_default_route_a_link_with_a_global_address_is_management(two_ports: Network) -> None:
    two_ports.address("eth0", "192.0.2.5/24", "fe80::1/64")
    two_ports.address("eth1", "fe80::2/64")
    assert two_ports.managing() == {PORT: "carries a global address, where no default route leads to a port (eth0)"}


def test_a_link_that_is_down_is_no_way_in(two_ports: Network) -> None:
    two_ports.write("/sys/devices/pci0000:10/0000:10:00.0/net/eth0/operstate", "down\n")
    two_ports.address("eth0", "192.0.2.5/24")
    assert two_ports.managing() == {}


def test_a_default_route_into_a_tunnel_does_not_hide_the_port_under_it(two_ports: Network) -> None:
    two_ports.virtual("wg0", type="65534")
    two_ports.ipv4_route("wg0")
    two_ports.address("eth2", "192.0.2.5/24")
    assert set(two_ports.managing()) == {OTHER}


@pytest.mark.field_failure(2)
def test_an_nfs_root_makes_the_port_towards_its_server_management(two_ports: Network) -> None:
    two_ports.write("/proc/mounts", "192.0.2.9:/export / nfs4 rw,vers=4.2,addr=192.0.2.9 0 0\n")
    two_ports.ipv4_route("eth1", destination="000200C0", mask="00FFFFFF", flags="0001")
    two_ports.ipv4_route("eth0")
    assert two_ports.managing() == {
        PORT: "carries the default route of IPv4 (eth0)",
        SECOND: "carries the root file system (nfs4) (eth1)",
    }


def test_an_nfs_root_over_ipv6_finds_the_longest_prefix(two_ports: Network) -> None:
    two_ports.write("/proc/mounts", "[2001:db8::9]:/export /usr nfs rw,addr=2001:db8::9 0 0\n")
    two_ports.ipv6_route("eth0", destination="20010db8" + "0" * 24, prefix="20")
    two_ports.ipv6_route("eth2", destination="20010db8" + "0" * 24, prefix="40")
    assert set(two_ports.managing()) == {OTHER}


def test_an_iscsi_root_names_its_interface_on_the_kernel_command_line(two_ports: Network) -> None:
    two_ports.write("/proc/cmdline", "ro netroot=iscsi:192.0.2.9::::iqn.2001-04.com.example:disk ip=eth1:dhcp\n")
    assert two_ports.managing() == {SECOND: "carries the root file system (iscsi) (eth1)"}


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("root=/dev/nfs", "nfs"),
        ("root=nfs4:192.0.2.9:/export", "nfs4"),
        ("netroot=nbd:192.0.2.9:root", "nbd"),
        ("root=/dev/nbd0p1", "nbd"),
        ("rd.iscsi.firmware=1", "iscsi"),
        ("rd.iscsi.target.name=iqn.2001-04.com.example:disk", "iscsi"),
        ("iscsi_auto", "iscsi"),
        ("root=/dev/sda1", None),
        ("root=UUID=51babbe8-f78f-46a4-8830-d351c3830325", None),
        ("rd.iscsi.firmware=0", None),
        ("rd.iscsi.initiator=iqn.2004-10.com.example:host", None),
    ],
)
def test_a_root_over_the_network_is_told_by_kernel_arguments(
    two_ports: Network, argument: str, kind: str | None
) -> None:
    two_ports.write("/proc/cmdline", f"ro {argument} ip=eth0:dhcp\n")
    expected = {} if kind is None else {PORT: f"carries the root file system ({kind}) (eth0)"}
    assert two_ports.managing() == expected


def test_the_interface_that_the_firmware_booted_an_iscsi_disk_from_is_management(two_ports: Network) -> None:
    two_ports.write("/sys/firmware/ibft/ethernet0/mac", "02:00:00:00:00:01\n")
    two_ports.link("/sys/firmware/ibft/ethernet0/device", f"../../../devices/pci0000:20/{OTHER}")
    assert set(two_ports.managing()) == {OTHER}


def test_a_network_root_by_an_unknown_way_keeps_all_ports(two_ports: Network) -> None:
    two_ports.write("/proc/cmdline", "root=/dev/nfs nfsroot=192.0.2.9:/export\n")
    assert set(two_ports.managing()) == {PORT, SECOND, OTHER}


def test_a_root_on_a_local_disk_that_got_its_address_early_is_no_network_root(two_ports: Network) -> None:
    two_ports.write("/proc/cmdline", "root=/dev/sda1 rw ip=eth1:dhcp\n")
    assert two_ports.managing() == {}


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/sys/class/iscsi_connection/connection1:0/persistent_address", "192.0.2.9\n"),
        ("/sys/class/iscsi_session/session1/ifacename", "eth1\n"),
    ],
)
def test_a_port_that_carries_an_iscsi_disk_is_kept(two_ports: Network, path: str, content: str) -> None:
    two_ports.write(path, content)
    two_ports.ipv4_route("eth0")
    two_ports.ipv4_route("eth1", destination="000200C0", mask="00FFFFFF", flags="0001")
    assert two_ports.managing()[SECOND] == "carries a disk over iSCSI (eth1)"


def test_a_port_that_carries_an_nvme_disk_is_kept(two_ports: Network) -> None:
    two_ports.write("/sys/class/nvme/nvme0/transport", "tcp\n")
    two_ports.write("/sys/class/nvme/nvme0/address", "traddr=192.0.2.9,trsvcid=4420,src_addr=192.0.2.5\n")
    two_ports.ipv4_route("eth1", destination="000200C0", mask="00FFFFFF", flags="0001")
    assert two_ports.managing() == {SECOND: "carries a disk over NVMe (eth1)"}


def test_the_uplink_of_an_ovs_bridge_that_has_the_default_route_is_management(two_ports: Network) -> None:
    two_ports.virtual("ovs-system", master_of=("eth0", "eth1"))
    two_ports.virtual("br-ex")
    two_ports.ipv4_route("br-ex")
    two_ports.facts = replace(
        two_ports.facts,
        ovs_ports=(
            BridgePort(bridge="br-ex", interface="br-ex", pci=None),
            BridgePort(bridge="br-ex", interface="eth0", pci=None),
            BridgePort(bridge="br-data", interface="eth1", pci=None),
        ),
    )
    assert two_ports.managing() == {PORT: "carries the default route of IPv4 (br-ex over eth0)"}


def test_an_internal_port_leads_to_the_uplink_of_its_bridge(two_ports: Network) -> None:
    two_ports.virtual("mgmt0")
    two_ports.ipv4_route("mgmt0")
    two_ports.facts = replace(
        two_ports.facts,
        ovs_ports=(
            BridgePort(bridge="br-ex", interface="eth2", pci=None),
            BridgePort(bridge="br-ex", interface="mgmt0", pci=None),
        ),
    )
    assert set(two_ports.managing()) == {OTHER}


def test_a_bridge_without_an_uplink_leaves_by_those_of_the_others(two_ports: Network) -> None:
    two_ports.virtual("br-int")
    two_ports.ipv4_route("br-int")
    two_ports.facts = replace(
        two_ports.facts,
        ovs_ports=(
            BridgePort(bridge="br-int", interface="patch-ex", pci=None),
            BridgePort(bridge="br-ex", interface="eth2", pci=None),
        ),
    )
    assert set(two_ports.managing()) == {OTHER}


def test_all_ports_of_the_data_path_are_kept_where_ovs_does_not_answer(two_ports: Network) -> None:
    two_ports.virtual("ovs-system", master_of=("eth0", "eth1"))
    two_ports.virtual("br-ex")
    two_ports.ipv4_route("br-ex")
    assert set(two_ports.managing()) == {PORT, SECOND}


def test_a_dpdk_port_under_the_bridge_that_has_the_default_route_is_management(network: Network) -> None:
    network.function(PORT, driver="vfio-pci")
    network.virtual("br-phy", tun_flags="0x1002")
    network.ipv4_route("br-phy")
    network.facts = replace(
        network.facts,
        ovs_ports=(
            BridgePort(bridge="br-phy", interface="br-phy", pci=None),
            BridgePort(bridge="br-phy", interface="dpdk0", pci=PciAddress.parse(PORT)),
        ),
    )
    assert network.managing() == {PORT: "carries the default route of IPv4 (br-phy over dpdk0)"}


def test_the_pf_of_a_vf_that_carries_management_is_kept_too(network: Network) -> None:
    network.function(PORT, driver="i40e", sriov_totalvfs="8", sriov_numvfs="1", virtfn0=SECOND)
    network.function(SECOND, driver="iavf", physfn=PORT)
    network.port(SECOND, "eth0v0")
    network.ipv4_route("eth0v0")
    assert network.managing() == {
        PORT: f"is the PF of {SECOND}, which carries the default route of IPv4 (eth0v0)",
        SECOND: "carries the default route of IPv4 (eth0v0)",
    }


def test_a_port_behind_virtio_is_found(network: Network) -> None:
    network.port(PORT, "ens3", between="/virtio2", driver="virtio-pci")
    network.ipv4_route("ens3")
    assert set(network.managing()) == {PORT}


def test_a_usb_nic_does_not_make_its_usb_controller_management(network: Network) -> None:
    network.function(PORT, class_code="0x0c0330", driver="xhci_hcd")
    network.port(PORT, "enx020000000001", between="/usb1/1-2/1-2:1.0")
    network.ipv4_route("enx020000000001")
    netdev = network.netdevs()["enx020000000001"]
    assert (netdev.pci, netdev.kind) == (None, "physical")
    assert netdev.management == "carries the default route of IPv4 (enx020000000001)"


def test_bond_and_slave_that_name_each_other_do_not_hang(two_ports: Network) -> None:
    two_ports.virtual("a", over=("b",))
    two_ports.virtual("b", over=("a", "eth0"))
    two_ports.ipv4_route("a")
    assert set(two_ports.managing()) == {PORT}


def test_interfaces_that_all_stand_on_each_other_are_walked_once(network: Network) -> None:
    names = tuple(f"v{number}" for number in range(30))
    for name in names:
        network.virtual(name, over=tuple(other for other in names if other != name))
    network.ipv4_route("v0")
    assert len([one for one in network.netdevs().values() if one.management]) == 30


def test_a_capture_states_what_the_machine_concluded(two_ports: Network) -> None:
    two_ports.ipv4_route("eth0")
    two_ports.facts = replace(
        two_ports.facts,
        management=(
            Conclusion(subject="eth1", reason="carries an SSH session into this machine (eth1)"),
            Conclusion(subject=OTHER, reason="carries the default route of IPv4 (br0 over dpdk0)"),
        ),
    )
    assert two_ports.managing() == {
        SECOND: "carries an SSH session into this machine (eth1)",
        OTHER: "carries the default route of IPv4 (br0 over dpdk0)",
    }


def test_lines_that_are_no_routes_are_passed_over(two_ports: Network) -> None:
    two_ports.write("/proc/net/route", "Iface\tDestination\n\neth0\tzz\n\x00\n")
    two_ports.write("/proc/net/ipv6_route", "nonsense\n" + "00 " * 10)
    assert two_ports.managing() == {}


def test_the_tree_of_the_fixture_is_what_sysfs_looks_like(two_ports: Network) -> None:
    link = two_ports.root.read_link("/sys/class/net/eth0")
    assert posixpath.normpath(f"/sys/class/net/{link}") == "/sys/devices/pci0000:10/0000:10:00.0/net/eth0"


def test_in_a_container_a_port_whose_interface_is_elsewhere_may_carry_management(network: Network) -> None:
    network.function(PORT, driver="i40e")
    network.function(SECOND, driver="vfio-pci")
    network.port(OTHER, "eth0")
    network.write("/run/.containerenv", "")
    (reason,) = network.managing().values()
    assert reason.startswith("has an interface (i40e) that this container cannot see, and that may carry management")
    assert set(network.managing()) == {PORT}
