"""What a boot forgets comes back: two units of systemd, and the plan that they read."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.command import CommandError
from nfvhost.access.machine import Machine
from nfvhost.errors import ExitCode, Problem
from nfvhost.model.change import Activation, Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.planfile.output import to_line
from nfvhost.planfile.v1 import short_plan_document
from nfvhost.resources.own_files import FileImage, Replacement, foreign_files, put_back, read_image, write_out

RESOURCE: Final = "boot_unit"
PLAN_FILE: Final = "/etc/nfvhost/plan.json"
DEVICES_UNIT: Final = "nfvhost-devices.service"
SERVICES_UNIT: Final = "nfvhost.service"
WATCH_UNIT: Final = "nfvhost-watch.service"
# systemd.unit(5): the administrator's units, which nothing but /etc and /run of other names wins over.
_UNIT_FOLDER: Final = "/etc/systemd/system"
# The devargs of a memif port may hold a secret (DPDK doc/guides/nics/memif.rst).
_PLAN_MODE: Final = 0o600
# What waits for one more reboot has not failed.
_WAITS: Final = int(ExitCode.REBOOT_PENDING)
_TARGET: Final = "multi-user.target"
_TIMEOUT_S: Final = 60.0
_SHOWN_DIGITS: Final = 12
_NOT_RUN: Final = "clear"
# systemctl(1), show; org.freedesktop.systemd1(5).
_TOLD: Final = (
    *("Id", "ActiveState", "Result", "ExecMainStatus"),
    *("ConditionResult", "ConditionTimestampMonotonic", "NeedDaemonReload"),
)
_VERBS: Final = {"enabled": "enable", "failure": "reset-failed"}
# Names of Debian and Ubuntu, of RDO, and of upstream.
_AGENTS: Final = (
    "nova-compute.service openstack-nova-compute.service neutron-openvswitch-agent.service"
    " neutron-sriov-agent.service neutron-sriov-nic-agent.service"
)
_LIBVIRT: Final = "libvirtd.service virtqemud.service"
_OPEN_VSWITCH: Final = "ovsdb-server.service ovs-vswitchd.service openvswitch-switch.service openvswitch.service"
# A way out for who stands before a machine that does not come up: `nfvhost=off` at the boot loader's prompt.
_HEAD: Final = f"""# Written by nfvhost, as a whole.
[Unit]
Description={{description}}
ConditionPathExists={PLAN_FILE}
ConditionKernelCommandLine=!nfvhost=off
"""
# None of these gives the process mounts of its own: a mount that it makes (hugetlbfs) must be everybody's. A filter of
# system calls would be inherited by what it runs: modprobe, update-grub.
_SERVICE: Final = """
[Service]
Type=oneshot
RemainAfterExit=yes
{settle}ExecStart={command}
TimeoutStartSec={timeout_s}
SuccessExitStatus={waits}
SyslogIdentifier=nfvhost
LockPersonality=yes
RestrictRealtime=yes

[Install]
WantedBy={wanted_by}
"""
# Without default dependencies: those would put it behind sysinit.target, and cloud-init puts itself, with
# networking.service before it, before that one: a circle. Before network-pre.target, since NetworkManager and networkd
# would give a port that is still on its kernel driver an address. systemd.special(7): who comes before it, wants it.
_DEVICES_ORDER: Final = f"""DefaultDependencies=no
Conflicts=shutdown.target
Wants=network-pre.target
After=local-fs.target systemd-modules-load.service systemd-sysctl.service systemd-udev-trigger.service dpdk.service
Before=network-pre.target shutdown.target
Before={_OPEN_VSWITCH}
Before={_LIBVIRT}
Before={_AGENTS}
"""
# Bridges are interfaces of ovs-vswitchd: once it is started anew, they have no addresses any more.
_SERVICES_ORDER: Final = f"""PartOf=ovs-vswitchd.service
After={DEVICES_UNIT}
After={_OPEN_VSWITCH}
Before={_LIBVIRT} libvirt-guests.service
Before={_AGENTS}
"""
# Where tunnels have several segments, or flows (docs/decisions/0011-srv6-segments.md, 0012-steering-flows.md).
_WATCH: Final = f"""{_HEAD.format(description="NFV host: segments and flows of SRv6 tunnels stay")}\
PartOf=ovs-vswitchd.service
After={SERVICES_UNIT}
After={_OPEN_VSWITCH}

