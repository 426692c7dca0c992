"""A planned host as Nova will see it: its NUMA cells, their CPUs, cores and pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost.errors import DocumentError
from nfvhost.model.cpuset import EMPTY, CpuSet, union
from nfvhost.model.plan import NodeMemory, Plan, PlannedNode

# What the kernel gives without hugepages. Larger base pages of other architectures change no answer: memory is a
# multiple of 1 MiB.
SMALL_KIB: Final = 4
_KIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPages:
    """Pages of one size in a cell (nova/objects/numa.py, NUMAPagesTopology)."""

    size_kib: int
    total: int
    reserved: int = 0
    used: int = 0

    @property
    def free(self) -> int:
        """What a guest may still have."""
        return self.total - self.reserved - self.used


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCell:
    """One NUMA node (nova/objects/numa.py, NUMACell)."""

    node: int
    shared: CpuSet  # of cpu_shared_set
    dedicated: CpuSet  # of cpu_dedicated_set
    cores: tuple[CpuSet, ...]  # thread siblings, shared and dedicated ones alone
    memory_mib: int
    pages: tuple[CellPages, ...]
    pinned: CpuSet = EMPTY  # dedicated CPUs that guests have
    memory_used_mib: int = 0
    shared_used: int = 0

    @property
    def free(self) -> CpuSet:
        """Dedicated CPUs without a guest."""
        return self.dedicated - self.pinned


@dataclass(frozen=True, slots=True, kw_only=True)
class NovaHost:
    """What the scheduler knows of a compute node: its cells, and its inventories in Placement."""

    cells: tuple[HostCell, ...]
    pcpus: int  # free of the inventory PCPU
    vcpus: int  # free of the inventory VCPU, overcommitted as Nova does by itself
    vcpus_at_once: int  # the largest part that one guest may have of it
    memory_mib: int  # free of the inventory MEMORY_MB


# nova/conf/compute.py, initial_cpu_allocation_ratio.
CPU_RATIO: Final = 4


def nova_host(plan: Plan, *, where: str = "plan") -> NovaHost:
    """The host as nova-compute will report it once the plan is applied and no guest is there.

    Source: nova/virt/libvirt/driver.py, _get_host_numa_topology and update_provider_tree. DocumentError where the plan
    leaves Nova out, or is of a nfvhost that did not write the cores down.
    """
    nova = plan.nova
    if nova is None:
        raise DocumentError(
            "leaves Nova out, so no guest of Nova fits", where=where, hint="plan with nova.enabled: true"
        )
    if not plan.host.nodes:
        raise DocumentError(
            "does not say which CPUs share a core", where=where, hint="make it again with `nfvhost plan`"
        )
    memory = {node.node: node for node in plan.memory.nodes}
    reserved = {(one.node, one.size_kib): one.count for one in nova.reserved_huge_pages}
    cells = tuple(
        _cell(node, memory.get(node.node), nova.cpu_shared_set, nova.cpu_dedicated_set, reserved)
        for node in plan.host.nodes
    )
    stated = [node.memory_kib for node in plan.host.nodes if node.memory_kib is not None]
    total = sum(stated) // _KIB if stated else sum(cell.memory_mib for cell in cells)
    shared = len(union(cell.shared for cell in cells))
    return NovaHost(
        cells=cells,
        pcpus=len(union(cell.dedicated for cell in cells)),
        vcpus=shared * CPU_RATIO,
        vcpus_at_once=shared,
        memory_mib=max(total - (nova.reserved_host_memory_mib or 0), 0),
    )


def _cell(
    node: PlannedNode,
    memory: NodeMemory | None,
    shared: CpuSet,
    dedicated: CpuSet,
    reserved: dict[tuple[int, int], int],
) -> HostCell:
    cpus = union(node.cores)
    known = (shared | dedicated) & cpus
    total_mib = 0 if memory is None else memory.total_mib
    if node.memory_kib is not None:
        total_mib = node.memory_kib // _KIB
    pages = () if memory is None else memory.pages
    huge = tuple(
        CellPages(
            size_kib=one.size_mib * _KIB, total=one.count, reserved=reserved.get((node.node, one.size_mib * _KIB), 0)
        )
        for one in pages
    )
    left_mib = max(total_mib - sum(one.size_mib * one.count for one in pages), 0)
    return HostCell(
        node=node.node,
        shared=shared & cpus,
        dedicated=dedicated & cpus,
        cores=tuple(core & known for core in node.cores if core & known),
        memory_mib=total_mib,
        pages=(CellPages(size_kib=SMALL_KIB, total=left_mib * _KIB // SMALL_KIB), *huge),
    )
