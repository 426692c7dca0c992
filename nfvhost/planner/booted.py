"""What the machine was booted with, or was given since, that stands against the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from nfvhost.model.host import Host
from nfvhost.model.plan import CpuPools, MemoryPlan, NicPlan
from nfvhost.planner.notebook import Notebook, counted

# A second one that differs is ignored: kernel/sched/isolation.c, housekeeping_setup; mm/hugetlb.c, hugepagesz_setup.
_FIRST_COUNTS: Final = frozenset({"isolcpus", "nohz_full", "hugepagesz"})
# They turn off what vfio-pci needs: drivers/iommu/intel/iommu.c, drivers/iommu/amd/init.c, arch/x86/kernel/pci-dma.c.
_NO_IOMMU: Final = frozenset({"iommu=off", "intel_iommu=off", "amd_iommu=off"})
_VFIO: Final = "vfio-pci"


def warn_of_present(
    host: Host,
    pools: CpuPools,
    memory: MemoryPlan,
    nics: tuple[NicPlan, ...],
    kernel_args: tuple[str, ...],
    notes: Notebook,
) -> None:
    """Warn of kernel arguments, isolated CPUs and hugepages that are there already and are not the plan's."""
    foreign = _foreign_args(host, nics, kernel_args)
    if foreign:
        names = sorted({name for arg in foreign if (name := _name(arg)) in _FIRST_COUNTS})
        first = f"; Linux obeys the first of two that differ ({', '.join(names)})" if names else ""
        notes.warn(
            f"the kernel was started with {' '.join(foreign)}, against the arguments of this plan: unless an earlier "
            f"plan put them there, take them out of the boot loader's settings{first}"
        )
    stuck = host.isolated & (pools.host | pools.shared)
    verb = "is" if len(stuck) == 1 else "are"
    if stuck and not any(_name(arg) == "isolcpus" for arg in (*foreign, *kernel_args)):
        notes.warn(
            f"{stuck.named} {verb} isolated from the scheduler now, and the plan gives them to the host and to "
            "floating guests: these do not spread over them until isolcpus is taken off the kernel's command line"
        )
    _warn_of_pages(host, memory, notes)


def _foreign_args(host: Host, nics: tuple[NicPlan, ...], planned: tuple[str, ...]) -> tuple[str, ...]:
    """Arguments of the running kernel that say something else than the plan's, in their order."""
    wanted = dict(_settings(planned))
    needs_iommu = any(_VFIO in {nic.driver, nic.vf_driver} for nic in nics)
    return tuple(
        words
        for name, words in _settings(host.kernel_args or ())
        if words != wanted.get(name, words) or (needs_iommu and words in _NO_IOMMU)
    )


def _settings(args: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(what it sets, its words) of each argument; a count of pages with the size that stands before it."""
    size = ""
    for arg in args:
        name = _name(arg)
        if name == "hugepagesz":
            size = arg
        elif name == "hugepages":
            yield f"{name} {size}", f"{size} {arg}".strip()
        else:
            yield name, arg


def _warn_of_pages(host: Host, memory: MemoryPlan, notes: Notebook) -> None:
    """Warn where pages of another size are reserved already, and with the plan's leave the host less than its floor."""
    pools = {node.id: node.hugepages for node in host.nodes}
    for node in memory.nodes:
        sizes = {pages.size_mib for pages in node.pages}
        others = [pool for pool in pools.get(node.node, ()) if pool.total and pool.size.mib not in sizes]
        taken = sum(pool.total * pool.size.kib for pool in others) // 1024
        left = node.total_mib - node.ovs_mib - node.guest_mib - taken
        if node.pages and left < node.host_mib:
            counts = " and ".join(counted(pool.total, f"page of {pool.size}") for pool in others)
            notes.warn(
                f"node {node.node} has {counts} reserved already ({taken} MiB): with the plan's own pages the host "
                f"would keep {max(0, left)} MiB there instead of {node.host_mib}; give them back first (nr_hugepages, "
                "or hugepages= of the boot loader)"
            )


def _name(arg: str) -> str:
    return arg.partition("=")[0]
