"""Division of each node's memory between host, OVS and guests, and the hugepages for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host, NumaNode
from nfvhost.model.ovs_keys import release
from nfvhost.model.plan import CpuPools, MemoryPlan, NodeMemory, Pages
from nfvhost.model.profile import PageChoice, PortType, Profile
from nfvhost.model.units import PageSize
from nfvhost.planner.cores import polling_node
from nfvhost.planner.layout import layout, nearest
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.ports import DpdkPort

# OVS lib/netdev-dpdk.c: MAX_NB_MBUF, MIN_NB_MBUF (shared pools), NETDEV_DPDK_MBUF_ALIGN.
MAX_MBUFS: Final = 4096 * 64
MIN_MBUFS: Final = 4096 * 4
MBUF_ALIGN: Final = 1024
# RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN + a VLAN tag each side; OVS counts 22 byte around the MTU.
FRAME_OVERHEAD: Final = 22
# struct rte_mbuf, OVS's metadata, headroom and the mempool's element header (OVS Documentation/topics/dpdk/memory.rst).
MBUF_OVERHEAD: Final = 960
# OVS gives rings so many descriptors where nothing is asked (NIC_PORT_DEFAULT_RXQ_SIZE, NIC_PORT_DEFAULT_TXQ_SIZE).
DEFAULT_DESCRIPTORS: Final = 2048
ETHER_MTU: Final = 1500
# DPDK's own on each node that has a pool: rings, memzones, device queues. An engineering margin.
DPDK_MIB: Final = 64

# The host's floor, an engineering rule between TripleO's 4096 MiB and StarlingX's 2000 MiB + 1000 MiB a socket:
# system services, nova-compute, libvirt, QEMU's own memory and page cache on the host's node; kernel memory and QEMU
# on each other; and a fiftieth of each node.
HOST_MIB: Final = 2048
OTHER_NODE_MIB: Final = 512
FLOOR_PART: Final = 50
# A node too small for that gives the host half, and never less than this: a server with 76 MiB left does not come up.
LEAST_MIB: Final = 768
# 1 GiB pages serve where a node has room for so many; below, rounding to whole pages would waste an eighth or more.
GIB_PAGES_LEAST: Final = 8
GIB: Final = 1024
# mm/hugetlb.c takes counts by node on the command line from this release on.
PER_NODE_PAGES: Final = (5, 16)
# OpenStack will plug vhost-user ports that no profile names: so many a node count in the per-port model.
LATER_VHOST_PORTS: Final = 4


_NO_CPUS: Final = "it has memory and no CPUs: a pinned guest needs both on one node, so no pages are reserved here"


def rounded_mtu(mtu: int) -> int:
    """The MTU that OVS makes a pool for: ports whose frames round up to the same buffer share it.

    Source: OVS lib/netdev-dpdk.c, netdev_dpdk_mempool_configure: FRAME_LEN_TO_MTU(dpdk_buf_size(mtu)). The number of
    mbufs follows this rounded MTU, so that 1400 gets as many as 1500.
    """
    return _data_room(mtu) - FRAME_OVERHEAD


def shared_pool_mib(mtu: int) -> int:
    """MiB of one shared pool: mbufs x (ROUND_UP(MTU + 22, 1024) + 960) byte.

    262144 mbufs, or 16384 where the rounded MTU is below 1500: 752 MiB at 1500, 1008 at 2048, 2544 at 9000, 2800 at
    9216. Source: OVS lib/netdev-dpdk.c, dpdk_calculate_mbufs; Documentation/topics/dpdk/memory.rst.
    """
    mbufs = MAX_MBUFS if rounded_mtu(mtu) >= ETHER_MTU else MIN_MBUFS
    return _mib(mbufs * (_data_room(mtu) + MBUF_OVERHEAD))


def port_pool_mib(mtu: int, *, rx_queues: int, rx_descriptors: int, tx_queues: int, tx_descriptors: int) -> int:
    """MiB of one port's own pool (`per-port-memory=true`); `tx_queues` is one for each PMD thread and one more.

    mbufs = rx_queues x rx_descriptors + tx_queues x tx_descriptors + min(128, rx_queues) x 32 + 16384.
    Source: OVS lib/netdev-dpdk.c, dpdk_calculate_mbufs (RTE_MAX_LCORE 128, NETDEV_MAX_BURST 32).
    """
    mbufs = rx_queues * rx_descriptors + tx_queues * tx_descriptors + min(128, rx_queues) * 32 + MIN_MBUFS
    return _mib(mbufs * (_data_room(mtu) + MBUF_OVERHEAD))


def divide(host: Host, profile: Profile, ports: tuple[DpdkPort, ...], pools: CpuPools, notes: Notebook) -> MemoryPlan:
    """Each node's memory: the host's floor first, then OVS's pools, then guests' pages.

    A wish beyond that is noted in `notes`; the plan then holds what would fit.
    """
    budgets = _budgets(host, profile, pools, notes)
    size = _page_size(host, profile, budgets, notes, needed=bool(ports))
    ovs: dict[int, int] = {}
    guests: dict[int, int] = {}
    if size is not None:
        ovs = _ovs_pages(host, profile, ports, pools, budgets, size, notes)
        guests = _guest_pages(profile, budgets, ovs, size, notes)
        if size >= GIB and spreads_evenly(host):
            guests = _level(budgets, ovs, guests, asked=profile.memory.guest_mib is not None)
    page_mib = size or 0
    nodes = []
    for budget in budgets:
        ovs_pages, guest_pages = ovs.get(budget.node, 0), guests.get(budget.node, 0)
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
        _explain_node(budget, nodes[-1], notes)
    return MemoryPlan(nodes=tuple(nodes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Budget:
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


def node_cpus(host: Host, cpus: CpuSet) -> dict[int, CpuSet]:
    """These CPUs by node; Cpu.node decides, since node directories may claim the same CPU twice."""
    first = host.nodes[0].id if host.nodes else 0
    by_node: dict[int, list[int]] = {}
    for cpu in host.cpus:
        if cpu.id in cpus:
            by_node.setdefault(first if cpu.node is None else cpu.node, []).append(cpu.id)
    return {node: CpuSet(by_node[node]) for node in sorted(by_node)}


def _budgets(host: Host, profile: Profile, pools: CpuPools, notes: Notebook) -> tuple[_Budget, ...]:
    """Each node's total and floor."""
    with_cpus = set(node_cpus(host, host.online))
    with_guests = set(node_cpus(host, pools.dedicated))
    if host.allowed_nodes is not None:
        with_guests &= set(host.allowed_nodes)
    homes = node_cpus(host, CpuSet([pools.host.first])) if pools.host else {}
    totals = {node.id: _total_mib(host, node) for node in host.nodes}
    if unknown := [node for node, total in totals.items() if total is None]:
        notes.warn(
            f"the memory of {_nodes_text(unknown)} is not known, so that no hugepages are planned there; "
            "a capture needs /sys/devices/system/node/node*/meminfo or /proc/meminfo"
        )
    home = next(iter(homes), None)
    if not totals.get(home if home is not None else -1) and with_cpus:
        # The host's CPUs have no memory of their own: the nearest that has serves.
        home = nearest(host, home or 0, [node for node, total in totals.items() if total])
    floors = _floors(totals, with_cpus, home)
    asked = profile.memory.host_mib
    if asked is not None:
        floors = _asked_floors(asked, totals, floors, with_cpus, notes)
    budgets = []
    for node, total in totals.items():
        floor = floors[node]
        if node not in with_cpus:
            reason = _NO_CPUS
        elif asked is None and total and floor < _floor_rule_mib(total, home=node == home):
            reason = "half of a small node" + (f", and at least {LEAST_MIB} MiB" if node == home else "")
            notes.warn(f"node {node} has {total} MiB: the host keeps {floor} MiB of it, less than on larger machines")
        elif asked is not None:
            reason = f"its part of the {asked} MiB that memory.hostMiB asks"
        elif node == home:
            reason = f"{HOST_MIB} MiB for system services, nova-compute and QEMU, and a fiftieth of the node"
        else:
            reason = f"{OTHER_NODE_MIB} MiB for the kernel and QEMU, and a fiftieth of the node"
        budgets.append(
            _Budget(
                node=node, total_mib=total or 0, host_mib=floor, guests=node in with_guests and bool(total), why=reason
            )
        )
    return tuple(budgets)


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


