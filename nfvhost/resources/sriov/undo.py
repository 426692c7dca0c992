"""The way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.access.vf_settings import VfSetting
from nfvhost.access.vf_users import PCI, vf_users
from nfvhost.errors import NfvhostError, Problem
from nfvhost.model.change import Change
from nfvhost.resources.driver_binding.binding import put_driver_back
from nfvhost.resources.own_files import foreign_files, put_back
from nfvhost.resources.sriov.difference import AUTOPROBE, COUNT, LINK, RESOURCE, Place, place
from nfvhost.resources.sriov.managers import reload
from nfvhost.resources.sriov.operation import make_vfs, replacements, set_link, set_vf
from nfvhost.resources.sriov.state import Pf, State, read_pf, read_vfs


def foreign(machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
    """Places that are neither as before nor as their change wanted them."""
    files = foreign_files(machine.root, RESOURCE, replacements(before, changes))
    return (*files, *_foreign_places(machine, changes))


def put_all_back(
    machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool, settle_s: float
) -> tuple[Problem, ...]:
    """What could not be put back; the files and what new VFs go by come first, then what is set at VFs that stay."""
    left = [] if force else list(_foreign_places(machine, changes))
    theirs = {problem.where for problem in left}
    files = replacements(before, changes)
    if files:
        left += put_back(machine.root, RESOURCE, files, force=force)
        # Whether or not they were as before: a killed rollback may have got no further.
        left += _tried(lambda: reload(machine), files[0].path)
    order = (AUTOPROBE, None, COUNT, LINK)
    for change in sorted(changes, key=lambda one: order.index(_kind(one))):
        if change.where not in theirs:
            left += _put_back(machine, before, change, changes, settle_s=settle_s)
    return tuple(left)


def _foreign_places(machine: Machine, changes: tuple[Change, ...]) -> Iterator[Problem]:
    for change in changes:
        at = place(change)
        if at is None or _explained(change, now := _now(machine, at, changes)):
            continue
        yield Problem(
            what=f"is {now or 'not set'} by now, asked for was {change.after}",
            where=change.where,
            hint="someone else changed it since; --force overwrites it",
        )


def _put_back(
    machine: Machine, before: State, change: Change, changes: tuple[Change, ...], *, settle_s: float
) -> list[Problem]:
    at = place(change)
    if at is None:
        return []
    left: list[Problem] = []
    if change.before is not None and _now(machine, at, changes) not in {change.before, None}:
        left += _tried(lambda: _write(machine, at, change.before or "", settle_s=settle_s), change.key)
        now = _now(machine, at, changes)
        if not left and now != change.before:
            left.append(_problem(change.key, f"reads {now} instead of {change.before}"))
    pf = before.pf(at.pci)
    if at.what == COUNT and pf is not None and not left:
        left += _restore_vfs(machine, pf, change.key, settle_s=settle_s)
    return left


def _restore_vfs(machine: Machine, pf: Pf, key: str, *, settle_s: float) -> list[Problem]:
    """Drivers and settings of VFs that went and were made anew; those that somebody has by now are left alone."""
    root = machine.root
    now = {vf.index: vf for vf in read_vfs(root, pf.pci)}
    users = vf_users(root, (vf.pci for vf in now.values())) if pf.vfs else {}
    left: list[Problem] = []
    for vf in pf.vfs:
        there = now.get(vf.index)
        if there is None or there.pci in users:
            continue
        if (there.driver, there.driver_override) != (vf.driver, vf.driver_override):
            problems = put_driver_back(
                root, there.pci, driver=vf.driver, override=vf.driver_override, settle_s=settle_s
            )
            left += [_problem(key, f"{there.pci}: {one.what}", hint=one.hint) for one in problems]
    attributes = _attributes(machine, root, pf)
    for image in pf.attributes:
        there = now.get(image.vf)
        if there is None or there.pci in users:
            continue
        for setting in VfSetting:
            text = image.text(setting)
            if text is not None and attributes.get((image.vf, setting)) not in {text, None}:
                left += _tried(lambda: set_vf(machine, pf.pci, image.vf, setting, text), key)  # noqa: B023 - runs at once
    return left


def _attributes(machine: Machine, root: Root, pf: Pf) -> dict[tuple[int, VfSetting], str | None]:
    netdev = read_pf(root, pf.pci).netdev
    if netdev is None or not pf.attributes:
        return {}
    vfs = machine.links.read_vfs((netdev,)).get(netdev, ())
    return {(one.vf, setting): one.text(setting) for one in vfs for setting in VfSetting}


def _write(machine: Machine, at: Place, text: str, *, settle_s: float) -> None:
    if at.what == COUNT:
        make_vfs(machine.root, at.pci, int(text), settle_s=settle_s)
    elif at.what == AUTOPROBE:
        machine.root.write_attribute(f"{PCI}/{at.pci}/sriov_drivers_autoprobe", text)
    elif at.what == LINK:
        set_link(machine, at.pci, text)
    elif at.vf is not None:
        set_vf(machine, at.pci, at.vf, VfSetting(at.what), text)


def _now(machine: Machine, at: Place, changes: tuple[Change, ...]) -> str | None:
    """How the place reads; None where it is not there, or went with the VFs that these changes made."""
    pf = read_pf(machine.root, at.pci)
    if at.what == AUTOPROBE:
        return pf.autoprobe
    if at.what == LINK:
        return None if pf.up is None else ("down", "up")[pf.up]
    if at.what == COUNT:
        return None if pf.num_vfs is None else str(pf.num_vfs)
    made_anew = any(change.key == f"{at.pci} {COUNT}" for change in changes)
    if made_anew or pf.netdev is None or at.vf is None or at.vf >= (pf.num_vfs or 0):
        return None
    vfs = machine.links.read_vfs((pf.netdev,)).get(pf.netdev, ())
    return next((one.text(VfSetting(at.what)) for one in vfs if one.vf == at.vf), None)


def _explained(change: Change, now: str | None) -> bool:
    """Whether nobody but this change can have made it so: a port may have come short, or stands at none halfway."""
    if now in {change.before, change.after, None}:
        return True
    return change.key.endswith(f" {COUNT}") and int(now or 0) <= int(change.after or 0)


def _kind(change: Change) -> str | None:
    at = place(change)
    return None if at is None or at.vf is not None else str(at.what)


def _tried(work: Callable[[], None], key: str) -> list[Problem]:
    try:
        work()
    except NfvhostError as error:
        return [_problem(key, f"could not be put back: {one.what}", hint=one.hint) for one in error.problems]
    return []


def _problem(key: str, what: str, *, hint: str | None = None) -> Problem:
    return Problem(what=what, where=f"{RESOURCE}: {key}", hint=hint)
