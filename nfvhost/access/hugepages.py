"""The kernel's pools of hugepages at run time, node by node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost.access.clock import wait_for
from nfvhost.access.root import DirectoryRoot, Root
from nfvhost.errors import PreconditionError
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.units import PageSize

_ROOT: Final = DirectoryRoot("/")
_NODES: Final = "/sys/devices/system/node"
_COMPACT: Final = "/proc/sys/vm/compact_memory"
# Pages may come back from a deferred work item (mm/hugetlb.c, free_hpage_workfn).
_SETTLE_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Pages of one size on one node."""

    node: int | None  # None: the machine as a whole, where the kernel knows no nodes
    size: PageSize
    total: int  # nr_hugepages
    free: int  # free_hugepages
    surplus: int = 0  # surplus_hugepages: beyond nr_hugepages as it was asked for; part of `total`


def memory_nodes() -> tuple[int | None, ...]:
    """The NUMA nodes that have memory, ascending; only None on a kernel without NUMA.

    Source: /sys/devices/system/node/has_memory.
    """
    return tuple(CpuSet.parse(_ROOT.read_line(f"{_NODES}/has_memory") or "")) or (None,)


def available_mib(node: int | None, *, root: Root = _ROOT) -> int:
    """MiB that can be had on a node without pushing anything out: free memory and clean file pages.

    Source: MemFree, Active(file), Inactive(file) of /sys/devices/system/node/node<N>/meminfo; MemAvailable of
    /proc/meminfo, where it is less or the kernel knows no nodes.
    """
    kib = {}
    for line in (root.read_text("/proc/meminfo") or "").splitlines():
        name, _, amount = line.partition(":")
        kib[name] = int(amount.split()[0])
    # Linux 3.14 and later.
    available = kib.get("MemAvailable", kib.get("MemFree", 0))
    if node is not None:
        fields = {}
        # "Node 0 MemFree:        24409112 kB"
        for line in (root.read_text(f"{_NODES}/node{node}/meminfo") or "").splitlines():
            _, _, name, amount, *_ = line.split()
            fields[name.rstrip(":")] = int(amount)
        available = min(available, sum(fields.get(name, 0) for name in ("MemFree", "Active(file)", "Inactive(file)")))
    return available // 1024


def read_pool(node: int | None, size: PageSize, *, root: Root = _ROOT) -> Pool | None:
    """The pool as it is now; None where the kernel or the CPU has no pages of this size.

    Source: /sys/devices/system/node/node<N>/hugepages/hugepages-<size>kB/{nr,free,surplus}_hugepages, and
    /sys/kernel/mm/hugepages for the machine as a whole.
    """
    folder = _directory(node, size)
    total, free = root.read_int(f"{folder}/nr_hugepages"), root.read_int(f"{folder}/free_hugepages")
    if total is None or free is None:
        return None
    surplus = root.read_int(f"{folder}/surplus_hugepages") or 0
    return Pool(node=node, size=size, total=total, free=free, surplus=surplus)


def resize_pool(node: int | None, size: PageSize, *, pages: int, root: Root = _ROOT) -> Pool:
    """The pool as it is after asking for `pages` in all; the kernel may grant fewer, which the caller must check.

    Where the first grant is short, memory is compacted and the rest is asked for again.
    """
    path = f"{_directory(node, size)}/nr_hugepages"
    root.write_attribute(path, str(pages))
    pool = wait_for(lambda: _at(root, node, size, pages=pages), timeout_s=0.2)
    if pool is None and root.exists(_COMPACT):
        root.write_attribute(_COMPACT, "1")
        root.write_attribute(path, str(pages))
        pool = wait_for(lambda: _at(root, node, size, pages=pages), timeout_s=_SETTLE_S)
    settled = pool or read_pool(node, size, root=root)
    if settled is None:
        raise PreconditionError(f"the kernel has no pages of {size}", where=path)
    return settled


def _at(root: Root, node: int | None, size: PageSize, *, pages: int) -> Pool | None:
    pool = read_pool(node, size, root=root)
    return pool if pool is not None and pool.total == pages else None


def _directory(node: int | None, size: PageSize) -> str:
    pools = "/sys/kernel/mm/hugepages" if node is None else f"{_NODES}/node{node}/hugepages"
    return f"{pools}/hugepages-{size.kib}kB"
