"""The daemon that spreads interrupts, and the CPUs that it is told to spare.

Once it is told any, it no longer looks for isolated and nohz_full CPUs itself (cputree.c, setup_banned_cpus): so it is
told all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nfvhost.access.cpulist import cpu_list, grouped_mask, parse_cpu_list, parse_cpu_mask
from nfvhost.access.machine import Machine
from nfvhost.access.process import pids_by_name
from nfvhost.access.root import Root
from nfvhost.errors import PreconditionError
from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.resources.own_files import FileImage, Replacement, read_image
from nfvhost.resources.shell_assignments import Assignments

# Of several EnvironmentFile= the last one read wins, and any of them over Environment= (systemd.exec(5)); a drop-in is
# read after the unit, and drop-ins in order of name (systemd.unit(5)).
DROP_IN: Final = "/etc/systemd/system/irqbalance.service.d/zz-nfvhost.conf"
SETTINGS: Final = "/etc/nfvhost/irqbalance.env"
_UNIT: Final = "irqbalance.service"
# In the order that its unit names them: upstream's, Debian's, Fedora's.
_FOREIGN: Final = ("/usr/lib/irqbalance/defaults.env", "/etc/default/irqbalance", "/etc/sysconfig/irqbalance")
_PROGRAMS: Final = ("/usr/sbin/irqbalance", "/usr/bin/irqbalance")
# A list since irqbalance 1.8.0; a mask before, and for ever in what it reads first where it is not empty.
_LIST: Final = "IRQBALANCE_BANNED_CPULIST"
_MASK: Final = "IRQBALANCE_BANNED_CPUS"
_DROP_INS: Final = tuple(f"{top}/systemd/system/irqbalance.service.d" for top in ("/etc", "/run", "/usr/lib", "/lib"))
_SETS: Final = re.compile(r"(?m)^\s*(?:EnvironmentFile\s*=|UnsetEnvironment\s*=.*IRQBALANCE_BANNED)")
_TIMEOUT_S: Final = 60.0
_HEAD: Final = "# Written by nfvhost, as a whole.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """CPUs that a file tells irqbalance to spare."""

    path: str
    cpus: CpuSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """The installed irqbalance, and what it is told."""

    drop_in: FileImage
    settings: FileImage
    by_list: bool  # it knows IRQBALANCE_BANNED_CPULIST
    foreign: Ban | None  # what others' files say; None where they say nothing
    kernel: CpuSet  # /sys/devices/system/cpu/isolated and nohz_full
    spares: CpuSet | None  # as its environment says, where it runs and may be asked
    systemd: bool  # whether systemd starts it
    overruled_by: str | None = None  # a drop-in that is read after nfvhost's and sets its environment as well


def stated_ban(root: Root, *, own: bool = True) -> Ban | None:
    """What the files of its environment say, nfvhost's own among them or not; None where none bans a CPU.

    Source: irqbalance(1); cputree.c, setup_banned_cpus: the mask, where it is not empty, before the list, of which `-`
    is the empty one.
    """
    values: dict[str, tuple[str, str]] = {}
    for path in (*_FOREIGN, SETTINGS) if own else _FOREIGN:
        known = Assignments()
        known.source(path, root.read_text(path) or "")
        values |= {name: (path, known.text(name) or "") for name, _ in known.assigned}
    return next((Ban(path=path, cpus=cpus) for path, cpus in _banned(values)), None)


def _banned(values: dict[str, tuple[str, str]]) -> Iterable[tuple[str, CpuSet]]:
    path, text = values.get(_MASK, ("", ""))
    if text and (cpus := parse_cpu_mask(text)) is not None:
        yield path, cpus
    path, text = values.get(_LIST, ("", ""))
    if text and (cpus := EMPTY if text == "-" else parse_cpu_list(text)) is not None:
        yield path, cpus


def read_balancer(root: Root) -> Balancer | None:
    """The installed irqbalance and its settings; None where there is none."""
    program = next((content for path in _PROGRAMS if (content := root.read_bytes(path)) is not None), None)
    if program is None:
        return None
    kernel = (cpu_list(root, f"/sys/devices/system/cpu/{name}") or EMPTY for name in ("isolated", "nohz_full"))
    first, second = kernel
    return Balancer(
        drop_in=read_image(root, DROP_IN),
        settings=read_image(root, SETTINGS),
        by_list=_LIST.encode() in program,
        foreign=stated_ban(root, own=False),
        kernel=first | second,
        spares=spared(root),
        systemd=root.exists("/run/systemd/system"),
        overruled_by=_later_drop_in(root),
    )


def _later_drop_in(root: Root) -> str | None:
    """Source: systemd.unit(5): drop-ins of all folders are read in order of their names."""
    own = DROP_IN.rpartition("/")[2]
    for folder in _DROP_INS:
        for name in root.list_dir(folder):
            if name > own and name.endswith(".conf") and _SETS.search(root.read_text(f"{folder}/{name}") or ""):
                return f"{folder}/{name}"
    return None


def spared(root: Root) -> CpuSet | None:
    """The CPUs that the running irqbalance was told to spare; None where it does not run, or may not be asked.

    Source: /proc/<pid>/environ, as it was started.
    """
    for pid in pids_by_name(root, ("irqbalance",)).get("irqbalance", ()):
        try:
            environment = root.read_text(f"/proc/{pid}/environ")
        except PreconditionError:
            return None
        pairs = (pair.partition("=") for pair in (environment or "").split("\0"))
        values = {name: ("", value) for name, _, value in pairs}
        return next((cpus for _, cpus in _banned(values)), EMPTY)
    return None


def full_ban(balancer: Balancer, quiet: CpuSet) -> CpuSet:
    """What it is to spare: these, what the kernel isolates, and what others had told it already; none for none."""
    theirs = balancer.foreign.cpus if balancer.foreign is not None else EMPTY
    return quiet | balancer.kernel | theirs if quiet else EMPTY


def own_ban(balancer: Balancer) -> CpuSet | None:
    """What nfvhost's own files tell it; None where they are not there, or not both."""
    known = Assignments()
    known.source(SETTINGS, (balancer.settings.content or b"").decode(errors="replace"))
    values = {name: (SETTINGS, known.text(name) or "") for name, _ in known.assigned}
    cpus = next((cpus for _, cpus in _banned(values)), None)
    return cpus if balancer.drop_in.content == _drop_in() else None


def replacements(balancer: Balancer, ban: CpuSet | None, *, keys: tuple[str, ...]) -> tuple[Replacement, ...]:
    """Both files as they tell it to spare these; with None they go."""
    settings = drop_in = None
    if ban:
        values = {_MASK: "", _LIST: str(ban)} if balancer.by_list else {_MASK: grouped_mask(ban)}
        settings = (_HEAD + "".join(f"{name}={value}\n" for name, value in values.items())).encode()
        drop_in = _drop_in()
    return (
        Replacement(before=balancer.settings, content=settings, keys=keys),
        Replacement(before=balancer.drop_in, content=drop_in, keys=keys),
    )


def restart(machine: Machine) -> None:
    """Nothing, once systemd has read its unit again and it runs with that, where it ran; CommandError otherwise."""
    machine.check(("systemctl", "daemon-reload"), timeout_s=_TIMEOUT_S)
    machine.check(("systemctl", "try-restart", _UNIT), timeout_s=_TIMEOUT_S)


def _drop_in() -> bytes:
    return f"{_HEAD}[Service]\nEnvironmentFile=-{SETTINGS}\n".encode()
