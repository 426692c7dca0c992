"""Exact decisions for one machine."""

from __future__ import annotations

from dataclasses import dataclass

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.pci import PciAddress
from nfvhost.model.profile import (
    CpuGovernor,
    CpuPolicy,
    EmulatorThreads,
    Isolation,
    LinkState,
    PortType,
    Role,
    TunnelType,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedNode:
    """The cores of one NUMA node that a plan may use: which CPUs are threads of one core decides where guests fit."""

    node: int
    cores: tuple[CpuSet, ...]  # thread siblings, in order of the lowest CPU
    memory_kib: int | None = None  # as libvirt counts it, and so Nova


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedHost:
    """Which machine the plan is for."""

    name: str  # CPU model and shape, for people: "AMD Ryzen 5 3600, 12 CPUs, 1 node"
    fingerprint: tuple[tuple[str, str], ...]  # fact -> value, sorted; a plan is stale where one differs
    nodes: tuple[PlannedNode, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuPools:
    """Who gets which logical CPU."""

    host: CpuSet
    shared: CpuSet  # equals `host` where the profile asks for no cores of its own
    pmd: CpuSet
    dedicated: CpuSet
    idle: CpuSet  # siblings that are left alone on purpose, and CPUs that the plan may not use
    isolated: CpuSet  # what the kernel is to keep free: pmd, dedicated and their idle siblings


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Hugepages of one size on one node."""

    size_mib: int
    count: int
    at_boot: bool  # reserved by the kernel command line


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMemory:
    """Who gets the memory of one node; host + ovs + guest <= total."""

    node: int
    total_mib: int
    host_mib: int
    ovs_mib: int
    guest_mib: int
    pages: tuple[Pages, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Memory, node by node."""

    nodes: tuple[NodeMemory, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VfSettings:
    """What the PF makes of its VFs; None: as the driver makes it."""

    macs: tuple[str, ...] = ()  # of VF 0, 1…
    vlan: int | None = None
    trust: bool | None = None
    spoof_check: bool | None = None
    link_state: LinkState | None = None
    max_tx_mbps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NicPlan:
    """What one NIC is for."""

    pci: PciAddress
    role: Role
    reason: str
    name: str  # vendor and device, for people
    node: int | None
    netdevs: tuple[str, ...]
    current_driver: str | None
    driver: str | None  # what it shall be bound to; None: as it is
    iommu_group: int | None
    group_mates: tuple[PciAddress, ...]
    speed_mbps: int | None
    physnet: str | None
    mtu: int | None
    vfs: int | None  # VFs to make; None: not touched
    vf_driver: str | None
    vdpa_devices: int | None
    wish: int | None = None  # the entry of the profile's `nics` that decided; None: no entry did
    vf_settings: VfSettings = VfSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPort:
    """One port with one interface."""

    name: str
    type: str  # dpdk, dpdkvhostuserclient, afxdp, patch, srv6, vxlan, geneve, gre, system
    options: tuple[tuple[str, str], ...]  # Interface.options, sorted
    other_config: tuple[tuple[str, str], ...]  # Interface.other_config, sorted
    mtu: int | None  # Interface.mtu_request
    tag: int | None  # Port.tag
    node: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsBridge:
    """One bridge of the userspace data path."""

    name: str
    datapath_type: str  # netdev
    fail_mode: str | None
    physnet: str | None
    ports: tuple[OvsPort, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPlan:
    """Settings of Open vSwitch."""

    version: str  # "3.1": the release that the keys are for
    other_config: tuple[tuple[str, str], ...]  # Open_vSwitch.other_config, sorted
    socket_dir: str
    bridges: tuple[OvsBridge, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelPlan:
    """One tunnel, with the underlay that it needs."""

    name: str
    type: TunnelType
    bridge: str
    local: str
    remote: str
    segments: tuple[str, ...]
    networks: tuple[str, ...]
    key: int | None
    flow_label: str | None
    mtu: int  # of the traffic inside
    underlay_bridge: str
    underlay_prefix: int | None
    gateway: str | None
    gateway_mac: str | None
    guest_port: str | None = None  # None: its flows are made by others
    guest_mac: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPlan:
    """How isolated CPUs save power."""

    cpus: CpuSet
    governor: CpuGovernor | None
    max_idle_latency_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservedHugepages:
    """Pages that Nova must leave alone: OVS's share of a node ([DEFAULT] reserved_huge_pages)."""

    node: int
    size_kib: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDeviceSpec:
    """One [pci] device_spec."""

    address: PciAddress
    physical_network: str | None
    trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NovaPlan:
    """Settings of nova-compute."""

    cpu_dedicated_set: CpuSet
    cpu_shared_set: CpuSet
    reserved_host_memory_mib: int | None  # None where the machine's memory is not known: Nova's own default
    reserved_huge_pages: tuple[ReservedHugepages, ...]
    pci_device_specs: tuple[PciDeviceSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeutronPlan:
    """Settings of the Open vSwitch agent."""

    datapath_type: str
    vhostuser_socket_dir: str
    bridge_mappings: tuple[tuple[str, str], ...]  # physnet -> bridge


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPlan:
    """One guest placed on paper."""

    name: str  # "<vnf>-<n>" where the profile asks for several
    nodes: tuple[int, ...]
    cpu_policy: CpuPolicy
    pinned: CpuSet  # host CPUs of its dedicated vCPUs
    emulator: CpuSet
    emulator_threads: EmulatorThreads
    memory_mib: int
    page_size_mib: int
    ports: tuple[PortType, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was chosen and why; `subject` is stable: `cpus.pmd`, `memory.node0`, `nics.0000:10:00.0`."""

    subject: str
    choice: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that the later steps need, and nothing that depends on no host."""

    profile: str
    host: PlannedHost
    cpus: CpuPools
    memory: MemoryPlan
    isolation: Isolation
    kernel_args: tuple[str, ...]
    nics: tuple[NicPlan, ...]
    ovs: OvsPlan | None
    tunnels: tuple[TunnelPlan, ...]
    nova: NovaPlan | None
    neutron: NeutronPlan | None
    power: PowerPlan | None = None
    unsafe_no_iommu: bool = False  # vfio without an IOMMU, because the profile says so
    guests: tuple[GuestPlan, ...]
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...]
