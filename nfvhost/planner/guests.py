"""Guests placed on paper: which CPUs, pages and ports each VNF of the profile would get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host
from nfvhost.model.plan import CpuPools, GuestPlan, MemoryPlan, NicPlan
from nfvhost.model.profile import (
    VF_PORTS,
    CpuPolicy,
    EmulatorThreads,
    GuestPortWish,
    GuestWish,
    PortType,
    Profile,
    Role,
    ThreadPolicy,
)
from nfvhost.planner.layout import Core, layout, nearest, together
from nfvhost.planner.notebook import Notebook, counted, node_names
from nfvhost.planner.nova import guest_cpus

# nova/conf/compute.py, initial_cpu_allocation_ratio.
CPU_RATIO: Final = 4


def place(
    host: Host, profile: Profile, pools: CpuPools, memory: MemoryPlan, nics: tuple[NicPlan, ...], notes: Notebook
) -> tuple[GuestPlan, ...]:
    """Every guest of the profile, in its order; no two share a core, a page or a VF.

    Guests that are bound to a node are placed first, then larger ones before smaller. One that cannot fit is noted
    in `notes` with the resource that is short, by how much, and what would fit.
    """
    stock = _Stock.of(host, profile, pools, memory, nics)
    order = sorted(
        range(len(profile.vnfs)),
        key=lambda index: (profile.vnfs[index].node is None, -profile.vnfs[index].vcpus, index),
    )
    placed: dict[int, list[GuestPlan]] = {}
    for index in order:
        placed[index] = _place_all(profile.vnfs[index], index, pools, stock, notes)
    return tuple(guest for index in range(len(profile.vnfs)) for guest in placed[index])


@dataclass(slots=True, kw_only=True)
class _Stock:
    """What is still free."""

    host: Host
    cores: list[Core]  # dedicated cores without a guest
    pages: dict[int, int]  # by node
    page_mib: int | None  # None where the plan has no pages
    vfs: dict[int, int]  # by index of the NIC: VFs or vDPA devices
    nics: tuple[NicPlan, ...]
    blind: bool  # the machine's memory is not known: pages are not checked
    threads_per_core: int
    nova: bool  # its rules hold
    shared: dict[int, int]  # by node: CPUs of floating vCPUs
    polled: frozenset[int]  # nodes with PMD cores
    floating: dict[int, int] = field(default_factory=dict)  # by node: vCPUs that float there
    opened: set[int] = field(default_factory=set)  # cache groups with a guest

    @classmethod
    def of(cls, host: Host, profile: Profile, pools: CpuPools, memory: MemoryPlan, nics: tuple[NicPlan, ...]) -> _Stock:
        """All that the plan gives to guests."""
        machine = layout(host)
        dedicated, shared = guest_cpus(pools) if profile.nova.enabled else (pools.dedicated, pools.shared)
        cores = [core for core in machine.cores if core.threads <= dedicated]
        siblings = [host.cpu(cpu).thread_siblings & (dedicated | shared) for cpu in dedicated | shared]
        sizes = {pages.size_mib for node in memory.nodes for pages in node.pages}
        size = max(sizes, default=None)
        vfs = {
            index: (nic.vdpa_devices if nic.role is Role.VDPA else nic.vfs) or 0
            for index, nic in enumerate(nics)
            if nic.role in {Role.SRIOV, Role.VDPA}
        }
        return cls(
            host=host,
            cores=cores,
            pages={node.node: node.guest_mib // size if size else 0 for node in memory.nodes},
            page_mib=size,
            vfs=vfs,
            nics=nics,
            blind=not any(node.total_mib for node in memory.nodes),
            threads_per_core=max((len(core) for core in siblings), default=1),
            nova=profile.nova.enabled,
            shared=Counter(core.node for core in machine.cores for cpu in core.threads if cpu in shared),
            polled=machine.nodes_of(pools.pmd),
        )

    def nodes(self) -> list[int]:
        """The nodes that have CPUs or pages for guests, ascending."""
        return sorted({core.node for core in self.cores} | {node for node, count in self.pages.items() if count})

    def free(self, node: int, need: _Need) -> list[Core]:
        """Free cores of one node, of the kind that has more room there: a guest never gets P-cores and E-cores."""
        here = [core for core in self.cores if core.node == node and (len(core.threads) > 1 or not need.siblings)]
        fast = [core for core in here if not core.efficiency]
        slow = [core for core in here if core.efficiency]
        return fast if _usable_cpus(fast, isolate=False) >= _usable_cpus(slow, isolate=False) else slow

    def floats(self, node: int, vcpus: int) -> bool:
        """Whether so many vCPUs of one more guest may float on the node.

        Nova wants a shared CPU there for each, and overcommits them over all guests (nova/virt/hardware.py,
        _numa_fit_instance_cell).
        """
        here = self.shared.get(node, 0)
        return not self.nova or vcpus <= min(here, here * CPU_RATIO - self.floating.get(node, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """What one guest takes from each of its nodes."""

    nodes: int
    pinned: int  # vCPUs a node
    floating: int  # vCPUs a node, on shared CPUs
    emulator: int  # 1 where QEMU's threads get a CPU of their own, on the first node
    isolate: bool  # one vCPU a core
    siblings: bool  # on cores of several threads alone
    pages: int  # a node

    @property
    def cpus(self) -> int:
        """Host CPUs on the first node."""
        return self.pinned + self.emulator


@dataclass(frozen=True, slots=True, kw_only=True)
class _Short:
    """Why a guest does not fit, and what would."""

    what: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vfs:
    """The NICs of a guest's ports, by index, and what is left of all VFs then."""

    nics: tuple[int, ...]
    left: dict[int, int]


