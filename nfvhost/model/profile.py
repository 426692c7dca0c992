"""A wish that fits any machine. `auto` in a document is None here: the planner decides and says why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nfvhost.model.pci import PciAddress


class Role(StrEnum):
    """What a NIC is for."""

    MANAGEMENT = "management"  # never touched
    DPDK = "dpdk"  # an OVS-DPDK port
    SRIOV = "sriov"  # VFs for guests
    VDPA = "vdpa"  # vDPA devices for guests
    AFXDP = "afxdp"  # an OVS port over AF_XDP; the kernel keeps the driver
    KERNEL = "kernel"  # left to the kernel's network stack
    UNUSED = "unused"


class Isolation(StrEnum):
    """How CPUs of PMD threads and guests are kept free of others."""

    BOOT = "boot"  # isolcpus, nohz_full, rcu_nocbs on the kernel command line
    PARTITION = "partition"  # cgroup v2 cpuset partition, without a reboot
    NONE = "none"


class PageChoice(StrEnum):
    """Size of hugepages."""

    AUTO = "auto"
    GIB_1 = "1G"
    MIB_2 = "2M"


class TunnelType(StrEnum):
    """Encapsulations that OVS speaks."""

    SRV6 = "srv6"
    VXLAN = "vxlan"
    GENEVE = "geneve"
    GRE = "gre"


class CpuPolicy(StrEnum):
    """Nova's hw:cpu_policy."""

    DEDICATED = "dedicated"
    MIXED = "mixed"
    SHARED = "shared"


class EmulatorThreads(StrEnum):
    """Where QEMU's own threads run (Nova's hw:emulator_threads_policy)."""

    SHARE = "share"
    ISOLATE = "isolate"
    NONE = "none"


class ThreadPolicy(StrEnum):
    """What a guest does with the siblings of its CPUs (Nova's hw:cpu_thread_policy)."""

    PREFER = "prefer"
    ISOLATE = "isolate"
    REQUIRE = "require"


class PortType(StrEnum):
    """How a guest's port reaches the network."""

    VHOSTUSER = "vhostuser"
    SRIOV = "sriov"
    SRIOV_PHYSICAL = "sriov-physical"
    VDPA = "vdpa"
    NORMAL = "normal"  # whatever the host's switch gives


# Ports that are a function of a card.
VF_PORTS: Final = frozenset({PortType.SRIOV, PortType.SRIOV_PHYSICAL, PortType.VDPA})


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPool:
    """Cores of the operating system."""

    cores: int | None = None  # one core per 8, at least one
    every_node: bool = False  # at least one on every node that has CPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPool:
    """Cores of floating guests and emulator threads."""

    cores: int = 0  # 0: the host pool serves


@dataclass(frozen=True, slots=True, kw_only=True)
class PmdPool:
    """Cores of OVS-DPDK poll-mode threads."""

    cores: int | None = None  # in all; None: sized from the ports' line rate
    one_thread_per_core: bool = False  # leave the sibling thread idle
    every_node: bool = False  # at least one on every node that has CPUs, for vhost-user guests there


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWish:
    """Division of memory."""

    page_size: PageChoice = PageChoice.AUTO
    host_mib: int | None = None  # floor of the host; None: from MemTotal
    guest_mib: int | None = None  # all nodes together; None: what is left
    per_port: bool = False  # OVS's per-port memory model


class LinkState(StrEnum):
    """What a VF is told of its port's link (ip-link(8), `vf N state`)."""

    AUTO = "auto"  # as the PF's
    ENABLE = "enable"
    DISABLE = "disable"


class CpuGovernor(StrEnum):
    """Governors of cpufreq that keep their promise whatever the load (Documentation/admin-guide/pm/cpufreq.rst)."""

    PERFORMANCE = "performance"
    POWERSAVE = "powersave"
    SCHEDUTIL = "schedutil"
    ONDEMAND = "ondemand"


