"""PCI functions, NICs and interfaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nfvhost.access.hardware import names_from_pci_ids
from nfvhost.access.root import DirectoryRoot
from nfvhost.inspect.iommu import iommu
from nfvhost.inspect.pci import DEVICES, pci_functions, vendor_and_device
from nfvhost.inspect.vdpa import vdpa
from nfvhost.model.host import IommuGroup, VdpaDevice
from nfvhost.model.live import HardwareName, LiveFacts
from nfvhost.model.pci import PciAddress

# Fixtures of tests/unit/conftest.py have no importable type.
Network = Any

PORT = "0000:10:00.0"
SECOND = "0000:10:00.1"
# PCI Local Bus Specification: 8086:1572, revision 1, class 020000; little endian.
CONFIG = bytes.fromhex("8680721506041000 01000002 00000000")


def addresses(*texts: str) -> tuple[PciAddress, ...]:
    return tuple(map(PciAddress.parse, texts))


def test_a_nic_is_told_in_full(network: Network) -> None:
    network.function(PORT, driver="i40e", numa_node="1", sriov_totalvfs="64", sriov_numvfs="0", iommu_group="7")
    network.port(PORT, "eth0", speed="10000", mtu="9000", address="02:AB:00:00:00:01")
    nic = network.nics()[PORT]
    assert (nic.vendor, nic.device, nic.class_code) == ("8086", "1572", "020000")
    assert (nic.driver, nic.netdevs, nic.node, nic.iommu_group) == ("i40e", ("eth0",), 1, 7)
    assert (nic.total_vfs, nic.num_vfs, nic.vfs, nic.physfn) == (64, 0, (), None)
    assert (nic.mac, nic.speed_mbps, nic.management) == ("02:ab:00:00:00:01", 10000, None)


def test_what_the_kernel_does_not_offer_is_none(network: Network) -> None:
    network.function(PORT, numa_node="-1")
    nic = network.nics()[PORT]
    assert (nic.driver, nic.netdevs, nic.node, nic.iommu_group) == (None, (), None, None)
    assert (nic.total_vfs, nic.num_vfs, nic.mac, nic.speed_mbps) == (None, None, None, None)


@pytest.mark.parametrize("speed", ["-1", "4294967295", "0", ""])
def test_the_speed_of_a_link_that_is_down_is_none(network: Network, speed: str) -> None:
    network.port(PORT, "eth0", speed=speed)
    assert network.netdevs()["eth0"].speed_mbps is None


def test_a_nic_that_vfio_holds_is_still_a_nic(network: Network) -> None:
    network.function(PORT, driver="vfio-pci")
    assert network.nics()[PORT].driver == "vfio-pci"


@pytest.mark.parametrize("class_code", ["0x020000", "0x020700", "0x028000"])
def test_ethernet_infiniband_and_other_network_controllers_are_nics(network: Network, class_code: str) -> None:
    network.function(PORT, class_code=class_code, ids="15b3:1013")
    assert network.nics()[PORT].class_code == class_code.removeprefix("0x")


@pytest.mark.parametrize("class_code", ["0x060400", "0x010802", "0x0c0600", "0xffff00"])
def test_other_functions_are_no_nics(network: Network, class_code: str) -> None:
    network.function(PORT, class_code=class_code)
    assert network.nics() == {}


def test_vfs_come_in_the_order_of_their_numbers(network: Network) -> None:
    links = {f"virtfn{number}": f"0000:10:02.{number % 8}" for number in range(3)} | {"virtfn10": "0000:10:03.2"}
    network.function(PORT, sriov_totalvfs="16", sriov_numvfs="4", **links)
    network.function("0000:10:02.0", physfn=PORT, driver="vfio-pci")
    nics = network.nics()
    assert nics[PORT].vfs == addresses("0000:10:02.0", "0000:10:02.1", "0000:10:02.2", "0000:10:03.2")
    assert nics["0000:10:02.0"].physfn == PciAddress.parse(PORT)


def test_group_mates_leave_bridges_out(network: Network) -> None:
    network.function("0000:00:01.0", class_code="0x060400", iommu_group="3")
    network.function(PORT, iommu_group="3")
    network.function(SECOND, iommu_group="3")
    for pci in ("0000:00:01.0", PORT, SECOND):
        network.link(f"/sys/kernel/iommu_groups/3/devices/{pci}", f"../../../../devices/{pci}")
    assert network.nics()[PORT].group_mates == addresses(SECOND)


def test_groups_that_only_the_functions_state_are_found(network: Network) -> None:
    network.function(PORT, iommu_group="3")
    network.function(SECOND, iommu_group="3")
    found = iommu(network.root, pci_functions(network.root))
    assert found.enabled is True
    assert found.groups == (IommuGroup(id=3, devices=addresses(PORT, SECOND)),)


def test_an_empty_folder_of_groups_says_that_the_iommu_is_off(network: Network) -> None:
    (network.top / "sys/kernel/iommu_groups").mkdir(parents=True)
    assert iommu(network.root, ()).enabled is False


def test_without_a_folder_of_groups_nobody_knows(network: Network) -> None:
    assert iommu(network.root, ()).enabled is None


def test_groups_that_vfio_pretends_protect_nothing(network: Network) -> None:
    network.write("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")
    network.write("/sys/kernel/iommu_groups/0/name", "vfio-noiommu\n")
    network.link(f"/sys/kernel/iommu_groups/0/devices/{PORT}", f"../../../../devices/{PORT}")
    assert iommu(network.root, ()).enabled is False


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("uevent", b"DRIVER=i40e\nPCI_CLASS=20000\nPCI_ID=8086:1572\nPCI_SLOT_NAME=0000:10:00.0\n"),
        ("modalias", b"pci:v00008086d00001572sv00008086sd00000001bc02sc00i00\n"),
        ("config", CONFIG),
    ],
)
def test_a_function_without_its_class_file_is_known_by_another(network: Network, name: str, content: bytes) -> None:
    network.write(f"{DEVICES}/{PORT}/{name}", content)
    nic = network.nics()[PORT]
    assert (nic.vendor, nic.device, nic.class_code) == ("8086", "1572", "020000")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("uevent", b"PCI_CLASS=20000\nPCI_ID=:\n"),
        ("modalias", b"pci:v0000"),
        ("config", CONFIG[:4]),
        ("config", b"\xff" * 64),
        ("class", b"network\n"),
    ],
)
def test_a_function_that_no_file_explains_is_no_nic(network: Network, name: str, content: bytes) -> None:
    network.write(f"{DEVICES}/{PORT}/{name}", content)
    (function,) = pci_functions(network.root)
    assert function.class_code is None
    assert network.nics() == {}


def test_a_network_class_without_a_vendor_is_left_out(network: Network) -> None:
    network.write(f"{DEVICES}/{PORT}/class", "0x020000\n")
    (function,) = pci_functions(network.root)
    assert function.is_network
    assert vendor_and_device(network.root, function) is None
    assert network.nics() == {}


def test_domains_of_five_digits_come_after_the_others(network: Network) -> None:
    network.function("10000:01:00.0")
    network.function("0000:ff:00.0")
    assert list(network.nics()) == ["0000:ff:00.0", "10000:01:00.0"]


def test_names_that_are_no_address_and_links_to_nowhere_are_survived(network: Network) -> None:
    network.function(PORT)
    network.write(f"{DEVICES}/README", "")
    for number in range(32):
        network.link(f"{DEVICES}/0000:20:{number:02x}.0", "../../../devices/gone")
    network.link(f"{DEVICES}/0000:30:00.0", "0000:30:00.0")
    assert len(pci_functions(network.root)) == 34
    assert list(network.nics()) == [PORT]


def test_a_function_that_is_no_nic_costs_one_file(network: Network) -> None:
    class Counting(DirectoryRoot):
        reads = 0

        def read_bytes(self, path: str) -> bytes | None:
            Counting.reads += 1
            return super().read_bytes(path)

    for device in range(20):
        network.function(f"0000:00:{device:02x}.0", class_code="0x060400")
    assert len(pci_functions(Counting(str(network.top)))) == 20
    assert Counting.reads == 20


def test_representors_come_after_the_port(network: Network) -> None:
    network.port(PORT, "aaa_rep", phys_port_name="pf0vf0")
    network.port(PORT, "zzz_uplink", phys_port_name="p0", speed="100000")
    nic = network.nics()[PORT]
    assert nic.netdevs == ("zzz_uplink", "aaa_rep")
    assert nic.speed_mbps == 100000


@pytest.mark.parametrize("between", ["/virtio0", "/vdpa0/virtio3", "/mlx5_core.sf.4"])
def test_an_interface_on_a_device_of_the_function_is_the_functions(network: Network, between: str) -> None:
    network.port(PORT, "ens3", between=between)
    assert network.netdevs()["ens3"].pci == PciAddress.parse(PORT)
    assert network.nics()[PORT].netdevs == ("ens3",)


def test_interfaces_are_of_the_kind_that_their_folders_say(network: Network) -> None:
    network.port(PORT, "eth0")
    network.port(SECOND, "eth1")
    network.virtual("lo", type="772")
    network.bond("bond0", "eth0")
    network.bridge("br0", "bond0")
    network.vlan("br0.5", "br0")
    network.virtual("tap0", tun_flags="0x1002")
    network.virtual("veth0", iflink="99")
    network.virtual("vxlan0", iflink="1", uevent="DEVTYPE=vxlan")
    network.virtual("vrf0", master_of=("eth1",), uevent="DEVTYPE=vrf")
    network.virtual("dummy0")
    network.virtual("ovs-system")
    network.write("/sys/class/net/bonding_masters", "bond0\n")
    assert {name: one.kind for name, one in network.netdevs().items()} == {
        "eth0": "physical",
        "eth1": "physical",
        "lo": "loopback",
        "bond0": "bond",
        "br0": "bridge",
        "br0.5": "vlan",
        "tap0": "tun",
        "veth0": "veth",
        "vxlan0": "virtual",
        "vrf0": "virtual",
        "dummy0": "virtual",
        "ovs-system": "openvswitch",
    }


def test_an_address_of_zeros_is_no_address(network: Network) -> None:
    network.virtual("lo", type="772", address="00:00:00:00:00:00")
    assert network.netdevs()["lo"].mac is None


def test_vdpa_devices_name_the_function_that_they_stand_on(network: Network) -> None:
    network.link("/sys/bus/vdpa/devices/vdpa0", "../../../devices/pci0000:00/0000:00:01.0/0000:10:02.0/vdpa0")
    network.link("/sys/devices/pci0000:00/0000:00:01.0/0000:10:02.0/vdpa0/driver", "../../bus/vdpa/drivers/vhost_vdpa")
    network.link("/sys/bus/vdpa/devices/vdpa1", "../../../devices/vdpasim_net/vdpa1")
    found = vdpa(network.root, LiveFacts(vdpa_management_devices=("pci/0000:10:02.0",)))
    assert found.management_devices == ("pci/0000:10:02.0",)
    assert found.devices == (
        VdpaDevice(name="vdpa0", parent=PciAddress.parse("0000:10:02.0"), driver="vhost_vdpa"),
        VdpaDevice(name="vdpa1", parent=None, driver=None),
    )


def test_names_that_the_machine_states_go_before_those_of_pci_ids(network: Network) -> None:
    network.function(PORT)
    network.facts = LiveFacts(
        hardware_names=(HardwareName(vendor="8086", device="1572", vendor_name="Intel", device_name="X710"),)
    )
    nic = network.nics()[PORT]
    assert (nic.vendor_name, nic.device_name) == ("Intel", "X710")


PCI_IDS = """# a comment
8086  Intel Corporation
\t1572  Ethernet Controller X710 for 10GbE SFP+
\t\t1572 8086  a subsystem that is no device
\t158b  Ethernet Controller XXV710 for 25GbE SFP28
# another comment

8087  Another
\t1573  A device of the next vendor
C 02  Network controller
"""


@pytest.mark.parametrize(
    ("vendor", "device", "vendor_name", "device_name"),
    [
        ("8086", "1572", "Intel Corporation", "Ethernet Controller X710 for 10GbE SFP+"),
        ("8086", "158b", "Intel Corporation", "Ethernet Controller XXV710 for 25GbE SFP28"),
        ("8086", "1573", "Intel Corporation", None),
        ("8087", "1573", "Another", "A device of the next vendor"),
        ("ffff", "1572", None, None),
    ],
)
def test_names_are_found_in_a_pci_ids_file(
    tmp_path: Path, vendor: str, device: str, vendor_name: str | None, device_name: str | None
) -> None:
    path = tmp_path / "pci.ids"
    path.write_text(PCI_IDS)
    (name,) = names_from_pci_ids(frozenset({(vendor, device)}), paths=("/nowhere/pci.ids", str(path)))
    assert (name.vendor_name, name.device_name) == (vendor_name, device_name)


def test_without_a_pci_ids_file_there_are_no_names() -> None:
    assert names_from_pci_ids(frozenset({("8086", "1572")}), paths=("/nowhere/pci.ids",)) == ()
