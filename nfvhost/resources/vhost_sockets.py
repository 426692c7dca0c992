"""The folder in which QEMU makes the sockets of vhost-user ports, and from which Open vSwitch opens them."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.access.writing import FolderAccess
from nfvhost.errors import NfvhostError, Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.own_files import FileImage, Replacement, foreign_files, put_back, read_image, write_out
from nfvhost.resources.shell_assignments import Assignments

RESOURCE: Final = "vhost_sockets"
# tmpfiles.d(5): made at each boot before any service starts.
BOOT_FILE: Final = "/etc/tmpfiles.d/nfvhost.conf"
_HEAD: Final = "# Written by nfvhost, as a whole.\n"
_MODE: Final = 0o2770
_ROOT: Final = FolderAccess(uid=0, gid=0, mode=0o755)
# Whatever a plan says, no other folder is made or changed: where services have theirs, with a name that says what for.
_OWN: Final = re.compile(r"/(run|var/lib)/(.*/)?[^/]*(vhost|vhu)[^/]*", re.IGNORECASE)
_ELSEWHERE: Final = "nfvhost makes only folders below /run and /var/lib whose name says vhost"
_VOLATILE: Final = "/run/"  # hier(7): empty after each boot
# src/qemu/qemu.conf.in; the first pair that the machine has is its distribution's: Debian's, Fedora's.
_QEMU_CONF: Final = "/etc/libvirt/qemu.conf"
_QEMU_SETTING: Final = re.compile(r"""(?m)^\s*(user|group)\s*=\s*["']([^"'\n]+)["']""")
_QEMU_DEFAULTS: Final = (("libvirt-qemu", "kvm"), ("qemu", "qemu"))
# In the order that Fedora's unit of ovs-vswitchd reads them, then Debian's.
_SWITCH_FILES: Final = (
    "/etc/openvswitch/default.conf",
    "/etc/sysconfig/openvswitch",
    "/etc/default/openvswitch-switch",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user and a group, by name and number."""

    user: str
    group: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The folder, who works in it, and what a boot makes of it."""

    path: str | None  # None: the plan wants none
    access: FolderAccess | None  # None: it is not there
    absent_folders: tuple[str, ...]  # of its path, those that are not there, outermost first
    holds: str | None  # the first thing in it that is no socket
    blocked: str | None  # why there can be no folder
    qemu: Account | None  # whom libvirt starts QEMU as; None: libvirt is not here
    switch: Account | None  # whom ovs-vswitchd runs as; None: root
    closed: tuple[str, ...]  # folders above it that one of both may not pass
    boot_file: FileImage
    names: tuple[tuple[str, str], ...] = ()  # `u0` -> root, `g0` -> root: of the numbers that are told


@dataclass(frozen=True, slots=True, kw_only=True)
class VhostSockets:
    """The folder of vhost-user sockets.

    QEMU makes a socket there for each vhost-user port of a guest, and Open vSwitch connects to it. So the folder is
    QEMU's user's; its group is that of ovs-vswitchd, or QEMU's where ovs-vswitchd is root, and goes over to the sockets
    (2770), which libvirt lets QEMU make writable for their group.

    Configured: /etc/tmpfiles.d/nfvhost.conf, as a whole, for a folder below /run, which each boot empties.
    Active: owner, group and mode of the folder itself.
    Keys: the path of the folder, and of the file.
    Effect: now.
    Refuses: what is there and is no folder; folders above it that QEMU or ovs-vswitchd may not pass.
    Rollback: owner, group and mode as before; a folder that was made goes, unless a guest has a socket in it by now.
    Source: tmpfiles.d(5); /etc/libvirt/qemu.conf; OVS_USER_ID of Open vSwitch's packages; /etc/passwd and /etc/group.
    """

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        root = machine.root
        boot_file = read_image(root, BOOT_FILE)
        path = _folder(plan)
        if path is None:
            return State(
                path=None,
                access=None,
                absent_folders=(),
                holds=None,
                blocked=None,
                qemu=None,
                switch=None,
                closed=(),
                boot_file=boot_file,
            )
        users, groups = _accounts(root, "/etc/passwd"), _accounts(root, "/etc/group")
        qemu, switch = _qemu(root, users, groups), _switch(root, users, groups)
        access = root.folder_access(path)
        told = {f"u{access.uid}", f"g{access.gid}"} if access is not None else set()
        known = {f"u{number}": name for name, number in users.items()}
        known |= {f"g{number}": name for name, number in groups.items()}
        above = _above(path)
        return State(
            path=path,
            access=access,
            absent_folders=tuple(one for one in (*above, path) if not root.exists(one)),
            holds=_foreign_content(root, path) if access is not None else None,
            blocked=_blocked(root, path) if access is None else None,
            qemu=qemu,
            switch=switch,
            closed=tuple(one for one in above if not _passable(root, one, qemu, switch)),
            boot_file=boot_file,
            names=tuple(sorted((key, name) for key, name in known.items() if key in told)),
        )

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        del plan
        changes = []
        content = _boot_line(state)
        before = (state.boot_file.content or b"").decode(errors="replace").removeprefix(_HEAD).strip() or None
        if before != content:
            reason = "a boot empties /run" if content else "a boot keeps the folder, or the plan wants none"
            changes.append(Change.now(RESOURCE, BOOT_FILE, before, content, reason))
        wanted = _wanted(state)
        if state.path is not None and wanted is not None and state.access != wanted:
            changes.append(
                Change.now(RESOURCE, state.path, _told(state, state.access), _told(state, wanted), _reason(state))
            )
        return tuple(changes)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del plan, host
        if state.path is None:
            return ()
        where = f"{RESOURCE}: {state.path}"
        if state.blocked is not None:
            return (Problem(what=state.blocked, where=where, hint="name another folder: ovs.socketDir"),)
        if state.closed and _wanted(state) is not None:
            who = " and ".join(one.user for one in (state.qemu, state.switch) if one is not None)
            what = f"{who} may not pass {', '.join(state.closed)}: no vhost-user port would work"
            return (
                Problem(what=what, where=where, hint=f"chmod o+x {' '.join(state.closed)}, or name another folder"),
            )
        return ()

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del plan
        if state.path is None or state.blocked is not None:
            return ()
        where = f"{RESOURCE}: {state.path}"
        if state.qemu is None:
            what = "libvirt's user of QEMU is not here, so the folder is root's: no guest can make a socket in it"
            return (Problem(what=what, where=where, hint="install libvirt, and apply again"),)
        wanted = _access(state)
        if _wanted(state) is not None or state.access == wanted:
            return ()
        if state.access is None:
            what = f"is not there, and {_ELSEWHERE}"
        elif _reaches(state.access, state.qemu, write=True) and _reaches_sockets(state):
            return ()
        else:
            what = f"is {_told(state, state.access)} and stays so, since {_why_foreign(state)}: guests or Open vSwitch "
            what += "may not reach sockets in it"
        owner = f"-o {state.qemu.user} -g {_group(state)[0]} -m {_MODE:o}"
        return (Problem(what=what, where=where, hint=f"install -d {owner} {state.path}, or another ovs.socketDir"),)

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        write_out(machine.root, _replacements(state, changes))
        wanted = _wanted(state)
        if wanted is not None and state.path in {change.key for change in changes}:
            machine.root.make_folder(state.path, wanted)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        state = self.read(machine, plan) if seen is None else seen
        return tuple(Drift.of(change) for change in self.diff(state, plan))

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        del changes
        return state

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        found = foreign_files(machine.root, RESOURCE, _replacements(before, changes))
        path = _changed_folder(before, changes)
        # What is empty may go again, whoever changed it; what somebody put there keeps it.
        if path is None or before.access is None or machine.root.folder_access(path) in _on_the_way(before):
            return found
        what = "has another owner or mode since"
        return (*found, Problem(what=what, where=f"{RESOURCE}: {path}", hint="--force puts the former back"))

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        left: list[Problem] = []
        path = _changed_folder(before, changes)
        if path is not None:
            left += _put_folder_back(machine.root, path, before, force=force)
        return (*left, *put_back(machine.root, RESOURCE, _replacements(before, changes), force=force))


def _folder(plan: Plan) -> str | None:
    """Where the plan's sockets are to be; None where it has no vhost-user port, and none can come from Neutron."""
    if plan.ovs is None:
        return None
    ports = (port for bridge in plan.ovs.bridges for port in bridge.ports)
    if plan.neutron is None and not any(port.type == "dpdkvhostuserclient" for port in ports):
        return None
    # hier(7): /var/run is a link to /run.
    return re.sub(r"^/var/run/", "/run/", plan.ovs.socket_dir.rstrip("/"))


