"""Division of physical cores between host, PMD threads, floating guests and pinned guests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nfvhost.model.cpuset import EMPTY, CpuSet, union
from nfvhost.model.host import Host
from nfvhost.model.plan import CpuPools
from nfvhost.model.profile import Profile
from nfvhost.planner.core_table import Table, Wish, cpu_list, group_names, home_core
from nfvhost.planner.layout import Core, Layout, layout, nearest, threads, together
from nfvhost.planner.notebook import Notebook, counted, node_names
from nfvhost.planner.pmd_cores import asked_on, explain_pmd, pmd_cores
from nfvhost.planner.ports import DpdkPort

# One core of the host for so many cores of the machine.
CORES_PER_HOST_CORE: Final = 8
# From so many cores on, a machine without a DPDK port gets a PMD core for the vhost-user ports that OpenStack plugs.
CORES_FOR_LATER_PORTS: Final = 4


def split(host: Host, profile: Profile, ports: tuple[DpdkPort, ...], notes: Notebook) -> CpuPools:
    """The pools of this machine: whole cores, dealt in the order host, PMD, shared, dedicated.

    On a machine that is too small the pools overlap in this order, each with a warning: dedicated CPUs with the
    host's first, then shared ones, at last (a single CPU) the PMD's. Host CPUs are never isolated.
    A wish beyond the machine is noted in `notes`; the pools are then those that would fit.
    """
    table = Table(host=host, layout=layout(host), notes=notes)
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
    polling_cores = pmd_cores(profile, ports, table, wish) if wants_pmd else ()
    pmd_cpus, idle = threads(polling_cores), EMPTY
    if profile.pmd.one_thread_per_core:
        polling = CpuSet(core.first for core in polling_cores)
        idle, pmd_cpus = pmd_cpus - polling - host_cpus, polling
    explain_pmd(profile, ports, table, polling_cores, idle)
    shared_cores = _shared_cores(profile, table, wish)
    shared = threads(shared_cores) if shared_cores else host_cpus
    dedicated = threads(_dedicated_cores(profile, table, host_cores, wish))
    isolated = (pmd_cpus | dedicated | idle) - host_cpus - shared
    notes.decide(
        "cpus.isolated",
        str(isolated) or "none",
        "scheduler, timers and interrupts stay off PMD threads and pinned guests; host CPUs are never isolated"
        if isolated
        else "no CPU is there for PMD threads or guests alone, and host CPUs are never isolated",
    )
    return CpuPools(host=host_cpus, shared=shared, pmd=pmd_cpus, dedicated=dedicated, idle=idle, isolated=isolated)


def _wants_pmd(profile: Profile, ports: tuple[DpdkPort, ...], machine: Layout) -> bool:
    """Whether something is to be polled: a port, or the vhost-user ports that OpenStack will plug later."""
    if ports or profile.pmd.cores is not None:
        return bool(ports or profile.pmd.cores)
    return profile.nova.enabled and len(machine.cores) >= CORES_FOR_LATER_PORTS


def _wish(profile: Profile, machine: Layout, notes: Notebook, *, wants_pmd: bool, ports: tuple[DpdkPort, ...]) -> Wish:
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
        return Wish(host=host, pmd=pmd, shared=shared, tight=need >= total and smallest)
    asked = {"host.everyNode" if by_nodes else "host.cores": least_host, "pmd.cores": least_pmd, "shared.cores": shared}
    largest = max(asked, key=lambda name: (asked[name], name))
    fits = total - need + asked[largest]
    sums = " + ".join(f"{count} {name.split('.')[0]}" for name, count in asked.items() if count)
    hint = "leave the counts out: what is there is then divided"
    if fits > 0:
        hint = "set it to false" if largest == "host.everyNode" else f"{largest}: at most {fits} would fit"
    notes.refuse(
        f"{sums} = {need} cores are asked, the machine has {counted(total, 'core')} that may be used",
        where=largest,
        hint=hint,
    )
    return Wish(host=None, pmd=None, shared=0, tight=total < 2 + wants_pmd)


def _host_cores(profile: Profile, ports: tuple[DpdkPort, ...], table: Table, wish: Wish) -> tuple[Core, ...]:
    """CPU 0's core, then cores of its node: E-cores first, then those of its own cache group."""
    machine, home = table.layout, home_core(table.layout)
    total, on_home = len(machine.cores), len(machine.on(home.node))
    by_rule = max(1, total // CORES_PER_HOST_CORE)
    limit = min(
        on_home // 2, on_home - asked_on(home.node, ports, machine, wish), total - (wish.pmd or 0) - wish.shared
    )
    count = wish.host if wish.host is not None else max(1, min(by_rule, limit))
    chosen = list(table.take([home]))
    if profile.host.every_node:
        count = max(count, len(machine.nodes))
        chosen += _on_each([node for node in machine.nodes if node != home.node], table)
    chosen += _near_home(table, count - len(chosen))
    chosen.sort(key=lambda core: core.first)
    _explain_host(profile, table, tuple(chosen), wish, by_rule=by_rule)
    return tuple(chosen)


def _on_each(nodes: Sequence[int], table: Table) -> tuple[Core, ...]:
    """One free core of each of these nodes that has one; dealt."""
    return tuple(core for node in nodes for core in table.take(_quiet(table, table.free(node), 1)))


def _near_home(table: Table, count: int) -> tuple[Core, ...]:
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


def _shared_cores(profile: Profile, table: Table, wish: Wish) -> tuple[Core, ...]:
    """Cores of floating guests, near the host's, or on every node as those are; none where the host pool serves."""
    if not wish.shared:
        table.notes.decide(
            "cpus.shared",
            "the host pool",
            "shared.cores asks for none of their own: floating guests and emulator threads run beside the host",
        )
        return ()
    home = home_core(table.layout).node
    nodes = sorted(table.layout.nodes, key=lambda node: node != home)
    each = _on_each(nodes[: wish.shared], table) if profile.host.every_node else ()
    chosen = each + _near_home(table, wish.shared - len(each))
    if len(chosen) < wish.shared:
        table.notes.warn("shared CPUs overlap the host's: the machine has no core of their own for them")
        table.notes.decide("cpus.shared", "the host pool", "the machine is too small for a core of their own")
        return ()
    where = f"on {node_names(core.node for core in chosen)}" if each else "near the host's cores"
    table.notes.decide(
        "cpus.shared", cpu_list(chosen), f"{counted(len(chosen), 'core')} asked by shared.cores, {where}"
    )
    return chosen


def _dedicated_cores(profile: Profile, table: Table, host_cores: tuple[Core, ...], wish: Wish) -> tuple[Core, ...]:
    """All cores that are left; the host's where the machine is too small to leave one."""
    machine = table.layout
    if left := table.free():
        whole = sorted({core.group for core in left} - table.opened)
        reason = [f"the {counted(len(left), 'core')} that {'is' if len(left) == 1 else 'are'} left: {_per_node(left)}"]
        if whole and len({core.group for core in machine.cores}) > len(machine.nodes):
            reason.append(f"among them whole cache groups: {group_names(machine, whole)}")
        if len({core.efficiency for core in left}) > 1:
            slow = threads(core for core in left if core.efficiency)
            reason.append(f"E-cores among them: {slow}")
            table.notes.warn(
                f"dedicated CPUs hold P-cores and E-cores ({slow}); Nova cannot tell them apart, so a guest that it "
                "places itself may get both kinds"
            )
        table.notes.decide("cpus.dedicated", cpu_list(left), "; ".join(reason))
        return table.take(left)
    if wish.tight:
        size = counted(len(machine.cores), "thread" if machine.split_threads else "core")
        effect = "and Nova pins to none that are shared" if profile.nova.enabled else "so pinned guests share these"
        table.notes.warn(
            f"dedicated CPUs overlap the host's ({threads(host_cores)}): the machine has {size} in all, {effect} with "
            "the host"
        )
        table.notes.decide("cpus.dedicated", cpu_list(host_cores), "the machine is too small for cores of their own")
        return host_cores
    table.notes.warn("no core is left for pinned guests: host, PMD and shared pools take the whole machine")
    table.notes.decide("cpus.dedicated", "none", "host, PMD and shared pools take the whole machine")
    return ()


def _quiet(table: Table, free: Sequence[Core], count: int) -> tuple[Core, ...]:
    """Cores for the host or floating guests: E-cores first, then those beside cores that are already dealt."""
    slow = tuple(core for core in free if core.efficiency)
    chosen = together(slow, count, opened=frozenset(table.opened))
    if len(chosen) < count:
        fast = tuple(core for core in free if not core.efficiency)
        chosen += together(fast, count - len(chosen), opened=frozenset(table.opened))
    return chosen


def _explain_host(profile: Profile, table: Table, chosen: tuple[Core, ...], wish: Wish, *, by_rule: int) -> None:
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
            f"one core per {CORES_PER_HOST_CORE} would be {by_rule} of {total}; no more than {len(chosen)} of the "
            f"{on_home} on node {home.node}, so that PMD threads and guests find room there"
        )
    else:
        reason.append(f"one core per {CORES_PER_HOST_CORE}: {by_rule} of {total}")
    if profile.host.every_node:
        reason.append("at least one on every node with CPUs, as host.everyNode asks")
    elif len(machine.nodes) > 1 and {core.node for core in chosen} == {home.node}:
        reason.append(f"all on node {home.node}, so that the other nodes are free for guests")
    if any(core.efficiency for core in chosen if core != home):
        reason.append("E-cores first, so that P-cores are left for PMD threads and guests")
    table.notes.decide("cpus.host", cpu_list(chosen), "; ".join(reason))


def _warn_of_oddities(host: Host, table: Table) -> None:
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


def _per_node(cores: Sequence[Core]) -> str:
    """`3 on node 0, 4 on node 1`."""
    counts: dict[int, int] = {}
    for core in cores:
        counts[core.node] = counts.get(core.node, 0) + 1
    return ", ".join(f"{counts[node]} on node {node}" for node in sorted(counts))
