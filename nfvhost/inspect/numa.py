"""NUMA nodes."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access.cpulist import cpu_list, cpu_mask, folder_cpus
from nfvhost.access.root import Root
from nfvhost.inspect.hugepages import node_hugepages
from nfvhost.inspect.memory import node_meminfo
from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import HugepagePool, NumaNode

NODES: Final = "/sys/devices/system/node"
_CPUS: Final = "/sys/devices/system/cpu"
# A byte in ACPI's SLIT.
_DISTANCE: Final = re.compile(r"[0-9]{1,3}")
_NODE: Final = re.compile(r"node(\d{1,5})")


def node_ids(root: Root) -> tuple[int, ...]:
    """The ids of the online nodes, ascending; they may start above 0 and have gaps. Empty without NUMA.

    Source: the folders in /sys/devices/system/node that its `online` lists.
    """
    ids = sorted(int(match[1]) for name in root.list_dir(NODES) if (match := _NODE.fullmatch(name)))
    online = cpu_list(root, f"{NODES}/online") or EMPTY
    return tuple(node for node in ids if node in online) or tuple(ids)


def stated_node_cpus(root: Root, node: int) -> CpuSet:
    """The CPUs that the node claims; offline ones and ones that another node claims too may be among them.

    Source: cpulist, else cpumap, else the links cpu<N> in its folder.
    """
    folder = f"{NODES}/node{node}"
    for cpus in (cpu_list(root, f"{folder}/cpulist"), cpu_mask(root, f"{folder}/cpumap")):
        if cpus is not None:
            return cpus
    return folder_cpus(root.list_dir(folder))


def contested_cpus(claims: dict[int, CpuSet]) -> CpuSet:
    """The CPUs that several nodes claim: each emulated node of numa=fake claims all CPUs of the real one."""
    once = twice = EMPTY
    for cpus in claims.values():
        twice |= once & cpus
        once |= cpus
    return twice


def cpu_nodes(root: Root, claims: dict[int, CpuSet]) -> dict[int, int]:
    """Each CPU's one node; a CPU that no node claims is not in it.

    A contested CPU belongs to the node that /sys/devices/system/cpu/cpu<N>/node<M> links, else to the lowest.
    """
    nodes: dict[int, int] = {}
    for node, cpus in claims.items():
        for cpu in cpus:
            nodes.setdefault(cpu, node)
    for cpu in contested_cpus(claims):
        names = set(root.list_dir(f"{_CPUS}/cpu{cpu}"))
        linked = [node for node, cpus in claims.items() if cpu in cpus and f"node{node}" in names]
        if len(linked) == 1:
            nodes[cpu] = linked[0]
    return nodes


def numa_nodes(
    root: Root, claims: dict[int, CpuSet], *, online: CpuSet, machine: dict[str, int] | None
) -> tuple[NumaNode, ...]:
    """The online nodes, ascending; `claims` has the CPUs that each one states, `machine` is /proc/meminfo.

    A machine's only node has all its memory: node0/meminfo states less while struct pages are still being made
    (CONFIG_DEFERRED_STRUCT_PAGE_INIT).
    """
    order = tuple(claims)
    found: list[NumaNode] = []
    for node, cpus in claims.items():
        stated = node_meminfo(root, node) or {}
        fields = {**stated, **machine} if machine and len(claims) == 1 else stated
        found.append(
            NumaNode(
                id=node,
                cpus=cpus & online,
                memory_kib=fields.get("MemTotal"),
                free_kib=fields.get("MemFree"),
                distances=node_distances(root, node, order),
                hugepages=node_hugepages(root, node),
                stated_kib=stated.get("MemTotal"),
            )
        )
    return tuple(found)


def node_distances(root: Root, node: int, order: tuple[int, ...]) -> tuple[int, ...]:
    """Distances from `node` to each of `order`; empty where the file has another number of them, or is not there.

    Source: /sys/devices/system/node/node<N>/distance, which goes over the online nodes in ascending order.
    """
    words = (root.read_line(f"{NODES}/node{node}/distance") or "").split()
    return tuple(map(int, words)) if len(words) == len(order) and all(map(_DISTANCE.fullmatch, words)) else ()


def single_node(
    *, cpus: CpuSet, memory_kib: int | None, free_kib: int | None, hugepages: tuple[HugepagePool, ...]
) -> NumaNode:
    """Node 0 with everything, for a machine whose kernel has no node folders."""
    return NumaNode(id=0, cpus=cpus, memory_kib=memory_kib, free_kib=free_kib, distances=(10,), hugepages=hugepages)