def _above(path: str) -> tuple[str, ...]:
    parts = path.split("/")[1:-1]
    return tuple("/" + "/".join(parts[: at + 1]) for at in range(len(parts)))


def _accounts(root: Root, path: str) -> dict[str, int]:
    """Names and numbers of passwd(5) or group(5), whose third field is the number in either."""
    lines = (line.split(":") for line in (root.read_text(path) or "").splitlines())
    return {fields[0]: int(fields[2]) for fields in lines if len(fields) > 3 and fields[2].isdecimal()}  # noqa: PLR2004 - the third field and one more


def _qemu(root: Root, users: dict[str, int], groups: dict[str, int]) -> Account | None:
    said = dict(_QEMU_SETTING.findall(root.read_text(_QEMU_CONF) or ""))
    for user, group in _QEMU_DEFAULTS:
        found = _account(said.get("user", user), said.get("group", group), users, groups)
        if found is not None:
            return found
    return None


def _switch(root: Root, users: dict[str, int], groups: dict[str, int]) -> Account | None:
    """Whom OVS_USER_ID names, as user:group; None for root and where it names nobody."""
    known = Assignments()
    for path in _SWITCH_FILES:
        known.source(path, root.read_text(path) or "")
    user, _, group = (known.text("OVS_USER_ID") or "").partition(":")
    return _account(user, group or user, users, groups) if user not in {"", "root"} else None


