"""For each resource of files and attributes, a machine and a plan that changes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import cpu_kernel
import flow_kernel
import package_programs
import pci_machines
import programs
import routing_kernel
import rpm_programs
import sriov_kernel
import synthetic
import unit_programs
from ovs_plans import OvsPlans
from pci_kernel import netdev_of
from scratch import ScratchMachine

from nfvhost.model.change import Activation
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import (
    CpuPools,
    MemoryPlan,
    NeutronPlan,
    NicPlan,
    NodeMemory,
    NovaPlan,
    OvsPlan,
    Pages,
    PciDeviceSpec,
    Plan,
    PowerPlan,
    ReservedHugepages,
    TunnelPlan,
    VfSettings,
)
from nfvhost.model.profile import CpuGovernor, Isolation, LinkState, Role, TunnelType
from nfvhost.planner.planned_host import planned_host
from nfvhost.resources import Resource
from nfvhost.resources.boot_unit import BootUnit
from nfvhost.resources.cpu_partition import CpuPartition
from nfvhost.resources.driver_binding import DriverBinding
from nfvhost.resources.hugepages import Hugepages
from nfvhost.resources.iommu import Iommu
from nfvhost.resources.irq import Irq
from nfvhost.resources.kernel_cmdline import KernelCmdline
from nfvhost.resources.modules import Modules
from nfvhost.resources.neutron_conf import NEUTRON_CONF
from nfvhost.resources.nova_conf import NOVA_CONF
from nfvhost.resources.packages import Packages
from nfvhost.resources.power import Power
from nfvhost.resources.sriov import Sriov
from nfvhost.resources.steering import Steering
from nfvhost.resources.underlay import Underlay
from nfvhost.resources.underlay.departing import DepartingUnderlay
from nfvhost.resources.vdpa import Vdpa
from nfvhost.resources.vhost_sockets import VhostSockets

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
    activation: Activation = Activation.NOW
    pending: bool = False  # whether that can be seen afterwards
    # What files cannot say: links of /sys, and how this machine's kernel reacts.
    prepare: Callable[[ScratchMachine], object] = lambda _scratch: None

    def machine(self, top: Path) -> ScratchMachine:
        """The machine, made in this folder."""
        scratch = ScratchMachine(top).make({**_SYSTEM, **self.files}, self.programs)
        self.prepare(scratch)
        return scratch


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
    "/etc/default/grub": "GRUB_ENABLE_BLSCFG=true\n"
    'GRUB_CMDLINE_LINUX="rhgb quiet"\nGRUB_CMDLINE_LINUX_DEFAULT="splash"\n',
    "/boot/grub2/grubenv": "# GRUB Environment Block\nsaved_entry=0123-5.15.0\n########",
    "/usr/sbin/grubby": "#!/bin/bash\n# --no-etc-grub-update\n",
    "/boot/grub2/grub.cfg": "blscfg\n",
    "/boot/loader/entries/0123-5.14.0.conf": "title Linux\nversion 5.14.0\noptions root=/dev/sda1 ro quiet\n",
    "/boot/loader/entries/0123-5.15.0.conf": "title Linux\nversion 5.15.0\noptions root=/dev/sda1 ro rhgb\n",
}
# RHEL 8: all entries take their arguments from GRUB's environment.
KERNELOPTS: Final = {
    **BLS,
    "/boot/grub2/grubenv": "# GRUB Environment Block\nkernelopts=root=/dev/sda1 ro\n########",
    **{
        f"/boot/loader/entries/0123-{version}.conf": f"title Linux\nversion {version}\noptions $kernelopts\n"
        for version in ("5.14.0", "5.15.0")
    },
}
SYSTEMD_BOOT: Final = {
    "/boot/loader/loader.conf": "timeout 3\n",
    "/boot/loader/entries/0123-6.1.0-13-amd64.conf": "title Linux\nversion 6.1.0-13-amd64\n"
    "options root=/dev/sda1 ro quiet\nlinux /boot/vmlinuz-6.1.0-13-amd64\n",
    "/boot/vmlinuz-6.1.0-13-amd64": "",
    "/lib/modules/6.1.0-13-amd64/": "",
    "/etc/kernel/cmdline": "root=/dev/sda1 ro quiet\n",
}

NOVA: Final = NovaPlan(
    cpu_dedicated_set=CpuSet.parse("2-3,6-7"),
    cpu_shared_set=CpuSet.parse("0-1"),
    reserved_host_memory_mib=6144,
    reserved_huge_pages=tuple(ReservedHugepages(node=node, size_kib=2048, count=64) for node in (0, 1)),
    pci_device_specs=(
        PciDeviceSpec(address=PciAddress.parse("0000:10:00.0"), physical_network="physnet1", trusted=True),
        PciDeviceSpec(address=PciAddress.parse("0000:10:00.1"), physical_network=None, trusted=False),
    ),
)
NEUTRON: Final = NeutronPlan(
    datapath_type="netdev", vhostuser_socket_dir="/run/vhost", bridge_mappings=(("physnet1", "br-phy"),)
)
NO_PORTS: Final = OvsPlan(version="3.1", other_config=(), socket_dir="/run/vhost", bridges=())
# Numbers of Debian's libvirt-daemon-system; who is no root can give folders to itself alone.
_QEMU: Final = (64055, 992) if os.geteuid() == 0 else (os.getuid(), os.getgid())
DEBIAN_ACCOUNTS: Final = {
    "/etc/passwd": f"root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:{_QEMU[0]}:{_QEMU[1]}::/nonexistent:/bin/false\n",
    "/etc/group": f"root:x:0:\nkvm:x:{_QEMU[1]}:\n",
}
# openstack-nova-compute and openstack-neutron-openvswitch of RDO.
RDO: Final = {
    "/usr/lib/systemd/system/openstack-nova-compute.service": "[Service]\nExecStart=/usr/bin/nova-compute\n",
    "/usr/share/nova/nova-dist.conf": "[DEFAULT]\nlogdir = /var/log/nova\n",
    "/etc/nova/nova.conf": "[DEFAULT]\ntransport_url = rabbit://openstack:secret@controller\n"
    'reserved_host_memory_mb = 512\n[pci]\ndevice_spec = {"vendor_id": "10de"}\n',
    "/usr/lib/systemd/system/neutron-openvswitch-agent.service": "[Service]\n"
    "ExecStart=/usr/bin/neutron-openvswitch-agent "
    "--config-file /usr/share/neutron/neutron-dist.conf --config-file /etc/neutron/neutron.conf "
    "--config-file /etc/neutron/plugins/ml2/openvswitch_agent.ini --config-dir /etc/neutron/conf.d/common "
    "--config-dir /etc/neutron/conf.d/neutron-openvswitch-agent --log-file /var/log/neutron/openvswitch-agent.log\n",
    "/etc/neutron/neutron.conf": "[DEFAULT]\ncore_plugin = ml2\n",
    "/etc/neutron/plugins/ml2/openvswitch_agent.ini": "[ovs]\nbridge_mappings = provider:br-ex\n",
    "/etc/neutron/conf.d/common/": "",
    "/etc/neutron/conf.d/neutron-openvswitch-agent/": "",
}

# sd_booted(3), and what systemd has read of /etc/systemd/system.
SYSTEMD: Final = {"/run/systemd/system/": "", "/run/seen/": ""}

# Two ports for DPDK, one that makes VFs for guests, and one that is to make some and has the wrong driver for it.
PORTS_PLAN: Final = replace(
    plan(
        nics=(
            nic(pci_machines.X710, Role.DPDK, driver="vfio-pci"),
            nic(pci_machines.X710_TWIN, Role.DPDK, driver="vfio-pci"),
            nic(pci_machines.IGB, Role.SRIOV, current_driver="igb", vfs=2, vf_driver="vfio-pci"),
            nic(pci_machines.FORGOTTEN, Role.SRIOV, current_driver="vfio-pci", driver="igb", vfs=0),
        )
    ),
    host=planned_host(pci_machines.HOST),
)

# VFs for guests by vfio-pci, and VFs that stay with their vendor's driver; each kind of setting.
VFS_PLAN: Final = replace(
    plan(
        nics=(
            nic(
                sriov_kernel.X710,
                Role.SRIOV,
                vfs=3,
                vf_driver="vfio-pci",
                vf_settings=VfSettings(
                    macs=("52:54:00:21:00:00", "52:54:00:21:00:01"),
                    vlan=100,
                    trust=True,
                    spoof_check=False,
                    link_state=LinkState.ENABLE,
                    max_tx_mbps=1000,
                ),
            ),
            nic(sriov_kernel.BNXT, Role.SRIOV, current_driver="bnxt_en", vfs=2),
        )
    ),
    host=planned_host(sriov_kernel.HOST),
)


# vDPA devices on two VFs, one of which is to have an address of its own.
VDPA_PLAN: Final = replace(
    plan(
        nics=(
            nic(
                sriov_kernel.MLX5,
                Role.VDPA,
                current_driver="mlx5_core",
                vfs=2,
                vdpa_devices=2,
                mtu=9000,
                vf_settings=VfSettings(macs=("52:54:00:61:00:00",)),
            ),
        )
    ),
    host=planned_host(sriov_kernel.HOST),
)


def _with_vdpa_vfs(scratch: ScratchMachine) -> None:
    """The VFs are there, and virtio_vdpa takes each new device first."""
    sriov_kernel.with_vfs(scratch, sriov_kernel.MLX5, 2).vdpa_driver = "virtio_vdpa"


def _with_other_vdpa(scratch: ScratchMachine) -> None:
    """Each VF has a device of someone else: one is to be another, one needs another driver alone."""
    sriov_kernel.with_vfs(scratch, sriov_kernel.MLX5, 2)
    for number in range(2):
        sriov_kernel.with_vdpa(scratch, sriov_kernel.vf_of(sriov_kernel.MLX5, number), f"vdpa{number}")


def _with_other_vfs(scratch: ScratchMachine) -> None:
    """Two VFs on the first port, which somebody made and set up; one of them is bound to vfio-pci."""
    sriov_kernel.with_vfs(scratch, sriov_kernel.X710, 2, vlan="7 qos 3", trust="on")
    sriov_kernel.give_to_vfio(scratch, sriov_kernel.vf_of(sriov_kernel.X710, 1))


def _as_counted(scratch: ScratchMachine) -> None:
    """The VFs of the plan are there, and set up otherwise."""
    made = sriov_kernel.with_vfs(scratch, sriov_kernel.X710, 3, vlan="7 qos 3")
    scratch.put(f"/sys/bus/pci/devices/{sriov_kernel.X710}/sriov_drivers_autoprobe", "0\n")
    for number in range(2):
        made.add_vf(scratch.tree, sriov_kernel.BNXT, number)
    scratch.put(f"/sys/bus/pci/devices/{sriov_kernel.BNXT}/sriov_numvfs", "2\n")
    scratch.put(f"/sys/class/net/{netdev_of(sriov_kernel.BNXT)}/flags", "0x1003\n")


# A server that nobody has installed Open vSwitch on, and its archive.
BARE: Final = {
    "/run/systemd/system/": "",
    package_programs.MIRROR: package_programs.ARCHIVE,
    package_programs.LISTS: package_programs.ARCHIVE,
    package_programs.MARKS: "",
    "/sys/bus/pci/devices/0000:10:00.0/vendor": "0x8086\n",
    "/sys/bus/pci/devices/0000:10:00.0/device": "0x1572\n",
}
SWITCH: Final = replace(plan(nics=(nic("0000:10:00.0", Role.DPDK, driver="vfio-pci"),)), ovs=OvsPlans.plan().ovs)


FEDORA: Final = {
    "/run/systemd/system/": "",
    "/etc/os-release": "ID=fedora\nVERSION_ID=42\n",
    "/usr/bin/rpm": "",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite": "",
    rpm_programs.INSTALLED: "openssl 3.2.4-1\n",
    rpm_programs.MIRROR: rpm_programs.ARCHIVE,
}


def plain_switch(scratch: ScratchMachine) -> None:
    """The build without DPDK is chosen, and runs."""
    for path in ("etc/alternatives/ovs-vswitchd", "proc/4711/exe"):
        (scratch.tree / path).parent.mkdir(parents=True, exist_ok=True)
        (scratch.tree / path).symlink_to(package_programs.PLAIN)
    wants = scratch.tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "openvswitch-switch.service").symlink_to("/lib/systemd/system/openvswitch-switch.service")


POOLS: Final = CpuPools(
    host=CpuSet.parse("0,4"),
    shared=CpuSet.parse("0,4"),
    pmd=CpuSet.parse("1"),
    dedicated=CpuSet.parse("2-3,5-7"),
    idle=CpuSet(),
    isolated=CpuSet.parse("1-3,5-7"),
)
INTERRUPTS: Final = {
    "/proc/irq/default_smp_affinity": "ff\n",
    "/sys/devices/system/node/node0/cpulist": "0-3\n",
    "/sys/devices/system/node/node1/cpulist": "4-7\n",
    **cpu_kernel.interrupt_files(0, "timer", "0", effective="0"),
    **cpu_kernel.interrupt_files(9, "acpi", "0-7", effective="0"),
    **cpu_kernel.interrupt_files(40, "i40e-eth0-TxRx-0", "0-7", effective="0", node=0),
    **cpu_kernel.interrupt_files(41, "i40e-eth0-TxRx-1", "4-7", effective="4", node=1),
    **cpu_kernel.interrupt_files(50, "nvme0q3", "2-3", effective="2", node=0),
    **cpu_kernel.interrupt_files(51, "", "0-7", effective="", node=0),
}
IRQBALANCE: Final = {
    "/run/systemd/system/": "",
    "/usr/sbin/irqbalance": "\x7fELF IRQBALANCE_BANNED_CPUS IRQBALANCE_BANNED_CPULIST",
    "/etc/default/irqbalance": "IRQBALANCE_BANNED_CPULIST=7\n",
    "/sys/devices/system/cpu/nohz_full": "1-2\n",
    "/proc/700/comm": "irqbalance\n",
    "/proc/700/environ": "LANG=C\0IRQBALANCE_BANNED_CPULIST=7\0",
}


def interrupts_of_a_kernel(scratch: ScratchMachine) -> None:
    """Interrupts can be moved, but for one that the kernel places."""
    scratch.kernel.reactions.append(cpu_kernel.interrupts)
    cpu_kernel.managed(scratch, 50)


PARTITIONED: Final = replace(
    plan(
        isolation=Isolation.PARTITION,
        cpus=replace(POOLS, host=CpuSet.parse("0"), shared=CpuSet.parse("4")),
    ),
    ovs=OvsPlan(version="3.1", other_config=(("dpdk-lcore-mask", "0x10"),), socket_dir="/run/vhost", bridges=()),
)
CPUSETS: Final = {
    "/run/systemd/system/": "",
    "/sys/devices/virtual/workqueue/cpumask": "ff\n",
    **cpu_kernel.cpuset_files({"init.scope": "", "machine.slice": "", "system.slice": "", "user.slice": ""}),
}


def tunnel(name: str, kind: TunnelType = TunnelType.VXLAN, **facts: Any) -> TunnelPlan:  # noqa: ANN401 - fields of TunnelPlan
    """A tunnel over IPv4 to a network behind a gateway of br-phy."""
    known: dict[str, Any] = {
        "bridge": "br-int",
        "local": "10.0.0.1",
        "remote": "10.9.9.9",
        "segments": (),
        "networks": (),
        "key": 42,
        "flow_label": None,
        "mtu": 1450,
        "underlay_bridge": "br-phy",
        "underlay_prefix": 24,
        "gateway": "10.0.0.2",
        "gateway_mac": None,
    }
    return TunnelPlan(name=name, type=kind, **(known | facts))


def switch_of_a_kernel(scratch: ScratchMachine) -> None:
    """The network of its file is around its Open vSwitch."""
    scratch.kernel.network = routing_kernel.RoutingKernel


TUNNELS: Final = (
    tunnel("far", gateway_mac="02:00:00:00:00:02"),
    tunnel("far2", key=43, remote="10.9.9.10", gateway_mac="02:00:00:00:00:02"),
    tunnel(
        "near",
        TunnelType.GENEVE,
        local="fd00:a::1",
        remote="fd00:a::9",
        underlay_prefix=64,
        underlay_bridge="br-six",
        gateway=None,
        mtu=1430,
    ),
)
# br-phy is as ovs-vswitchd makes it; br-six has less of everything than it needs.
UNDERLAY: Final = routing_kernel.with_routing(
    routing_kernel.network("br-phy", "br-six"),
    interfaces=(
        *(one for one in routing_kernel.network("br-phy").routing.interfaces),
        replace(routing_kernel.network("br-six", mtu=1400, ipv6=False).routing.interfaces[0]),
    ),
)


def steered(name: str, guest_port: str, *networks: str, **facts: Any) -> TunnelPlan:  # noqa: ANN401 - fields of TunnelPlan
    """An SRv6 tunnel whose flows are nfvhost's."""
    known: dict[str, Any] = {
        "local": "fc00:a::1",
        "remote": "fc00:e1::1",
        "segments": ("fc00:e1::1",),
        "key": None,
        "networks": networks,
        "guest_port": guest_port,
        "guest_mac": "02:00:00:00:01:02",
    }
    return tunnel(name, TunnelType.SRV6, **(known | facts))


