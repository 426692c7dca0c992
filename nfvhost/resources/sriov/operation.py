"""Changes carried out."""

from __future__ import annotations

import errno
from typing import Final

from nfvhost.access.clock import wait_for
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.access.vf_settings import VfSetting
from nfvhost.access.vf_users import PCI, vf_users
from nfvhost.errors import ApplyError, NfvhostError, PreconditionError
from nfvhost.model.change import Change
from nfvhost.model.pci import PciAddress
from nfvhost.resources.own_files import Replacement, write_out
from nfvhost.resources.sriov.difference import AUTOPROBE, COUNT, LINK, RESOURCE, place, row
from nfvhost.resources.sriov.managers import content_of, reload
from nfvhost.resources.sriov.state import State, port_netdev, read_pf, read_vfs

_ROOM: Final = (
    "the firmware left too little address space or bus numbers: boot with pci=realloc (and pci=assign-busses), or turn "
    "on SR-IOV, ARI and decoding above 4 GiB in the BIOS; dmesg names which"
)
_HINTS: Final = {
    # drivers/pci/iov.c, sriov_enable: "not enough MMIO resources for SR-IOV", "bus out of range"
    errno.ENOMEM: _ROOM,
    errno.ENOSPC: _ROOM,
    # drivers/pci/iov.c, sriov_numvfs_store: more VFs than sriov_totalvfs as the driver limits it
    errno.ERANGE: "the driver allows fewer: see sriov_totalvfs",
    # the same: no driver, or one without sriov_configure
    errno.ENOENT: "the driver that is bound makes no VFs",
    errno.EBUSY: "somebody made VFs meanwhile: try again",
    errno.ENETDOWN: "its interface is down: ip link set it up",
}


def carry_out(machine: Machine, state: State, changes: tuple[Change, ...], *, settle_s: float) -> None:
    """Nothing, once all is written and the VFs are there."""
    files = replacements(state, changes)
    # Who is to leave the VFs alone must know before they are there, also where a killed apply wrote the files.
    if files or any(change.key.endswith(f" {COUNT}") for change in changes):
        write_out(machine.root, files)
        reload(machine, interfaces=_vf_interfaces(machine.root, state) if files else ())
    for change in changes:
        if place(change) is not None:
            _carry_out(machine, change, settle_s=settle_s)


def replacements(state: State, changes: tuple[Change, ...]) -> tuple[Replacement, ...]:
    """What is to become of the files that the changes name."""
    texts = {change.key: change.after for change in changes}
    return tuple(
        Replacement(before=image, content=content_of(image.path, texts[image.path]), keys=(image.path,))
        for image in state.files
        if image.path in texts
    )


def make_vfs(root: Root, pci: PciAddress, count: int, *, settle_s: float) -> None:
    """Nothing, once the port has exactly so many VFs and each is on the bus.

    ApplyError where its driver makes fewer or refuses, PreconditionError where somebody has one of those that would go.
    """
    where = f"{RESOURCE}: {pci} {COUNT}"
    pf = read_pf(root, pci)
    if pf.num_vfs == count:
        return
    if pf.num_vfs:
        # A driver that was bound a moment ago may not have made its interface yet (iavf does so from a work item),
        # which looks as if another namespace had it.
        vfs = tuple(vf.pci for vf in pf.vfs)
        wait_for(lambda: not vf_users(root, vfs), timeout_s=settle_s)
        if users := vf_users(root, vfs):
            named = "; ".join(f"{vf}: {', '.join(who)}" for vf, who in sorted(users.items()))
            raise PreconditionError(f"its VFs are in use: {named}", where=where, hint="end these guests first")
        # The kernel answers EBUSY to 4 -> 8: go through 0 (drivers/pci/iov.c, sriov_numvfs_store).
        _write_count(root, pci, 0)
        if not wait_for(lambda: not read_vfs(root, pci), timeout_s=settle_s):
            raise ApplyError(f"{len(read_vfs(root, pci))} VFs stay although none were asked for", where=where)
    if count:
        _write_count(root, pci, count)
    wait_for(lambda: _on_the_bus(root, pci) == count, timeout_s=settle_s)
    made, there = root.read_count(f"{PCI}/{pci}/sriov_numvfs"), _on_the_bus(root, pci)
    if (made, there) != (count, count):
        known = row(pf)
        raise ApplyError(
            f"asked for {count} VFs, the driver made {made}, and {there} are on the bus",
            where=where,
            hint=(known.vf_hint if known is not None else None) or "dmesg may say more",
        )


def _carry_out(machine: Machine, change: Change, *, settle_s: float) -> None:
    at = place(change)
    if at is None or change.after is None:
        return
    try:
        if at.what == COUNT:
            make_vfs(machine.root, at.pci, int(change.after), settle_s=settle_s)
        elif at.what == AUTOPROBE:
            machine.root.write_attribute(f"{PCI}/{at.pci}/sriov_drivers_autoprobe", change.after)
        elif at.what == LINK:
            set_link(machine, at.pci, change.after)
        elif at.vf is not None:
            set_vf(machine, at.pci, at.vf, VfSetting(at.what), change.after)
    except NfvhostError as error:
        raise _placed(error, change.key) from error


def set_link(machine: Machine, pci: PciAddress, text: str) -> None:
    """Nothing, once the interface of the port is `up` or `down`."""
    machine.links.set_up(_netdev(machine.root, pci), up=text == "up")


def set_vf(machine: Machine, pci: PciAddress, vf: int, setting: VfSetting, text: str) -> None:
    """Nothing, once the driver of the port has taken it."""
    machine.links.write_vf(_netdev(machine.root, pci), vf=vf, setting=setting, text=text)


def _netdev(root: Root, pci: PciAddress) -> str:
    netdev = port_netdev(root, pci)
    if netdev is None:
        raise ApplyError(
            "the port has no interface here", hint="another network namespace may have it, or its driver went"
        )
    return netdev


def _write_count(root: Root, pci: PciAddress, count: int) -> None:
    path = f"{PCI}/{pci}/sriov_numvfs"
    try:
        root.write_attribute(path, str(count))
    except NfvhostError as error:
        number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
        if number not in _HINTS:
            raise
        raise type(error)(error.problems[0].what, where=path, hint=_HINTS[number]) from error


def _on_the_bus(root: Root, pci: PciAddress) -> int:
    return sum(root.exists(f"{PCI}/{vf.pci}") for vf in read_vfs(root, pci))


def _vf_interfaces(root: Root, state: State) -> tuple[str, ...]:
    return tuple(name for pf in state.pfs for vf in pf.vfs for name in root.list_dir(f"{PCI}/{vf.pci}/net"))


def _placed(error: NfvhostError, key: str) -> NfvhostError:
    """The error with the key of its change as the place."""
    first, *rest = error.problems
    where = f"{RESOURCE}: {key}"
    what = first.what if first.where in {None, where} else f"{first.where}: {first.what}"
    return type(error)(what, where=where, hint=first.hint, also=tuple(rest))
