"""Division of each node's memory between host, OVS and guests, and the hugepages for it."""

from __future__ import annotations

from dataclasses import dataclass

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host
from nfvhost.model.plan import CpuPools, MemoryPlan, NodeMemory, Pages
from nfvhost.model.profile import Profile
from nfvhost.model.units import PageSize
from nfvhost.planner.budgets import NO_CPUS, Budget, budgets
from nfvhost.planner.layout import layout, nearest
from nfvhost.planner.notebook import Notebook, counted
from nfvhost.planner.packet_buffers import MAX_NODES, guest_ports, node_buffers
from nfvhost.planner.page_size import GIB, page_size, spreads_evenly
from nfvhost.planner.pmd_cores import polling_node
from nfvhost.planner.ports import DpdkPort


def divide(host: Host, profile: Profile, ports: tuple[DpdkPort, ...], pools: CpuPools, notes: Notebook) -> MemoryPlan:
    """Each node's memory: the host's floor first, then OVS's pools, then guests' pages.

    A wish beyond that is noted in `notes`; the plan then holds what would fit.
    """
    of_nodes = budgets(host, profile, pools, notes)
    size = page_size(host, profile, of_nodes, notes, needed=bool(ports))
    shares: dict[int, _Share] = {}
    guests: dict[int, int] = {}
    if size is not None:
        shares = _ovs_pages(host, profile, ports, pools, of_nodes, size, notes)
        ovs = {node: share.pages for node, share in shares.items()}
        guests = _guest_pages(profile, of_nodes, ovs, size, notes)
        if size >= GIB and spreads_evenly(host):
            guests = _level(of_nodes, ovs, guests, asked=profile.memory.guest_mib is not None)
    page_mib = size or 0
    nodes = []
    for budget in of_nodes:
        share = shares.get(budget.node, _Share(pages=0, asked_mib=0, why=""))
        ovs_pages, guest_pages = share.pages, guests.get(budget.node, 0)
        count = ovs_pages + guest_pages
        pages = (Pages(size_mib=page_mib, count=count, at_boot=page_mib >= GIB),) if count else ()
        nodes.append(
            NodeMemory(
                node=budget.node,
                total_mib=budget.total_mib,
                host_mib=budget.host_mib,
                ovs_mib=ovs_pages * page_mib,
                guest_mib=guest_pages * page_mib,
                pages=pages,
            )
        )
        _explain_node(budget, nodes[-1], share, notes)
        if size is not None and budget.guests and not guest_pages and profile.memory.guest_mib != 0:
            notes.warn(
                f"node {budget.node} has CPUs for pinned guests and gives them no page: no guest with hugepages, and "
                "so none with vhost-user ports, can be there"
            )
    return MemoryPlan(nodes=tuple(nodes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """OVS's pages on one node."""

    pages: int
    asked_mib: int
    why: str


def _ovs_pages(
    host: Host,
    profile: Profile,
    ports: tuple[DpdkPort, ...],
    pools: CpuPools,
    budgets: tuple[Budget, ...],
    size: int,
    notes: Notebook,
) -> dict[int, _Share]:
    """OVS's share of each node, cut to what the host's floor leaves.

    Where guests are, it takes at most half of that: they need some as well. On a node with a port of its own it takes
    more where the profile asks for fewer guest pages, and one page at the least.
    """
    if not pools.pmd:
        return {}
    rooms = {budget.node: budget.room_mib // size for budget in budgets}
    on_node = _fixed_ports(host, ports, rooms, notes)
    with_ports = set(on_node)
    most = {**rooms, **{budget.node: rooms[budget.node] // 2 for budget in budgets if budget.guests}}
    for node, claim in _guest_claims(profile, budgets, rooms, size).items():
        if node in with_ports:
            most[node] = max(rooms[node] - claim, min(1, rooms[node]))
    plugged = guest_ports(profile, ports)
    for budget in budgets:
        if budget.guests and plugged:
            on_node.setdefault(budget.node, []).extend(plugged)
    _drop_far_nodes(host, on_node, notes)
    shares: dict[int, _Share] = {}
    for node, here in sorted(on_node.items()):
        buffers = node_buffers(profile, here, tx_queues=len(pools.pmd) + 1)
        count = -(-buffers.mib // size)
        pages = min(count, most[node])
        shares[node] = _Share(pages=pages, asked_mib=buffers.mib, why=buffers.why)
        if pages * size < buffers.least_mib:
            notes.warn(
                f"OVS gets {pages * size} MiB on node {node}, and with fewer than {buffers.least_mib} MiB not all of "
                "its ports there open: give the host less (memory.hostMiB), or its ports one small MTU"
            )
        elif pages < count:
            beside = "" if most[node] == rooms[node] else ", beside guests"
            notes.warn(
                f"OVS asks for {buffers.mib} MiB on node {node}, and {pages * size} MiB can be given above the host's "
                f"floor{beside}: it then halves the number of its packet buffers until they fit, which drops packets "
                "sooner under bursts"
            )
    if ports and not any(share.pages for share in shares.values()):
        notes.warn("no hugepage can be given to OVS: DPDK will not start without memory of its own")
    return shares


def _guest_claims(profile: Profile, budgets: tuple[Budget, ...], rooms: dict[int, int], size: int) -> dict[int, int]:
    """Pages that OVS leaves to guests of each node: half of what there is, or their part of the amount asked."""
    mine = {budget.node: rooms[budget.node] for budget in budgets if budget.guests}
    asked, whole = profile.memory.guest_mib, sum(mine.values())
    if asked is None or not whole:
        return {node: room // 2 for node, room in mine.items()}
    return {node: min(room // 2, -(-asked * room // whole // size)) for node, room in mine.items()}


def _drop_far_nodes(host: Host, on_node: dict[int, list[DpdkPort]], notes: Notebook) -> None:
    """Leave out nodes that DPDK cannot take memory on: pages for OVS would lie idle there."""
    limit = MAX_NODES.get(host.model.architecture, max(MAX_NODES.values()))
    beyond = sorted(node for node in on_node if node >= limit)
    for node in beyond:
        del on_node[node]
    if beyond:
        notes.warn(
            f"DPDK's build for {host.model.architecture} knows {limit} NUMA nodes, so OVS cannot take memory on "
            f"{'node' if len(beyond) == 1 else 'nodes'} {CpuSet(beyond)}, and vhost-user ports of guests there fail; a "
            "build with -Dmax_numa_nodes=<n> can"
        )


def _fixed_ports(
    host: Host, ports: tuple[DpdkPort, ...], rooms: dict[int, int], notes: Notebook
) -> dict[int, list[DpdkPort]]:
    """The ports that are not vhost-user, by the node that holds their packet buffers."""
    machine = layout(host)
    polled: dict[int, list[DpdkPort]] = {}
    for port in ports:
        if not port.vhost:
            polled.setdefault(polling_node(port, machine), []).append(port)
    on_node: dict[int, list[DpdkPort]] = {}
    for node, here in sorted(polled.items()):
        serving = node if rooms.get(node) else nearest(host, node, [one for one, room in rooms.items() if room])
        if serving is None:
            continue
        if serving != node:
            names = ", ".join(port.name for port in here)
            notes.warn(
                f"node {node} has no memory to spare for the packet buffers of {names}, which DPDK asks for there: "
                f"they are planned on node {serving}; if a port does not open, move its card"
            )
        on_node.setdefault(serving, []).extend(here)
    return on_node


def _guest_pages(
    profile: Profile, budgets: tuple[Budget, ...], ovs: dict[int, int], size: int, notes: Notebook
) -> dict[int, int]:
    """Pages of guests on each node with CPUs for them: what is left, or the asked amount in proportion to that."""
    left = {budget.node: budget.room_mib // size - ovs.get(budget.node, 0) for budget in budgets if budget.guests}
    asked = profile.memory.guest_mib
    if asked is None:
        return left
    count, most = -(-asked // size), sum(left.values())
    if count > most:
        parts = ", ".join(f"{pages * size} on node {node}" for node, pages in left.items()) or "none"
        notes.refuse(
            f"{asked} MiB are asked for guests, {(count - most) * size} MiB more than the {most * size} MiB "
            f"that are left above the host's floor and OVS's share ({parts})",
            where="memory.guestMiB",
            hint=f"ask for {most * size} or less, or leave it out to take all of that",
        )
        return left
    if not most:
        return left
    given = {node: count * pages // most for node, pages in left.items()}
    rest = count - sum(given.values())
    for node, pages in left.items():
        more = min(rest, pages - given[node])
        given[node] += more
        rest -= more
    return given


def _level(budgets: tuple[Budget, ...], ovs: dict[int, int], guests: dict[int, int], *, asked: bool) -> dict[int, int]:
    """Guests' pages that make all nodes' counts equal, as the kernel will; as they were where that cannot be."""
    nodes = [budget.node for budget in budgets if budget.total_mib]
    most = {node: ovs.get(node, 0) + guests.get(node, 0) for node in nodes}
    level = min(most.values())
    if asked:
        # The asked amount stays whole: the same count on each node, where every node has room for it.
        level = -(-sum(most.values()) // len(nodes))
        rooms = [budget.room_mib // GIB if budget.guests else 0 for budget in budgets if budget.total_mib]
        if level > min(rooms):
            return guests
    if any(level < ovs.get(node, 0) or (node not in guests and level != ovs.get(node, 0)) for node in nodes):
        return guests
    return {node: level - ovs.get(node, 0) for node in guests}


def _explain_node(budget: Budget, memory: NodeMemory, share: _Share, notes: Notebook) -> None:
    """Note how a node's memory is divided."""
    subject = f"memory.node{memory.node}"
    if not memory.total_mib:
        notes.decide(subject, "nothing planned", "its memory is not known, or it has none")
        return
    if budget.why is NO_CPUS:
        notes.decide(subject, f"{memory.total_mib} MiB left alone", budget.why)
        return
    pages = "no pages"
    if memory.pages:
        when = "at boot" if memory.pages[0].at_boot else "at run time"
        size = PageSize(memory.pages[0].size_mib * 1024)
        pages = f"{counted(memory.pages[0].count, f'page of {size}')} reserved {when}"
    reason = [f"of {memory.total_mib} MiB the host keeps {memory.host_mib} MiB ({budget.why})"]
    if memory.ovs_mib:
        gets = (
            "in whole pages" if memory.ovs_mib >= share.asked_mib else f"of the {share.asked_mib} MiB that it asks for"
        )
        reason.append(f"OVS gets {memory.ovs_mib} MiB {gets}: {share.why}")
    if memory.guest_mib:
        reason.append(f"guests get {memory.guest_mib} MiB")
    elif not budget.guests:
        reason.append("no CPUs for pinned guests here, so no pages for them")
    else:
        reason.append("no page is left for guests, whose CPUs are here")
    notes.decide(
        subject,
        f"host {memory.host_mib} MiB, OVS {memory.ovs_mib} MiB, guests {memory.guest_mib} MiB: {pages}",
        "; ".join(reason),
    )