def steered_plan(*tunnels: TunnelPlan) -> Plan:
    """A plan with these tunnels, their guests' ports and a port that receives for each local address."""
    bridges = []
    for bridge in sorted({one.bridge for one in tunnels}):
        mine = [one for one in tunnels if one.bridge == bridge]
        ports = [OvsPlans.port(one, "dpdkvhostuserclient") for one in sorted({str(one.guest_port) for one in mine})]
        ports += [OvsPlans.port(one.name, "srv6", local_ip=one.local, remote_ip=one.remote) for one in mine]
        locals_ = sorted({one.local for one in mine})
        ports += [
            OvsPlans.port(f"in{number}", "srv6", local_ip=local, remote_ip="flow")
            for number, local in enumerate(locals_)
        ]
        bridges.append(OvsPlans.bridge(bridge, *ports))
    return replace(plan(tunnels=tunnels), ovs=OvsPlans.plan(*bridges).ovs)


def ports_of(one: Plan) -> list[tuple[str, str]]:
    """The ports that the plan makes, each with its bridge."""
    assert one.ovs is not None
    return [(bridge.name, port.name) for bridge in one.ovs.bridges for port in bridge.ports]


def flows_of_a_kernel(scratch: ScratchMachine) -> None:
    """The flows of its file are those of its Open vSwitch."""
    scratch.kernel.flows = flow_kernel.FlowKernel


