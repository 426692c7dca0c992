"""Facts about one machine, as its kernel states them.

None means that the kernel (or the capture) does not offer the fact. Every collection is sorted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nfvhost.model.cpuset import EMPTY, CpuSet, union
from nfvhost.model.pci import PciAddress
from nfvhost.model.units import PageSize


class CpuKind(StrEnum):
    """Core kinds of a hybrid CPU."""

    PERFORMANCE = "performance"  # /sys/devices/cpu_core/cpus
    EFFICIENCY = "efficiency"  # /sys/devices/cpu_atom/cpus, cpu_lowpower


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """One logical CPU; an offline one has no topology."""

    id: int
    online: bool
    package: int | None  # physical_package_id; renumbered from 0 where the kernel's ids repeat across packages
    die: int | None  # topology/die_id
    cluster: int | None  # topology/cluster_id
    core: int | None  # topology/core_id; may repeat within a package, so identity is thread_siblings
    node: int | None  # the NUMA node that lists it; None without node directories
    thread_siblings: CpuSet  # online threads of its core, itself included; empty while offline
    l2: CpuSet | None  # cache/index*/shared_cpu_list of level 2
    l3: CpuSet | None  # the same of level 3
    kind: CpuKind | None  # None on a CPU with one kind of cores


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuModel:
    """What kind of processor this is."""

    architecture: str  # x86_64, aarch64, ppc64le, s390x…: from /proc/cpuinfo's shape, live from uname
    vendor: str | None  # /proc/cpuinfo vendor_id, "CPU implementer"
    name: str | None  # /proc/cpuinfo "model name", "cpu"
    flags: frozenset[str]  # /proc/cpuinfo "flags" or "Features"; empty where absent


@dataclass(frozen=True, slots=True, kw_only=True)
class HugepagePool:
    """Hugepages of one size, on one node or on the whole machine."""

    size: PageSize
    total: int  # nr_hugepages
    free: int | None  # free_hugepages
    surplus: int | None  # surplus_hugepages


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNode:
    """One online NUMA node; CPUs or memory may be missing."""

    id: int
    cpus: CpuSet  # its online CPUs
    memory_kib: int | None  # node<N>/meminfo MemTotal; of the only node, the machine's
    free_kib: int | None  # node<N>/meminfo MemFree
    distances: tuple[int, ...]  # node<N>/distance, to each online node in ascending order of id
    hugepages: tuple[HugepagePool, ...]
    stated_kib: int | None = None  # node<N>/meminfo MemTotal of the only node too: what libvirt counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Netdev:
    """One network interface of the kernel, virtual ones included."""

    name: str
    pci: PciAddress | None  # /sys/class/net/<name>/device, where that is a PCI function (through virtio too)
    kind: str  # physical, loopback, bond, bridge, vlan, team, veth, tun, openvswitch, virtual
    mac: str | None  # address; None in a capture made without MACs
    speed_mbps: int | None  # speed; None while the link is down
    mtu: int | None
    operstate: str | None
    driver: str | None
    lowers: tuple[str, ...]  # interfaces that this one stands on: bond slaves, bridge ports, VLAN parent
    addresses: tuple[str, ...]  # with prefix length, `192.0.2.1/24`; empty in a capture made elsewhere
    management: str | None = None  # why this interface carries management; None where it does not


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """One PCI network function."""

    pci: PciAddress
    vendor: str  # four hex digits: "8086"
    device: str  # four hex digits: "1572"
    class_code: str  # six hex digits: "020000"
    vendor_name: str | None
    device_name: str | None
    driver: str | None  # None where nothing is bound
    netdevs: tuple[str, ...]
    mac: str | None  # of its first netdev
    speed_mbps: int | None  # of its first netdev
    node: int | None  # numa_node; None where the file says -1
    iommu_group: int | None
    group_mates: tuple[PciAddress, ...]  # other functions of the same IOMMU group, bridges left out
    total_vfs: int | None  # sriov_totalvfs; None where the function has no SR-IOV
    num_vfs: int | None  # sriov_numvfs
    vfs: tuple[PciAddress, ...]  # virtfn<N>, in order of N
    physfn: PciAddress | None  # the PF, where this is a VF
    management: str | None  # why this function carries management; None where it does not


@dataclass(frozen=True, slots=True, kw_only=True)
class IommuGroup:
    """Functions that can only be given away together."""

    id: int
    devices: tuple[PciAddress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Iommu:
    """State of DMA remapping."""

    enabled: bool | None  # whether /sys/kernel/iommu_groups has groups; None where the directory is not there
    groups: tuple[IommuGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VdpaDevice:
    """One vDPA device: /sys/bus/vdpa/devices/<name>."""

    name: str
    parent: PciAddress | None
    driver: str | None  # vhost_vdpa or virtio_vdpa


@dataclass(frozen=True, slots=True, kw_only=True)
class Vdpa:
    """vDPA management devices (`vdpa mgmtdev show`; None where nobody could ask) and devices."""

    management_devices: tuple[str, ...] | None
    devices: tuple[VdpaDevice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsInstall:
    """The Open vSwitch of this machine."""

    version: str  # "3.1.0"
    dpdk_version: str | None  # "22.11.1"; None for a build without DPDK
    running: bool
    database: str | None  # address of its database, where it answers: "unix:/run/openvswitch/db.sock"
    bridges: tuple[str, ...]  # what it holds
    other_config: tuple[tuple[str, str], ...]  # Open_vSwitch.other_config, sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """/etc/os-release."""

    id: str
    version_id: str | None
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Everything that planning needs to know of a machine."""

    model: CpuModel
    cpus: tuple[Cpu, ...]
    allowed: CpuSet  # CPUs that this process's cgroup may use; the online ones where nothing says less
    isolated: CpuSet  # /sys/devices/system/cpu/isolated
    nodes: tuple[NumaNode, ...]  # a machine without node directories has one node 0 with everything
    memory_kib: int | None  # /proc/meminfo MemTotal
    available_kib: int | None  # /proc/meminfo MemAvailable
    hugepages: tuple[HugepagePool, ...]  # /sys/kernel/mm/hugepages
    nics: tuple[Nic, ...]
    netdevs: tuple[Netdev, ...]
    iommu: Iommu
    vdpa: Vdpa
    kernel_version: str | None
    kernel_args: tuple[str, ...] | None  # /proc/cmdline, split as the kernel splits it
    boot_loader: str | None  # grub, bls, systemd-boot
    init: str | None  # systemd, openrc, other
    distribution: Distribution | None
    virtualization: str | None  # of a guest: kvm, vmware, xen, firecracker…; None on metal
    container: str | None  # docker, lxc, podman…; None outside of one
    ovs: OvsInstall | None  # None where it is not installed or nobody could ask
    allowed_nodes: tuple[int, ...] | None = None  # nodes whose memory its cgroup may use; None where nothing says
    warnings: tuple[str, ...] = field(default=())  # where the kernel's files contradict each other

    @property
    def online(self) -> CpuSet:
        """The CPUs that run."""
        return CpuSet(cpu.id for cpu in self.cpus if cpu.online)

    @property
    def usable(self) -> CpuSet:
        """The CPUs that a plan may hand out: online and allowed."""
        return self.online & self.allowed

    def cpu(self, number: int) -> Cpu:
        """The CPU of that number; KeyError where the machine has none."""
        for cpu in self.cpus:
            if cpu.id == number:
                return cpu
        raise KeyError(number)

    def nic(self, pci: PciAddress) -> Nic | None:
        """The NIC at that address, if one is there."""
        return next((nic for nic in self.nics if nic.pci == pci), None)


def cores(host: Host) -> tuple[CpuSet, ...]:
    """The thread sets of the online physical cores, in order of their lowest thread."""
    return tuple(sorted({cpu.thread_siblings for cpu in host.cpus if cpu.online}, key=lambda core: core.first))


def l3_groups(host: Host) -> tuple[CpuSet, ...]:
    """The sets of online CPUs that share an L3 cache; empty where the kernel names none."""
    return tuple(sorted({cpu.l3 for cpu in host.cpus if cpu.online and cpu.l3}, key=lambda group: group.first))


def node_cpus(host: Host, node: int | None) -> CpuSet:
    """The online CPUs of a node; all of them where the node is not known."""
    if node is None:
        return union(one.cpus for one in host.nodes)
    return next((one.cpus for one in host.nodes if one.id == node), EMPTY)
