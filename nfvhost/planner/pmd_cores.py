"""Cores of OVS-DPDK's poll-mode threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.profile import PortType, Profile
from nfvhost.planner.core_table import Table, Wish, cpu_list, group_names, home_core
from nfvhost.planner.layout import Core, Layout, nearest, together
from nfvhost.planner.notebook import counted, node_names
from nfvhost.planner.ports import DpdkPort

# An engineering rule. One thread moves 6.9 million packets a second from port to port at 363 cycles each (measured
# with null ports on OVS 3.1); the second thread of a core adds about a fifth. That is 25 Gb/s of packets of 350 byte,
# the mean of IMIX. No core reaches line rate with 64 byte: 10 Gb/s of them are 14.9 million a second.
MBPS_PER_PMD_CORE: Final = 25_000
# What a virtual device without a speed counts as; the kernel behind it is slower than one PMD core.
VIRTUAL_PORT_MBPS: Final = 10_000
# By default PMD threads take at most this part of a node's cores (rounded up): guests find room on the NIC's node.
PMD_SHARE: Final = 4


def pmd_cores(profile: Profile, ports: tuple[DpdkPort, ...], table: Table, wish: Wish) -> tuple[Core, ...]:
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
    available = {node: len(_able(table.free(node))) for node in demand}
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
        chosen += table.take(together(_able(table.free(node)), count, opened=frozenset(table.opened)))
    return tuple(sorted(chosen, key=lambda core: core.first))


def _demand(profile: Profile, ports: tuple[DpdkPort, ...], table: Table) -> dict[int, int]:
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


def asked_on(node: int, ports: tuple[DpdkPort, ...], machine: Layout, wish: Wish) -> int:
    """Cores of that node which pmd.cores will need, when it is spread evenly over the nodes with ports."""
    nodes = {polling_node(port, machine) for port in ports if not port.vhost} or {node}
    return -(-(wish.pmd or 0) // len(nodes)) if node in nodes else 0


def port_mbps(port: DpdkPort) -> int:
    """The rate that a port counts with: its line rate; a whole core's worth for a NIC whose rate is unknown."""
    if port.speed_mbps:
        return port.speed_mbps
    return MBPS_PER_PMD_CORE if port.pci is not None else VIRTUAL_PORT_MBPS


def _able(free: Sequence[Core]) -> tuple[Core, ...]:
    """Cores that may poll: the P-cores where there are any."""
    return tuple(core for core in free if not core.efficiency) or tuple(free)


def explain_pmd(
    profile: Profile, ports: tuple[DpdkPort, ...], table: Table, chosen: tuple[Core, ...], idle: CpuSet
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
            text += f", in cache group {group_names(machine, sorted(groups))}"
            if groups <= {home_core(machine).group}:
                text += " with the host's core"
            if whole := sorted(all_groups - table.opened):
                verb = "stays" if len(whole) == 1 else "stay"
                text += f", so that {group_names(machine, whole)} {verb} whole for guests"
        reason.append(text)
    if profile.pmd.cores is not None:
        reason.append(f"{profile.pmd.cores} asked by pmd.cores")
    else:
        rate = f"{MBPS_PER_PMD_CORE // 1000} Gb/s"
        reason.append(f"one core for each {rate} of 350 byte packets (IMIX), at most a quarter of a node")
    if any(core.efficiency for core in machine.cores) and not any(core.efficiency for core in chosen):
        reason.append("P-cores only")
    if idle:
        siblings = "sibling thread stays" if len(idle) == 1 else "sibling threads stay"
        reason.append(f"the {siblings} idle ({idle}), as pmd.oneThreadPerCore asks")
    elif any(len(core.threads) > 1 for core in chosen):
        reason.append("all threads of a core poll, so that none is beside a guest")
    reason += _polled_from_afar(profile, machine, chosen)
    table.notes.decide("cpus.pmd", cpu_list(chosen), "; ".join(reason))


def _polled_from_afar(profile: Profile, machine: Layout, chosen: tuple[Core, ...]) -> list[str]:
    """That guests may be on nodes without a PMD core."""
    polled = {core.node for core in chosen}
    others = [node for node in machine.nodes if node not in polled]
    if not others or not profile.nova.enabled:
        return []
    return [f"vhost-user ports of guests on {node_names(others)} are polled from here, unless pmd.everyNode is set"]


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
