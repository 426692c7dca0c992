"""Why VFs must not be touched, and what is worth saying of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost import drivers
from nfvhost.access.vf_settings import SERVICE_TAGGED, VfSetting
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host, Netdev
from nfvhost.model.plan import NicPlan, Plan
from nfvhost.resources import Unmet
from nfvhost.resources.sriov.difference import COUNT, LINK, RESOURCE, differences, needs_link, place
from nfvhost.resources.sriov.state import Pf, State, differing, named_users, planned

# Its resource is in nfvhost.resources.driver_binding, and comes before this one.
_BINDING: Final = "driver_binding"


def problems(state: State, plan: Plan, host: Host) -> Iterator[Problem]:
    """One for each thing in the way; `where` names the change that it stops."""
    changes = tuple(differences(state, plan))
    for nic in planned(plan):
        pf = state.pf(nic.pci)
        own = tuple(change for change in changes if (at := place(change)) is not None and at.pci == nic.pci)
        if pf is None or not own:
            continue
        key = next((change.key for change in own if change.key.endswith(f" {COUNT}")), own[0].key)
        where = f"{RESOURCE}: {key}"
        absent = _absence(pf, nic, where)
        if absent is not None:
            yield absent
            continue
        yield from _in_the_way(pf, nic, host, own, where)


def findings(state: State, plan: Plan) -> Iterator[Problem]:
    """Settings that a guest keeps from the plan, ports that are down, managers that cannot be told."""
    for nic in planned(plan):
        pf = state.pf(nic.pci)
        if pf is None:
            continue
        for vf in pf.vfs if pf.num_vfs == nic.vfs else ():
            settings = differing(pf, nic, vf.index) if vf.users and vf.index < (nic.vfs or 0) else {}
            for setting, text in settings.items():
                yield Problem(
                    what=f"is {pf.attribute(vf.index, setting)} and planned as {text}, which waits until the VF is "
                    f"free: {', '.join(vf.users)}",
                    where=f"{RESOURCE}: {nic.pci} vf {vf.index} {setting.value}",
                )
        if nic.vfs and pf.up is False and not needs_link(pf):
            yield Problem(
                what=f"its interface {pf.netdev} is down: with most drivers its VFs have no link then",
                where=f"{RESOURCE}: {nic.pci} {LINK}",
                hint="set it up in this machine's network configuration, without an address",
            )
    managers = state.managers
    if planned(plan) and not managers.udev and (managers.network_manager or managers.networkd):
        yield Problem(
            what="without udev nobody can tell the network manager of this machine to leave VFs alone", where=RESOURCE
        )


def _absence(pf: Pf, nic: NicPlan, where: str) -> Problem | None:
    """What is missing of the port; None where VFs can be asked for at all."""
    count = nic.vfs or 0
    if not pf.present:
        return Problem(
            what="there is no PCI function at that address", where=where, hint="is the card still in its slot?"
        )
    if pf.num_vfs is None or pf.total_vfs is None:
        return Problem(
            what="it offers no SR-IOV (no sriov_numvfs)",
            where=where,
            hint="turn SR-IOV on in the BIOS and in the card's own firmware setup; a kernel needs CONFIG_PCI_IOV",
        )
    if count > pf.total_vfs:
        return Problem(
            what=f"{count} VFs are planned, the card has {pf.total_vfs} (sriov_totalvfs)",
            where=where,
            hint="the card's firmware may limit it (mlxconfig NUM_OF_VFS, its BIOS setup); or plan again",
        )
    if pf.driver is None or pf.driver in drivers.USERSPACE_DRIVERS:
        what = f"{pf.driver or 'no driver'} is bound to it, and the kernel's own driver of the card makes VFs"
        if nic.driver is not None and nic.driver not in drivers.USERSPACE_DRIVERS:
            return Unmet(what=what, where=where, hint=f"it is to be {nic.driver}", met_by=_BINDING)
        return Problem(what=what, where=where, hint="bind it again, and plan again")
    return None


def _in_the_way(pf: Pf, nic: NicPlan, host: Host, own: tuple[Change, ...], where: str) -> Iterator[Problem]:
    if any(change.key.endswith(f" {COUNT}") for change in own):
        yield from _management(nic, host, where)
        if pf.num_vfs:
            yield from _in_use(pf, host, where)
    yield from _unrestorable(pf, own)
    if pf.netdev is None:
        for change in own:
            if (at := place(change)) is not None and at.vf is not None:
                yield Problem(
                    what="the port has no interface here, by which VFs are set up",
                    where=change.where,
                    hint="another network namespace may have it: move it back",
                )


def _unrestorable(pf: Pf, own: tuple[Change, ...]) -> Iterator[Problem]:
    """VLANs of somebody else that would go and could not be put back."""
    keys = {change.key for change in own}
    count = f"{pf.pci} {COUNT}"
    for one in pf.attributes:
        key = count if count in keys else f"{pf.pci} vf {one.vf} {VfSetting.VLAN.value}"
        if key in keys and one.vlan is not None and SERVICE_TAGGED in one.vlan:
            yield Problem(
                what=f"VF {one.vf} has the VLAN {one.vlan}, which nfvhost could not put back",
                where=f"{RESOURCE}: {key}",
                hint=f"take it away yourself: ip link set {pf.netdev} vf {one.vf} vlan 0",
            )


def _management(nic: NicPlan, host: Host, where: str) -> Iterator[Problem]:
    known = host.nic(nic.pci)
    if known is not None and known.management is not None:
        yield Problem(
            what=f"carries management ({known.management}); making VFs resets the port with some drivers, which would "
            "cut this host off",
            where=where,
            hint="choose another port, or move the address to another interface first",
        )


def _in_use(pf: Pf, host: Host, where: str) -> Iterator[Problem]:
    """Who has the VFs that are there: for any other number they all go."""
    through = f"a change of {pf.num_vfs} VFs goes through none at all"
    if users := named_users(pf.vfs):
        yield Problem(
            what=f"{through}, and they are in use: {users}",
            where=where,
            hint="end or migrate these guests first, or take the VFs from them",
        )
    by_name = {netdev.name: netdev for netdev in host.netdevs}
    for vf in pf.vfs:
        own = host.nic(vf.pci)
        for name in own.netdevs if own is not None else ():
            if (use := _use(by_name[name]) if name in by_name else None) is not None:
                yield Problem(what=f"{through}, and {use}", where=where, hint="take the VF out of use first")
    if pf.vdpa:
        yield Problem(
            what=f"{through}, and they have vDPA devices: {', '.join(pf.vdpa)}",
            where=where,
            hint="remove each first: vdpa dev del NAME",
        )


def _use(netdev: Netdev) -> str | None:
    """What the host itself does with an interface; a link-local address of its own making is no use."""
    if netdev.management is not None:
        return f"{netdev.name} carries management ({netdev.management})"
    address = next((one for one in netdev.addresses if not one.lower().startswith("fe80:")), None)
    return f"{netdev.name} has the address {address}" if address is not None else None
