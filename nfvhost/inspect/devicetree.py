"""Cores and caches of POWER machines whose kernels have no topology files: /proc/device-tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from nfvhost.access.root import Root
from nfvhost.model.cpuset import EMPTY, MAX_CPUS, CpuSet

_CPUS: Final = "/proc/device-tree/cpus"
_SYSTEM: Final = "/sys/devices/system/cpu"
_CPU: Final = re.compile(r"cpu(\d{1,5})")
# Firmware numbers its nodes in one of these; all three of one node lead to it.
_HANDLES: Final = ("phandle", "linux,phandle", "ibm,phandle")
# From a core to its cache of level 2, and from each cache to the next (Linux on Power Architecture Reference, B.6).
_NEXT: Final = ("l2-cache", "next-level-cache")
_CELL: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCpu:
    """What the device tree says of one logical CPU."""

    threads: CpuSet
    l2: CpuSet | None
    l3: CpuSet | None


def tree_cpus(root: Root) -> dict[int, TreeCpu]:
    """Each CPU of the device tree, offline threads included; empty where there is no tree of a POWER machine.

    Source: /proc/device-tree/cpus/*/ibm,ppc-interrupt-server#s, l2-cache and the phandles that they name.
    """
    names = root.list_dir(_CPUS)
    if not any(name.startswith("PowerPC,") for name in names):
        return {}
    logical = _logical_cpus(root)
    cores: list[tuple[CpuSet, int | None]] = []
    caches: dict[int, tuple[str, int | None]] = {}
    for name in names:
        node = f"{_CPUS}/{name}"
        after = next((cells[0] for key in _NEXT if (cells := _cells(root, f"{node}/{key}"))), None)
        if name.startswith("PowerPC,"):
            servers = _cells(root, f"{node}/ibm,ppc-interrupt-server#s") or _cells(root, f"{node}/reg")
            cores.append((CpuSet(cpu for server in servers if (cpu := logical.get(server, server)) < MAX_CPUS), after))
            continue
        for key in _HANDLES:
            if cells := _cells(root, f"{node}/{key}"):
                caches[cells[0]] = (name, after)
    sharing: dict[str, CpuSet] = {}
    ways: list[tuple[CpuSet, str | None, str | None]] = []
    for threads, first in cores:
        l2, second = caches.get(first, (None, None)) if first is not None else (None, None)
        l3 = caches[second][0] if second in caches else None
        for cache in (l2, l3):
            if cache is not None:
                sharing[cache] = sharing.get(cache, EMPTY) | threads
        ways.append((threads, l2, l3))
    return {
        cpu: TreeCpu(threads=threads, l2=sharing[l2] if l2 else None, l3=sharing[l3] if l3 else None)
        for threads, l2, l3 in ways
        for cpu in threads
    }


def _logical_cpus(root: Root) -> dict[int, int]:
    """Interrupt server -> Linux's number; both are the same unless cpu<N>/physical_id says otherwise."""
    numbers: dict[int, int] = {}
    for name in root.list_dir(_SYSTEM):
        match = _CPU.fullmatch(name)
        server = root.read_int(f"{_SYSTEM}/{name}/physical_id") if match else None
        if match is not None and server is not None:
            numbers[server] = int(match[1])
    return numbers


def _cells(root: Root, path: str) -> tuple[int, ...]:
    """The big-endian 32-bit cells of a property; empty where it is not there."""
    content = root.read_bytes(path) or b""
    return tuple(int.from_bytes(content[at : at + _CELL], "big") for at in range(0, len(content) - _CELL + 1, _CELL))
