"""A virtual network function: what Nova, Neutron and Glance are to make, with defaults for packet work.

None is "not said". What nfvhost then does, and why, is in `DEFAULT_REASONS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.profile import (
    VF_PORTS,
    CpuPolicy,
    EmulatorThreads,
    GuestPortWish,
    GuestShape,
    PortType,
)


class GuestPages(StrEnum):
    """Which pages a guest's memory is made of (Nova's hw:mem_page_size)."""

    LARGE = "large"  # the host's hugepages, of whatever size
    GIB_1 = "1G"
    MIB_2 = "2M"
    SMALL = "small"
    ANY = "any"


class PciAffinity(StrEnum):
    """How near a card must be to the guest (Nova's hw:pci_numa_affinity_policy)."""

    LEGACY = "legacy"  # on its nodes, where the card's node is known
    REQUIRED = "required"
    PREFERRED = "preferred"
    SOCKET = "socket"


class GroupPolicy(StrEnum):
    """How Nova spreads the servers of a group."""

    ANTI_AFFINITY = "anti-affinity"
    SOFT_ANTI_AFFINITY = "soft-anti-affinity"
    AFFINITY = "affinity"
    SOFT_AFFINITY = "soft-affinity"


class DiskFormat(StrEnum):
    """Formats of an image's file that Glance takes and QEMU boots."""

    QCOW2 = "qcow2"
    RAW = "raw"
    VMDK = "vmdk"
    VDI = "vdi"
    VHD = "vhd"
    ISO = "iso"


@dataclass(frozen=True, slots=True, kw_only=True)
class VnfPort(GuestPortWish):
    """One port of a VNF: on a network by its name, or on a physical network with a VLAN."""

    name: str | None = None  # None: <server>-<index of the port>
    network: str | None = None
    vlan: int | None = None
    subnet: str | None = None  # of the network that is made for `physnet`
    address: str | None = None
    mac: str | None = None
    mtu: int | None = None
    port_security: bool | None = None
    trusted: bool = False
    min_mbps: int | None = None
    max_mbps: int | None = None

    @property
    def secured(self) -> bool:
        """Whether Neutron filters what does not come from the port's own addresses."""
        return self.type is PortType.NORMAL if self.port_security is None else self.port_security


@dataclass(frozen=True, slots=True, kw_only=True)
class VnfNode:
    """The share of one of the guest's own NUMA nodes."""

    vcpus: CpuSet
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VnfImage:
    """What the servers boot: an image that is there by its name, or a file that is uploaded under it."""

    name: str
    file: str | None = None
    disk_format: DiskFormat | None = None
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudInit:
    """What the guest reads at its first boot. It may hold secrets: nobody prints it."""

    user_data: str | None = None
    user_data_file: str | None = None
    config_drive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerGroup:
    """How the servers are spread over hosts."""

    name: str | None = None  # None: the VNF's
    policy: GroupPolicy = GroupPolicy.ANTI_AFFINITY
    max_servers_per_host: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vnf(GuestShape):
    """One kind of server, `count` of them."""

    description: str = ""
    page_size: GuestPages = GuestPages.LARGE
    pinned_vcpus: CpuSet | None = None  # with mixed: which are pinned
    nodes: tuple[VnfNode, ...] = ()  # where the guest's nodes are not alike
    pci_affinity: PciAffinity = PciAffinity.LEGACY
    disk_gib: int = 10
    ports: tuple[VnfPort, ...] = ()
    image: VnfImage | None = None
    cloud_init: CloudInit | None = None
    server_group: ServerGroup | None = None
    key_pair: str | None = None
    availability_zone: str | None = None

    @property
    def pinned(self) -> CpuSet:
        """The vCPUs that have a host CPU of their own; of a mixed guest the last ones, where none are named."""
        if self.cpu_policy is CpuPolicy.MIXED and self.pinned_vcpus is not None:
            return self.pinned_vcpus
        return CpuSet(range(max(self.vcpus - self.pinned_count, 0), self.vcpus))

    @property
    def emulator(self) -> EmulatorThreads:
        """Where QEMU's own threads run; a guest without a pinned vCPU has no choice."""
        return self.emulator_threads if self.pinned else EmulatorThreads.NONE

    @property
    def multiqueue(self) -> bool:
        """Whether its virtio ports have several queues."""
        return any((port.queues or 1) > 1 for port in self.ports)

    @property
    def has_vf(self) -> bool:
        """Whether a port of it is a function of a card."""
        return any(port.type in VF_PORTS for port in self.ports)


# What is done where the document says nothing, and why: `--explain` and docs/vnf.md tell it.
DEFAULT_REASONS: Final[dict[tuple[type, str], str]] = {
    (GuestShape, "count"): "one server",
    (GuestShape, "cpu_policy"): "a poll loop that loses its CPU drops packets: each vCPU has a host CPU of its own",
    (GuestShape, "dedicated_vcpus"): "only a mixed guest says how many of its vCPUs are pinned",
    (GuestShape, "emulator_threads"): (
        "QEMU's own threads run on the shared CPUs: beside a pinned vCPU they would take its time, and a CPU of their "
        "own for each guest is dear"
    ),
    (GuestShape, "threads"): "Nova's own, prefer: siblings of one core where the host has SMT, cores where it has not",
    (GuestShape, "numa_nodes"): "all memory is near: a guest on two nodes has to know its nodes to be fast",
    (GuestPortWish, "type"): "the userspace switch hands packets over in shared memory, without the kernel",
    (GuestPortWish, "physnet"): "the port is on a network that is there already",
    (GuestPortWish, "queues"): "one queue pair: a guest has to ask for more itself, or one stays idle",
    (Vnf, "description"): "for people",
    (Vnf, "page_size"): "vhost-user needs memory that can be shared, which are hugepages; they save TLB misses as well",
    (Vnf, "pinned_vcpus"): "the last ones are pinned: the guest's kernel keeps its own work on vCPU 0",
    (Vnf, "nodes"): "Nova divides vCPUs and memory evenly",
    (Vnf, "pci_affinity"): "a card is on the guest's node wherever the card's node is known",
    (Vnf, "disk_gib"): (
        "Nova starts servers without a disk for administrators alone; ten GiB hold a usual image, and take room only "
        "once they are written"
    ),
    (Vnf, "ports"): "a guest without ports",
    (Vnf, "image"): "flavors need no image; `nfvhost launch` does",
    (Vnf, "cloud_init"): "the image is configured as it is",
    (Vnf, "server_group"): "Nova's scheduler spreads as it is configured",
    (Vnf, "key_pair"): "no SSH key is put into the guest",
    (Vnf, "availability_zone"): "any",
    (VnfPort, "name"): "the server's name and the port's number",
    (VnfPort, "network"): "the port is on a physical network of its own",
    (VnfPort, "vlan"): "the network is untagged",
    (VnfPort, "subnet"): "no addresses are given: many VNFs bring their own",
    (VnfPort, "address"): "Neutron chooses, where the network has a subnet",
    (VnfPort, "mac"): "Neutron chooses",
    (VnfPort, "mtu"): "the network's",
    (VnfPort, "port_security"): (
        "a network function forwards packets of others, which the filter drops, and filtering costs rate; a normal "
        "port keeps it"
    ),
    (VnfPort, "trusted"): "a VF that may not change its MAC address or turn promiscuous harms no neighbour",
    (VnfPort, "min_mbps"): "no bandwidth is reserved: Placement would have to know the card's",
    (VnfPort, "max_mbps"): "no limit: a policer costs rate",
    (VnfImage, "file"): "the image is there",
    (VnfImage, "disk_format"): "as the file's name ends, else qcow2",
    (VnfImage, "properties"): "none",
    (CloudInit, "user_data"): "none",
    (CloudInit, "user_data_file"): "none",
    (CloudInit, "config_drive"): "a data network has no metadata service, and a guest that waits for one boots slowly",
    (ServerGroup, "name"): "the VNF's name",
    (ServerGroup, "policy"): "one host that fails takes one of them with it",
    (ServerGroup, "max_servers_per_host"): "one, as the policy says",
}
