"""From a plan to a machine that is what the plan says after a reboot, and back again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import cloud
import cloud_guest
import MLRsearch
import openstack
import pytest
import vm_edge
from cloud import Cloud
from cloud_lab import Lab
from vm import VirtualMachine
from vm_build import GUEST_SITE_PACKAGES
from vm_cache import step
from vm_compute import compute_host, has_function
from vm_edge import (
    DEDICATED_CPUS,
    HOST_CPUS,
    ISOLATED_CPUS,
    PF,
    PLAN,
    PMD_CPUS,
    UNDERLAY,
    VDPA_FILES,
    VDPA_PF,
    VFS,
    WAN,
    Traces,
    nfvhost,
)

from nfvhost.model.cpuset import CpuSet

# include/uapi/linux/vhost.h, as a guest's QEMU begins: VHOST_VDPA_GET_DEVICE_ID, and of its configuration the MAC by
# VHOST_VDPA_GET_CONFIG; 1 is a network device.
_ASK_VDPA = """
import fcntl, os, struct, sys
device = os.open(sys.argv[1], os.O_RDWR)
number = bytearray(4)
fcntl.ioctl(device, 0x8004AF70, number)
config = bytearray(struct.pack("II6s", 0, 6, bytes(6)))
fcntl.ioctl(device, 0x8008AF73, config)
print(struct.unpack("I", number)[0], config[8:11].hex(":"))
"""
# The bus takes one that has no driver for whichever of them comes, unless it is told which.
_BIND_VDPA = (
    "cd /sys/bus/vdpa/devices/{name}; echo {driver} > driver_override; echo {name} > driver/unbind;"
    " echo {name} > /sys/bus/vdpa/drivers_probe"
)

_VF: Final = {"name": "fast", "type": "sriov", "physnet": "physnet2", "vlan": 210}
_BENCH = ("bench", "run", "--plan", PLAN, "--path", "sriov", "--frames", "64", "--trial", "0.2")


class Journey:
    """One machine on its way; a step that failed makes the rest of the way meaningless."""

    def __init__(self, vm: VirtualMachine) -> None:
        self.vm = vm
        self.before: Traces | None = None
        self._broken: str | None = None

    @contextmanager
    def leg(self, what: str) -> Iterator[VirtualMachine]:
        """The machine, for one part of the way."""
        assert self._broken is None, f"the journey ended with: {self._broken}"
        self._broken = what
        with step(what):
            yield self.vm
        self._broken = None


@pytest.fixture(scope="module")
def journey(vm: VirtualMachine) -> Journey:
    vm.restore("installed")
    return Journey(vm)


@contextmanager
def virtio_netdev(vm: VirtualMachine, vf: str) -> Iterator[str]:
    """The interface that the vDPA device of that VF is to this machine while a guest has it not."""
    name = f"vdpa-{vf}"
    vm.shell(f"modprobe virtio_vdpa; {_BIND_VDPA.format(name=name, driver='virtio_vdpa')}")
    try:
        yield vm.shell(f"udevadm settle; ls /sys/bus/pci/devices/{vf}/virtio*/net").strip()
    finally:
        vm.shell(
            f"{_BIND_VDPA.format(name=name, driver='vhost_vdpa')}; echo > /sys/bus/vdpa/devices/{name}/driver_override"
        )


def test_1_a_plan_uses_a_port_of_each_kind_and_shows_what_it_would_change(journey: Journey) -> None:
    with journey.leg("plan") as vm:
        vm_edge.make_plan(vm)
        journey.before = vm_edge.traces(vm)
        shown = nfvhost(vm, "diff", PLAN)
        assert shown.code == 10
        assert f"{UNDERLAY}: igb -> vfio-pci" in shown.out
        assert f"{WAN}: e1000e -> vfio-pci" in shown.out
        assert f"{PF} vfs: 0 -> 4" in shown.out
        assert "hugepages=0:1,1:3" in shown.out
        assert vm_edge.traces(vm) == journey.before
        vm.save("planned")


def test_2_an_apply_makes_what_can_be_made_now_and_asks_for_a_reboot(journey: Journey) -> None:
    with journey.leg("apply") as vm:
        applied = nfvhost(vm, "apply", PLAN, "--yes")
        assert applied.code == 20
        found = vm_edge.drivers(vm)
        assert {found[one] for one in (UNDERLAY, WAN, *VFS)} == {"vfio-pci"}
        assert {found[one] for one in VDPA_FILES.values()} == {"vp-vdpa"}
        assert found[vm_edge.MANAGEMENT] == "virtio-pci"
        assert vm_edge.reachable(vm)
        vm.save("applied")


def test_3_the_boot_makes_the_rest_with_nobody_logged_in(journey: Journey) -> None:
    with journey.leg("reboot") as vm:
        vm.reboot()
        assert vm_edge.failed_units(vm) == []
        assert vm.shell("systemctl show -P Result nfvhost-devices nfvhost").split() == ["success", "success"]


def test_4_the_machine_is_what_the_plan_says(journey: Journey) -> None:
    with journey.leg("verify") as vm:
        verified = nfvhost(vm, "verify", PLAN)
        assert verified.code == 0
        assert vm_edge.pages(vm) == "1 3"
        assert CpuSet.parse(vm.read("/sys/devices/system/cpu/isolated").strip()) == ISOLATED_CPUS
        found = vm_edge.threads(vm)
        polling = {name: cpus for name, cpus in found.items() if name.startswith("pmd-")}
        assert polling == {f"pmd-c{cpu:02d}": CpuSet([cpu]) for cpu in PMD_CPUS}
        assert all(cpus <= HOST_CPUS for name, cpus in found.items() if name not in polling)
        assert f"cpu_dedicated_set = {DEDICATED_CPUS}" in vm.read("/etc/nova/nova-compute.conf.d/zz-nfvhost.conf")
        errors = vm.shell("for one in dpdk0 dpdk1; do ovs-vsctl get Interface $one link_state error; done")
        assert errors.split() == ["up", "[]", "up", "[]"]
        assert vm_edge.reachable(vm)


def test_5_packets_pass_from_a_kernel_port_over_the_wire_to_the_switch(journey: Journey) -> None:
    with journey.leg("packets") as vm:
        netdev = vm.shell(f"ls /sys/bus/pci/devices/{PF}/net").strip()
        vm.shell(
            f"ip netns add far; ip link set {netdev} netns far; ip -n far address add 192.0.2.2/24 dev {netdev};"
            f" ip -n far link set {netdev} up; ip address add 192.0.2.1/24 dev br-underlay"
        )
        try:
            answered = vm.run("ip", "netns", "exec", "far", "ping", "-c", "10", "-i", "0.5", "-W", "10", "192.0.2.1")
            print(answered)  # noqa: T201 - the log of the tier
            assert " 10 received" in answered.out
            # Open vSwitch writes its counters down every 5 s (other_config:stats-update-interval).
            counted = "set -- $(ovs-vsctl get Interface dpdk1 statistics:rx_packets statistics:tx_packets)"
            vm.shell(f"until {counted}; [ $1 -ge 10 ] && [ $2 -ge 10 ]; do sleep 1; done", timeout_s=60)
        finally:
            vm.shell("ip netns delete far; ip address delete 192.0.2.1/24 dev br-underlay")


def test_6_a_vf_that_is_bound_to_vfio_serves_dpdk(journey: Journey) -> None:
    with journey.leg("a VF under DPDK") as vm:
        port = ("add-port", "br-wan", "vf0", "--", "set", "Interface", "vf0", "type=dpdk")
        vm.check("ovs-vsctl", "--timeout=120", *port, f"options:dpdk-devargs={VFS[0]}", timeout_s=180)
        try:
            assert vm.check("ovs-vsctl", "get", "Interface", "vf0", "error").strip() == "[]"
            assert "igb_vf" in vm.check("ovs-vsctl", "get", "Interface", "vf0", "status:driver_name")
        finally:
            vm.check("ovs-vsctl", "--timeout=120", "del-port", "vf0", timeout_s=180)


def test_6_frames_cross_the_card_from_vf_to_vf(journey: Journey) -> None:
    with journey.leg("a bench through the card") as vm:
        vm.push(Path(MLRsearch.__file__).parent, f"/{GUEST_SITE_PACKAGES}/MLRsearch")
        netdev = vm.shell(f"ls /sys/bus/pci/devices/{PF}/net").strip()
        # The switch in the card is off while the port is down.
        vm.check("ip", "link", "set", netdev, "up")
        try:
            benched = nfvhost(vm, *_BENCH, "-o", "/root/vfs.json")
        finally:
            vm.check("ip", "link", "set", netdev, "down")
        assert benched.code == 0
        result = json.loads(vm.read("/root/vfs.json"))
        assert result["path"] == "sriov"
        assert result["generator"]["name"] == "built-in"
        (point,) = result["points"]
        assert point["ndr"]["pps"] > 0
        # Both are free again.
        assert {vm_edge.drivers(vm)[one] for one in VFS[:2]} == {"vfio-pci"}


def test_7_a_vdpa_device_is_there_for_a_guest_answers_and_carries_packets(journey: Journey) -> None:
    with journey.leg("vDPA") as vm:
        devices = {name: vm.read(f"/sys/bus/vdpa/devices/vdpa-{vf}/uevent") for name, vf in VDPA_FILES.items()}
        assert all("DRIVER=vhost_vdpa" in said for said in devices.values())
        for name in VDPA_FILES:
            told = vm.check("/opt/nfvhost/bin/python", "-c", _ASK_VDPA, name)
            assert told.split() == ["1", "52:54:00"]
    with journey.leg("packets by vDPA") as vm, virtio_netdev(vm, VDPA_FILES["/dev/vhost-vdpa-0"]) as netdev:
        card = vm.shell(f"ls /sys/bus/pci/devices/{VDPA_PF}/virtio*/net").strip()
        vm.shell(
            f"for one in near:{netdev}:1 far:{card}:2; do IFS=: read -r place device host <<< $one;"
            " ip netns add $place; ip link set $device netns $place;"
            " ip -n $place address add 192.0.2.$host/24 dev $device; ip -n $place link set $device up; done"
        )
        try:
            answered = vm.run("ip", "netns", "exec", "near", "ping", "-c", "5", "-i", "0.2", "-W", "10", "192.0.2.2")
            print(answered)  # noqa: T201 - the log of the tier
            assert " 5 received" in answered.out
            assert "52:54:00:01:04:01" in vm.shell(f"ip -n far neighbour show 192.0.2.1 dev {card}")
        finally:
            vm.shell("ip netns delete near; ip netns delete far")


def test_8_a_second_apply_changes_nothing(journey: Journey) -> None:
    with journey.leg("apply again") as vm:
        journals = vm.shell("sha256sum /var/lib/nfvhost/journal/*.jsonl")
        again = nfvhost(vm, "apply", PLAN, "--yes")
        assert again.code == 0
        assert "nothing to change" in again.err
        assert vm.shell("sha256sum /var/lib/nfvhost/journal/*.jsonl") == journals


def test_9_a_new_kernel_boots_with_the_same_arguments(journey: Journey) -> None:
    with journey.leg("a second kernel") as vm:
        vm.shell('cd /boot; for one in vmlinuz initrd.img; do cp "$one-$(uname -r)" "$one-6.99.0-other"; done')
        try:
            vm.check("update-grub", timeout_s=300)
            entries = vm.shell(r"grep -P '^\s+linux\s' /boot/grub/grub.cfg").splitlines()
            usual = [entry for entry in entries if " single " not in f"{entry} "]
            assert any("6.99.0-other" in entry for entry in usual)
            # One for recovery comes up without what may be why it is needed.
            assert [entry for entry in entries if f"isolcpus=managed_irq,domain,{ISOLATED_CPUS}" in entry] == usual
        finally:
            vm.shell("rm /boot/*-6.99.0-other; update-grub", timeout_s=300)


def test_10_nova_runs_guests_with_vfs_on_both_nodes(journey: Journey, control_plane: Cloud, tmp_path: Path) -> None:
    with journey.leg("guests of Nova") as vm, compute_host(vm, control_plane, PF):
        plan, api = tmp_path / "plan.yaml", openstack.connect(cloud="lab")
        vm.fetch(PLAN, plan)
        lab = Lab(cloud=control_plane, plan=plan, api=api, kernel=cloud_guest.upload_kernel(api))
        before, stock = lab.things(), lab.stock()
        assert (stock["PCPU"], stock["VCPU"]) == (len(DEDICATED_CPUS), len(HOST_CPUS))

        near = lab.document(tmp_path, "near", cpuPolicy="shared", pageSize="small", ports=[_VF])
        # The card is on the other node.
        pinned = {"memoryMiB": 1024, "pageSize": "1G", "pciAffinity": "preferred"}
        far = lab.document(tmp_path, "far", **pinned, ports=[_VF])
        with step("two guests"):
            servers = lab.launch(near, far)
        real = {name: {one["subject"]: one["real"] for one in server["checks"]} for name, server in servers.items()}
        assert real["near"]["memory"] == "256 MiB on node 0, pages of 4 KiB"
        assert real["far"]["memory"] == "1024 MiB on node 1, pages of 1 GiB"
        assert real["far"]["vCPUs"] in {f"0 on CPU {cpu}" for cpu in DEDICATED_CPUS}
        assert all(one["port fast"].startswith("hw_veb on nfv-vm, active") for one in real.values())
        # libvirt has given each a VF of the plan, with its VLAN.
        given = [vf for server in servers.values() for vf in VFS if has_function(vm, server["id"], vf)]
        assert len(set(given)) == len(servers)
        shown = vm.shell(f"ip link show dev $(ls /sys/bus/pci/devices/{PF}/net)")
        assert shown.count(f"vlan {_VF['vlan']}") == len(servers)
        # The machine with guests on it is what the plan says, and so is the one that they have left.
        assert nfvhost(vm, "verify", PLAN).code == 0

        # The agent of SR-IOV alone is here: ports of vDPA are bound by that of Open vSwitch (docs/openstack.md).
        offload = {"name": "fast", "type": "vdpa", "physnet": "physnet3", "vlan": 310}
        document = lab.document(tmp_path, "offload", cpuPolicy="shared", pageSize="small", ports=[offload])
        with step("a port of vDPA"):
            failed = cloud.nfvhost("launch", document, code=6)
        assert "no agent maps the physical network physnet3 to a bridge" in failed.stderr
        with step("destroy"):
            cloud.nfvhost("destroy", "--all")
        assert lab.things() == before
    with journey.leg("verify after the guests") as vm:
        assert {vm_edge.drivers(vm)[one] for one in VFS} == {"vfio-pci"}
        assert nfvhost(vm, "verify", PLAN).code == 0


def test_11_a_rollback_and_a_reboot_leave_the_machine_as_it_was(journey: Journey) -> None:
    with journey.leg("rollback") as vm:
        undone = nfvhost(vm, "rollback", "--yes")
        assert undone.code in {0, 20}
    with journey.leg("the reboot after it") as vm:
        vm.reboot()
        after = vm_edge.traces(vm)
        assert after == journey.before
        assert after.pages == "0 0"
        assert vm_edge.failed_units(vm) == []
        assert "isolcpus" not in vm.read("/proc/cmdline")
