"""Processes that have a vDPA device and may not pin the memory that it needs."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from nfvhost.access.root import Root
from nfvhost.errors import PreconditionError

_LIMIT: Final = re.compile(r"(?m)^Max locked memory\s+(\S+)")
_MEMORY: Final = re.compile(r"(?m)^(?:VmRSS|HugetlbPages):\s+(\d+) kB")
_MIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortLock:
    """One process whose limit is too low."""

    pid: int
    name: str
    files: tuple[str, ...]
    limit_mib: int
    needed_mib: int


def short_locks(root: Root, files: Collection[str]) -> tuple[ShortLock, ...]:
    """Processes by pid that have some of these vhost-vDPA files open and a limit below what they pin for them.

    Each device pins the whole memory of its guest for itself, against the one limit of the process, and CAP_IPC_LOCK
    does not help (drivers/vhost/vdpa.c, vhost_vdpa_pa_map). Source: /proc/<pid>/fd, limits, status (proc(5)).
    """
    found = []
    for pid in sorted(filter(str.isdigit, root.list_dir("/proc")), key=int) if files else ():
        try:
            targets = {root.read_link(f"/proc/{pid}/fd/{number}") for number in root.list_dir(f"/proc/{pid}/fd")}
        except PreconditionError:
            continue
        held = tuple(sorted(file for file in files if file in targets))
        limit = _LIMIT.search(root.read_text(f"/proc/{pid}/limits") or "") if held else None
        if limit is None or not limit[1].isdecimal():
            continue
        memory_kib = sum(map(int, _MEMORY.findall(root.read_text(f"/proc/{pid}/status") or "")))
        limit_mib, needed_mib = int(limit[1]) // _MIB // _MIB, len(held) * memory_kib // _MIB
        if limit_mib < needed_mib:
            name = root.read_line(f"/proc/{pid}/comm") or "?"
            found.append(ShortLock(pid=int(pid), name=name, files=held, limit_mib=limit_mib, needed_mib=needed_mib))
    return tuple(found)
