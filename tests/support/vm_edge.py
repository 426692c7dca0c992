"""The plan of the machine under test, and what the machine is before and after it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from vm import VirtualMachine
from vm_build import CHECKOUT, MANAGEMENT_NETDEV
from vm_sockets import Ended

from nfvhost.model.cpuset import CpuSet

PROFILE: Final = CHECKOUT / "tests" / "vm" / "edge.yaml"
PLAN: Final = "/root/plan.yaml"
MANAGEMENT: Final = "0000:00:03.0"
UNDERLAY: Final = "0000:61:00.0"
WAN: Final = "0000:22:00.0"
PF: Final = "0000:21:00.0"
# PCI devices 1 to 4 of the PF: igb's VFs are two functions apart (VF stride of the 82576).
VFS: Final = ("0000:21:10.0", "0000:21:10.2", "0000:21:10.4", "0000:21:10.6")
# The card that speaks virtio; what guests open -> its VF.
VDPA_PF: Final = "0000:65:00.0"
VDPA_FILES: Final = {"/dev/vhost-vdpa-0": "0000:65:00.1", "/dev/vhost-vdpa-1": "0000:65:00.2"}
HOST_CPUS: Final = CpuSet.parse("0-1,4-5")
PMD_CPUS: Final = CpuSet.parse("2-3")
DEDICATED_CPUS: Final = CpuSet.parse("6-7")
ISOLATED_CPUS: Final = PMD_CPUS | DEDICATED_CPUS
LONG_S: Final = 900
# The database is a log that only grows; what is in it is compared by its rows.
_NOT_COMPARED: Final = r"/etc/openvswitch/(conf\.db|\.conf\.db\.~lock~|system-id\.conf)$"


def make_plan(vm: VirtualMachine) -> None:
    """Plans the machine in the machine."""
    vm.check("tee", "/root/edge.yaml", stdin=PROFILE.read_bytes())
    vm.check("nfvhost", "plan", "--profile", "/root/edge.yaml", "-o", PLAN, timeout_s=LONG_S)


def nfvhost(vm: VirtualMachine, *words: str) -> Ended:
    """What became of a command of nfvhost's, with all it said in the log."""
    ended = vm.run("nfvhost", *words, timeout_s=LONG_S)
    print(ended)  # noqa: T201 - the log of the tier
    return ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What an apply and its rollback must leave as it was."""

    files: str  # every file of /etc and GRUB's menu by its hash, every link by its target
    drivers: dict[str, str]
    vfs: str
    pages: str
    database: str


def traces(vm: VirtualMachine) -> Traces:
    """The machine, as far as nfvhost could have changed it."""
    files = vm.shell(
        f"{{ find /etc /boot/grub -type f -print0 | sort -z | xargs -0 sha256sum;"
        f" find /etc -type l -printf '%p -> %l\\n' | sort; }} | grep -Ev '{_NOT_COMPARED}'"
    )
    rows = vm.shell(
        "for table in Bridge Port Interface Open_vSwitch; do ovs-vsctl --no-headings --columns=$("
        "[ $table = Open_vSwitch ] && echo bridges,other_config || echo name) list $table; done"
    )
    return Traces(
        files=files,
        drivers=drivers(vm),
        vfs=vm.shell(f"cat /sys/bus/pci/devices/{PF}/sriov_numvfs"),
        pages=pages(vm),
        database=rows,
    )


def drivers(vm: VirtualMachine) -> dict[str, str]:
    """The driver of each NIC, VFs too, by PCI address."""
    said = vm.shell(
        "for one in /sys/bus/pci/devices/*; do case $(cat $one/class) in 0x02*)"
        " echo ${one##*/} $(basename $(readlink $one/driver || echo none)) ;; esac; done"
    )
    return dict(line.split() for line in said.splitlines())


def pages(vm: VirtualMachine) -> str:
    """The 1 GiB pages of node 0, then node 1."""
    return " ".join(vm.shell("cat /sys/devices/system/node/node*/hugepages/hugepages-1048576kB/nr_hugepages").split())


def threads(vm: VirtualMachine) -> dict[str, CpuSet]:
    """The CPUs of each thread of ovs-vswitchd, by its name without OVS's serial number."""
    said = vm.shell(
        "for one in /proc/$(pgrep -xo ovs-vswitchd)/task/*; do"
        " echo $(cat $one/comm) $(sed -n 's/^Cpus_allowed_list://p' $one/status); done"
    )
    pairs = (line.rsplit(maxsplit=1) for line in said.splitlines())
    return {re.sub(r"/id:.*", "", name): CpuSet.parse(cpus) for name, cpus in pairs}


def failed_units(vm: VirtualMachine) -> list[str]:
    """The units that failed in this boot."""
    return [line.split()[0] for line in vm.shell("systemctl --failed --plain --no-legend").splitlines()]


def said_by(vm: VirtualMachine, unit: str) -> str:
    """What a unit said in this boot; of a boot that was just now, journald may still be writing."""
    return vm.shell(f"journalctl --flush; journalctl --sync; journalctl -b -o cat -u {unit}")


def reachable(vm: VirtualMachine) -> bool:
    """Whether the management NIC has its driver, its address and its gateway."""
    address = json.loads(vm.check("ip", "-j", "-4", "address", "show", "dev", MANAGEMENT_NETDEV))
    # QEMU's user network answers echo requests to its gateway itself.
    return bool(address) and vm.run("ping", "-c", "3", "-W", "5", "10.0.2.2").code == 0