[Service]
ExecStart={{command}}
Restart=always
RestartSec=1
SyslogIdentifier=nfvhost-watch
LockPersonality=yes
RestrictRealtime=yes

[Install]
WantedBy={_TARGET} ovs-vswitchd.service
"""
# Names of interfaces and their drivers come from udev. Where it takes longer than this, the resources wait themselves.
_SETTLE: Final = "ExecStartPre=-udevadm settle --timeout=30\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFile:
    """One file that a boot needs."""

    path: str
    content: bytes
    mode: int  # permission bits


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """One unit, as systemd sees it."""

    name: str
    enabled: bool  # a link in /etc/systemd/system/multi-user.target.wants
    masked: bool  # its file is a link
    failure: str | None = None  # how its last run failed, in systemd's words; None where it did not, or runs now
    skipped: bool = False  # its conditions were not met at this boot
    outdated: bool = False  # systemd has read an older file of it


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The files, the units, and what the plan wants in them."""

    systemd: bool  # systemd runs this system, and it is no container
    container: str | None  # the container that this is, as systemd calls it
    files: tuple[FileImage, ...]  # the plan and the units as they are
    wanted: tuple[OwnFile, ...]  # the same as they are to be
    units: tuple[UnitState, ...]

    def unit(self, name: str) -> UnitState:
        """That unit."""
        return next(unit for unit in self.units if unit.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootUnit:
    """Two units of systemd that make at each boot what a boot forgets, and the plan that they read.

    Each plan gets them: besides VFs, bindings, vDPA devices and pages they look after what a boot may have undone
    (kernel arguments that an upgrade of the kernel lost), and finish what waited for the reboot.
    `nfvhost-devices.service` comes before the network, Open vSwitch, libvirt and the agents of OpenStack,
    `nfvhost.service` after Open vSwitch, each time that it starts, and before the others. Where SRv6 tunnels have
    several segments, or flows of nfvhost's, `nfvhost-watch.service` runs `nfvhost watch` as long as Open vSwitch does.
    A failure stops neither the boot nor the network: `verify` tells it, and the journal of systemd says why. The kernel
    argument `nfvhost=off` skips both for one boot.

    Configured: /etc/systemd/system/nfvhost-devices.service, /etc/systemd/system/nfvhost.service,
        /etc/systemd/system/nfvhost-watch.service and /etc/nfvhost/plan.json, each as a whole; the units enabled.
    Active: the last result of the units, as `systemctl show` tells it.
    Keys: the path of a file; `<unit> enabled`; `<unit> read`, where systemd knows an older file;
        `<unit> failure`, which an apply clears.
    Effect: at the next boot; nothing is disturbed.
    Refuses: units that somebody masked.
    Rollback: disables the units that this apply enabled, and puts the files back as they were.
    Source: systemd.unit(5), systemd.service(5), systemd.special(7).
    """

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        root = machine.root
        container = root.read_line("/run/systemd/container")
        # sd_booted(3)
        booted = root.exists("/run/systemd/system") and machine.find("systemctl") is not None
        systemd = booted and container is None
        wanted = _wanted(plan)
        return State(
            systemd=systemd,
            container=container,
            files=tuple(read_image(root, one.path) for one in wanted),
            wanted=wanted,
            units=_units(machine, _names(wanted), ask=systemd),
        )

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        del plan
        if not state.systemd:
            return ()
        changes = [
            Change.now(RESOURCE, one.path, _shown(there.content), _shown(one.content), _why(one.path))
            for there, one in zip(state.files, state.wanted, strict=True)
            if there.content != one.content
        ]
        written = {change.key for change in changes}
        changes += [
            Change.now(
                RESOURCE,
                f"{unit.name} read",
                "an older file",
                "this file",
                "systemd has not read it since it was written",
            )
            for unit in state.units
            if unit.outdated and _path(unit.name) not in written
        ]
        changes += [
            Change.now(RESOURCE, f"{unit.name} enabled", None, _TARGET, "systemd starts it at each boot")
            for unit in state.units
            if not unit.enabled
        ]
        changes += [
            Change.now(
                RESOURCE,
                f"{unit.name} failure",
                unit.failure,
                _NOT_RUN,
                "what failed at the boot is made by this apply",
            )
            for unit in state.units
            if unit.failure is not None
        ]
        return tuple(changes)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del plan, host
        if not state.systemd:
            return ()
        return tuple(
            Problem(
                what=f"{_path(unit.name)} is a link: somebody has masked the unit",
                where=f"{RESOURCE}: {_path(unit.name)}",
                hint=f"systemctl unmask {unit.name}; --skip {RESOURCE} leaves the boot without it",
            )
            for unit in state.units
            if unit.masked
        )

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del plan
        if state.systemd:
            return ()
        if state.container is not None:
            return (
                Problem(
                    what=f"this is a {state.container} container, and the machine around it boots without it",
                    where=RESOURCE,
                    hint="apply the plan on that machine, which has the kernel and its devices",
                ),
            )
        return (
            Problem(
                what="without systemd nothing makes again what a boot forgets: VFs, bindings, vDPA devices, pages",
                where=RESOURCE,
                hint="apply the plan again at each boot, before Open vSwitch, libvirt and nova-compute start",
            ),
        )

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        files = _replacements(state, changes)
        write_out(machine.root, files)
        of_units = _of_units(changes)
        if any(one.path != PLAN_FILE for one in files) or any(what == "read" for _, what in of_units):
            machine.check(("systemctl", "daemon-reload"), timeout_s=_TIMEOUT_S)
        for unit, what in of_units:
            # One at a time: of several, none is enabled where one is not there.
            if what in _VERBS:
                machine.check(("systemctl", _VERBS[what], *_now(unit, what), unit), timeout_s=_TIMEOUT_S)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        state = self.read(machine, plan) if seen is None else seen
        drifts = [
            Drift(
                resource=RESOURCE,
                key=change.key,
                planned=change.after if change.after != _NOT_RUN else None,
                actual=change.before,
                hint=_journal(change.key.partition(" ")[0]) if change.after == _NOT_RUN else None,
            )
            for change in self.diff(state, plan)
        ]
        drifts += [
            Drift(
                resource=RESOURCE,
                key=f"{unit.name} skipped",
                planned=None,
                actual="skipped at this boot",
                hint=f"the kernel argument nfvhost=off, or no {PLAN_FILE} then; systemctl start {unit.name}",
                pending=Activation.REBOOT,
            )
            for unit in state.units
            if unit.skipped
        ]
        return tuple(drifts)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        keys = {change.key for change in changes}
        kept = [(there, one) for there, one in zip(state.files, state.wanted, strict=True) if one.path in keys]
        return replace(state, files=tuple(there for there, _ in kept), wanted=tuple(one for _, one in kept))

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        return foreign_files(machine.root, RESOURCE, _replacements(before, changes))

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        left: list[Problem] = []
        # While the file is there: systemctl disables nothing that has none.
        for unit, what in reversed(_of_units(changes)):
            if what == "enabled" and _enabled(machine, unit):
                left += _run(machine, ("systemctl", "disable", *_now(unit, what), unit), key=f"{unit} enabled")
        files = _replacements(before, changes)
        left += put_back(machine.root, RESOURCE, files, force=force)
        units = [one.path for one in files if one.path != PLAN_FILE]
        if units and machine.root.exists("/run/systemd/system"):
            left += _run(machine, ("systemctl", "daemon-reload"), key=units[0])
        return tuple(left)


def _wanted(plan: Plan) -> tuple[OwnFile, ...]:
    document = to_line(short_plan_document(plan))
    return (
        OwnFile(path=PLAN_FILE, content=document.encode(), mode=_PLAN_MODE),
        _unit_file(
            DEVICES_UNIT,
            _DEVICES_ORDER,
            settle=_SETTLE,
            description="NFV host: devices before the network and Open vSwitch",
            stage="devices",
            timeout_s=180,
            wanted_by=_TARGET,
        ),
        _unit_file(
            SERVICES_UNIT,
            _SERVICES_ORDER,
            settle="",
            description="NFV host: the rest of the plan, before the agents of OpenStack",
            stage="services",
            timeout_s=600,
            wanted_by=f"{_TARGET} ovs-vswitchd.service",
        ),
        *((_watch_file(),) if any(len(one.segments) > 1 or one.guest_port for one in plan.tunnels) else ()),
    )


def _watch_file() -> OwnFile:
    text = _WATCH.format(command=_command("watch", PLAN_FILE))
    return OwnFile(path=_path(WATCH_UNIT), content=text.encode(), mode=0o644)


def _names(wanted: tuple[OwnFile, ...]) -> tuple[str, ...]:
    """The units among the files."""
    return tuple(one.path.rpartition("/")[2] for one in wanted if one.path != PLAN_FILE)


def _now(unit: str, what: str) -> tuple[str, ...]:
    """The others are for a boot; this one is wanted at once."""
    return ("--now",) if unit == WATCH_UNIT and what == "enabled" else ()


def _unit_file(
    name: str, order: str, *, settle: str, description: str, stage: str, timeout_s: int, wanted_by: str
) -> OwnFile:
    text = _HEAD.format(description=description) + order
    command = _command("boot", "--stage", stage, PLAN_FILE)
    text += _SERVICE.format(settle=settle, command=command, timeout_s=timeout_s, wanted_by=wanted_by, waits=_WAITS)
    return OwnFile(path=_path(name), content=text.encode(), mode=0o644)


def _command(*words: str) -> str:
    # -P: what lies in the folder of the shell must not be loaded in place of nfvhost.
    return " ".join(map(_quoted, (sys.executable, "-P", "-m", "nfvhost.cli", *words)))


def _quoted(word: str) -> str:
    """A word of ExecStart; systemd.service(5), Command lines: `%` and `$` are read even in quotes."""
    text = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[\w/.+:@%$=-]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _units(machine: Machine, names: tuple[str, ...], *, ask: bool) -> tuple[UnitState, ...]:
    told = _told(machine, names) if ask and any(machine.root.exists(_path(name)) for name in names) else {}
    states = []
    for name in names:
        facts = told.get(name, {})
        failed = facts.get("ActiveState") == "failed"
        states.append(
            UnitState(
                name=name,
                enabled=_enabled(machine, name),
                masked=machine.root.read_link(_path(name)) is not None,
                failure=_failure(facts) if failed and not _booting(told) else None,
                outdated=facts.get("NeedDaemonReload") == "yes",
                skipped=facts.get("ConditionResult") == "no" and facts.get("ConditionTimestampMonotonic", "0") != "0",
            )
        )
    return tuple(states)


def _told(machine: Machine, names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """What systemd says of the units: name -> property -> value.

    Source: systemctl(1), show: a block for each unit, an empty line between two.
    """
    argv = ("systemctl", "show", f"--property={','.join(_TOLD)}", *names)
    blocks = machine.check(argv, timeout_s=_TIMEOUT_S).stdout.split("\n\n")
    told = (dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks)
    return {facts["Id"]: facts for facts in told if "Id" in facts}


def _booting(told: dict[str, dict[str, str]]) -> bool:
    """Whether one of them runs now: what the other one met must still be told afterwards."""
    return any(facts.get("ActiveState") == "activating" for facts in told.values())


def _failure(facts: dict[str, str]) -> str:
    result = facts.get("Result", "failed")
    status = facts.get("ExecMainStatus", "0")
    return f"{result} {status}" if status != "0" else result


def _enabled(machine: Machine, unit: str) -> bool:
    return machine.root.read_link(f"{_UNIT_FOLDER}/{_TARGET}.wants/{unit}") is not None


def _run(machine: Machine, argv: tuple[str, ...], *, key: str) -> tuple[Problem, ...]:
    try:
        machine.check(argv, timeout_s=_TIMEOUT_S)
    except CommandError as error:
        return tuple(
            Problem(what=f"{' '.join(argv)}: {one.what}", where=f"{RESOURCE}: {key}", hint=one.hint)
            for one in error.problems
        )
    return ()


def _of_units(changes: tuple[Change, ...]) -> tuple[tuple[str, str], ...]:
    """The unit and what is changed of it, of those changes that are of no file."""
    pairs = (change.key.partition(" ") for change in changes if not change.key.startswith("/"))
    return tuple((unit, what) for unit, _, what in pairs)


def _replacements(state: State, changes: tuple[Change, ...]) -> tuple[Replacement, ...]:
    keys = {change.key for change in changes}
    return tuple(
        Replacement(before=there, content=one.content, keys=(one.path,), mode=one.mode)
        for there, one in zip(state.files, state.wanted, strict=True)
        if one.path in keys
    )


def _path(unit: str) -> str:
    return f"{_UNIT_FOLDER}/{unit}"


def _shown(content: bytes | None) -> str | None:
    """What stands for the content of a file in a line of a diff."""
    return None if content is None else f"sha256 {hashlib.sha256(content).hexdigest()[:_SHOWN_DIGITS]}"


def _why(path: str) -> str:
    return "the plan that the boot makes again" if path == PLAN_FILE else "makes again what a boot forgets"


def _journal(unit: str) -> str:
    return f"journalctl -b -u {unit} says why; nfvhost apply makes what is missing"


__all__ = ["BootUnit"]
