"""Division of physical cores between host, PMD threads, floating guests and pinned guests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from nfvhost.model.cpuset import EMPTY, CpuSet, union
from nfvhost.model.host import Host
from nfvhost.model.plan import CpuPools
from nfvhost.model.profile import PortType, Profile
from nfvhost.planner.layout import Core, Layout, layout, nearest, threads, together
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.ports import DpdkPort

# One core of the host for so many cores of the machine.
CORES_PER_HOST_CORE: Final = 8
# An engineering rule. One thread moves 6.9 million packets a second from port to port at 363 cycles each (measured
# with null ports on OVS 3.1); the second thread of a core adds about a fifth. That is 25 Gb/s of packets of 350 byte,
# the mean of IMIX. No core reaches line rate with 64 byte: 10 Gb/s of them are 14.9 million a second.
MBPS_PER_PMD_CORE: Final = 25_000
# From so many cores on, a machine without a DPDK port gets a PMD core for the vhost-user ports that OpenStack plugs.
CORES_FOR_LATER_PORTS: Final = 4
# What a virtual device without a speed counts as; the kernel behind it is slower than one PMD core.
VIRTUAL_PORT_MBPS: Final = 10_000
# By default PMD threads take at most this part of a node's cores (rounded up): guests find room on the NIC's node.
PMD_SHARE: Final = 4


def split(host: Host, profile: Profile, ports: tuple[DpdkPort, ...], notes: Notebook) -> CpuPools:
    """The pools of this machine: whole cores, dealt in the order host, PMD, shared, dedicated.

    On a machine that is too small the pools overlap in this order, each with a warning: dedicated CPUs with the
    host's first, then shared ones, at last (a single CPU) the PMD's. Host CPUs are never isolated.
    A wish beyond the machine is noted in `notes`; the pools are then those that would fit.
    """
    table = _Table(host=host, layout=layout(host), notes=notes)
    if table.layout.home is None:
        notes.refuse(
            "no CPU of this machine is known to be online and allowed",
            where="host.cpus",
            hint="capture /sys/devices/system/cpu and /proc/cpuinfo, or widen the cgroup's cpuset",
        )
        return CpuPools(host=EMPTY, shared=EMPTY, pmd=EMPTY, dedicated=EMPTY, idle=EMPTY, isolated=EMPTY)
    _warn_of_oddities(host, table)
    wants_pmd = _wants_pmd(profile, ports, table.layout)
    wish = _wish(profile, table.layout, notes, wants_pmd=wants_pmd, ports=ports)

    host_cores = _host_cores(profile, ports, table, wish)
    host_cpus = threads(host_cores)
    pmd_cores = _pmd_cores(profile, ports, table, wish) if wants_pmd else ()
    pmd_cpus, idle = threads(pmd_cores), EMPTY
    if profile.pmd.one_thread_per_core:
        polling = CpuSet(core.first for core in pmd_cores)
        idle, pmd_cpus = pmd_cpus - polling - host_cpus, polling
    _explain_pmd(profile, ports, table, pmd_cores, idle)
    shared_cores = _shared_cores(table, wish)
    shared = threads(shared_cores) if shared_cores else host_cpus
    dedicated = threads(_dedicated_cores(table, host_cores, wish))
    isolated = (pmd_cpus | dedicated | idle) - host_cpus - shared
    notes.decide(
        "cpus.isolated",
        str(isolated) or "none",
        "scheduler, timers and interrupts stay off PMD threads and pinned guests; host CPUs are never isolated",
    )
    return CpuPools(host=host_cpus, shared=shared, pmd=pmd_cpus, dedicated=dedicated, idle=idle, isolated=isolated)


def _wants_pmd(profile: Profile, ports: tuple[DpdkPort, ...], machine: Layout) -> bool:
    """Whether something is to be polled: a port, or the vhost-user ports that OpenStack will plug later."""
    if ports or profile.pmd.cores is not None:
        return bool(ports or profile.pmd.cores)
    return profile.nova.enabled and len(machine.cores) >= CORES_FOR_LATER_PORTS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """Cores asked for, cut down to what the machine has; None where the planner decides."""

    host: int | None
    pmd: int | None
    shared: int
    tight: bool  # not even one core for each pool


@dataclass(slots=True, kw_only=True)
class _Table:
    """The cores that are still free, and who sits in which cache group."""

    host: Host
    layout: Layout
    notes: Notebook
    taken: set[int] = field(default_factory=set)  # first CPUs of dealt cores
    opened: set[int] = field(default_factory=set)  # cache groups with a dealt core

    def free(self, node: int | None = None) -> tuple[Core, ...]:
        """Free cores of a node, or of the machine."""
        return tuple(
            core for core in self.layout.cores if core.first not in self.taken and (node is None or core.node == node)
        )

    def take(self, cores: Iterable[Core]) -> tuple[Core, ...]:
        """Deal these cores."""
        dealt = tuple(cores)
        self.taken.update(core.first for core in dealt)
        self.opened.update(core.group for core in dealt)
        return dealt


def _wish(profile: Profile, machine: Layout, notes: Notebook, *, wants_pmd: bool, ports: tuple[DpdkPort, ...]) -> _Wish:
    """The counts that the profile asks for, checked against the machine."""
    total = len(machine.cores)
    host, pmd, shared = profile.host.cores, profile.pmd.cores, profile.shared.cores
    if host is not None and host < 1:
        notes.refuse(
            f"{host} cores cannot carry an operating system",
            where="host.cores",
            hint="ask for 1 or more, or leave it out",
        )
        host = None
    if pmd is not None and pmd < 1 and ports:
        notes.refuse(
            f"{counted(len(ports), 'DPDK port')} and {pmd} PMD cores: nobody would poll them",
            where="pmd.cores",
            hint="ask for 1 or more, leave it out, or plan no DPDK port",
        )
        pmd = None
    least_pmd = (pmd or 1) if wants_pmd else 0
    if profile.host.every_node and host is not None and host < len(machine.nodes):
        notes.refuse(
            f"{counted(host, 'core')} cannot be on each of {len(machine.nodes)} nodes with CPUs",
            where="host.cores",
            hint=f"ask for {len(machine.nodes)} or more, or drop host.everyNode",
        )
        host = None
    by_nodes = profile.host.every_node and host is None
    least_host = len(machine.nodes) if by_nodes else host or 1
    need = least_host + least_pmd + shared
    smallest = max(least_host, least_pmd, shared) == 1
    if need <= total or smallest:
        return _Wish(host=host, pmd=pmd, shared=shared, tight=need >= total and smallest)
    asked = {"host.everyNode" if by_nodes else "host.cores": least_host, "pmd.cores": least_pmd, "shared.cores": shared}
    largest = max(asked, key=lambda name: (asked[name], name))
    fits = total - need + asked[largest]
    sums = " + ".join(f"{count} {name.split('.')[0]}" for name, count in asked.items() if count)
    hint = "leave the counts out: what is there is then divided"
    if fits > 0:
        hint = "set it to false" if largest == "host.everyNode" else f"{largest}: {fits} would fit"
    notes.refuse(
        f"{sums} = {need} cores are asked, the machine has {counted(total, 'core')} that may be used",
        where=largest,
        hint=hint,
    )
    return _Wish(host=None, pmd=None, shared=0, tight=total < 2 + wants_pmd)


def _host_cores(profile: Profile, ports: tuple[DpdkPort, ...], table: _Table, wish: _Wish) -> tuple[Core, ...]:
    """CPU 0's core, then cores of its node: E-cores first, then those of its own cache group."""
    machine, home = table.layout, home_core(table.layout)
    total, on_home = len(machine.cores), len(machine.on(home.node))
    by_rule = max(1, total // CORES_PER_HOST_CORE)
    limit = min(
        on_home // 2, on_home - _asked_on(home.node, ports, machine, wish), total - (wish.pmd or 0) - wish.shared
    )
    count = wish.host if wish.host is not None else max(1, min(by_rule, limit))
    chosen = list(table.take([home]))
    if profile.host.every_node:
        count = max(count, len(machine.nodes))
        for node in machine.nodes:
            if node != home.node:
                chosen += table.take(_quiet(table, table.free(node), 1))
    chosen += _nearhome_core(table, count - len(chosen))
    chosen.sort(key=lambda core: core.first)
    _explain_host(profile, table, tuple(chosen), wish, by_rule=by_rule)
    return tuple(chosen)


def _nearhome_core(table: _Table, count: int) -> tuple[Core, ...]:
    """So many free cores of CPU 0's node, and where it is full of the next by distance; dealt."""
    chosen: tuple[Core, ...] = ()
    nodes = list(table.layout.nodes)
    while len(chosen) < count:
        node = nearest(table.host, home_core(table.layout).node, nodes)
        if node is None:
            break
        nodes.remove(node)
        chosen += table.take(_quiet(table, table.free(node), count - len(chosen)))
    return chosen


def _shared_cores(table: _Table, wish: _Wish) -> tuple[Core, ...]:
    """Cores of floating guests, near the host's; none where the host pool serves."""
    if not wish.shared:
        table.notes.decide(
            "cpus.shared",
            "the host pool",
            "shared.cores asks for none of their own: floating guests and emulator threads run beside the host",
        )
        return ()
    chosen = _nearhome_core(table, wish.shared)
    if len(chosen) < wish.shared:
        table.notes.warn("shared CPUs overlap the host's: the machine has no core of their own for them")
        table.notes.decide("cpus.shared", "the host pool", "the machine is too small for a core of their own")
        return ()
    table.notes.decide(
        "cpus.shared", _choice(chosen), f"{counted(len(chosen), 'core')} asked by shared.cores, near the host's cores"
    )
    return chosen


def _pmd_cores(profile: Profile, ports: tuple[DpdkPort, ...], table: _Table, wish: _Wish) -> tuple[Core, ...]:
    """Cores of the nodes of the ports, on each in one cache group where possible."""
    free = len(table.free())
    if not free:
        table.notes.warn(
            f"PMD threads overlap the host's CPU {home_core(table.layout).first}, the only one: they poll without a "
            "pause, so expect a slow host"
        )
        return (home_core(table.layout),)
    demand = _demand(profile, ports, table)
    counts = dict.fromkeys(demand, 0)
    if wish.pmd is None:
        # One core is left for guests, and those that shared.cores asks.
        budget = max(1, free - wish.shared - 1)
        wanted = {
            node: min(max(1, -(-mbps // MBPS_PER_PMD_CORE)), max(1, -(-len(table.layout.on(node)) // PMD_SHARE)))
            for node, mbps in demand.items()
        }
    else:
        budget = wish.pmd
        wanted = dict.fromkeys(demand, budget)
    available = {node: len(_fast(table.free(node))) for node in demand}
    while budget:
        # Each node gets a first core before any gets a second; then the one with the most traffic a core.
        open_nodes = [node for node in demand if counts[node] < min(wanted[node], available[node])]
        if not open_nodes:
            break
        node = max(open_nodes, key=lambda one: (not counts[one], demand[one] / (counts[one] + 1), -one))
        counts[node] += 1
        budget -= 1
    if wish.pmd is not None and budget:
        have = ", ".join(f"node {node} has {available[node]}" for node in demand)
        others = len(table.layout.nodes) > len(demand)
        table.notes.refuse(
            f"{wish.pmd} PMD cores are asked on the nodes of the ports; beside the host's cores {have} that may poll",
            where="pmd.cores",
            hint=f"ask for {wish.pmd - budget} or fewer"
            + (", or set pmd.everyNode to poll from other nodes as well" if others else ""),
        )
    chosen: list[Core] = []
    for node, count in counts.items():
        if not count:
            table.notes.warn(
                f"node {node} has ports and no PMD core of its own: its ports are polled from another node, "
                "which costs memory latency on each packet"
            )
        chosen += table.take(together(_fast(table.free(node)), count, opened=frozenset(table.opened)))
    return tuple(sorted(chosen, key=lambda core: core.first))


def _demand(profile: Profile, ports: tuple[DpdkPort, ...], table: _Table) -> dict[int, int]:
    """Mb/s that the PMD threads of each node have to carry, in order of node; nodes without a free core handed on."""
    with_free = tuple(node for node in table.layout.nodes if table.free(node))
    users = _users(profile, ports, table.layout)
    nodes = set(users) | (set(with_free) if profile.pmd.every_node else set()) or {home_core(table.layout).node}
    demand: dict[int, int] = {}
    for node in sorted(nodes):
        serving = node if node in with_free else nearest(table.host, node, with_free)
        if serving is None:
            continue
        if serving != node and node in users:
            names = ", ".join(name for name, _ in users[node])
            table.notes.warn(
                f"node {node} has no core to spare for PMD threads: node {serving}, the nearest that has, polls "
                f"{names}, and each packet crosses between the nodes"
            )
        demand[serving] = demand.get(serving, 0) + sum(mbps for _, mbps in users.get(node, ()))
    return dict(sorted(demand.items()))


def _users(profile: Profile, ports: tuple[DpdkPort, ...], machine: Layout) -> dict[int, list[tuple[str, int]]]:
    """(name, Mb/s) of what PMD threads poll on each node: ports, and guests with vhost-user that are bound to it.

    Other guests go where PMD threads are, so that they add no node.
    """
    users: dict[int, list[tuple[str, int]]] = {}
    for port in ports:
        if not port.vhost:
            users.setdefault(polling_node(port, machine), []).append((port.name, port_mbps(port)))
    for vnf in profile.vnfs:
        if vnf.node in machine.nodes and any(port.type is PortType.VHOSTUSER for port in vnf.ports):
            users.setdefault(vnf.node, []).append((vnf.name, 0))
    return users


def polling_node(port: DpdkPort, machine: Layout) -> int:
    """The node on which OVS polls a port that is not vhost-user.

    A port without a node counts as on socket 0 (OVS lib/netdev-dpdk.c, common_construct), and on the host's node
    where a machine has no CPUs on node 0.
    """
    if port.node is not None:
        return port.node
    return 0 if 0 in machine.nodes else home_core(machine).node


def _asked_on(node: int, ports: tuple[DpdkPort, ...], machine: Layout, wish: _Wish) -> int:
    """Cores of that node which pmd.cores will need, when it is spread evenly over the nodes with ports."""
    nodes = {polling_node(port, machine) for port in ports if not port.vhost} or {node}
    return -(-(wish.pmd or 0) // len(nodes)) if node in nodes else 0


def port_mbps(port: DpdkPort) -> int:
    """The rate that a port counts with: its line rate; a whole core's worth for a NIC whose rate is unknown."""
    if port.speed_mbps:
        return port.speed_mbps
    return MBPS_PER_PMD_CORE if port.pci is not None else VIRTUAL_PORT_MBPS


def _dedicated_cores(table: _Table, host_cores: tuple[Core, ...], wish: _Wish) -> tuple[Core, ...]:
    """All cores that are left; the host's where the machine is too small to leave one."""
    machine = table.layout
    if left := table.free():
        whole = sorted({core.group for core in left} - table.opened)
        reason = [f"the {counted(len(left), 'core')} that are left: {_per_node(left)}"]
        if whole and len({core.group for core in machine.cores}) > len(machine.nodes):
            reason.append(f"whole cache groups: {_group_names(machine, whole)}")
        if len({core.efficiency for core in left}) > 1:
            slow = threads(core for core in left if core.efficiency)
            reason.append(f"E-cores among them: {slow}")
            table.notes.warn(
                f"dedicated CPUs hold P-cores and E-cores ({slow}); Nova cannot tell them apart, so a guest that it "
                "places itself may get both kinds"
            )
        table.notes.decide("cpus.dedicated", _choice(left), "; ".join(reason))
        return table.take(left)
    if wish.tight:
        size = counted(len(machine.cores), "thread" if machine.split_threads else "core")
        table.notes.warn(
            f"dedicated CPUs overlap the host's ({threads(host_cores)}): the machine has {size} in all, so pinned "
            "guests share these with the host"
        )
        table.notes.decide("cpus.dedicated", _choice(host_cores), "the machine is too small for cores of their own")
        return host_cores
    table.notes.warn("no core is left for pinned guests: host, PMD and shared pools take the whole machine")
    table.notes.decide("cpus.dedicated", "none", "host, PMD and shared pools take the whole machine")
    return ()


def _quiet(table: _Table, free: Sequence[Core], count: int) -> tuple[Core, ...]:
    """Cores for the host or floating guests: E-cores first, then those beside cores that are already dealt."""
    slow = tuple(core for core in free if core.efficiency)
    chosen = together(slow, count, opened=frozenset(table.opened))
    if len(chosen) < count:
        fast = tuple(core for core in free if not core.efficiency)
        chosen += together(fast, count - len(chosen), opened=frozenset(table.opened))
    return chosen


def _fast(free: Sequence[Core]) -> tuple[Core, ...]:
    """Cores that may poll: the P-cores where there are any."""
    return tuple(core for core in free if not core.efficiency) or tuple(free)


def _explain_host(profile: Profile, table: _Table, chosen: tuple[Core, ...], wish: _Wish, *, by_rule: int) -> None:
    """Note why these are the host's cores."""
    machine, home = table.layout, home_core(table.layout)
    total, on_home = len(machine.cores), len(machine.on(home.node))
    reason = [f"CPU {home.first}'s core stays with the host: the kernel, interrupts and system services are there"]
    if machine.split_threads:
        reason.append("the machine has one physical core, so its threads are dealt out as if they were cores")
    elif wish.host is not None:
        reason.append(f"{counted(wish.host, 'core')} asked by host.cores")
    elif len(chosen) < by_rule:
        reason.append(
            f"one core per {CORES_PER_HOST_CORE} would be {by_rule} of {total}; {len(chosen)} of the {on_home} on node "
            f"{home.node} leave room there for PMD threads and guests"
        )
    else:
        reason.append(f"one core per {CORES_PER_HOST_CORE}: {by_rule} of {total}")
    if profile.host.every_node:
        reason.append("at least one on every node with CPUs, as host.everyNode asks")
    elif len(machine.nodes) > 1 and {core.node for core in chosen} == {home.node}:
        reason.append(f"all on node {home.node}, so that the other nodes are free for guests")
    if any(core.efficiency for core in chosen if core != home):
        reason.append("E-cores first, so that P-cores are left for PMD threads and guests")
    table.notes.decide("cpus.host", _choice(chosen), "; ".join(reason))


def _explain_pmd(
    profile: Profile, ports: tuple[DpdkPort, ...], table: _Table, chosen: tuple[Core, ...], idle: CpuSet
) -> None:
    """Note why these are the PMD cores."""
    if not chosen:
        table.notes.decide("cpus.pmd", "none", "no DPDK or vhost-user port is planned, so nothing has to be polled")
        return
    machine = table.layout
    reason: list[str] = []
    for node in sorted({core.node for core in chosen}):
        mine = [core for core in chosen if core.node == node]
        here = [port for port in ports if not port.vhost and polling_node(port, machine) == node]
        text = f"{counted(len(mine), 'core')} for {_traffic(here)} on node {node}"
        groups = {core.group for core in mine}
        all_groups = {core.group for core in machine.on(node)}
        if len(all_groups) > 1:
            text += f", in cache group {_group_names(machine, sorted(groups))}"
            if groups <= {home_core(machine).group}:
                text += " with the host's core"
            if whole := sorted(all_groups - table.opened):
                verb = "stays" if len(whole) == 1 else "stay"
                text += f", so that {_group_names(machine, whole)} {verb} whole for guests"
        reason.append(text)
    if profile.pmd.cores is not None:
        reason.append(f"{profile.pmd.cores} asked by pmd.cores")
    else:
        reason.append(f"one core for each {MBPS_PER_PMD_CORE // 1000} Gb/s, at most a quarter of a node's cores")
    if any(core.efficiency for core in machine.cores) and not any(core.efficiency for core in chosen):
        reason.append("P-cores only")
    if idle:
        reason.append(f"the sibling threads {idle} stay idle, as pmd.oneThreadPerCore asks")
    elif any(len(core.threads) > 1 for core in chosen):
        reason.append("all threads of a core poll, so that none is beside a guest")
    table.notes.decide("cpus.pmd", _choice(chosen), "; ".join(reason))


def _warn_of_oddities(host: Host, table: _Table) -> None:
    """Warn of CPUs that the plan has to leave out."""
    machine = table.layout
    if barred := host.online - host.allowed:
        table.notes.warn(
            f"CPUs {barred} are online, but this process's cgroup may not use them: they are in no pool; "
            "plan outside of the container, or widen its cpuset, to use them"
        )
        siblings = union(cpu.thread_siblings for cpu in host.cpus if cpu.id in host.usable) & barred
        if siblings:
            table.notes.warn(f"CPUs {siblings} share cores with CPUs of this plan, and others may run on them")
    home = home_core(machine)
    if 0 not in home.threads:
        table.notes.warn(f"CPU 0 is offline or not allowed, so CPU {home.first} takes its place in the host pool")
    if machine.split_threads:
        table.notes.warn(
            f"the machine has one physical core: its threads {threads(machine.cores)} are dealt out one by one, and "
            "share its execution units"
        )


def home_core(machine: Layout) -> Core:
    """The host's first core; the caller has made sure that there is one."""
    if machine.home is None:
        raise ValueError("a machine without usable CPUs has no host core")
    return machine.home


def _traffic(ports: Sequence[DpdkPort]) -> str:
    """`2 x 10 Gb/s and 1 virtual port (counted as 10 Gb/s)`; `vhost-user guests` where there is no port."""
    counts: dict[tuple[str, int], int] = {}
    for port in ports:
        kind = "rated" if port.speed_mbps else "port of unknown speed" if port.pci is not None else "virtual port"
        counts[kind, port_mbps(port)] = counts.get((kind, port_mbps(port)), 0) + 1
    texts = [
        f"{count} x {mbps / 1000:g} Gb/s"
        if kind == "rated"
        else f"{counted(count, kind)} (counted as {mbps // 1000} Gb/s{' each' if count > 1 else ''})"
        for (kind, mbps), count in counts.items()
    ]
    return " and ".join(texts) or "vhost-user guests"


def _group_names(machine: Layout, groups: Sequence[int]) -> str:
    """The CPUs of these cache groups; where they are many, their number."""
    if len(groups) > 4:  # noqa: PLR2004 - what a line holds
        return counted(len(groups), "other group")
    return " and ".join(str(threads(core for core in machine.cores if core.group == group)) for group in groups)


def _per_node(cores: Sequence[Core]) -> str:
    """`3 on node 0, 4 on node 1`."""
    counts: dict[int, int] = {}
    for core in cores:
        counts[core.node] = counts.get(core.node, 0) + 1
    return ", ".join(f"{counts[node]} on node {node}" for node in sorted(counts))


def _choice(cores: Sequence[Core]) -> str:
    """The CPUs of these cores; `none` where there are none."""
    return str(threads(cores)) or "none"


def counted(count: int, noun: str) -> str:
    """`1 core`, `2 cores`, `2 ports of unknown speed`."""
    first, _, rest = noun.partition(" of ")
    plural = first if count == 1 else f"{first}s"
    return f"{count} {plural} of {rest}" if rest else f"{count} {plural}"
