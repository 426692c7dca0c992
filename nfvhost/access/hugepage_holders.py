"""Who holds hugepages: processes that have them mapped, and files that outlived theirs."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access.root import Root
from nfvhost.errors import PreconditionError
from nfvhost.model.units import PageSize

_ON_NODE: Final = re.compile(r"N(\d+)=(\d+)")


def hugepage_holders(root: Root, node: int | None, size: PageSize) -> tuple[str, ...]:
    """`qemu-system-x86 (pid 4711): 512` with pages on this node, most first, then `/dev/hugepages/rtemap_0 (file)`.

    A file is a holder even when no process has it open: what a dead DPDK process left. Empty where nobody is seen,
    as by a user who may not look into other processes.
    Source: /proc/<pid>/numa_maps (proc(5)), the hugetlbfs mounts of /proc/self/mounts.
    """
    found: list[tuple[int, str]] = []
    for pid in filter(str.isdigit, root.list_dir("/proc")):
        try:
            pages = _mapped(root.read_text(f"/proc/{pid}/numa_maps") or "", node, size)
        except PreconditionError:
            continue
        if pages:
            found.append((pages, f"{root.read_line(f'/proc/{pid}/comm')} (pid {pid}): {pages}"))
    processes = tuple(text for _, text in sorted(found, key=lambda one: (-one[0], one[1])))
    return (*processes, *(f"{path} (file)" for path in _files(root, size)))


def _mapped(numa_maps: str, node: int | None, size: PageSize) -> int:
    """Pages in the lines that say `huge` and this kernelpagesize_kB."""
    pages = 0
    for line in numa_maps.splitlines():
        words = line.split()
        if "huge" not in words or f"kernelpagesize_kB={size.kib}" not in words:
            continue
        counts = (match for word in words if (match := _ON_NODE.fullmatch(word)))
        pages += sum(int(match[2]) for match in counts if node is None or int(match[1]) == node)
    return pages


def _files(root: Root, size: PageSize) -> tuple[str, ...]:
    """Files on hugetlbfs mounts of this page size; a mount that names none has the default size."""
    default = PageSize(_default_kib(root))
    paths: list[str] = []
    for line in (root.read_text("/proc/self/mounts") or "").splitlines():
        fields = line.split()
        if fields[2:3] != ["hugetlbfs"]:
            continue
        stated = next((word.partition("=")[2] for word in fields[3].split(",") if word.startswith("pagesize=")), None)
        if (PageSize.parse(stated) if stated else default) == size:
            paths += [f"{fields[1]}/{name}" for name in _names(root, fields[1])]
    return tuple(paths)


def _names(root: Root, folder: str) -> tuple[str, ...]:
    try:
        return root.list_dir(folder)
    except PreconditionError:
        return ()


def _default_kib(root: Root) -> int:
    for line in (root.read_text("/proc/meminfo") or "").splitlines():
        if line.startswith("Hugepagesize:"):
            return int(line.split()[1])
    return PageSize.MIB_2.kib
