"""What holds in every plan; a plan in which it does not is a bug of the planner, never handed out."""

from __future__ import annotations

from nfvhost.errors import NfvhostError, Problem
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host
from nfvhost.model.plan import CpuPools, GuestPlan, MemoryPlan, NicPlan, NovaPlan, Plan
from nfvhost.model.profile import Role
from nfvhost.planner.layout import Layout, layout
from nfvhost.planner.nova import memory_mib


def check(host: Host, plan: Plan) -> None:
    """Raises NfvhostError (a bug, exit 1) with every invariant that the plan breaks."""
    broken = [
        *_pools(host, plan.cpus),
        *_memory(host, plan.memory),
        *_nics(host, plan.nics),
        *_guests(plan.cpus, plan.memory, plan.guests),
        *_nova(host, plan.memory, plan.nova),
    ]
    if broken:
        hint = "please report this with the output of `nfvhost capture`"
        raise NfvhostError.of(tuple(Problem(what=what, where="planner", hint=hint) for what in broken))


def degraded(machine: Layout) -> bool:
    """Whether the machine is so small that pools may overlap: fewer than one core each for four pools."""
    return len(machine.cores) < 4  # noqa: PLR2004 - host, shared, pmd, dedicated


def _pools(host: Host, pools: CpuPools) -> list[str]:
    """Broken rules of the CPU pools."""
    machine = layout(host)
    everyone = pools.host | pools.shared | pools.pmd | pools.dedicated | pools.idle
    broken: list[str] = []
    if not everyone <= host.usable:
        broken.append(f"CPUs {everyone - host.usable} may not be used")
    if machine.home is not None and not machine.home.threads <= pools.host:
        broken.append(f"CPU {machine.home.first}'s core is not with the host")
    for core in machine.cores:
        broken += _core(core.threads, pools, may_overlap=degraded(machine))
    if pools.shared != pools.host and not pools.shared.isdisjoint(pools.host | pools.pmd | pools.dedicated):
        broken.append("shared CPUs are in another pool as well")
    if pools.isolated != (pools.pmd | pools.dedicated | pools.idle) - pools.host - pools.shared:
        broken.append(f"isolated CPUs {pools.isolated} are not those of PMD threads and guests")
    return broken


def _core(threads: CpuSet, pools: CpuPools, *, may_overlap: bool) -> list[str]:
    """Broken rules of one physical core: whole, and in one pool."""
    owners = {"host": pools.host, "pmd": pools.pmd | pools.idle, "dedicated": pools.dedicated}
    mine = {name: threads & cpus for name, cpus in owners.items() if not threads.isdisjoint(cpus)}
    broken = [
        f"core {threads} is split: {part} is in the {name} pool" for name, part in mine.items() if part != threads
    ]
    if len(mine) > 1 and not may_overlap:
        broken.append(f"core {threads} is in the pools {' and '.join(mine)}")
    return broken


def _memory(host: Host, memory: MemoryPlan) -> list[str]:
    """Broken rules of the memory plan."""
    broken: list[str] = []
    known = {node.id: node.memory_kib for node in host.nodes}
    for node in memory.nodes:
        shares = (node.host_mib, node.ovs_mib, node.guest_mib, *(pages.count for pages in node.pages))
        if node.host_mib + node.ovs_mib + node.guest_mib > node.total_mib:
            broken.append(f"node {node.node} gives out more than its {node.total_mib} MiB")
        if sum(pages.size_mib * pages.count for pages in node.pages) != node.ovs_mib + node.guest_mib:
            broken.append(f"the pages of node {node.node} are not what OVS and guests get")
        if min(shares) < 0:
            broken.append(f"node {node.node} has a negative share")
        kib = known.get(node.node)
        if kib is not None and node.total_mib * 1024 > kib:
            broken.append(f"node {node.node} is planned with {node.total_mib} MiB, it has {kib // 1024}")
    return broken


def _nics(host: Host, nics: tuple[NicPlan, ...]) -> list[str]:
    """Broken rules of the NIC roles."""
    known = {nic.pci: nic for nic in host.nics}
    broken: list[str] = []
    for plan in nics:
        nic = known.get(plan.pci)
        if nic is None:
            broken.append(f"{plan.pci} is not a NIC of this machine")
            continue
        if nic.management is not None and plan.role is not Role.MANAGEMENT:
            broken.append(f"{plan.pci} carries management ({nic.management}) and is planned as {plan.role}")
        if plan.role is Role.MANAGEMENT and (plan.driver or plan.vfs or plan.vdpa_devices):
            broken.append(f"{plan.pci} is kept for management and would be changed")
        if plan.vfs is not None and plan.vfs > (nic.total_vfs or 0):
            broken.append(f"{plan.pci} gets {plan.vfs} VFs, it can have {nic.total_vfs or 0}")
    if len({plan.pci for plan in nics}) != len(nics):
        broken.append("a NIC is planned twice")
    return broken


def _nova(host: Host, memory: MemoryPlan, nova: NovaPlan | None) -> list[str]:
    """Broken rules of what Nova is told: Placement takes no inventory of a host that reserves more than it has."""
    if nova is None:
        return []
    broken: list[str] = []
    total = memory_mib(host)
    if total is not None and (nova.reserved_host_memory_mib or 0) > total:
        broken.append(f"Nova reserves {nova.reserved_host_memory_mib} MiB of the {total} MiB that it reports")
    pages = {(node.node, one.size_mib * 1024): one.count for node in memory.nodes for one in node.pages}
    broken += [
        f"Nova reserves {one.count} pages of node {one.node}, which has {pages.get((one.node, one.size_kib), 0)}"
        for one in nova.reserved_huge_pages
        if one.count > pages.get((one.node, one.size_kib), 0)
    ]
    if not nova.cpu_dedicated_set.isdisjoint(nova.cpu_shared_set):
        broken.append("Nova's sets of CPUs overlap, and nova-compute would not start")
    return broken


def _guests(pools: CpuPools, memory: MemoryPlan, guests: tuple[GuestPlan, ...]) -> list[str]:
    """Broken rules of the guests on paper."""
    broken: list[str] = []
    used = 0
    for guest in guests:
        cpus = guest.pinned | (guest.emulator & pools.dedicated if guest.emulator != pools.shared else guest.pinned)
        if not guest.pinned <= pools.dedicated:
            broken.append(
                f"guest {guest.name} is pinned to {guest.pinned - pools.dedicated}, outside the dedicated pool"
            )
        used += len(cpus)
    pinned = [cpu for guest in guests for cpu in guest.pinned]
    if len(set(pinned)) != len(pinned):
        broken.append("two guests are pinned to the same CPU")
    if used > len(pools.dedicated):
        broken.append(f"guests use {used} CPUs of {len(pools.dedicated)}")
    asked = sum(guest.memory_mib for guest in guests if guest.page_size_mib)
    if asked > sum(node.guest_mib for node in memory.nodes):
        broken.append(f"guests use {asked} MiB of pages, more than there are")
    return broken
