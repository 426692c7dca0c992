"""What would be changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nfvhost import drivers
from nfvhost.access.vf_settings import VfSetting
from nfvhost.errors import ApplyError
from nfvhost.model.change import Change, Disruption
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import NicPlan, Plan
from nfvhost.resources.sriov.managers import FILES, content_of, text_of, wanted_texts
from nfvhost.resources.sriov.state import Pf, State, differing, planned, wanted

RESOURCE: Final = "sriov"
AUTOPROBE: Final = "autoprobe"
LINK: Final = "link"
COUNT: Final = "vfs"
_PORT: Final = re.compile(rf"(\S+) ({AUTOPROBE}|{LINK}|{COUNT})")
_VF: Final = re.compile(r"(\S+) vf (\d+) (\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the key of a change names, other than a file."""

    pci: PciAddress
    what: str | VfSetting  # autoprobe, link, vfs, or a setting of one VF
    vf: int | None


def place(change: Change) -> Place | None:
    """What its key names; None for a file."""
    if change.key in FILES:
        return None
    if (port := _PORT.fullmatch(change.key)) is not None:
        return Place(pci=PciAddress.parse(port[1]), what=port[2], vf=None)
    if (vf := _VF.fullmatch(change.key)) is not None:
        return Place(pci=PciAddress.parse(vf[1]), what=VfSetting(vf[3]), vf=int(vf[2]))
    raise ApplyError("is no setting of VFs", where=change.where)


def differences(state: State, plan: Plan) -> Iterator[Change]:
    """All changes in order: first who is to leave the VFs alone, then port by port."""
    yield from _files(state, plan)
    for nic in planned(plan):
        pf = state.pf(nic.pci)
        if pf is not None:
            yield from _port(pf, nic)


def _files(state: State, plan: Plan) -> Iterator[Change]:
    texts = wanted_texts(state.managers, tuple(nic.pci for nic in planned(plan) if nic.vfs))
    for image in state.files:
        text = texts[image.path]
        if image.content != content_of(image.path, text):
            reason = "NetworkManager and systemd-networkd leave these ports' VFs alone"
            yield Change.now(RESOURCE, image.path, text_of(image.path, image.content), text, reason)


def _port(pf: Pf, nic: NicPlan) -> Iterator[Change]:
    count = nic.vfs or 0
    probe = "0" if nic.vf_driver is not None else "1"
    if count and pf.autoprobe not in {None, probe}:
        reason = (
            f"new VFs wait for {nic.vf_driver} and are no interface meanwhile"
            if nic.vf_driver is not None
            else "the VFs keep the driver that takes them"
        )
        yield Change.now(RESOURCE, f"{pf.pci} {AUTOPROBE}", pf.autoprobe, probe, reason)
    if count and pf.up is False and needs_link(pf):
        reason = f"{pf.driver} makes no VFs while its interface is down"
        yield Change.now(RESOURCE, f"{pf.pci} {LINK}", "down", "up", reason, disruption=Disruption.LINK)
    anew = pf.num_vfs != count
    if anew:
        before = str(pf.num_vfs) if pf.num_vfs is not None else None
        # Some drivers reset the port for it (ixgbe, i40e).
        yield Change.now(RESOURCE, f"{pf.pci} {COUNT}", before, str(count), nic.reason, disruption=Disruption.LINK)
    for vf in range(count):
        # What is made anew has forgotten all that was set.
        settings = wanted(nic, vf) if anew else differing(pf, nic, vf)
        if not anew and _has_users(pf, vf):
            continue
        for setting, text in settings.items():
            before = None if anew else pf.attribute(vf, setting)
            yield Change.now(RESOURCE, f"{pf.pci} vf {vf} {setting.value}", before, text, "the profile sets it")


def row(pf: Pf) -> drivers.NicDriver | None:
    """What the table knows of such ports."""
    if pf.vendor is None or pf.device is None:
        return None
    return drivers.row_of(vendor=pf.vendor, device=pf.device, driver=pf.driver)


def needs_link(pf: Pf) -> bool:
    """Whether its driver makes no VFs while the interface is down."""
    known = row(pf)
    return known is not None and known.vfs_need_link


def _has_users(pf: Pf, vf: int) -> bool:
    """Whether a guest has it: its hypervisor has set it up then, as libvirt does, and puts it back."""
    return any(one.users for one in pf.vfs if one.index == vf)