@dataclass(frozen=True, slots=True, kw_only=True)
class NicWish:
    """What to do with NICs; the first entry whose selectors all match a NIC decides."""

    pci: PciAddress | None = None
    driver: str | None = None  # the kernel driver
    netdev: str | None = None
    vendor: str | None = None
    min_speed_mbps: int | None = None
    role: Role | None = None  # None: the best that the NIC can do
    count: int | None = None  # at most so many NICs by this entry
    physnet: str | None = None
    bridge: str | None = None  # None: one bridge br-<physnet>, or br-phy
    mtu: int | None = None
    rx_queues: int | None = None
    vfs: int | None = None  # for sriov and vdpa: per NIC; None: see the planner
    vlan: int | None = None
    trusted: bool = False
    vf_macs: tuple[str, ...] = ()  # of VF 0, 1…; those that are not named keep theirs
    vf_spoof_check: bool | None = None  # None here and below: as the driver makes it
    vf_link_state: LinkState | None = None
    vf_max_tx_mbps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualPort:
    """A DPDK port without a PCI function."""

    name: str
    devargs: str  # "net_af_packet0,iface=veth0"
    bridge: str | None = None
    node: int | None = None
    mtu: int | None = None
    rx_queues: int | None = None
    speed_mbps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VhostPort:
    """A vhost-user client port of OVS, for a guest or another process that serves the socket."""

    name: str
    bridge: str | None = None
    socket: str | None = None  # None: <socket directory>/<name>
    mtu: int | None = None
    vlan: int | None = None
    rx_queues: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchPair:
    """Two bridges tied together."""

    bridges: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsWish:
    """Settings of Open vSwitch."""

    version: str | None = None  # plan for this one; None: the installed one, else the distribution's
    mtu: int | None = None  # default of all ports: 1500
    rx_queues: int | None = None  # per port; None: one per PMD thread on the port's node, at most 4
    rx_descriptors: int | None = None
    tx_descriptors: int | None = None
    rxq_assign: str | None = None  # cycles, roundrobin, group
    sleep_max_us: int | None = None  # None: 0 where throughput counts
    auto_lb: bool = False
    socket_dir: str | None = None
    virtual_ports: tuple[VirtualPort, ...] = ()
    vhost_ports: tuple[VhostPort, ...] = ()
    patches: tuple[PatchPair, ...] = ()
    no_pci: bool = False  # DPDK does not look at the PCI bus: only virtual ports
    integration_bridge: str | None = None  # None: br-int


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelWish:
    """One tunnel."""

    name: str
    type: TunnelType
    local: str  # address of the underlay on this side
    remote: str
    segments: tuple[str, ...] = ()  # SRv6 only: 1 to 6; the first equals `remote`
    networks: tuple[str, ...] = ()  # what is steered into it
    key: int | None = None  # VNI or GRE key
    flow_label: str | None = None  # copy, zero, compute
    bridge: str | None = None
    underlay_bridge: str | None = None
    underlay_prefix: int | None = None
    gateway: str | None = None
    gateway_mac: str | None = None
    guest_port: str | None = None  # SRv6 only: whose packets for `networks` go in, and who gets what comes back
    guest_mac: str | None = None  # whom what comes back is for


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPortWish:
    """One port of a guest."""

    type: PortType = PortType.VHOSTUSER
    physnet: str | None = None
    queues: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestShape:
    """What a guest takes of a host: the part that a profile's guest and a VNF share."""

    name: str
    vcpus: int
    memory_mib: int
    count: int = 1
    cpu_policy: CpuPolicy = CpuPolicy.DEDICATED
    dedicated_vcpus: int | None = None  # with mixed: how many are pinned
    emulator_threads: EmulatorThreads = EmulatorThreads.SHARE
    threads: ThreadPolicy | None = None
    numa_nodes: int = 1

    @property
    def pinned_count(self) -> int:
        """How many of its vCPUs have a host CPU of their own."""
        if self.cpu_policy is CpuPolicy.DEDICATED:
            return self.vcpus
        return (self.dedicated_vcpus or 0) if self.cpu_policy is CpuPolicy.MIXED else 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its guests: of several alike, the number comes behind."""
        if self.count == 1:
            return (self.name,)
        return tuple(f"{self.name}-{number}" for number in range(1, self.count + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestWish(GuestShape):
    """A VNF that shall fit."""

    node: int | None = None
    ports: tuple[GuestPortWish, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerWish:
    """How isolated CPUs save power; without any of these they are left as they are."""

    governor: CpuGovernor | None = None
    max_idle_latency_us: int | None = None  # idle states that take longer to leave are turned off


@dataclass(frozen=True, slots=True, kw_only=True)
class NovaWish:
    """Settings of nova-compute; `enabled: false` leaves them out of the plan."""

    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A host-independent wish."""

    name: str
    description: str = ""
    host: HostPool = HostPool()
    shared: SharedPool = SharedPool()
    pmd: PmdPool = PmdPool()
    memory: MemoryWish = MemoryWish()
    isolation: Isolation = Isolation.BOOT
    nics: tuple[NicWish, ...] = ()
    ovs: OvsWish = OvsWish()
    tunnels: tuple[TunnelWish, ...] = ()
    nova: NovaWish = NovaWish()
    power: PowerWish = PowerWish()
    unsafe_no_iommu: bool = False  # vfio without an IOMMU: a device may write anywhere in memory
    vnfs: tuple[GuestWish, ...] = ()
