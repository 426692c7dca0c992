"""For each resource of files and attributes, a machine and a plan that changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import programs
import synthetic
from ovs_plans import OvsPlans
from scratch import ScratchMachine

from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import MemoryPlan, NicPlan, NodeMemory, Pages, Plan
from nfvhost.model.profile import Role
from nfvhost.planner.fingerprint import planned_host
from nfvhost.resources import Resource
from nfvhost.resources.hugepages import Hugepages
from nfvhost.resources.kernel_cmdline import KernelCmdline
from nfvhost.resources.modules import Modules

HOST: Final = synthetic.host(packages=2, cores=4, node_mib=8192)
RELEASE: Final = "6.1.0-13-amd64"


def plan(**parts: Any) -> Plan:  # noqa: ANN401 - fields of Plan
    """A plan for HOST that holds these parts and nothing else."""
    return replace(OvsPlans.plan(), host=planned_host(HOST), ovs=None, **parts)


def nic(pci: str, role: Role, **facts: Any) -> NicPlan:  # noqa: ANN401 - fields of NicPlan
    """A planned X710 of that role."""
    known: dict[str, Any] = {
        "pci": PciAddress.parse(pci),
        "role": role,
        "reason": "a test asks for it",
        "name": "Intel X710",
        "node": 0,
        "netdevs": (),
        "current_driver": "i40e",
        "driver": None,
        "iommu_group": 1,
        "group_mates": (),
        "speed_mbps": 10_000,
        "physnet": None,
        "mtu": None,
        "vfs": None,
        "vf_driver": None,
        "vdpa_devices": None,
    }
    return NicPlan(**(known | facts))


def node_memory(node: int, *pages: Pages, host_mib: int = 2048) -> NodeMemory:
    """8 GiB, of which the host keeps 2."""
    return NodeMemory(
        node=node, total_mib=8192, host_mib=host_mib, ovs_mib=1024, guest_mib=8192 - host_mib - 1024, pages=pages
    )


def pools(node: int, **sizes: int) -> dict[str, str]:
    """The pools of a node, `kb2048=16`, all pages free."""
    folder = f"/sys/devices/system/node/node{node}"
    files = {f"{folder}/meminfo": "".join(f"Node {node} {name}: 6291456 kB\n" for name in ("MemTotal", "MemFree"))}
    for size, count in sizes.items():
        pool = f"{folder}/hugepages/hugepages-{size.removeprefix('kb')}kB"
        for name, value in (("nr", count), ("free", count), ("surplus", 0)):
            files[f"{pool}/{name}_hugepages"] = f"{value}\n"
    return files


_SYSTEM: Final = {
    "/proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz root=/dev/sda1 ro quiet\n",
    "/proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 12582912 kB\nHugepagesize: 2048 kB\n",
    "/proc/modules": "i40e 16384 0 - Live 0x0000000000000000\n",
    "/proc/self/mounts": "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n",
    "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
    "/proc/sys/vm/compact_memory": "",
    "/dev/hugepages/": "",
    "/etc/": "",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A resource, a plan that has work for it, and the machine before."""

    name: str
    resource: Resource[Any]
    plan: Plan
    files: Mapping[str, str | bytes]
    programs: Mapping[str, str] = field(default_factory=dict)
    host: Host = HOST
    waits: bool = False  # for a reboot

    def machine(self, top: Path) -> ScratchMachine:
        """The machine, made in this folder."""
        return ScratchMachine(top).make({**_SYSTEM, **self.files}, self.programs)