def _page_size(
    host: Host, profile: Profile, budgets: tuple[_Budget, ...], notes: Notebook, *, needed: bool
) -> int | None:
    """MiB of one page, the same on every node; None where the machine offers none."""
    offered = _offered_mib(host)
    wish = profile.memory.page_size
    if wish is PageChoice.GIB_1 and GIB not in offered:
        sizes = ", ".join(f"{size} MiB" for size in sorted(offered)) or "none that its files name"
        notes.refuse(
            f"this machine has no pages of 1 GiB (no pdpe1gb among the CPU's flags): it offers {sizes}",
            where="memory.pageSize",
            hint="leave it out, or choose `auto`",
        )
        return min(offered, default=None)
    if wish is PageChoice.GIB_1:
        notes.decide("memory.pageSize", "1G", "asked by memory.pageSize; reserved at boot, before memory is fragmented")
        return GIB
    if not any(budget.total_mib for budget in budgets):
        notes.decide("memory.pageSize", "none", "the memory of this machine is not known")
        return None
    if not offered:
        if needed or any(budget.room_mib for budget in budgets):
            notes.warn("the kernel's hugepage sizes are not known (no /sys/kernel/mm/hugepages): no pages are planned")
        notes.decide("memory.pageSize", "none", "the kernel offers no hugepages, as far as its files say")
        return None
    rooms = [budget.room_mib for budget in budgets if budget.guests]
    if wish is PageChoice.AUTO and GIB in offered and _gib_serves(host, budgets):
        notes.decide(
            "memory.pageSize",
            "1G",
            f"the CPU has them, and every guest node has room for {GIB_PAGES_LEAST} or more: fewest TLB misses; "
            "reserved at boot, before memory is fragmented",
        )
        return GIB
    return _small_page(host, wish, offered, min(rooms, default=0), notes)


