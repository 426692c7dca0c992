"""Usable physical cores with their node and cache group: what the pools are dealt from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nfvhost.model.cpuset import CpuSet, union
from nfvhost.model.host import Cpu, CpuKind, Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """One physical core, as far as a plan may use it."""

    threads: CpuSet  # online and allowed
    node: int
    group: int  # lowest CPU of its cache group on its node
    efficiency: bool

    @property
    def first(self) -> int:
        """Its lowest CPU, by which cores are ordered."""
        return self.threads.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All usable cores in order of their lowest CPU; `home` is the core that boots and serves the host."""

    cores: tuple[Core, ...]
    home: Core | None  # None where no CPU may be used
    split_threads: bool  # the machine has one physical core: each of its threads stands for a core here

    def on(self, node: int) -> tuple[Core, ...]:
        """The cores of that node."""
        return tuple(core for core in self.cores if core.node == node)

    def nodes_of(self, cpus: CpuSet) -> frozenset[int]:
        """The nodes that have any of these CPUs."""
        return frozenset(core.node for core in self.cores if not core.threads.isdisjoint(cpus))

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes that have usable cores, ascending."""
        return tuple(sorted({core.node for core in self.cores}))


def layout(host: Host) -> Layout:
    """The usable cores of a host: threads that share a core belong together, cores that share a cache form a group.

    A cache group is the L3's; without one, the cluster's or the L2's where it holds several cores, else the
    node's. A CPU that no node lists counts with its package, else with the first node.
    """
    usable = host.usable
    cpus = tuple(cpu for cpu in host.cpus if cpu.id in usable)
    by_core: dict[CpuSet, list[Cpu]] = {}
    for cpu in cpus:
        by_core.setdefault(cpu.thread_siblings or CpuSet([cpu.id]), []).append(cpu)
    split = len(by_core) == 1 and len(cpus) > 1
    threads = [[cpu] for cpu in cpus] if split else sorted(by_core.values(), key=lambda core: core[0].id)
    node_of = _nodes(host, cpus)
    group_of = _groups(threads, node_of)
    cores = tuple(
        Core(
            threads=CpuSet(cpu.id for cpu in core),
            node=node_of[core[0].id],
            group=group_of[core[0].id],
            efficiency=core[0].kind is CpuKind.EFFICIENCY,
        )
        for core in threads
    )
    return Layout(cores=cores, home=cores[0] if cores else None, split_threads=split)


def nearest(host: Host, node: int, candidates: Iterable[int]) -> int | None:
    """The candidate at the least distance from `node`, the lowest of equals; None where there is no candidate.

    Source: /sys/devices/system/node/node<N>/distance; without it the node itself is near and all others are far.
    """
    ids = tuple(one.id for one in host.nodes)
    distances = next((one.distances for one in host.nodes if one.id == node), ())
    known = dict(zip(ids, distances, strict=False))
    # LOCAL_DISTANCE and REMOTE_DISTANCE of include/linux/topology.h
    return min(candidates, key=lambda one: (known.get(one, 10 if one == node else 20), one), default=None)


def together(free: Sequence[Core], count: int, *, opened: frozenset[int] = frozenset()) -> tuple[Core, ...]:
    """`count` of the free cores in as few cache groups as possible, in order of their lowest CPU.

    A group that is in `opened` (others are in it already) comes before a whole one, and a tight one before a
    large one, so that large groups stay whole. All free cores where there are not more than `count`.
    """
    groups: dict[int, list[Core]] = {}
    for core in free:
        groups.setdefault(core.group, []).append(core)
    taken: list[Core] = []
    # Largest first until the rest fits into one group.
    pending = sorted(groups, key=lambda group: (len(groups[group]), -group))
    while pending and len(taken) < count:
        rest = count - len(taken)
        fits = [group for group in pending if len(groups[group]) >= rest]
        group = min(fits, key=lambda one: (one not in opened, len(groups[one]), one)) if fits else pending[-1]
        pending.remove(group)
        taken.extend(groups[group][:rest])
    return tuple(sorted(taken, key=lambda core: core.first))


def threads(cores: Iterable[Core]) -> CpuSet:
    """All usable threads of these cores."""
    return union(core.threads for core in cores)


def _nodes(host: Host, cpus: Sequence[Cpu]) -> dict[int, int]:
    """The node of each CPU; Cpu.node decides, since node directories of some machines claim the same CPUs."""
    first = host.nodes[0].id if host.nodes else 0
    by_package: dict[int | None, int] = {}
    for cpu in cpus:
        if cpu.node is not None and cpu.package is not None:
            by_package.setdefault(cpu.package, cpu.node)
    return {cpu.id: cpu.node if cpu.node is not None else by_package.get(cpu.package, first) for cpu in cpus}


def _groups(cores: Sequence[Sequence[Cpu]], node_of: dict[int, int]) -> dict[int, int]:
    """The cache group of each core, named by its lowest CPU on that node; by the core's lowest CPU."""
    candidates = [_candidates(core[0]) for core in cores]
    cores_in = Counter(key for keys in candidates for key in keys)
    lowest: dict[tuple[int, object], int] = {}
    group_of: dict[int, int] = {}
    for core, keys in zip(cores, candidates, strict=True):
        first = core[0].id
        # A cache of one core is no group: such a machine (one core a socket, or private caches) has only its nodes.
        key = next((key for key in keys if cores_in[key] > 1), None)
        group_of[first] = lowest.setdefault((node_of[first], key), first)
    return group_of


def _candidates(cpu: Cpu) -> tuple[object, ...]:
    """What may make a cache group, best first."""
    if cpu.l3:
        return (("l3", cpu.l3),)
    cluster = () if cpu.cluster is None else (("cluster", cpu.package, cpu.die, cpu.cluster),)
    return (*cluster, *((("l2", cpu.l2),) if cpu.l2 else ()))
