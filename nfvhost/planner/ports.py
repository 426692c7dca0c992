"""The ports that PMD threads poll: what the CPU and memory rules need to know of each."""

from __future__ import annotations

from dataclasses import dataclass

from nfvhost.model.pci import PciAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class DpdkPort:
    """One port of the userspace data path: a PCI function, a virtual DPDK device or a vhost-user client.

    A vhost-user port has no node of its own: OVS polls it on the node where its guest's memory sits.
    """

    name: str
    bridge: str
    pci: PciAddress | None = None
    devargs: str | None = None  # None for vhost-user, and for afxdp
    vhost: bool = False
    xdp: bool = False  # of Open vSwitch's own type afxdp, named like its interface
    node: int | None = None  # None where the kernel does not say
    mtu: int = 1500
    speed_mbps: int | None = None  # None while the link is down, and for most virtual devices
    rx_queues: int | None = None  # asked; after `ovs.queues` planned
    vlan: int | None = None  # access VLAN of the port
    socket: str | None = None  # of a vhost-user port: where the other side listens
    reason: str = ""
