"""Memory that OVS-DPDK needs for packets, by its own arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nfvhost.model.profile import PortType, Profile
from nfvhost.planner.ports import DpdkPort

# OVS lib/netdev-dpdk.c: MAX_NB_MBUF, MIN_NB_MBUF (shared pools), NETDEV_DPDK_MBUF_ALIGN.
MAX_MBUFS: Final = 4096 * 64
MIN_MBUFS: Final = 4096 * 4
MBUF_ALIGN: Final = 1024
# ETHER_HDR_MAX_LEN: RTE_ETHER_HDR_LEN (14) + RTE_ETHER_CRC_LEN (4) + two VLAN tags of 4 byte.
FRAME_OVERHEAD: Final = 26
# struct rte_mbuf, OVS's metadata, headroom and the mempool's element header (OVS Documentation/topics/dpdk/memory.rst).
MBUF_OVERHEAD: Final = 960
# OVS gives rings so many descriptors where nothing is asked (NIC_PORT_DEFAULT_RXQ_SIZE, NIC_PORT_DEFAULT_TXQ_SIZE).
DEFAULT_DESCRIPTORS: Final = 2048
ETHER_MTU: Final = 1500
# DPDK's own on each node that has a pool: rings, memzones, device queues. An engineering margin.
DPDK_MIB: Final = 64

# RTE_MAX_NUMA_NODES of DPDK's default builds: config/{x86,arm,ppc,loongarch,riscv}/meson.build.
MAX_NODES: Final = {"x86_64": 32, "aarch64": 4, "ppc64le": 16, "ppc64": 16, "loongarch64": 16, "riscv64": 2}

# OpenStack will plug vhost-user ports that no profile names: so many a node count in the per-port model.
LATER_VHOST_PORTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """What OVS needs on one node, and of what it is the sum."""

    mib: int
    least_mib: int  # with the fewest buffers that it makes do with
    why: str


def rounded_mtu(mtu: int) -> int:
    """The MTU that OVS makes a pool for: ports whose frames round up to the same buffer share it.

    Source: OVS lib/netdev-dpdk.c, netdev_dpdk_mempool_configure: FRAME_LEN_TO_MTU(dpdk_buf_size(mtu)). The number of
    mbufs follows this rounded MTU, so that 1400 gets as many as 1500.
    """
    return _data_room(mtu) - FRAME_OVERHEAD


def shared_pool_mib(mtu: int) -> int:
    """MiB of one shared pool: mbufs x (ROUND_UP(MTU + 26, 1024) + 960) byte.

    262144 mbufs, or 16384 where the rounded MTU is below 1500: 752 MiB at 1500, 1008 at 2048, 2544 at 9000, 2800 at
    9216. Source: OVS lib/netdev-dpdk.c, dpdk_calculate_mbufs; Documentation/topics/dpdk/memory.rst.
    """
    return _pool_mib(mtu, MAX_MBUFS if rounded_mtu(mtu) >= ETHER_MTU else MIN_MBUFS)


def least_pool_mib(mtu: int) -> int:
    """MiB of the smallest pool that OVS tries before a port fails to open (lib/netdev-dpdk.c, dpdk_mp_create)."""
    return _pool_mib(mtu, MIN_MBUFS)


def port_pool_mib(mtu: int, *, rx_queues: int, rx_descriptors: int, tx_queues: int, tx_descriptors: int) -> int:
    """MiB of one port's own pool (`per-port-memory=true`); `tx_queues` is one for each PMD thread and one more.

    mbufs = rx_queues x rx_descriptors + tx_queues x tx_descriptors + min(128, rx_queues) x 32 + 16384.
    Source: OVS lib/netdev-dpdk.c, dpdk_calculate_mbufs (RTE_MAX_LCORE 128, NETDEV_MAX_BURST 32).
    """
    return _pool_mib(
        mtu, rx_queues * rx_descriptors + tx_queues * tx_descriptors + min(128, rx_queues) * 32 + MIN_MBUFS
    )


def node_buffers(profile: Profile, ports: Sequence[DpdkPort], *, tx_queues: int) -> Buffers:
    """Memory for the ports of one node, in the profile's memory model, with DPDK's own."""
    if profile.memory.per_port:
        mib = sum(_own_pool_mib(profile, port, tx_queues=tx_queues) for port in ports)
        least_mib = sum(least_pool_mib(port.mtu) for port in ports)
        kind = f"a pool for each of {len(ports)} ports" if len(ports) > 1 else "a pool for its port"
    else:
        # Ports whose frames round up to the same buffers share a pool; it is named by the largest of their MTUs.
        mtus = {rounded_mtu(port.mtu): port.mtu for port in sorted(ports, key=lambda one: one.mtu)}
        mib = sum(shared_pool_mib(mtu) for mtu in mtus.values())
        least_mib = sum(least_pool_mib(mtu) for mtu in mtus.values())
        kind = f"MTU {' and '.join(str(mtu) for mtu in mtus.values())}"
    return Buffers(
        mib=mib + DPDK_MIB,
        least_mib=least_mib + DPDK_MIB,
        why=f"{mib} MiB of packet buffers ({kind}) and {DPDK_MIB} MiB of DPDK's own",
    )


def guest_ports(profile: Profile, ports: Sequence[DpdkPort]) -> list[DpdkPort]:
    """The vhost-user ports of the profile and those that OpenStack will plug; they follow their guests' memory.

    One pool has to stand ready on each node for guests (OVS lib/netdev-dpdk.c, new_device: requested_socket_id).
    """
    later = max(
        sum(vnf.count for vnf in profile.vnfs for port in vnf.ports if port.type is PortType.VHOSTUSER),
        LATER_VHOST_PORTS if profile.nova.enabled else 0,
    )
    mtu = profile.ovs.mtu or ETHER_MTU
    plugged = [DpdkPort(name="later", bridge="", vhost=True, mtu=mtu)] * later
    return [port for port in ports if port.vhost] + plugged


def _own_pool_mib(profile: Profile, port: DpdkPort, *, tx_queues: int) -> int:
    """MiB of one port's own pool with the profile's descriptors."""
    return port_pool_mib(
        port.mtu,
        rx_queues=port.rx_queues or 1,
        rx_descriptors=profile.ovs.rx_descriptors or DEFAULT_DESCRIPTORS,
        tx_queues=tx_queues,
        tx_descriptors=profile.ovs.tx_descriptors or DEFAULT_DESCRIPTORS,
    )


def _data_room(mtu: int) -> int:
    """Bytes of one buffer without headroom: ROUND_UP(MTU + 26, 1024). Source: dpdk_buf_size."""
    return -(-(mtu + FRAME_OVERHEAD) // MBUF_ALIGN) * MBUF_ALIGN


def _pool_mib(mtu: int, mbufs: int) -> int:
    """Whole MiB of so many buffers, rounded up."""
    return -(-mbufs * (_data_room(mtu) + MBUF_OVERHEAD) // (1024 * 1024))