def _place_all(vnf: GuestWish, index: int, pools: CpuPools, stock: _Stock, notes: Notebook) -> list[GuestPlan]:
    """The guests of one VNF; fewer than asked where they do not fit, and then noted."""
    where = f"vnfs[{index}]"
    if not _makes_sense(vnf, where, stock, notes):
        return []
    guests: list[GuestPlan] = []
    for name in vnf.names:
        guest = _place_one(vnf, name, pools, stock, notes)
        if isinstance(guest, _Short):
            fit = f"count: {len(guests)} would fit; or " if guests else ""
            notes.refuse(f"{name} does not fit: {guest.what}", where=where, hint=fit + guest.hint)
            break
        guests.append(guest)
    return guests


def _makes_sense(vnf: GuestWish, where: str, stock: _Stock, notes: Notebook) -> bool:
    """Whether the wish can be met by some machine, and names nodes and threads that this one has."""
    before = len(notes.problems)
    nodes = [node.id for node in stock.host.nodes]
    if vnf.vcpus < 1 or vnf.memory_mib < 1 or vnf.numa_nodes < 1 or vnf.count < 0:
        notes.refuse("vcpus, memoryMiB and numaNodes are at least 1", where=where, hint="correct the numbers")
        return False
    if vnf.node is not None and vnf.node not in nodes:
        have = ", ".join(map(str, nodes))
        notes.refuse(
            f"there is no node {vnf.node}: this machine has {have}", where=f"{where}.node", hint="leave it out"
        )
    pinned = vnf.pinned_count
    if vnf.cpu_policy is CpuPolicy.MIXED and not 0 < pinned < vnf.vcpus:
        notes.refuse(
            f"a mixed guest of {vnf.vcpus} vCPUs pins some of them, not {pinned}",
            where=f"{where}.dedicatedVcpus",
            hint=f"1 to {vnf.vcpus - 1}, or another cpuPolicy",
        )
    if vnf.numa_nodes > len(nodes):
        notes.refuse(
            f"{vnf.numa_nodes} nodes are asked, the machine has {len(nodes)}",
            where=f"{where}.numaNodes",
            hint=f"{len(nodes)} or fewer",
        )
    elif pinned % vnf.numa_nodes or vnf.vcpus % vnf.numa_nodes or vnf.memory_mib % vnf.numa_nodes:
        vcpus = f"{vnf.vcpus} vCPUs ({pinned} pinned)" if pinned != vnf.vcpus else f"{pinned} pinned vCPUs"
        notes.refuse(
            f"{vcpus} and {vnf.memory_mib} MiB do not divide evenly over {vnf.numa_nodes} nodes",
            where=f"{where}.numaNodes",
            hint="choose multiples of the number of nodes: Nova divides a guest evenly",
        )
    _check_threads(vnf, where, stock, notes)
    return len(notes.problems) == before


