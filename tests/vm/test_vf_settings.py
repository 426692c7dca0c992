"""VFs and vDPA devices of a real kernel: those of netdevsim take every setting, those of an igb are on a real bus."""

from __future__ import annotations

import json
from typing import Final

import pytest
from vm import VirtualMachine
from vm_sockets import Ended

_PYTHON: Final = "/opt/nfvhost/bin/python"
_SIMULATED: Final = """
set -e
modprobe netdevsim
echo '1 1' > /sys/bus/netdevsim/new_device
udevadm settle
mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
echo 64 > /sys/kernel/debug/netdevsim/netdevsim1/max_vfs
echo 64 > /sys/bus/netdevsim/devices/netdevsim1/sriov_numvfs
modprobe vhost_vdpa
modprobe vdpa_sim_net
"""
_TELL: Final = """
import json, os
from nfvhost.access.kernel_links import Netlink
from nfvhost.access.vf_settings import VfSetting
links = Netlink()
(port,) = os.listdir("/sys/bus/netdevsim/devices/netdevsim1/net")
told = {"vfs": len(links.read_vfs([port])[port]), "settings": []}
for name, text in (
    ("mac", "52:54:00:aa:00:01"), ("vlan", "100"), ("vlan", "7 qos 3"), ("vlan", "0"), ("trust", "on"),
    ("trust", "off"), ("spoofchk", "on"), ("spoofchk", "off"), ("state", "disable"), ("state", "enable"),
    ("state", "auto"), ("max_tx_rate", "1000"), ("max_tx_rate", "0"),
):
    links.write_vf(port, vf=63, setting=VfSetting(name), text=text)
    told["settings"].append([name, text, links.read_vfs([port])[port][63].text(VfSetting(name))])
links.add_vdpa("vdpa-t", management="vdpasim_net", mac="52:54:00:00:00:07", queue_pairs=None, mtu=9000)
told["makers"] = links.vdpa_management_devices()
told["vdpa"] = [[one.name, one.mac, one.mtu] for one in links.vdpa_configs()]
told["driver"] = os.path.basename(os.readlink("/sys/bus/vdpa/devices/vdpa-t/driver"))
told["file"] = [name for name in os.listdir("/sys/bus/vdpa/devices/vdpa-t") if name.startswith("vhost-vdpa-")]
links.remove_vdpa("vdpa-t")
told["after"] = links.vdpa_configs()
print(json.dumps(told))
"""
_PROFILE: Final = """
apiVersion: nfvhost/v1
kind: Profile
name: vfs
ovs: {noPci: true}
nova: {enabled: false}
nics:
  - {pci: "0000:21:00.0", role: sriov, vfs: %d, vlan: 100, trusted: true, vfSpoofCheck: false,
     vfMacs: ["52:54:00:21:00:00", "52:54:00:21:00:01"]}
"""
_PF: Final = "/sys/bus/pci/devices/0000:21:00.0"


@pytest.fixture
def ports(installed: VirtualMachine) -> VirtualMachine:
    """The machine with plans for four and for six VFs of its igb."""
    for count in (4, 6):
        profile = _PROFILE % count
        installed.run("tee", f"/root/{count}.profile.yaml", stdin=profile.encode())
        installed.check("nfvhost", "plan", "--profile", f"/root/{count}.profile.yaml", "-o", f"/root/{count}.yaml")
    return installed


def vfs(vm: VirtualMachine) -> tuple[int, list[str]]:
    """How many VFs the port has, and what is bound to each."""
    script = f"for one in {_PF}/virtfn*; do basename $(readlink $one/driver || echo none); done"
    number = int(vm.read(f"{_PF}/sriov_numvfs"))
    return number, vm.shell(script).split() if number else []


def apply(vm: VirtualMachine, count: int) -> Ended:
    """How an apply of the VFs alone ended."""
    return vm.run("nfvhost", "apply", f"/root/{count}.yaml", "--yes", "--only", "sriov", timeout_s=300)


def test_each_setting_that_was_written_is_read_back_and_vdpa_devices_come_and_go(installed: VirtualMachine) -> None:
    installed.shell(_SIMULATED)

    told = json.loads(installed.check(_PYTHON, "-c", _TELL, timeout_s=300))

    assert told["vfs"] == 64
    assert [found for _, text, found in told["settings"] if found != text] == []
    assert told["makers"] == ["vdpasim_net"]
    assert told["vdpa"] == [["vdpa-t", "52:54:00:00:00:07", 9000]]
    assert (told["driver"], told["file"], told["after"]) == ("vhost_vdpa", ["vhost-vdpa-0"], [])


@pytest.mark.field_failure(23, 24, 26)
def test_vfs_of_a_real_card_come_through_zero_stay_with_who_has_them_and_go_again(ports: VirtualMachine) -> None:
    assert apply(ports, 4).code == 0
    assert vfs(ports) == (4, ["none"] * 4)
    assert "vlan 100, spoof checking off, link-state auto, trust on" in ports.shell(
        f"ip link show $(ls {_PF}/net) | grep 'vf 1 .*52:54:00:21:00:01'"
    )
    again = apply(ports, 4)
    assert (again.code, "nothing to change" in again.err) == (0, True)
    # What gives the VFs an interface after all: udev tells each manager to leave it alone.
    ports.shell(
        "printf '[Match]\\nName=!mgmt0\\nType=ether\\n[Network]\\nDHCP=yes\\n' > /etc/systemd/network/50-all.network;"
        "networkctl reload; modprobe igbvf; echo igbvf > /sys/bus/pci/devices/0000:21:10.0/driver_override;"
        "echo 0000:21:10.0 > /sys/bus/pci/drivers_probe; udevadm settle; sleep 2"
    )
    told = ports.shell("networkctl list --no-pager | grep $(ls /sys/bus/pci/devices/0000:21:10.0/net)")
    assert told.split()[-1] == "unmanaged"
    ports.shell(
        "modprobe vfio-pci; echo vfio-pci > /sys/bus/pci/devices/0000:21:10.2/driver_override;"
        "echo 0000:21:10.2 > /sys/bus/pci/drivers_probe;"
        "group=$(basename $(readlink /sys/bus/pci/devices/0000:21:10.2/iommu_group));"
        'systemd-run --unit holder sh -c "exec sleep 600 9<>/dev/vfio/$group"; sleep 1'
    )

    refused = apply(ports, 6)
    ports.check("systemctl", "stop", "holder")

    assert refused.code == 5
    assert "VF 1 (0000:21:10.2): sleep (pid " in refused.err
    assert vfs(ports)[0] == 4
    assert apply(ports, 6).code == 0
    assert vfs(ports)[0] == 6
    ports.check("nfvhost", "rollback", "--yes", timeout_s=300)
    assert vfs(ports) == (4, ["igbvf", "vfio-pci", "none", "none"])
    ports.check("nfvhost", "rollback", "--yes", timeout_s=300)
    assert vfs(ports) == (0, [])
    assert ports.read(f"{_PF}/sriov_drivers_autoprobe").strip() == "1"
    assert ports.run("ls", "/etc/udev/rules.d/90-nfvhost-vfs.rules").code != 0
