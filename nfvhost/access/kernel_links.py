"""The door to the kernel's network devices: VFs, links and vDPA, by netlink."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from nfvhost.access import vdpa_netlink, vf_settings
from nfvhost.access.vdpa_netlink import VdpaConfig
from nfvhost.access.vf_settings import VfAttributes, VfSetting


class KernelLinks(Protocol):
    """What resources ask of it; PreconditionError or ApplyError, with the kernel's answer, where it refuses."""

    def read_vfs(self, netdevs: Iterable[str]) -> dict[str, tuple[VfAttributes, ...]]:
        """PF's interface -> its VFs in order; an interface that is not there is left out."""
        ...

    def write_vf(self, netdev: str, *, vf: int, setting: VfSetting, text: str) -> None:
        """Nothing, once the driver of the PF has taken it."""
        ...

    def set_up(self, netdev: str, *, up: bool) -> None:
        """Nothing, once the interface is administratively up or down."""
        ...

    def vdpa_management_devices(self) -> tuple[str, ...]:
        """`pci/0000:21:10.0`…: what can make vDPA devices."""
        ...

    def vdpa_configs(self) -> tuple[VdpaConfig, ...]:
        """All vDPA devices with their configuration."""
        ...

    def add_vdpa(
        self, name: str, *, management: str, mac: str | None, queue_pairs: int | None, mtu: int | None
    ) -> None:
        """Nothing, once the device is there; what is None is as its maker likes it."""
        ...

    def remove_vdpa(self, name: str) -> None:
        """Nothing, once the device is gone; whoever has it open loses it, so ask first."""
        ...


class Netlink:
    """The running kernel's, in the network namespace of this process."""

    def read_vfs(self, netdevs: Iterable[str]) -> dict[str, tuple[VfAttributes, ...]]:
        return vf_settings.read_vfs(netdevs)

    def write_vf(self, netdev: str, *, vf: int, setting: VfSetting, text: str) -> None:
        vf_settings.write_vf(netdev, vf=vf, setting=setting, text=text)

    def set_up(self, netdev: str, *, up: bool) -> None:
        vf_settings.set_up(netdev, up=up)

    def vdpa_management_devices(self) -> tuple[str, ...]:
        return vdpa_netlink.management_devices()

    def vdpa_configs(self) -> tuple[VdpaConfig, ...]:
        return vdpa_netlink.device_configs()

    def add_vdpa(
        self, name: str, *, management: str, mac: str | None, queue_pairs: int | None, mtu: int | None
    ) -> None:
        vdpa_netlink.add_device(name, management=management, mac=mac, queue_pairs=queue_pairs, mtu=mtu)

    def remove_vdpa(self, name: str) -> None:
        vdpa_netlink.remove_device(name)
