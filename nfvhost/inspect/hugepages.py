"""Pools of hugepages."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access.root import Root
from nfvhost.model.host import HugepagePool
from nfvhost.model.units import PageSize

_POOL: Final = re.compile(r"hugepages-([1-9]\d*)kB")


def machine_hugepages(root: Root, meminfo: dict[str, int] | None) -> tuple[HugepagePool, ...]:
    """The pools of the whole machine, smallest pages first; empty where the kernel has none.

    Source: /sys/kernel/mm/hugepages; kernels before 2.6.27 have only the default size, in /proc/meminfo.
    """
    if pools := _pools(root, "/sys/kernel/mm/hugepages"):
        return pools
    fields = meminfo or {}
    size, total = fields.get("Hugepagesize"), fields.get("HugePages_Total")
    if not size or total is None:
        return ()
    return (
        HugepagePool(
            size=PageSize(size),
            total=total,
            free=fields.get("HugePages_Free"),
            surplus=fields.get("HugePages_Surp"),
        ),
    )


def node_hugepages(root: Root, node: int) -> tuple[HugepagePool, ...]:
    """The pools of one node, smallest pages first.

    Source: /sys/devices/system/node/node<N>/hugepages.
    """
    return _pools(root, f"/sys/devices/system/node/node{node}/hugepages")


def _pools(root: Root, folder: str) -> tuple[HugepagePool, ...]:
    pools: list[HugepagePool] = []
    for name in root.list_dir(folder):
        match = _POOL.fullmatch(name)
        total = root.read_count(f"{folder}/{name}/nr_hugepages") if match else None
        if match is None or total is None:
            continue
        pools.append(
            HugepagePool(
                size=PageSize(int(match[1])),
                total=total,
                free=root.read_count(f"{folder}/{name}/free_hugepages"),
                surplus=root.read_count(f"{folder}/{name}/surplus_hugepages"),
            )
        )
    return tuple(sorted(pools, key=lambda pool: pool.size))