ARGUMENTS: Final = (
    "iommu=pt",
    "default_hugepagesz=1G",
    "hugepagesz=1G",
    "hugepages=0:2,1:2",
    "isolcpus=managed_irq,domain,1-3,5-7",
)
_MENU: Final = """### BEGIN /etc/grub.d/10_linux ###
menuentry 'Linux' {
\tlinux\t/boot/vmlinuz-6.1.0-13-amd64 root=UUID=1234 ro net.ifnames=0 quiet crashkernel=256M
}
menuentry 'Linux (recovery mode)' {
\tlinux\t/boot/vmlinuz-6.1.0-13-amd64 root=UUID=1234 ro single net.ifnames=0
}
### END /etc/grub.d/10_linux ###
### BEGIN /etc/grub.d/30_os-prober ###
\tlinux\t/boot/vmlinuz-other root=/dev/sdb1
### END /etc/grub.d/30_os-prober ###
"""
GRUB: Final = {
    "/etc/default/grub": "GRUB_DISTRIBUTOR=`echo Debian`\nGRUB_CMDLINE_LINUX_DEFAULT=quiet\n"
    "GRUB_CMDLINE_LINUX='net.ifnames=0'\n",
    "/etc/default/grub.d/kdump-tools.cfg": "GRUB_CMDLINE_LINUX_DEFAULT="
    '"$GRUB_CMDLINE_LINUX_DEFAULT crashkernel=256M"\n',
    "/boot/grub/grub.cfg": _MENU,
}
BLS: Final = {
    "/etc/default/grub": "GRUB_ENABLE_BLSCFG=true\n",
    "/boot/grub2/grubenv": "# GRUB Environment Block\nkernelopts=root=/dev/sda1 ro\n########",
    "/boot/grub2/grub.cfg": "blscfg\n",
    "/boot/loader/entries/0123-5.14.0.conf": "title Linux\nversion 5.14.0\noptions root=/dev/sda1 ro quiet\n",
    "/boot/loader/entries/0123-5.15.0.conf": "title Linux\nversion 5.15.0\noptions root=/dev/sda1 ro rhgb\n",
}
SYSTEMD_BOOT: Final = {
    "/boot/loader/loader.conf": "timeout 3\n",
    "/boot/loader/entries/0123-6.1.0-13-amd64.conf": "title Linux\nversion 6.1.0-13-amd64\n"
    "options root=/dev/sda1 ro quiet\nlinux /boot/vmlinuz-6.1.0-13-amd64\n",
    "/boot/vmlinuz-6.1.0-13-amd64": "",
    "/lib/modules/6.1.0-13-amd64/": "",
    "/etc/kernel/cmdline": "root=/dev/sda1 ro quiet\n",
}

CASES: Final = (
    Case(
        name="kernel_cmdline-grub",
        resource=KernelCmdline(),
        plan=plan(kernel_args=ARGUMENTS),
        files=GRUB,
        programs={"update-grub": programs.UPDATE_GRUB},
        waits=True,
    ),
    Case(
        name="kernel_cmdline-bls",
        resource=KernelCmdline(),
        plan=plan(kernel_args=ARGUMENTS),
        files=BLS,
        programs={"grubby": programs.GRUBBY},
        waits=True,
    ),
    Case(
        name="kernel_cmdline-systemd-boot",
        resource=KernelCmdline(),
        plan=plan(kernel_args=ARGUMENTS),
        files=SYSTEMD_BOOT,
        programs={"kernel-install": programs.KERNEL_INSTALL},
        waits=True,
    ),
    Case(
        name="hugepages",
        resource=Hugepages(),
        plan=plan(
            memory=MemoryPlan(
                nodes=(
                    node_memory(0, Pages(size_mib=2, count=512, at_boot=False)),
                    node_memory(1, Pages(size_mib=2, count=256, at_boot=False)),
                )
            )
        ),
        files={**pools(0, kb2048=16, kb1048576=0), **pools(1, kb2048=600, kb1048576=0)},
    ),
    Case(
        name="modules",
        resource=Modules(settle_s=0.0),
        plan=plan(
            nics=(nic("0000:10:00.0", Role.DPDK, driver="vfio-pci"), nic("0000:20:00.0", Role.VDPA)),
        ),
        files={
            f"/lib/modules/{RELEASE}/modules.dep": "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/v.ko\n"
            "kernel/drivers/vhost/vhost_vdpa.ko.xz:\n",
            f"/lib/modules/{RELEASE}/modules.builtin": "kernel/drivers/vfio/vfio.ko\n",
        },
        programs={"modprobe": programs.MODPROBE},
    ),
)
