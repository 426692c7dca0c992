"""What each NIC can do on this machine, and what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost.drivers import CLASS_INFINIBAND, USERSPACE_DRIVERS, NicDriver, Xdp, driver_of, is_ethernet, line_rate_mbps
from nfvhost.model.host import Host, Netdev, Nic
from nfvhost.model.ovs_keys import release
from nfvhost.model.pci import PciAddress
from nfvhost.model.profile import Profile, Role
from nfvhost.planner.releases import Releases, planned_releases

# DPDK's net_af_xdp (doc/guides/nics/af_xdp.rst, Prerequisites).
_AF_XDP_KERNEL: Final = (4, 18)
# Roles that take a NIC away from what it does now.
TAKING_ROLES: Final = frozenset({Role.DPDK, Role.SRIOV, Role.VDPA, Role.AFXDP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A NIC with what follows from it."""

    nic: Nic
    row: NicDriver | None
    speed_mbps: int | None
    busy: str | None  # what its interfaces do; None where nothing is known of them
    link: bool | None  # whether it has one; None where the kernel does not say

    @property
    def rank(self) -> tuple[int, int, PciAddress]:
        """Sorts the better port first: faster, then with a link, then by address."""
        return (-(self.speed_mbps or 0), {True: 0, None: 1, False: 2}[self.link], self.nic.pci)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What every decision about a NIC looks at."""

    host: Host
    profile: Profile
    releases: Releases
    cards: tuple[Card, ...]
    by_pci: dict[PciAddress, Card]


def look_at(host: Host, profile: Profile) -> Scene:
    """The NICs of the host with what the table and their interfaces say of them."""
    by_name = {one.name: one for one in host.netdevs}
    uppers: dict[str, Netdev] = {lower: one for one in host.netdevs for lower in one.lowers}
    cards = []
    for nic in host.nics:
        own = [by_name[name] for name in nic.netdevs if name in by_name]
        link = any(one.operstate == "up" for one in own) if own else None
        cards.append(
            Card(
                nic=nic,
                row=driver_of(nic),
                speed_mbps=line_rate_mbps(nic),
                busy=next(filter(None, (_busy(one, uppers) for one in own)), None),
                link=link,
            )
        )
    return Scene(
        host=host,
        profile=profile,
        releases=planned_releases(host, profile),
        cards=tuple(cards),
        by_pci={card.nic.pci: card for card in cards},
    )


def _busy(netdev: Netdev, uppers: dict[str, Netdev]) -> str | None:
    upper = uppers.get(netdev.name)
    if upper is not None:
        return f"{netdev.name} is a part of {upper.name}"
    # Each interface that is up has a link-local address of its own making: that is no use of it.
    address = next((one for one in netdev.addresses if not one.lower().startswith("fe80:")), None)
    return f"{netdev.name} has the address {address}" if address is not None else None


def obstacle(scene: Scene, card: Card, role: Role, *, wanted_vfs: int | None, named: bool = False) -> str | None:
    """Why the NIC cannot have the role; None where it can. `named`: its user insists on this NIC."""
    if role not in TAKING_ROLES:
        return None
    if not is_ethernet(card.nic):
        return not_ethernet(card)
    if role is Role.DPDK:
        return _dpdk_obstacle(scene, card, named=named)
    if role is Role.AFXDP:
        return _afxdp_obstacle(scene, card)
    return _vf_obstacle(scene, card, role, wanted_vfs)


def not_ethernet(card: Card) -> str:
    """What the card is, as it is no Ethernet port."""
    if card.nic.class_code.startswith(CLASS_INFINIBAND):
        return "it runs as InfiniBand; a VPI card can be turned to Ethernet (mlxconfig LINK_TYPE_P1=2)"
    if card.nic.class_code.startswith("0280"):
        return "a network controller that is not Ethernet: wifi, most likely"
    return f"not an Ethernet controller (class {card.nic.class_code})"


def _dpdk_obstacle(scene: Scene, card: Card, *, named: bool) -> str | None:
    row, nic = card.row, card.nic
    if scene.profile.ovs.no_pci:
        return "the profile keeps DPDK off the PCI bus (ovs.noPci)"
    if row is None:
        return f"the card {nic.vendor}:{nic.device} is not in nfvhost's table, so no DPDK driver is known for it"
    if not row.has_pmd(scene.releases.dpdk):
        return _no_pmd(row, scene.releases)
    if not row.bifurcated:
        return _vfio_obstacle(scene, card, named=named)
    return None if nic.driver in row.kernel else f"its PMD needs the kernel driver {row.kernel[0]}, which is not bound"


def _vfio_obstacle(scene: Scene, card: Card, *, named: bool) -> str | None:
    nic = card.nic
    if nic.num_vfs:
        return f"it has {nic.num_vfs} VFs, which would go with its kernel driver; set sriov_numvfs to 0 first"
    if (blocked := _group_obstacle(scene, card)) is not None:
        return blocked
    unsafe = scene.profile.unsafe_no_iommu
    if not named and not unsafe and nic.driver not in USERSPACE_DRIVERS and is_guest_without_iommu(scene.host):
        return "this virtual machine has no IOMMU, which vfio-pci needs"
    return None


def _no_pmd(row: NicDriver, releases: Releases) -> str:
    if row.pmd is None:
        return f"DPDK has no driver for {row.family}"
    planned = f"DPDK {releases.dpdk_text} (of OVS {releases.ovs_text})"
    if row.pmd_since is not None and releases.dpdk < row.pmd_since:
        since = f"{row.pmd_since[0]}.{row.pmd_since[1]:02d}"
        return f"{planned} has no driver for {row.family}; it comes with {since}"
    return f"{planned} has dropped its driver for {row.family}"


def _afxdp_obstacle(scene: Scene, card: Card) -> str | None:
    if not card.nic.netdevs:
        return "AF_XDP needs a network interface, and no kernel driver has made one"
    kernel = release(scene.host.kernel_version or "")
    if kernel is not None and kernel < _AF_XDP_KERNEL:
        return f"AF_XDP needs Linux 4.18, this is {scene.host.kernel_version}"
    return None


def _vf_obstacle(scene: Scene, card: Card, role: Role, wanted: int | None) -> str | None:
    row, nic = card.row, card.nic
    if role is Role.VDPA and (row is None or row.vdpa is None):
        return f"the kernel has no vDPA driver for {row.family if row else f'{nic.vendor}:{nic.device}'}"
    if nic.physfn is not None or (row is not None and row.vf):
        return None if role is Role.VDPA else "it is a VF itself, and VFs have no VFs"
    if role is Role.SRIOV and is_guest_without_iommu(scene.host):
        return "this virtual machine has no IOMMU, so it cannot give VFs to guests of its own"
    return _sriov_obstacle(card, wanted)


def _sriov_obstacle(card: Card, wanted: int | None) -> str | None:
    row, nic = card.row, card.nic
    if not nic.total_vfs:
        return "it offers no SR-IOV (sriov_totalvfs); where the card has it, the firmware or the BIOS keeps it off"
    if row is not None and row.kernel and not row.sriov:
        return f"the kernel driver of {row.family} makes no VFs"
    if row is None and nic.driver in {None, *USERSPACE_DRIVERS}:
        return (
            f"{nic.driver or 'no driver'} is bound to it, and nfvhost's table knows no kernel driver of its own for it"
        )
    if wanted is not None and wanted > nic.total_vfs:
        return f"{wanted} VFs are asked for and the card has {nic.total_vfs}"
    return None


def is_guest_without_iommu(host: Host) -> bool:
    """Whether this is a virtual machine that shows no IOMMU of its own."""
    return host.virtualization is not None and host.iommu.enabled is not True


def _group_obstacle(scene: Scene, card: Card) -> str | None:
    """Why the functions of its IOMMU group cannot all be given to vfio; None where they can."""
    for pci in card.nic.group_mates:
        mate = scene.by_pci.get(pci)
        shared = f"shares IOMMU group {card.nic.iommu_group} with {pci}"
        if mate is None:
            return f"{shared}, which is no NIC and cannot be given away with it"
        if mate.nic.management is not None:
            return f"{shared}, which carries management"
        if mate.busy is not None:
            return f"{shared}, which is in use: {mate.busy}"
    return None


def ability(scene: Scene, card: Card, role: Role) -> str:
    """What makes the role possible, in one clause."""
    row = card.row
    family = row.family if row is not None else f"{card.nic.vendor}:{card.nic.device}"
    if role is Role.DPDK and row is not None:
        bound = f"keeps {row.kernel[0]} bound (bifurcated)" if row.bifurcated else "bound to vfio-pci"
        speed = f", {card.speed_mbps} Mbit/s" if card.speed_mbps else ""
        return f"{family}{speed}: DPDK {scene.releases.dpdk_text} drives it by net_{row.pmd}, {bound}"
    if role is Role.AFXDP:
        kind = row.xdp if row is not None else Xdp.GENERIC
        return f"{family}: the kernel keeps its driver and hands packets over by AF_XDP ({kind.value})"
    if role is Role.SRIOV:
        return f"{family}: the kernel driver makes VFs for guests"
    if role is Role.VDPA and row is not None:
        return f"{family}: {row.vdpa} makes vDPA devices of its VFs"
    return f"{family} stays with the kernel" if role is Role.KERNEL else f"{family} is left alone"


def called(nic: Nic) -> str:
    """The card's name for people: vendor and device, else their numbers."""
    names = tuple(name for name in (nic.vendor_name, nic.device_name) if name)
    return " ".join(names) if names else f"{nic.vendor}:{nic.device}"