def spreads_evenly(host: Host) -> bool:
    """Whether the kernel gives each node with memory the same number of the pages that it reserves at boot.

    Counts by node on the command line came with Linux 5.16 (mm/hugetlb.c, hugepages_setup); a kernel whose version is
    not known counts as older.
    """
    with_memory = [node for node in host.nodes if node.memory_kib]
    return len(with_memory) > 1 and (release(host.kernel_version or "") or (0, 0)) < PER_NODE_PAGES


def _gib_serves(host: Host, budgets: tuple[_Budget, ...]) -> bool:
    """Whether pages of 1 GiB waste little: enough of them on each guest node, and as many on all if they must be."""
    rooms = [budget.room_mib // GIB for budget in budgets if budget.guests]
    if min(rooms, default=0) < GIB_PAGES_LEAST:
        return False
    if not spreads_evenly(host):
        return True
    least = min(budget.room_mib // GIB if budget.guests else 0 for budget in budgets if budget.total_mib)
    return least * len(rooms) * 4 >= sum(rooms) * 3


def _level(budgets: tuple[_Budget, ...], ovs: dict[int, int], guests: dict[int, int], *, asked: bool) -> dict[int, int]:
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


def _small_page(host: Host, wish: PageChoice, offered: frozenset[int], room_mib: int, notes: Notebook) -> int:
    """2 MiB, or the smallest size of a machine without, and why it is not 1 GiB."""
    small = 2 if 2 in offered else min(offered)  # noqa: PLR2004 - MiB
    if wish is PageChoice.MIB_2:
        why = "asked by memory.pageSize"
        if small != 2:  # noqa: PLR2004 - MiB
            notes.warn(f"this machine has no pages of 2 MiB: pages of {small} MiB, its smallest, take their place")
            why = "the smallest that the machine has, in place of 2 MiB"
    elif GIB in offered and room_mib < GIB_PAGES_LEAST * GIB:
        why = f"a guest node has room for {room_mib} MiB, fewer than {GIB_PAGES_LEAST} pages of 1 GiB"
    elif GIB in offered:
        why = (
            "kernels before 5.16 spread the pages of 1 GiB that they reserve at boot evenly over the nodes, and these "
            "nodes have too different a need"
        )
    elif host.model.architecture == "x86_64":
        why = "the machine offers no pages of 1 GiB (pdpe1gb)"
    else:
        why = "the size of this kernel's ordinary hugepages"
    notes.decide(
        "memory.pageSize", str(PageSize(small * 1024)), f"{why}; reserved while the machine runs, and read back"
    )
    return small


def _offered_mib(host: Host) -> frozenset[int]:
    """Hugepage sizes of the machine in MiB, those below 1 MiB left out."""
    listed = {pool.size.mib for pool in host.hugepages}
    listed |= {pool.size.mib for node in host.nodes for pool in node.hugepages}
    flags = host.model.flags
    if "pdpe1gb" in flags:
        # The kernel takes hugepagesz=1G wherever the CPU has it (arch/x86/mm/hugetlbpage.c, arch_hugetlb_valid_size).
        listed |= {2, GIB}
    elif "pse" in flags:
        listed -= {GIB}
        listed |= set() if listed else {2}
    listed.discard(0)
    return frozenset(listed)


def _ovs_pages(
    host: Host,
    profile: Profile,
    ports: tuple[DpdkPort, ...],
    pools: CpuPools,
    budgets: tuple[_Budget, ...],
    size: int,
    notes: Notebook,
) -> dict[int, int]:
    """Pages of OVS on each node: its packet buffers and DPDK's own, cut to what the host's floor leaves.

    On a node without a port of its own OVS takes at most half of that: its guests need some as well.
    """
    if not pools.pmd:
        return {}
    rooms = {budget.node: budget.room_mib // size for budget in budgets}
    on_node = _fixed_ports(host, ports, rooms, notes)
    with_ports = set(on_node)
    guest_ports = _guest_ports(profile, ports)
    for budget in budgets:
        if budget.guests and guest_ports:
            on_node.setdefault(budget.node, []).extend(guest_ports)
    pages: dict[int, int] = {}
    for node, here in sorted(on_node.items()):
        mib = DPDK_MIB + _pools_mib(profile, here, tx_queues=len(pools.pmd) + 1)
        count = -(-mib // size)
        pages[node] = min(count, rooms[node] if node in with_ports else rooms[node] // 2)
        if pages[node] < count:
            notes.warn(
                f"OVS asks for {mib} MiB of packet buffers on node {node}, and {pages[node] * size} MiB can be given "
                "above the host's floor: it then tries with half as many, which drops packets sooner under bursts"
            )
    if ports and not any(pages.values()):
        notes.warn("no hugepage can be given to OVS: DPDK will not start without memory of its own")
    return pages


def _fixed_ports(
    host: Host, ports: tuple[DpdkPort, ...], rooms: dict[int, int], notes: Notebook
) -> dict[int, list[DpdkPort]]:
    """The ports that are not vhost-user, by the node that holds their packet buffers."""
    machine = layout(host)
    on_node: dict[int, list[DpdkPort]] = {}
    for port in ports:
        if port.vhost:
            continue
        node = polling_node(port, machine)
        serving = node if rooms.get(node) else nearest(host, node, [one for one, room in rooms.items() if room])
        if serving is None:
            continue
        if serving != node:
            notes.warn(
                f"node {node} has no memory to spare for the packet buffers of {port.name}, which DPDK asks for there: "
                f"they are planned on node {serving}; if the port does not open, move its card"
            )
        on_node.setdefault(serving, []).append(port)
    return on_node


def _guest_ports(profile: Profile, ports: tuple[DpdkPort, ...]) -> list[DpdkPort]:
    """The vhost-user ports of the profile and those that OpenStack will plug; they follow their guests' memory.

    One pool has to stand ready on each node for guests (OVS lib/netdev-dpdk.c, new_device: requested_socket_id).
    """
    later = max(
        sum(vnf.count for vnf in profile.vnfs for port in vnf.ports if port.type is PortType.VHOSTUSER),
        LATER_VHOST_PORTS if profile.nova.enabled else 0,
    )
    mtu = profile.ovs.mtu or ETHER_MTU
    plugged = [DpdkPort(name="later", bridge="", vhost=True, mtu=mtu)] * later
    return [port for port in ports if port.vhost] + plugged


def _pools_mib(profile: Profile, ports: Iterable[DpdkPort], *, tx_queues: int) -> int:
    """MiB of the pools of one node's ports, in the memory model of the profile."""
    if not profile.memory.per_port:
        return sum(shared_pool_mib(mtu) for mtu in sorted({rounded_mtu(port.mtu) for port in ports}))
    return sum(
        port_pool_mib(
            port.mtu,
            rx_queues=port.rx_queues or 1,
            rx_descriptors=profile.ovs.rx_descriptors or DEFAULT_DESCRIPTORS,
            tx_queues=tx_queues,
            tx_descriptors=profile.ovs.tx_descriptors or DEFAULT_DESCRIPTORS,
        )
        for port in ports
    )


def _guest_pages(
    profile: Profile, budgets: tuple[_Budget, ...], ovs: dict[int, int], size: int, notes: Notebook
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


def _explain_node(budget: _Budget, memory: NodeMemory, notes: Notebook) -> None:
    """Note how a node's memory is divided."""
    subject = f"memory.node{memory.node}"
    if not memory.total_mib:
        notes.decide(subject, "nothing planned", "its memory is not known, or it has none")
        return
    if budget.why is _NO_CPUS:
        notes.decide(subject, f"{memory.total_mib} MiB left alone", budget.why)
        return
    pages = "no pages"
    if memory.pages:
        when = "at boot" if memory.pages[0].at_boot else "at run time"
        pages = f"{memory.pages[0].count} pages of {PageSize(memory.pages[0].size_mib * 1024)} reserved {when}"
    reason = [f"of {memory.total_mib} MiB the host keeps {memory.host_mib} MiB ({budget.why})"]
    if memory.ovs_mib:
        reason.append(f"OVS gets {memory.ovs_mib} MiB for packet buffers, by its own arithmetic and in whole pages")
    if memory.guest_mib:
        reason.append(f"guests get {memory.guest_mib} MiB")
    elif not budget.guests:
        reason.append("no CPUs for pinned guests here, so no pages for them")
    notes.decide(
        subject,
        f"host {memory.host_mib} MiB, OVS {memory.ovs_mib} MiB, guests {memory.guest_mib} MiB: {pages}",
        "; ".join(reason),
    )


def _data_room(mtu: int) -> int:
    """Bytes of one buffer without headroom: ROUND_UP(MTU + 22, 1024)."""
    return -(-(mtu + FRAME_OVERHEAD) // MBUF_ALIGN) * MBUF_ALIGN


def _mib(size_bytes: int) -> int:
    """Whole MiB, rounded up."""
    return -(-size_bytes // (1024 * 1024))


def _nodes_text(nodes: Iterable[int]) -> str:
    """`node 0`, `nodes 0, 1`."""
    names = [str(node) for node in nodes]
    return f"node{'s' if len(names) > 1 else ''} {', '.join(names)}"
