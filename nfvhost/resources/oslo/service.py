"""Which files a service of OpenStack reads, in which order, as its own command line says.

Source: oslo.config, cfg.py, ConfigOpts._parse_config_files: the default files where no --config-file is given, then the
default directories where no --config-dir is given, then what is given, in order. What is read later wins: where a
service is started with --config-file, as on Debian, its default directories are weaker than those files.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Final

from nfvhost.access.process import comm_of, comms
from nfvhost.access.root import Root
from nfvhost.errors import PreconditionError

_UNIT_FOLDERS: Final = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_OURS: Final = "zz-nfvhost.conf"
# openstack-pkg-tools, init-template: the script puts its arguments together in this variable.
_DAEMON_ARGS: Final = re.compile(r'(?m)^\s*(?:export )?DAEMON_ARGS="([^"]*)"')
_CONFIG_FILE: Final = re.compile(r"(?m)^CONFIG_FILE=(\S+)")
_ARGUMENT: Final = re.compile(r"--config-(file|dir)(?:=|\s+)(\S+)")
_EXEC_START: Final = re.compile(r"(?m)^ExecStart=[-@:+!|]*(.*(?:\\\n.*)*)")
# A script that is started by itself is called as its file is, else as its interpreter: python3.11.
_INTERPRETER: Final = "python"
# Where the interpreter and its options stand before the program.
_LEADING_WORDS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service, by the names that distributions give it."""

    program: str  # nova-compute
    project: str  # nova
    units: tuple[str, ...]  # nova-compute, openstack-nova-compute


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What it reads."""

    files: tuple[str, ...]  # in order, nfvhost's own among them, whether it is there yet or not
    own: str
    installed: bool
    running: bool
    contained: bool  # it runs in a container, with files of its own


def reading_of(root: Root, service: Service) -> Reading:
    """The files of the running service, else of its unit, else those that oslo takes by default."""
    process = _running(root, service.program)
    unit = _unit_arguments(root, service)
    arguments = process[1] if process is not None else unit
    places = _ARGUMENT.findall(arguments or "")
    sources: list[tuple[str, str]] = []
    project, program = service.project, service.program
    if not any(kind == "file" for kind, _ in places):
        # RDO ships the first and lets its oslo.config look there.
        sources += [
            ("file", f"/usr/share/{project}/{project}-dist.conf"),
            *(("file", f"/etc/{project}/{name}.conf") for name in (project, program)),
        ]
    if not any(kind == "dir" for kind, _ in places):
        sources += [("dir", f"/etc/{project}/{name}.conf.d") for name in (project, program)]
    sources += places
    own = f"{[path for kind, path in sources if kind == 'dir'][-1].rstrip('/')}/{_OURS}"
    return Reading(
        files=tuple(file for kind, path in sources for file in _files(root, kind, path.rstrip("/"), own)),
        own=own,
        installed=arguments is not None or root.exists(f"/usr/bin/{program}"),
        running=process is not None,
        contained=process is not None and process[0],
    )


def _files(root: Root, kind: str, path: str, own: str) -> tuple[str, ...]:
    """The file, or those of the directory that oslo reads, in its order."""
    if kind == "file":
        return (path,) if root.exists(path) else ()
    names = {name for name in root.list_dir(path) if name.endswith(".conf") and not name.startswith(".")}
    files = {f"{path}/{name}" for name in names} | ({own} if own.rpartition("/")[0] == path else set())
    return tuple(sorted(files))


def _running(root: Root, program: str) -> tuple[bool, str] | None:
    """Whether it runs in a container, and its command line; None where it does not run."""
    for pid, comm in comms(root):
        if comm != comm_of(program) and not comm.startswith(_INTERPRETER):
            continue
        try:
            words = (root.read_text(f"/proc/{pid}/cmdline") or "").split("\0")
            if not any(word.rpartition("/")[2] == program for word in words[:_LEADING_WORDS]):
                continue
            apart = root.read_link(f"/proc/{pid}/ns/mnt") != root.read_link("/proc/self/ns/mnt")
        except PreconditionError:
            continue
        return apart, " ".join(words)
    return None


def _unit_arguments(root: Root, service: Service) -> str | None:
    """What its unit starts it with; None where there is no unit and no script."""
    for unit in service.units:
        for folder in _UNIT_FOLDERS:
            texts = [root.read_text(f"{folder}/{unit}.service")]
            if texts[0] is None:
                continue
            drop_ins = f"/etc/systemd/system/{unit}.service.d"
            texts += [root.read_text(f"{drop_ins}/{name}") for name in root.list_dir(drop_ins)]
            # systemd.service(5): an empty ExecStart= forgets those before it.
            starts = [match[1] for text in texts for match in _EXEC_START.finditer(text or "")]
            command = starts[-1].replace("\\\n", " ") if starts else ""
            return _script_arguments(root, service) if "/etc/init.d/" in command else _plain(command)
        if root.exists(f"/etc/init.d/{unit}"):
            return _script_arguments(root, service)
    return None


def _plain(command: str) -> str:
    try:
        return " ".join(shlex.split(command))
    except ValueError:
        return command


def _script_arguments(root: Root, service: Service) -> str:
    """What Debian's script would start it with; it tests for the files that it names."""
    script = next((text for unit in service.units if (text := root.read_text(f"/etc/init.d/{unit}")) is not None), "")
    stated = _CONFIG_FILE.search(script)
    config_file = stated[1] if stated is not None else f"/etc/{service.project}/{service.project}.conf"
    arguments = ""
    names = ("openstack", *service.units)
    for text in (script, *(root.read_text(f"/etc/default/{name}") or "" for name in names)):
        for match in _DAEMON_ARGS.finditer(text):
            added = match[1].replace("${CONFIG_FILE}", config_file)
            added = added.replace("${DAEMON_ARGS}", "$DAEMON_ARGS").replace("$DAEMON_ARGS", arguments)
            if "$" not in added:
                arguments = " ".join(_existing(root, added))
    return arguments


def _existing(root: Root, arguments: str) -> list[str]:
    """Those that name what is there."""
    return [match[0] for match in _ARGUMENT.finditer(arguments) if root.exists(match[2].rstrip("/"))]