def _account(user: str, group: str, users: dict[str, int], groups: dict[str, int]) -> Account | None:
    """Both by number; `+107` is a number for libvirt as well (qemu.conf)."""
    uid, gid = (
        known.get(name, int(name.removeprefix("+")) if name.removeprefix("+").isdecimal() else None)
        for name, known in ((user, users), (group, groups))
    )
    return None if uid is None or gid is None else Account(user=user, group=group, uid=uid, gid=gid)


def _group(state: State) -> tuple[str, int]:
    """The group of the folder, and so of the sockets."""
    of = state.switch or state.qemu
    return ("root", 0) if of is None else (of.group, of.gid)


def _access(state: State) -> FolderAccess:
    """What the folder is to have."""
    if state.qemu is None:
        # Nobody is there yet who would make sockets.
        return state.access or _ROOT
    return FolderAccess(uid=state.qemu.uid, gid=_group(state)[1], mode=_MODE)


def _wanted(state: State) -> FolderAccess | None:
    """The same; None where the folder is not nfvhost's to make or change."""
    if state.path is None or state.blocked is not None or state.holds is not None or not _OWN.fullmatch(state.path):
        return None
    return _access(state)


def _why_foreign(state: State) -> str:
    if state.holds is not None:
        return f"it holds {state.holds}, which is no socket"
    return _ELSEWHERE


def _reason(state: State) -> str:
    if state.qemu is None:
        return "libvirt's user of QEMU is not here yet"
    other = f"{state.switch.user}, which ovs-vswitchd runs as," if state.switch is not None else "Open vSwitch"
    return f"{state.qemu.user} makes the sockets of guests there, and {other} opens them"