def _check_threads(vnf: GuestWish, where: str, stock: _Stock, notes: Notebook) -> None:
    """Refuse policies of thread siblings that this machine, or Nova on it, does not give."""
    if stock.nova and vnf.threads is not None and not vnf.pinned_count:
        notes.refuse(
            f"threads: {vnf.threads} is for pinned vCPUs, and none of this guest are",
            where=f"{where}.threads",
            hint="leave it out, or choose cpuPolicy: dedicated or mixed",
        )
    elif stock.nova and vnf.threads is ThreadPolicy.ISOLATE and stock.threads_per_core > 1:
        # nova/virt/hardware.py, _pack_instance_onto_cores, and the trait HW_CPU_HYPERTHREADING in the scheduler.
        notes.refuse(
            "threads: isolate is given on hosts without SMT alone",
            where=f"{where}.threads",
            hint="leave it out and ask for whole cores, or turn off SMT in the firmware",
        )
    elif vnf.threads is ThreadPolicy.REQUIRE and stock.cores and stock.threads_per_core == 1:
        notes.refuse(
            "thread siblings are required, and the machine's cores have one thread each",
            where=f"{where}.threads",
            hint="choose prefer, or turn on SMT in the firmware",
        )


def _place_one(vnf: GuestWish, name: str, pools: CpuPools, stock: _Stock, notes: Notebook) -> GuestPlan | _Short:
    """One guest, taken from the stock; what is short where it does not fit."""
    pinned = vnf.pinned_count
    need = _Need(
        nodes=vnf.numa_nodes,
        pinned=pinned // vnf.numa_nodes,
        floating=(vnf.vcpus - pinned) // vnf.numa_nodes,
        emulator=1 if pinned and vnf.emulator_threads is EmulatorThreads.ISOLATE else 0,
        isolate=vnf.threads is ThreadPolicy.ISOLATE,
        siblings=vnf.threads is ThreadPolicy.REQUIRE,
        pages=0 if stock.blind else -(-vnf.memory_mib // vnf.numa_nodes // (stock.page_mib or 1)),
    )
    vfs = _choose_vfs(vnf, None, stock)
    if isinstance(vfs, _Short):
        return vfs
    nodes = _choose_nodes(vnf, need, {stock.nics[index].node for index in vfs.nics}, stock)
    if isinstance(nodes, _Short):
        return nodes
    vfs = _choose_vfs(vnf, nodes, stock)
    if isinstance(vfs, _Short):
        return vfs

    cpus: list[int] = []
    emulator: list[int] = []
    for position, node in enumerate(nodes):
        wanted = need.pinned + (need.emulator if position == 0 else 0)
        cores = _cores(stock.free(node, need), wanted, need, opened=frozenset(stock.opened))
        offered = _in_core_order(cores, isolate=need.isolate)
        cpus += offered[: need.pinned]
        emulator += offered[need.pinned : wanted]
        taken = {core.first for core in cores}
        stock.cores = [core for core in stock.cores if core.first not in taken]
        stock.opened.update(core.group for core in cores)
        stock.pages[node] = stock.pages.get(node, 0) - need.pages
        stock.floating[node] = stock.floating.get(node, 0) + need.floating
    stock.vfs = vfs.left
    memory_mib = need.pages * (stock.page_mib or 0) * need.nodes or vnf.memory_mib
    floating = pools.shared if vnf.emulator_threads is EmulatorThreads.SHARE or not pinned else CpuSet(cpus)
    plan = GuestPlan(
        name=name,
        nodes=tuple(nodes),
        cpu_policy=vnf.cpu_policy,
        pinned=CpuSet(cpus),
        emulator=CpuSet(emulator) if emulator else floating,
        emulator_threads=vnf.emulator_threads,
        memory_mib=memory_mib,
        page_size_mib=stock.page_mib or 0,
        ports=tuple(port.type for port in vnf.ports),
    )
    _explain(plan, vnf, need, [stock.nics[index] for index in vfs.nics], stock, notes)
    return plan


def _choose_nodes(vnf: GuestWish, need: _Need, nic_nodes: set[int | None], stock: _Stock) -> list[int] | _Short:
    """The nodes of one guest: of its VFs, else one with PMD cores for vhost-user; then the tightest that has room."""
    vhost = any(port.type is PortType.VHOSTUSER for port in vnf.ports)
    candidates = stock.nodes()

    def preference(node: int) -> tuple[bool, bool, int, int]:
        near = node in nic_nodes or not nic_nodes - {None}
        return (not near, vhost and bool(stock.polled) and node not in stock.polled, len(stock.free(node, need)), node)

    fitting = sorted((node for node in candidates if _room(node, need, need.cpus, stock)), key=preference)
    if vnf.node is not None:
        fitting = [node for node in fitting if node == vnf.node]
    if not fitting:
        return _short(vnf, need, candidates if vnf.node is None else [vnf.node], stock)
    chosen = [fitting[0]]
    others = [node for node in candidates if node != chosen[0] and _room(node, need, need.pinned, stock)]
    while len(chosen) < need.nodes and others:
        node = nearest(stock.host, chosen[0], others)
        if node is None:
            break
        others.remove(node)
        chosen.append(node)
    if len(chosen) < need.nodes:
        return _short(vnf, need, candidates, stock)
    return chosen


def _room(node: int, need: _Need, cpus: int, stock: _Stock) -> bool:
    """Whether the node has these CPUs, the guest's pages, and room for its floating vCPUs."""
    return (
        _usable_cpus(stock.free(node, need), isolate=need.isolate) >= cpus
        and stock.pages.get(node, 0) >= need.pages
        and stock.floats(node, need.floating)
    )


def _short(vnf: GuestWish, need: _Need, candidates: list[int], stock: _Stock) -> _Short:
    """Which resource is short on each node, by how much, and what would fit."""
    page_mib = stock.page_mib or 0
    each = "on one node" if need.nodes == 1 else f"on each of {need.nodes} nodes"
    kind = " on cores of their own" if need.isolate else " that are thread siblings" if need.siblings else ""
    cpus = f"{counted(need.cpus, 'dedicated CPU')}{kind}"
    parts: list[str] = []
    best_cpus = best_mib = 0
    for node in candidates:
        have, mib = _usable_cpus(stock.free(node, need), isolate=need.isolate), stock.pages.get(node, 0) * page_mib
        if mib >= need.pages * page_mib and stock.floats(node, need.floating):
            best_cpus = max(best_cpus, have)
        if have >= need.cpus and stock.floats(node, need.floating):
            best_mib = max(best_mib, mib)
        lacks = []
        if have < need.cpus:
            lacks.append(f"{have} CPUs free, {need.cpus - have} short")
        if stock.pages.get(node, 0) < need.pages:
            lacks.append(f"{mib} MiB of pages free, {_asked_mib(vnf, need, stock) - mib} MiB short")
        if not stock.floats(node, need.floating):
            there, taken = stock.shared.get(node, 0), stock.floating.get(node, 0)
            others = f" for it and {taken} of other guests" if taken else ""
            lacks.append(f"{counted(there, 'shared CPU')} for its floating vCPUs, {need.floating} needed{others}")
        parts.append(f"node {node} has {' and '.join(lacks) or 'enough'}")
    what = f"it needs {cpus} and {_asked_mib(vnf, need, stock)} MiB {each}; {', '.join(parts) or 'no node has any'}"
    hints = []
    most = max((stock.shared.get(node, 0) for node in candidates), default=0)
    if stock.nova and need.floating > most:
        hints.append(f"{most * need.nodes} floating vCPUs would fit" if most else "pinned vCPUs would fit")
        hints.append("more of them with shared.cores")
    elif best_cpus > need.emulator:
        hints.append(f"vcpus: {(best_cpus - need.emulator) * need.nodes} would fit")
    if best_mib:
        hints.append(f"memoryMiB: {best_mib * need.nodes} would fit")
    return _Short(
        what=what, hint=" or ".join(hints) or "give fewer cores to host and PMD threads, or plan a larger machine"
    )


def _asked_mib(vnf: GuestWish, need: _Need, stock: _Stock) -> int:
    """MiB a node, in whole pages where their size is known."""
    return need.pages * stock.page_mib if stock.page_mib else vnf.memory_mib // need.nodes


def _choose_vfs(vnf: GuestWish, nodes: Sequence[int] | None, stock: _Stock) -> _Vfs | _Short:
    """The NIC of each SR-IOV and vDPA port, near to the guest's nodes where possible."""
    left = dict(stock.vfs)
    chosen: list[int] = []
    for port in vnf.ports:
        if port.type not in VF_PORTS:
            continue
        role = Role.VDPA if port.type is PortType.VDPA else Role.SRIOV
        whole = port.type is PortType.SRIOV_PHYSICAL
        mine = [
            index
            for index, nic in enumerate(stock.nics)
            if nic.role is role and (port.physnet is None or nic.physnet == port.physnet)
        ]
        having = [index for index in mine if left[index] > 0 and (not whole or left[index] == _planned(stock, [index]))]
        if not having:
            return _short_of_vfs(vnf, port, role, mine, stock)
        best = min(
            having, key=lambda index: (nodes is not None and stock.nics[index].node not in {*nodes, None}, index)
        )
        left[best] -= left[best] if whole else 1
        chosen.append(best)
    return _Vfs(nics=tuple(chosen), left=left)


def _short_of_vfs(vnf: GuestWish, port: GuestPortWish, role: Role, mine: Sequence[int], stock: _Stock) -> _Short:
    """How many VFs or vDPA devices are missing for ports like this one, and what would help."""
    asked = sum(1 for one in vnf.ports if one.type is port.type and one.physnet == port.physnet)
    net = f" on {port.physnet}" if port.physnet else ""
    entry = f"an entry of nics with role: {role.value}" + (f", physnet: {port.physnet}" if port.physnet else "")
    if port.type is PortType.SRIOV_PHYSICAL:
        what = f"it needs {counted(asked, 'whole port')}{net}, and none is left without a VF given away"
        return _Short(what=what, hint=f"plan more by {entry}")
    kind = "vDPA device" if role is Role.VDPA else "VF"
    have = sum(stock.vfs[index] for index in mine)
    planned = _planned(stock, mine)
    return _Short(
        what=f"it needs {counted(asked, kind)}{net}; {have} of {planned} planned are free, {asked - have} short",
        hint=f"plan more by {entry}" + (f", or ask for {counted(have, kind)}" if have else ""),
    )


def _planned(stock: _Stock, nics: Sequence[int]) -> int:
    """VFs or vDPA devices that the plan makes on these NICs."""
    return sum((stock.nics[index].vdpa_devices or stock.nics[index].vfs or 0) for index in nics)


def _usable_cpus(cores: Sequence[Core], *, isolate: bool) -> int:
    """How many vCPUs these cores can carry."""
    return len(cores) if isolate else sum(len(core.threads) for core in cores)


def _cores(free: Sequence[Core], cpus: int, need: _Need, *, opened: frozenset[int]) -> tuple[Core, ...]:
    """Whole cores for so many CPUs, in as few cache groups as possible."""
    if not cpus:
        return ()
    width = 1 if need.isolate else max((len(core.threads) for core in free), default=1)
    count = -(-cpus // width)
    chosen = together(free, count, opened=opened)
    while _usable_cpus(chosen, isolate=need.isolate) < cpus and count < len(free):
        count += 1
        chosen = together(free, count, opened=opened)
    return chosen


def _in_core_order(cores: Sequence[Core], *, isolate: bool) -> list[int]:
    """The CPUs of these cores, siblings side by side; only the first of each where siblings stay unused."""
    return [cpu for core in cores for cpu in ([core.first] if isolate else list(core.threads))]


def _explain(
    plan: GuestPlan, vnf: GuestWish, need: _Need, nics: Sequence[NicPlan], stock: _Stock, notes: Notebook
) -> None:
    """Note where a guest sits and why, and what it costs."""
    where = node_names(plan.nodes)
    reason = []
    if vnf.node is not None:
        reason.append(f"node {vnf.node} asked")
    elif nics:
        reason.append(f"beside {', '.join(sorted({str(nic.pci) for nic in nics}))}, which its ports come from")
    elif set(plan.nodes) <= stock.polled and any(port is PortType.VHOSTUSER for port in plan.ports):
        reason.append("where PMD threads poll its vhost-user ports")
    else:
        reason.append("the tightest node with room for it")
    if plan.pinned:
        reason.append("one vCPU a core, siblings unused" if need.isolate else "whole cores, shared with no other guest")
    if need.emulator:
        reason.append(f"emulator threads take one CPU more ({plan.emulator})")
    if need.pages and plan.memory_mib != vnf.memory_mib:
        reason.append(f"{vnf.memory_mib} MiB rounded up to whole pages of {plan.page_size_mib} MiB")
    cpus = f"CPUs {plan.pinned}" if plan.pinned else "shared CPUs"
    notes.decide(f"guests.{plan.name}", f"{cpus} and {plan.memory_mib} MiB on {where}", "; ".join(reason))
    vhost = any(port is PortType.VHOSTUSER for port in plan.ports)
    if vhost and stock.polled and not set(plan.nodes) & stock.polled:
        notes.warn(
            f"guest {plan.name} is on {where}, where no PMD thread polls: set pmd.everyNode or move its ports' NIC"
        )
    far = [nic for nic in nics if nic.node is not None and nic.node not in plan.nodes]
    if far:
        notes.warn(f"guest {plan.name} is on {where}, and the VFs of {far[0].pci} are on node {far[0].node}")
