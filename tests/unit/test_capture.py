"""What a capture holds, and what it leaves out."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unpack import unpack

from nfvhost.access.archive import open_root
from nfvhost.access.recording import RecordingRoot
from nfvhost.access.root import DirectoryRoot
from nfvhost.errors import DocumentError
from nfvhost.inspect import inspect_host
from nfvhost.inspect.capture import write_capture
from nfvhost.inspect.live import captured_facts, parse_live_facts
from nfvhost.model.host import OvsInstall
from nfvhost.model.live import Conclusion, HardwareName, LiveFacts

# Fixtures of tests/unit/conftest.py have no importable type.
Network = Any
MakeTree = Callable[[Mapping[str, Any]], DirectoryRoot]

PORT = "0000:10:00.0"
SECOND = "0000:10:00.1"
MAC = "02:ab:cd:00:00:01"
CMDLINE = (
    "BOOT_IMAGE=/vmlinuz-6.1.0.13.7 root=/dev/mapper/myhost--vg-root ro quiet intel_iommu=on hugepages=0:4,1:4 "
    "ip=198.51.100.7::198.51.100.1:255.255.255.0:myhost:eth0:off nameserver=198.51.100.53 "
    "rd.iscsi.initiator=iqn.2004-10.com.example:myhost rd.iscsi.password=hunter2 log=[2001:db8:1::7]:514 "
    "systemd.hostname=myhost BOOTIF=01-02-ab-cd-00-00-01 ifname=eth0:02:ab:cd:00:00:01 ip=::::myhost:eth0:dhcp "
    "vfio-pci.ids=8086:1572 pci=resource_alignment=0000:10:00.0 isolcpus=managed_irq,2-3 default_hugepagesz=1G\n"
)


@pytest.fixture
def machine_tree(network: Network) -> Network:
    """Two ports, management on a VLAN of a bond, and whatever else names a machine."""
    network.function(PORT, driver="i40e", numa_node="0", iommu_group="3", sriov_totalvfs="8", sriov_numvfs="0")
    network.port(PORT, "eth0", address=MAC, speed="10000")
    network.port(SECOND, "eth1", address="02:ab:cd:00:00:02", speed="-1")
    network.bond("bond0", "eth0")
    network.vlan("bond0.7", "bond0")
    network.ipv4_route("bond0.7")
    network.ipv6_route("bond0.7")
    network.write("/proc/cmdline", CMDLINE)
    network.write("/proc/sys/kernel/hostname", "myhost.example.net\n")
    network.write("/proc/cpuinfo", "processor\t: 0\nHardware\t: BCM2835\nSerial\t\t: 00000000deadbeef\n")
    network.write(
        "/proc/mounts", "198.51.100.9:/home /home nfs rw,addr=198.51.100.9 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
    )
    network.write("/proc/self/cgroup", "5:memory:/secret\n0::/lxc.payload.myhost/" + "ab" * 32 + "\n")
    network.write("/sys/fs/cgroup/lxc.payload.myhost/" + "ab" * 32 + "/cpuset.cpus.effective", "0\n")
    network.write("/proc/self/status", "Name:\tmyprogram\nPid:\t4711\nCpus_allowed_list:\t0-1\nMems_allowed_list:\t0\n")
    network.write("/proc/1/environ", "PASSWORD=hunter2\0container=lxc\0")
    network.write("/sys/devices/system/cpu/online", "0-1\n")
    network.write("/sys/devices/system/cpu/possible", "0-1\n")
    network.write("/sys/class/dmi/id/product_serial", "SN-1234567\n")
    network.write("/sys/class/dmi/id/product_uuid", "4c4c4544-0000-0000-0000-000000000000\n")
    return network


def contents(path: Path) -> bytes:
    with tarfile.open(path) as tar:
        return b"\n".join(
            one.name.encode() + b"\n" + (file.read() if (file := tar.extractfile(one)) else b"") for one in tar
        )


def test_an_inspection_of_a_capture_finds_the_same_machine(machine_tree: Network, tmp_path: Path) -> None:
    path = tmp_path / "host.tar.xz"
    write_capture(machine_tree.root, str(path), with_macs=True)
    there, here = inspect_host(open_root(str(path))), inspect_host(machine_tree.root)
    assert replace(there, kernel_args=None) == replace(here, kernel_args=None)
    assert str(there.allowed) == "0"
    assert {str(nic.pci): nic.management for nic in there.nics} == {
        PORT: "carries the default routes of IPv4 and IPv6 (bond0.7 over bond0 over eth0)",
        SECOND: None,
    }


def test_kernel_arguments_keep_what_planning_reads(machine_tree: Network, tmp_path: Path) -> None:
    path = tmp_path / "host.tar.xz"
    write_capture(machine_tree.root, str(path))
    assert inspect_host(open_root(str(path))).kernel_args == (
        "BOOT_IMAGE=/vmlinuz-6.1.0.13.7",
        "root=/dev/mapper/host--vg-root",
        "ro",
        "quiet",
        "intel_iommu=on",
        "hugepages=0:4,1:4",
        "ip=192.0.2.1::192.0.2.1:255.255.255.0::eth0:off",
        "nameserver=-",
        "rd.iscsi.initiator=-",
        "rd.iscsi.password=-",
        "log=[2001:db8::1]:514",
        "systemd.hostname=-",
        "BOOTIF=-",
        "ifname=eth0:-",
        "ip=:::::eth0:dhcp",
        "vfio-pci.ids=8086:1572",
        "pci=resource_alignment=0000:10:00.0",
        "isolcpus=managed_irq,2-3",
        "default_hugepagesz=1G",
    )


@pytest.mark.parametrize(
    "private",
    [
        b"myhost",
        b"hunter2",
        b"198.51.100",
        b"deadbeef",
        b"SN-1234567",
        b"4c4c4544",
        b"02:ab:cd",
        b"02-ab-cd",
        b"ab" * 32,
        b"4711",
        b"/secret",
        b"\t010200C0",
    ],
)
def test_a_capture_does_not_tell_which_machine_it_is(machine_tree: Network, tmp_path: Path, private: bytes) -> None:
    path = tmp_path / "host.tar.xz"
    write_capture(machine_tree.root, str(path))
    assert private not in contents(path)


def test_macs_are_kept_where_asked(machine_tree: Network, tmp_path: Path) -> None:
    path = tmp_path / "host.tar.xz"
    write_capture(machine_tree.root, str(path), with_macs=True)
    assert inspect_host(open_root(str(path))).nics[0].mac == MAC
    write_capture(machine_tree.root, str(path))
    nic = inspect_host(open_root(str(path))).nics[0]
    assert (nic.mac, nic.speed_mbps) == (None, 10000)


def test_an_interface_named_by_its_mac_gets_another_name(network: Network, tmp_path: Path) -> None:
    network.port(PORT, "enx02abcd000001", address=MAC)
    network.write("/sys/devices/system/cpu/online", "0\n")
    network.bridge("br0", "enx02abcd000001")
    network.ipv4_route("br0")
    path = tmp_path / "host.tar.xz"
    write_capture(network.root, str(path))
    (nic,) = inspect_host(open_root(str(path))).nics
    assert nic.netdevs == ("enx000000000000",)
    assert nic.management == "carries the default route of IPv4 (br0 over enx000000000000)"
    assert b"02abcd" not in contents(path)


def test_a_capture_of_a_capture_is_the_same_file(machine_tree: Network, tmp_path: Path) -> None:
    first, second = tmp_path / "first.tar.xz", tmp_path / "second.tar.xz"
    write_capture(machine_tree.root, str(first))
    write_capture(open_root(str(first)), str(second))
    assert first.read_bytes() == second.read_bytes()


def test_the_unpacked_capture_is_the_same_machine(machine_tree: Network, tmp_path: Path) -> None:
    path = tmp_path / "host.tar.xz"
    write_capture(machine_tree.root, str(path))
    unpack(path, tmp_path / "unpacked")
    assert inspect_host(open_root(str(tmp_path / "unpacked"))) == inspect_host(open_root(str(path)))


def test_serial_numbers_of_a_mainframe_are_blanked(make_tree: MakeTree, tmp_path: Path) -> None:
    line = "processor 0: version = FF,  identification = 0133E8,  machine = 2964\n"
    path = tmp_path / "host.tar.xz"
    write_capture(make_tree({"/proc/cpuinfo": line, "/sys/devices/system/cpu/online": "0\n"}), str(path))
    assert open_root(str(path)).read_text("/proc/cpuinfo") == line.replace("0133E8", "000000")


def test_only_what_is_asked_is_recorded(make_tree: MakeTree) -> None:
    inner = make_tree({"/sys/a/asked": "1\n", "/sys/a/seen": "2\n", "/sys/b/never": "3\n", "/sys/empty/": ""})
    recorded = RecordingRoot(inner, {"/nfvhost/live.json": b"{}"})
    assert recorded.read_line("/sys/a/asked") == "1"
    assert recorded.list_dir("/sys/a") == ("asked", "seen")
    assert recorded.list_dir("/sys/empty") == ()
    assert recorded.list_dir("/sys/nowhere") == ()
    assert recorded.exists("/sys/b/never")
    assert not recorded.exists("/sys/b/absent")
    assert recorded.read_text("/sys/b/absent") is None
    assert recorded.read_line("/nfvhost/live.json") == "{}"
    assert recorded.files == {"/nfvhost/live.json": b"{}", "/sys/a/asked": b"1\n"}
    assert recorded.directories == {"/sys/a", "/sys/empty"}
    assert recorded.names == {"/sys/a/seen", "/sys/b/never"}
    assert not recorded.live


FACTS = LiveFacts(
    architecture="x86_64",
    container="docker",
    ovs=OvsInstall(
        version="3.1.0",
        dpdk_version=None,
        running=True,
        database="unix:/run/openvswitch/db.sock",
        bridges=("br-int",),
        other_config=(("dpdk-init", "true"),),
    ),
    vdpa_management_devices=("pci/0000:10:00.0",),
    hardware_names=(HardwareName(vendor="8086", device="1572", vendor_name="Intel", device_name=None),),
    management=(Conclusion(subject="eth0", reason="carries the default route of IPv4 (eth0)"),),
)


@pytest.mark.parametrize("facts", [FACTS, LiveFacts(), replace(FACTS, ovs=None, management=())])
def test_live_facts_come_back_from_a_capture(facts: LiveFacts) -> None:
    assert parse_live_facts(captured_facts(facts)) == facts


def test_addresses_and_sessions_stay_on_the_machine() -> None:
    there = replace(FACTS, addresses=(("eth0", ("198.51.100.7/24",)),), ssh_netdevs=("eth0",))
    assert captured_facts(there) == captured_facts(FACTS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"kind": "LiveFacts", "apiVersion": "nfvhost/v1"}',
        '{"kind": "LiveFacts", "apiVersion": "nfvhost/v2"}',
        captured_facts(FACTS).replace('"3.1.0"', "3.1"),
        captured_facts(FACTS).replace('"vdpaManagementDevices": [', '"vdpaManagementDevices": [7, '),
        captured_facts(FACTS).replace('"bridges": [', '"bridges": [null, '),
    ],
)
def test_damaged_live_facts_are_one_error_of_the_document(text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_live_facts(text)
    assert caught.value.problems[0].where == "/nfvhost/live.json"
    assert caught.value.problems[0].hint
