"""The CPUs of a host in the order in which people look at them: node, package, L3 group, core, thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nfvhost.model.host import CpuKind, l3_groups

if TYPE_CHECKING:
    from nfvhost.model.cpuset import CpuSet
    from nfvhost.model.host import Host

_KIND_ORDER = {CpuKind.PERFORMANCE: 0, CpuKind.EFFICIENCY: 1, None: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The online threads of one core."""

    threads: tuple[int, ...]
    kind: CpuKind | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Cores of one section and one package that share an L3 cache, or that have none."""

    l3: int | None  # its number among all L3 groups of the machine; the same number in two sections is one cache
    package: int | None
    cores: tuple[Core, ...]  # P-cores before E-cores

    @property
    def cpus(self) -> tuple[int, ...]:
        """Its CPUs, core by core."""
        return tuple(cpu for core in self.cores for cpu in core.threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The CPUs of one NUMA node."""

    node: int | None  # None: CPUs that no node lists
    packages: tuple[int, ...]
    groups: tuple[Group, ...]


def sections(host: Host) -> tuple[Section, ...]:
    """Every online CPU exactly once, by node in ascending order; nodes without CPUs are left out.

    The kernel's files may contradict each other (siblings in another node, an L3 over several nodes), so each CPU
    goes by its own facts.
    """
    l3_numbers = {group: number for number, group in enumerate(l3_groups(host))}
    tree: dict[int | None, dict[tuple[int | None, CpuSet | None], dict[CpuSet | int, list[int]]]] = {}
    kinds = {cpu.id: cpu.kind for cpu in host.cpus}
    only = host.nodes[0].id if len(host.nodes) == 1 else None
    for cpu in sorted(host.cpus, key=lambda one: one.id):
        if cpu.online:
            groups = tree.setdefault(only if cpu.node is None else cpu.node, {})
            cores = groups.setdefault((cpu.package, cpu.l3 or None), {})
            cores.setdefault(cpu.thread_siblings or cpu.id, []).append(cpu.id)
    return tuple(
        Section(
            node=node,
            packages=tuple(sorted({package for package, _ in tree[node] if package is not None})),
            groups=tuple(
                Group(
                    l3=None if l3 is None else l3_numbers[l3],
                    package=package,
                    cores=tuple(
                        sorted(
                            (Core(threads=tuple(threads), kind=kinds[threads[0]]) for threads in cores.values()),
                            key=lambda core: (_KIND_ORDER[core.kind], core.threads),
                        )
                    ),
                )
                for (package, l3), cores in tree[node].items()
            ),
        )
        for node in sorted(tree, key=lambda node: (node is None, node or 0))
    )
