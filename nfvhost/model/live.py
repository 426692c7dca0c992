"""Facts that no file of /sys or /proc states; a capture carries them as /nfvhost/live.json."""

from __future__ import annotations

from dataclasses import dataclass

from nfvhost.model.host import OvsInstall
from nfvhost.model.pci import PciAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareName:
    """What people call a PCI device."""

    vendor: str  # four hex digits
    device: str  # four hex digits
    vendor_name: str | None
    device_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgePort:
    """One interface in a bridge of Open vSwitch."""

    bridge: str
    interface: str
    pci: PciAddress | None  # of a DPDK port, from its devargs


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """Why an interface or a PCI function carries management, as the captured machine found it."""

    subject: str  # a netdev, or a PCI address
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFacts:
    """What the machine was asked; the defaults say that nobody could ask."""

    architecture: str | None = None  # uname -m
    container: str | None = None  # of /proc/1/environ, which only root may read
    ovs: OvsInstall | None = None
    ovs_ports: tuple[BridgePort, ...] = ()
    vdpa_management_devices: tuple[str, ...] | None = None
    hardware_names: tuple[HardwareName, ...] = ()
    addresses: tuple[tuple[str, tuple[str, ...]], ...] = ()  # netdev -> addresses with prefix; never in a capture
    ssh_netdevs: tuple[str, ...] = ()  # that an SSH session into this machine comes in by
    management: tuple[Conclusion, ...] | None = None  # in a capture: instead of routes and addresses