STEERED: Final = steered_plan(
    steered("sr4", "vhu0", "10.2.0.0/24", "0.0.0.0/0"),
    steered("sr6", "vhu0", "fd02::/64", remote="fc00:e1::2", segments=("fc00:e1::2",)),
    steered("other", "vhu1", "10.2.0.0/24", local="fc00:b::1", bridge="br-other"),
)
# NORMAL is how a bridge without a controller starts; what an earlier plan made is on both bridges.
FLOWS: Final = flow_kernel.switch(
    *(flow_kernel.flow(bridge, 0, "", "NORMAL") for bridge in ("br-int", "br-other")),
    flow_kernel.flow("br-int", 20024, "in_port=vhu9,ip,nw_dst=10.2.0.0/24", "output:sr4"),
    flow_kernel.flow("br-int", 20024, "in_port=vhu0,ip,nw_dst=10.2.0.0/24", "dec_ttl,output:old", ours=True),
    flow_kernel.flow("br-other", 20008, "in_port=vhu1,ip,nw_dst=10.0.0.0/8", "dec_ttl,output:other", ours=True),
    ports=(*ports_of(STEERED), ("br-int", "vhu9"), ("br-int", "old")),
)

CASES: Final = (
    Case(name="nova_conf", resource=NOVA_CONF, plan=plan(nova=NOVA), files=RDO),
    Case(
        name="nova_conf-running",
        resource=NOVA_CONF,
        plan=plan(nova=NOVA),
        files={
            **RDO,
            "/proc/812/comm": "nova-compute\n",
            "/proc/812/cmdline": "/usr/bin/python3\0/usr/bin/nova-compute\0",
        },
        activation=Activation.RESTART,
    ),
    Case(name="nova_conf-before-nova", resource=NOVA_CONF, plan=plan(nova=NOVA), files={}),
    Case(name="neutron_conf", resource=NEUTRON_CONF, plan=plan(neutron=NEUTRON), files=RDO),
    Case(
        name="kernel_cmdline-grub",
        resource=KernelCmdline(),
        plan=plan(kernel_args=ARGUMENTS),
        files=GRUB,
        programs={"update-grub": programs.UPDATE_GRUB},
        activation=Activation.REBOOT,
        pending=True,
    ),
    Case(
        name="kernel_cmdline-bls",
        resource=KernelCmdline(),
        plan=plan(kernel_args=ARGUMENTS),
        files=BLS,
        programs={"grubby": programs.GRUBBY},
        activation=Activation.REBOOT,
        pending=True,
    ),
    Case(
        name="kernel_cmdline-kernelopts",
        resource=KernelCmdline(),
        plan=plan(kernel_args=ARGUMENTS),
        files={**KERNELOPTS, "/etc/kernel/cmdline": "root=/dev/sda1 ro\n"},
        programs={"grubby": programs.GRUBBY},
        activation=Activation.REBOOT,
        pending=True,
    ),
    Case(
        name="kernel_cmdline-systemd-boot",
        resource=KernelCmdline(),
        plan=plan(kernel_args=ARGUMENTS),
        files=SYSTEMD_BOOT,
        programs={"kernel-install": programs.KERNEL_INSTALL},
        activation=Activation.REBOOT,
        pending=True,
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
    Case(
        name="boot_unit",
        resource=BootUnit(),
        plan=plan(kernel_args=ARGUMENTS),
        files=SYSTEMD,
        programs={"systemctl": unit_programs.SYSTEMCTL},
    ),
    Case(
        name="boot_unit-watch",
        resource=BootUnit(),
        plan=plan(
            kernel_args=ARGUMENTS,
            tunnels=(
                tunnel(
                    "far",
                    TunnelType.SRV6,
                    local="fc00:a::1",
                    remote="fc00:e1::1",
                    segments=("fc00:e1::1", "fc00:d4::1"),
                ),
            ),
        ),
        files=SYSTEMD,
        programs={"systemctl": unit_programs.SYSTEMCTL},
    ),
    Case(
        name="boot_unit-again",
        resource=BootUnit(),
        plan=plan(kernel_args=ARGUMENTS),
        files={
            **SYSTEMD,
            "/etc/nfvhost/plan.json": "{}\n",
            "/etc/systemd/system/nfvhost.service": "[Service]\nExecStart=/usr/bin/python3 -m nfvhost.cli\n",
            "/etc/systemd/system/multi-user.target.wants/ssh.service": "",
            "/run/seen/nfvhost.service": "[Service]\nExecStart=/usr/bin/python3 -m nfvhost.cli\n",
        },
        programs={"systemctl": unit_programs.SYSTEMCTL},
    ),
    *(
        Case(
            name=f"vhost_sockets-{name}",
            resource=VhostSockets(),
            plan=replace(
                plan(neutron=replace(NEUTRON, vhostuser_socket_dir=folder)), ovs=replace(NO_PORTS, socket_dir=folder)
            ),
            files={**DEBIAN_ACCOUNTS, **files},
        )
        for name, folder, files in (
            ("volatile", "/run/vhost", {}),
            ("kept", "/var/lib/openstack/vhost_sockets", {"/etc/tmpfiles.d/nfvhost.conf": "d /run/other\n"}),
            ("there", "/var/lib/vhost_sockets", {"/var/lib/vhost_sockets/": ""}),
        )
    ),
    Case(
        name="driver_binding",
        resource=DriverBinding(name="driver_binding", vfs=False, settle_s=0.0),
        plan=PORTS_PLAN,
        files={},
        host=pci_machines.HOST,
        prepare=pci_machines.booted,
    ),
    Case(
        name="vf_driver_binding",
        resource=DriverBinding(name="vf_driver_binding", vfs=True, settle_s=0.0),
        plan=PORTS_PLAN,
        files={},
        host=pci_machines.HOST,
        prepare=pci_machines.booted_with_vfs,
    ),
    Case(
        name="iommu-unsafe",
        resource=Iommu(settle_s=0.0),
        plan=replace(PORTS_PLAN, nics=PORTS_PLAN.nics[:1], unsafe_no_iommu=True),
        files={},
        host=pci_machines.HOST,
        prepare=pci_machines.booted_without_iommu,
    ),
    Case(
        name="power",
        resource=Power(settle_s=0.0),
        plan=plan(
            power=PowerPlan(cpus=CpuSet.parse("2-3,6-7"), governor=CpuGovernor.PERFORMANCE, max_idle_latency_us=10)
        ),
        files={
            **cpu_kernel.frequency_files({cpu: str(cpu) for cpu in range(8)}),
            **cpu_kernel.idle_files("0-7", (("POLL", 0), ("C1", 2), ("C1E", 10), ("C6", 133))),
            "/sys/devices/system/cpu/cpufreq/policy3/scaling_governor": "schedutil\n",
            "/sys/devices/system/cpu/cpu6/cpuidle/state3/disable": "1\n",
        },
        prepare=lambda scratch: scratch.kernel.reactions.extend([cpu_kernel.clocks, cpu_kernel.idle_states]),
    ),
    Case(
        name="sriov",
        resource=Sriov(settle_s=0.0, appear_s=0.0),
        plan=VFS_PLAN,
        files=sriov_kernel.MANAGED,
        programs=sriov_kernel.PROGRAMS,
        host=sriov_kernel.HOST,
        prepare=sriov_kernel.booted,
    ),
    Case(
        name="sriov-through-zero",
        resource=Sriov(settle_s=0.0, appear_s=0.0),
        plan=VFS_PLAN,
        files={},
        host=sriov_kernel.HOST,
        prepare=_with_other_vfs,
    ),
    Case(
        name="sriov-settings",
        resource=Sriov(settle_s=0.0, appear_s=0.0),
        plan=VFS_PLAN,
        files={},
        host=sriov_kernel.HOST,
        prepare=_as_counted,
    ),
    Case(
        name="packages",
        resource=Packages(settle_s=0.0),
        plan=SWITCH,
        files={**BARE, package_programs.STATUS: package_programs.installed(["libc6"], version="2.36")},
        programs=package_programs.PROGRAMS,
    ),
    Case(
        name="packages-plain-switch",
        resource=Packages(settle_s=0.0),
        plan=SWITCH,
        files={
            **BARE,
            package_programs.STATUS: package_programs.installed(["libc6"], version="2.36")
            + package_programs.installed(["openvswitch-switch"], version="3.1.0-2", depends="libc6 (>= 2.34)"),
            "/var/lib/dpkg/alternatives/ovs-vswitchd": f"auto\n{package_programs.PLAIN}\n",
            "/run/openvswitch/ovs-vswitchd.pid": "4711\n",
            "/proc/4711/comm": "ovs-vswitchd\n",
            "/lib/systemd/system/openvswitch-switch.service": "[Install]\nWantedBy=multi-user.target\n",
        },
        programs=package_programs.PROGRAMS,
        prepare=plain_switch,
    ),
    Case(
        name="vdpa",
        resource=Vdpa(settle_s=0.0),
        plan=VDPA_PLAN,
        files={},
        host=sriov_kernel.HOST,
        prepare=_with_vdpa_vfs,
    ),
    Case(
        name="vdpa-instead",
        resource=Vdpa(settle_s=0.0),
        plan=VDPA_PLAN,
        files={},
        host=sriov_kernel.HOST,
        prepare=_with_other_vdpa,
    ),
    Case(
        name="irq",
        resource=Irq(settle_s=0.0, watch_s=0.0),
        plan=plan(isolation=Isolation.BOOT, cpus=POOLS),
        files=INTERRUPTS,
        prepare=interrupts_of_a_kernel,
    ),
    Case(
        name="irq-irqbalance",
        resource=Irq(settle_s=0.0, watch_s=0.0),
        plan=plan(isolation=Isolation.BOOT, cpus=POOLS),
        files={**INTERRUPTS, **IRQBALANCE},
        programs={"systemctl": programs.IRQBALANCE_SYSTEMCTL},
        prepare=interrupts_of_a_kernel,
    ),
    Case(
        name="cpu_partition",
        resource=CpuPartition(settle_s=0.0),
        plan=PARTITIONED,
        files=CPUSETS,
        programs={"systemctl": programs.SLICE_SYSTEMCTL},
        prepare=lambda scratch: scratch.kernel.reactions.append(cpu_kernel.cpusets),
    ),
    Case(
        name="cpu_partition-waiting",
        resource=CpuPartition(settle_s=0.0),
        plan=PARTITIONED,
        files={
            **CPUSETS,
            "/sys/devices/virtual/workqueue/cpumask": "01\n",
            "/etc/systemd/system/machine.slice.d/zz-nfvhost.conf": "# Written by nfvhost, as a whole.\n[Slice]\n"
            "AllowedCPUs=1-7\n",
            "/proc/812/comm": "ovs-vswitchd\n",
            "/proc/812/cgroup": "0::/system.slice/ovs-vswitchd.service\n",
        },
        programs={"systemctl": programs.SLICE_SYSTEMCTL},
        activation=Activation.RESTART,
        pending=True,
        prepare=lambda scratch: scratch.kernel.reactions.append(cpu_kernel.cpusets),
    ),
    Case(
        name="packages-fedora",
        resource=Packages(settle_s=0.0),
        plan=SWITCH,
        files=FEDORA,
        programs=rpm_programs.PROGRAMS,
    ),
    Case(
        name="underlay",
        resource=Underlay(settle_s=0.0),
        plan=plan(tunnels=TUNNELS),
        files=routing_kernel.file_of(UNDERLAY),
        prepare=switch_of_a_kernel,
    ),
    Case(
        name="underlay-replanned",
        resource=Underlay(settle_s=0.0),
        plan=plan(tunnels=(tunnel("far", gateway="10.0.0.3", gateway_mac="02:00:00:00:00:03"),)),
        files=routing_kernel.file_of(routing_kernel.an_earlier_plan()),
        prepare=switch_of_a_kernel,
    ),
    Case(
        name="departing-underlay",
        resource=DepartingUnderlay(settle_s=0.0),
        plan=replace(plan(), ovs=OvsPlans.plan().ovs),
        files=routing_kernel.file_of(routing_kernel.an_earlier_plan(ipv6=False, others=False)),
        prepare=switch_of_a_kernel,
    ),
    Case(
        name="steering",
        resource=Steering(settle_s=0.0),
        plan=STEERED,
        files=flow_kernel.file_of(FLOWS),
        prepare=flows_of_a_kernel,
    ),
)
