"""Numbers that no machine or protocol can take, found before a planner or OVS does."""

from __future__ import annotations

from typing import Final

from nfvhost.model.plan import GuestPlan, NicPlan, OvsPort, PlannedNode, TunnelPlan, VfSettings
from nfvhost.model.profile import GuestPortWish, GuestShape, NicWish, OvsWish, TunnelWish, VhostPort, VirtualPort
from nfvhost.model.vnf import ServerGroup, Vnf, VnfNode, VnfPort

# Class, or one that it inherits from, and field -> lowest and highest; a number that is not here is from 0 to what 31
# bits hold.
Ranges = dict[tuple[type, str], tuple[int, int]]

# RFC 791: 68 is the smallest MTU of IPv4; 65535 the longest IP packet.
_MTU: Final = (68, 65535)
# IEEE 802.1Q: 0 and 4095 are reserved.
_VLAN: Final = (1, 4094)
# PCI Express 6.0, 9.3.3.6: TotalVFs has 16 bits.
_VFS: Final = (0, 65535)
# OVS lib/netdev-dpdk.c, NIC_PORT_MAX_Q_SIZE.
_DESCRIPTORS: Final = (1, 4096)
# DPDK config/rte_config.h, RTE_MAX_QUEUES_PER_PORT.
_QUEUES: Final = (1, 1024)

V1: Final[Ranges] = {
    (NicWish, "mtu"): _MTU,
    (NicWish, "vlan"): _VLAN,
    (NicWish, "rx_queues"): _QUEUES,
    (VirtualPort, "mtu"): _MTU,
    (VirtualPort, "rx_queues"): _QUEUES,
    (VhostPort, "mtu"): _MTU,
    (VhostPort, "vlan"): _VLAN,
    (VhostPort, "rx_queues"): _QUEUES,
    (OvsWish, "mtu"): _MTU,
    (OvsWish, "rx_queues"): _QUEUES,
    (OvsWish, "rx_descriptors"): _DESCRIPTORS,
    (OvsWish, "tx_descriptors"): _DESCRIPTORS,
    (TunnelWish, "key"): (0, 2**32 - 1),  # a GRE key has 32 bits, a VNI 24
    (TunnelWish, "underlay_prefix"): (0, 128),
    (GuestShape, "vcpus"): (1, 65536),
    (GuestShape, "memory_mib"): (1, 2**31 - 1),
    (GuestShape, "count"): (1, 65536),
    (GuestShape, "numa_nodes"): (1, 1024),
    (GuestPortWish, "queues"): _QUEUES,
    (Vnf, "disk_gib"): (0, 2**31 - 1),
    (VnfNode, "memory_mib"): (1, 2**31 - 1),
    (VnfPort, "vlan"): _VLAN,
    (VnfPort, "mtu"): _MTU,
    (VnfPort, "max_mbps"): (1, 2**31 - 1),
    (VnfPort, "min_mbps"): (1, 2**31 - 1),
    (ServerGroup, "max_servers_per_host"): (1, 2**31 - 1),
    (NicWish, "vfs"): _VFS,
    (NicPlan, "vfs"): _VFS,
    (NicPlan, "vdpa_devices"): _VFS,
    (VfSettings, "vlan"): _VLAN,
    (PlannedNode, "memory_kib"): (0, 2**40),  # 1 PiB, as far as a meminfo is believed
    (OvsPort, "mtu"): _MTU,
    (OvsPort, "tag"): (0, 4095),
    (GuestPlan, "memory_mib"): (1, 2**31 - 1),
    (TunnelPlan, "key"): (0, 2**32 - 1),
}