def _foreign_content(root: Root, path: str) -> str | None:
    return next((name for name in root.list_dir(path) if not root.is_socket(f"{path}/{name}")), None)


def _blocked(root: Root, path: str) -> str | None:
    for one in (*_above(path), path):
        if root.read_link(one) is not None:
            return f"{one} is a symbolic link, and nfvhost does not write through one"
        if root.exists(one) and root.folder_access(one) is None:
            return f"{one} is there and is no folder"
    return None


def _passable(root: Root, path: str, *who: Account | None) -> bool:
    access = root.folder_access(path)
    return access is None or all(_reaches(access, one) for one in who if one is not None)


def _reaches(access: FolderAccess, who: Account, *, write: bool = False) -> bool:
    """Whether the user may search the folder, and write into it; of their groups the first alone is looked at."""
    bits = stat.S_IXOTH | (stat.S_IWOTH if write else 0)
    if who.uid == 0:
        return True
    if who.uid == access.uid:
        return access.mode >> 6 & bits == bits
    return access.mode >> (3 if who.gid == access.gid else 0) & bits == bits


def _reaches_sockets(state: State) -> bool:
    return state.switch is None or (state.access is not None and _reaches(state.access, state.switch))


def _boot_line(state: State) -> str | None:
    """The line of tmpfiles.d(5); None where a boot does not empty the folder's place, or it is not nfvhost's."""
    wanted = _wanted(state)
    if state.path is None or wanted is None or not state.path.startswith(_VOLATILE):
        return None
    owner, group = (state.qemu.user, _group(state)[0]) if state.qemu is not None else ("root", "root")
    return f"d {state.path} {wanted.mode:04o} {owner.removeprefix('+')} {group.removeprefix('+')} -"


def _told(state: State, access: FolderAccess | None) -> str | None:
    if access is None:
        return None
    names = {"u0": "root", "g0": "root", **dict(state.names)}
    if state.qemu is not None:
        group, gid = _group(state)
        names |= {f"u{state.qemu.uid}": state.qemu.user, f"g{gid}": group}
    owner, group = (names.get(key, key[1:]) for key in (f"u{access.uid}", f"g{access.gid}"))
    return f"{owner}:{group} {access.mode:04o}"


def _changed_folder(state: State, changes: tuple[Change, ...]) -> str | None:
    return state.path if state.path in {change.key for change in changes} else None


def _replacements(state: State, changes: tuple[Change, ...]) -> tuple[Replacement, ...]:
    for change in changes:
        if change.key == BOOT_FILE:
            content = None if change.after is None else f"{_HEAD}{change.after}\n".encode()
            return (Replacement(before=state.boot_file, content=content, keys=(BOOT_FILE,)),)
    return ()


def _on_the_way(before: State) -> frozenset[FolderAccess | None]:
    """What the folder is before, between and after the steps of Root.make_folder."""
    ends = {one for one in (before.access, _wanted(before)) if one is not None}
    return frozenset({None, *ends, *(replace(one, mode=0o700) for one in ends)})


def _put_folder_back(root: Root, path: str, before: State, *, force: bool) -> list[Problem]:
    where = f"{RESOURCE}: {path}"
    now = root.folder_access(path)
    if now == before.access and not any(root.exists(one) for one in before.absent_folders):
        return []
    if before.access is not None and now not in _on_the_way(before) and not force:
        what = "has another owner or mode since and stays so"
        return [Problem(what=what, where=where, hint="--force puts the former back")]
    try:
        if before.access is None:
            root.remove_folder(path, folders=before.absent_folders)
        else:
            root.make_folder(path, before.access)
    except NfvhostError as error:
        return [Problem(what=f"could not be put back: {error.problems[0].what}", where=where)]
    if root.folder_access(path) == before.access:
        return []
    held = ", ".join(root.list_dir(path)[:3])
    return [Problem(what=f"stays: {held} is in it", where=where, hint="end the guest, and remove the folder")]


__all__ = ["VhostSockets"]
