"""What the host keeps of each node's memory, and so how much pages may take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nfvhost.model.host import Host, NumaNode
from nfvhost.model.plan import CpuPools
from nfvhost.model.profile import Profile
from nfvhost.planner.layout import layout, nearest
from nfvhost.planner.notebook import Notebook

# The host's floor, an engineering rule between TripleO's 4096 MiB and StarlingX's 2000 MiB + 1000 MiB a socket:
# system services, nova-compute, libvirt, QEMU's own memory and page cache on the host's node; kernel memory and QEMU
# on each other; and a fiftieth of each node.
HOST_MIB: Final = 2048
OTHER_NODE_MIB: Final = 512
FLOOR_PART: Final = 50
# A node too small for that gives the host half, and never less than this: a server with 76 MiB left does not come up.
LEAST_MIB: Final = 768
NO_CPUS: Final = "it has memory and no CPUs: a pinned guest needs both on one node, so no pages are reserved here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One node's memory before pages."""

    node: int
    total_mib: int  # 0 where nobody knows
    host_mib: int  # the floor
    guests: bool  # it has CPUs for pinned guests
    why: str  # of the floor

    @property
    def room_mib(self) -> int:
        """What pages may take."""
        return self.total_mib - self.host_mib


def budgets(host: Host, profile: Profile, pools: CpuPools, notes: Notebook) -> tuple[Budget, ...]:
    """Each node's total and floor, in order of node."""
    machine = layout(host)
    with_cpus = {cpu.node for cpu in host.cpus if cpu.online and cpu.node is not None} | set(machine.nodes)
    with_guests = machine.nodes_of(pools.dedicated)
    if host.allowed_nodes is not None:
        with_guests &= set(host.allowed_nodes)
    home = None if machine.home is None else machine.home.node
    totals = {node.id: _total_mib(host, node) for node in host.nodes}
    if unknown := [node for node, total in totals.items() if total is None]:
        notes.warn(
            f"the memory of {_nodes_text(unknown)} is not known, so that no hugepages are planned there; "
            "a capture needs /sys/devices/system/node/node*/meminfo or /proc/meminfo"
        )
    if not totals.get(home if home is not None else -1) and with_cpus:
        # The host's CPUs have no memory of their own: the nearest that has serves.
        home = nearest(host, home or 0, [node for node, total in totals.items() if total])
    floors = _floors(totals, with_cpus, home)
    asked = profile.memory.host_mib
    if asked is not None:
        floors = _asked_floors(asked, totals, floors, with_cpus, notes)
    made = []
    for node, total in totals.items():
        floor = floors[node]
        if node not in with_cpus:
            reason = NO_CPUS
        elif asked is None and total and floor < _floor_rule_mib(total, home=node == home):
            reason = "half of a small node" + (f", and at least {LEAST_MIB} MiB" if node == home else "")
            notes.warn(f"node {node} has {total} MiB: the host keeps {floor} MiB of it, less than on larger machines")
        elif asked is not None:
            reason = f"its part of the {asked} MiB that memory.hostMiB asks"
        elif node == home:
            reason = f"{HOST_MIB} MiB for system services, nova-compute and QEMU, and a fiftieth of the node"
        else:
            reason = f"{OTHER_NODE_MIB} MiB for the kernel and QEMU, and a fiftieth of the node"
        made.append(
            Budget(
                node=node, total_mib=total or 0, host_mib=floor, guests=node in with_guests and bool(total), why=reason
            )
        )
    return tuple(made)


def _total_mib(host: Host, node: NumaNode) -> int | None:
    """The node's memory; the machine's where there is only this node."""
    kib = node.memory_kib
    if kib is None and len(host.nodes) == 1:
        kib = host.memory_kib
    return None if kib is None else kib // 1024


def _floor_rule_mib(total_mib: int, *, home: bool) -> int:
    """What the host keeps of a node that is large enough."""
    return (HOST_MIB if home else OTHER_NODE_MIB) + total_mib // FLOOR_PART


def _floor_mib(total_mib: int, *, home: bool, cpus: bool) -> int:
    """What the host keeps of a node: the rule, or half of a small one; all of one without CPUs."""
    if not cpus:
        return total_mib
    least = max(total_mib // 2, LEAST_MIB if home else 0)
    return min(_floor_rule_mib(total_mib, home=home), least, total_mib)


def _floors(totals: dict[int, int | None], with_cpus: set[int], home: int | None) -> dict[int, int]:
    """The floor of each node by rule; together never below the least that a host needs, where the machine has it."""
    floors = {node: _floor_mib(total or 0, home=node == home, cpus=node in with_cpus) for node, total in totals.items()}
    missing = LEAST_MIB - sum(floors[node] for node in with_cpus & set(floors))
    for node in sorted(with_cpus & set(floors)):
        more = min(max(0, missing), (totals[node] or 0) - floors[node])
        floors[node] += more
        missing -= more
    return floors


def _asked_floors(
    asked: int, totals: dict[int, int | None], floors: dict[int, int], with_cpus: set[int], notes: Notebook
) -> dict[int, int]:
    """The asked floor, divided over the nodes with CPUs as the rule's would be."""
    mine = {node: floor for node, floor in floors.items() if node in with_cpus and floor}
    whole = sum(totals[node] or 0 for node in mine)
    if whole and asked > whole:
        notes.refuse(
            f"{asked} MiB are asked for the host, the nodes with CPUs have {whole} MiB",
            where="memory.hostMiB",
            hint=f"leave it out: the host then keeps {sum(mine.values())} MiB",
        )
        return floors
    if mine and asked < min(LEAST_MIB, whole):
        notes.forbid(
            f"{asked} MiB are too little for the host: it would run out of memory once the pages are reserved",
            where="memory.hostMiB",
            hint=f"ask for {LEAST_MIB} or more, or leave it out: the host then keeps {sum(mine.values())} MiB",
        )
        return floors
    rule = sum(mine.values())
    divided = dict(floors)
    missing = asked
    for node, floor in mine.items():
        divided[node] = min(totals[node] or 0, -(-asked * floor // rule))
        missing -= divided[node]
    for node in mine:
        # A small node may not hold its part.
        more = min(max(0, missing), (totals[node] or 0) - divided[node])
        divided[node] += more
        missing -= more
    return divided


def _nodes_text(nodes: Iterable[int]) -> str:
    """`node 0`, `nodes 0, 1`."""
    names = [str(node) for node in nodes]
    return f"node{'s' if len(names) > 1 else ''} {', '.join(names)}"
