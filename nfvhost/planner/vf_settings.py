"""What a PF is to make of its VFs, as the entry of the profile says it."""

from __future__ import annotations

from typing import Final

from nfvhost.model.plan import NicPlan, VfSettings
from nfvhost.model.profile import NicWish, Profile, Role
from nfvhost.planner.abilities import Card
from nfvhost.planner.notebook import Notebook, counted

_WITH_VFS: Final = frozenset({Role.SRIOV, Role.VDPA})
_WITH_VLAN: Final = frozenset({Role.DPDK, Role.AFXDP, *_WITH_VFS})


def check_wishes(profile: Profile, notes: Notebook) -> None:
    """Refuse settings in entries whose NICs have nothing that they could be for, and addresses that are there twice."""
    owners: dict[str, str] = {}
    for index, wish in enumerate(profile.nics):
        where = f"nics[{index}]"
        if wish.role not in _WITH_VFS:
            for key in _keys(wish):
                notes.refuse(
                    f"{_role(wish)} makes no VFs",
                    where=f"{where}.{key}",
                    hint="take role: sriov, or leave it out",
                )
        if wish.vlan is not None and wish.role is not None and wish.role not in _WITH_VLAN:
            notes.refuse(f"{_role(wish)} has no VLAN of the plan's", where=f"{where}.vlan", hint="leave it out")
        for number, mac in enumerate(wish.vf_macs):
            place = f"{where}.vfMacs[{number}]"
            if (other := owners.setdefault(mac.lower(), place)) != place:
                notes.refuse(f"{mac} is the address of {other} too", where=place, hint="give each VF one of its own")


def settings_of(card: Card, wish: NicWish, index: int, *, count: int, notes: Notebook) -> VfSettings:
    """The settings of this card's VFs; addresses that no VF is there for are noted."""
    where = f"nics[{index}]"
    if card.nic.physfn is not None:
        for key in _keys(wish):
            notes.refuse(
                f"{card.nic.pci} is a VF of {card.nic.physfn}, which alone can set that",
                where=f"{where}.{key}",
                hint=f"say it in an entry for {card.nic.physfn}",
            )
        return VfSettings()
    if len(wish.vf_macs) > count:
        notes.refuse(
            f"more addresses ({len(wish.vf_macs)}) than VFs: {card.nic.pci} gets {count}",
            where=f"{where}.vfMacs",
            hint=f"name at most {count}, or ask for more `vfs`; the card has {card.nic.total_vfs or 0}",
        )
    rate = wish.vf_max_tx_mbps
    # ixgbe, igb and i40e refuse it (drivers/net/ethernet/intel/*, *_ndo_set_vf_bw).
    if rate is not None and card.speed_mbps is not None and rate > card.speed_mbps:
        notes.warn(
            f"{card.nic.pci}: nics[{index}] lets each VF send {rate} Mbit/s, and the port has {card.speed_mbps}: many "
            "drivers refuse that"
        )
    return VfSettings(
        macs=tuple(mac.lower() for mac in wish.vf_macs),
        vlan=wish.vlan,
        trust=True if wish.trusted else None,
        spoof_check=wish.vf_spoof_check,
        link_state=wish.vf_link_state,
        max_tx_mbps=rate,
    )


def check_cards(profile: Profile, nics: tuple[NicPlan, ...], notes: Notebook) -> None:
    """Refuse addresses that an entry would give to the VFs of several NICs, and say who else sets them."""
    for index, wish in enumerate(profile.nics):
        cards = [nic for nic in nics if nic.wish == index and nic.vfs]
        if wish.vf_macs and len(cards) > 1:
            names = ", ".join(str(nic.pci) for nic in cards)
            notes.refuse(
                f"the VFs of {counted(len(cards), 'NIC')} would have the same addresses: {names}",
                where=f"nics[{index}].vfMacs",
                hint="write an entry for each NIC, by `pci`",
            )
    shared = [str(nic.pci) for nic in nics if nic.role is Role.SRIOV and nic.physnet and _is_guests(nic.vf_settings)]
    if shared and profile.nova.enabled:
        notes.warn(
            f"{', '.join(shared)}: Nova and Neutron set address, VLAN and spoof check of a VF as the port of its guest "
            "says; what the profile says holds for VFs that no guest has"
        )


def told(settings: VfSettings) -> str:
    """The settings in a few words; empty where there are none."""
    rate, check = settings.max_tx_mbps, settings.spoof_check
    words = (
        f"VLAN {settings.vlan}" if settings.vlan is not None else "",
        "trusted" if settings.trust else "",
        "" if check is None else f"spoof check {'on' if check else 'off'}",
        "" if settings.link_state is None else f"link state {settings.link_state.value}",
        "" if rate is None else f"at most {rate} Mbit/s each" if rate else "no limit of their rate",
        f"addresses {', '.join(settings.macs)}" if settings.macs else "",
    )
    return ", ".join(filter(None, words))


def _keys(wish: NicWish) -> tuple[str, ...]:
    """The keys of the entry that say something of VFs alone."""
    said = {
        "vfs": wish.vfs is not None,
        "vfMacs": bool(wish.vf_macs),
        "vfSpoofCheck": wish.vf_spoof_check is not None,
        "vfLinkState": wish.vf_link_state is not None,
        "vfMaxTxMbps": wish.vf_max_tx_mbps is not None,
        "trusted": wish.trusted,
    }
    return tuple(key for key, given in said.items() if given)


def _role(wish: NicWish) -> str:
    return "an entry without a role" if wish.role is None else f"role: {wish.role.value}"


def _is_guests(settings: VfSettings) -> bool:
    return bool(settings.macs) or (settings.vlan, settings.spoof_check) != (None, None)
