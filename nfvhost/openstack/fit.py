"""Whether a guest fits a host, by the rules of Nova (numa_fit_instance_to_host) and of Placement.

The tier openstack runs Nova's own code beside this one, on every captured machine and on made-up ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, permutations
from typing import Final

from nfvhost.model.cpuset import EMPTY, CpuSet, union
from nfvhost.model.profile import CpuPolicy, ThreadPolicy
from nfvhost.openstack.flavor import ANY, LARGE, SMALL, Guest, GuestCell
from nfvhost.openstack.nova_host import CPU_RATIO, CellPages, HostCell, NovaHost

_KIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one cell of a guest has of one node."""

    node: int
    page_kib: int
    pinned: CpuSet
    emulator: CpuSet
    cell: GuestCell


def fit(host: NovaHost, guest: Guest) -> tuple[Taken, ...] | None:
    """Where the guest would be, one entry for each of its cells; None where it does not fit.

    A guest without cells fits wherever Placement has room for it, and has no entries.
    """
    if not has_inventory(host, guest):
        return None
    return numa_fit(host.cells, guest)


def has_inventory(host: NovaHost, guest: Guest) -> bool:
    """Whether Placement has what the guest takes."""
    return (
        guest.pcpus <= host.pcpus
        and guest.shared <= min(host.vcpus, host.vcpus_at_once)
        and guest.memory_mib <= host.memory_mib
    )


def numa_fit(cells: tuple[HostCell, ...], guest: Guest) -> tuple[Taken, ...] | None:
    """The first choice of nodes that has room for each cell of the guest, in Nova's order; None where none has."""
    if not guest.cells:
        return ()
    if len(cells) < len(guest.cells):
        return None
    attempt = _Attempt(guest)
    for chosen in permutations(_in_order(cells, guest), len(guest.cells)):
        taken = attempt.on(chosen)
        if taken is not None:
            return taken
    return None


class _Attempt:
    """What Nova remembers while it tries nodes.

    It writes into the guest what it finds: the size of pages, which it then wants on all nodes, and the node instead of
    the cell's number, by which it also remembers what did not fit. So a guest of several cells may be refused although
    it would fit; the same is refused here.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._pages = [guest.page] * len(guest.cells)
        self._ids = list(range(len(guest.cells)))
        self._last = [
            Taken(node=at, page_kib=max(guest.page or 0, 0), pinned=EMPTY, emulator=EMPTY, cell=cell)
            for at, cell in enumerate(guest.cells)
        ]
        self._fits: dict[tuple[int, int], bool] = {}

    def on(self, nodes: Sequence[HostCell]) -> tuple[Taken, ...] | None:
        """What each cell of the guest has of these nodes; None where one of them has no room."""
        for at, node in enumerate(nodes):
            pair = (node.node, self._ids[at])
            if pair not in self._fits:
                taken = _fit_cell(node, self._guest, at, self._pages)
                self._fits[pair] = taken is not None
                if taken is not None:
                    self._last[at] = taken
            if not self._fits[pair]:
                return None
            self._ids[at] = node.node
            self._last[at] = replace(self._last[at], node=node.node)
        return tuple(self._last)


def take(host: NovaHost, guest: Guest, taken: tuple[Taken, ...]) -> NovaHost:
    """The host with that guest on it (nova/virt/hardware.py, numa_usage_from_instance_numa)."""
    by_node = {one.node: one for one in taken}
    return replace(
        host,
        cells=tuple(
            _with_guest(cell, guest, by_node[cell.node]) if cell.node in by_node else cell for cell in host.cells
        ),
        pcpus=host.pcpus - guest.pcpus,
        vcpus=host.vcpus - guest.shared,
        memory_mib=host.memory_mib - guest.memory_mib,
    )


def capacity(host: NovaHost, guest: Guest, *, most: int = 65536) -> int:
    """How many such guests the host takes, one after the other."""
    for count in range(most):
        taken = fit(host, guest)
        if taken is None:
            return count
        host = take(host, guest, taken)
    return most


def _in_order(cells: tuple[HostCell, ...], guest: Guest) -> Sequence[HostCell]:
    """Nodes with more memory first, then those with more free CPUs; as they are where the guest needs them all."""
    if len(cells) == len(guest.cells):
        return cells
    ordered = sorted(cells, key=lambda cell: cell.memory_mib - cell.memory_used_mib, reverse=True)
    if guest.policy is CpuPolicy.SHARED:
        return sorted(ordered, key=lambda cell: cell.shared_used)
    return sorted(ordered, key=lambda cell: len(cell.free), reverse=True)


def _fit_cell(cell: HostCell, guest: Guest, at: int, pages: list[int | None]) -> Taken | None:
    """What one cell of the guest would have of this node."""
    wanted = guest.cells[at]
    page = _page(cell, pages[at], wanted, guest)
    if page is None:
        return None
    if pages[at] is not None:
        pages[at] = page
    pins = guest.policy is not CpuPolicy.SHARED
    emulator = 1 if guest.isolated_emulator and at == 0 else 0
    need = wanted.pinned + emulator
    if pins and need > len(cell.free):
        return None
    if guest.policy is not CpuPolicy.DEDICATED and wanted.shared > len(cell.shared):
        return None
    packed = _packed(cell, wanted.pinned, emulator, guest.threads) if pins else (EMPTY, EMPTY)
    if packed is None:
        return None
    if guest.policy is not CpuPolicy.DEDICATED and (
        cell.shared_used + wanted.shared > len(cell.shared) * CPU_RATIO
        or cell.memory_used_mib + wanted.memory_mib > cell.memory_mib
    ):
        return None
    return Taken(node=cell.node, page_kib=page, pinned=packed[0], emulator=packed[1], cell=wanted)


def _page(cell: HostCell, page: int | None, wanted: GuestCell, guest: Guest) -> int | None:
    """The size in KiB of the pages that the guest's cell gets; None where there are none, or too few."""
    sizes = sorted(cell.pages, key=lambda one: one.size_kib, reverse=True)
    if page is None:
        smallest = sizes[-1]
        # Memory in small pages is overcommitted, unless vCPUs are pinned.
        free = smallest.free if guest.policy is not CpuPolicy.SHARED else smallest.total
        return smallest.size_kib if wanted.memory_mib * _KIB <= free * smallest.size_kib else None
    candidates = {SMALL: sizes[-1:], LARGE: sizes[:-1], ANY: sizes}.get(
        page, [one for one in sizes if one.size_kib == page]
    )
    return next((one.size_kib for one in candidates if _holds(one, wanted.memory_mib)), None)


def _holds(pages: CellPages, memory_mib: int) -> bool:
    kib = memory_mib * _KIB
    return kib <= pages.free * pages.size_kib and kib % pages.size_kib == 0


def _packed(cell: HostCell, wanted: int, emulator: int, threads: ThreadPolicy | None) -> tuple[CpuSet, CpuSet] | None:
    """The CPUs of pinned vCPUs and of emulator threads (nova/virt/hardware.py, _pack_instance_onto_cores)."""
    width = max((len(core) for core in cell.cores), default=1)
    free = [tuple(core & cell.free) for core in cell.cores]
    of_width = {number: [core for core in free if len(core) >= number] for number in range(1, width + 1)}
    if threads is ThreadPolicy.ISOLATE:
        # Nova gives it on hosts without SMT alone.
        if not of_width[width] or (width != 1 and cell.dedicated != cell.shared):
            return None
        return _pinning(of_width[width], 1, wanted, emulator, rest=of_width[1], whole=True)
    if threads is ThreadPolicy.REQUIRE and width == 1:
        return None
    least = 2 if threads is ThreadPolicy.REQUIRE else 1
    for number in range(width, least - 1, -1):
        if not of_width[number]:
            continue
        found = _pinning(of_width[number], number, wanted, emulator, rest=of_width[1])
        if found is not None:
            return found
    if threads is ThreadPolicy.REQUIRE:
        return None
    singles = [(cpu,) for cpu in chain(*of_width[1])]
    return _pinning(singles, 1, wanted, emulator, rest=singles)


def _pinning(
    cores: Sequence[tuple[int, ...]],
    threads: int,
    wanted: int,
    emulator: int,
    *,
    rest: Sequence[tuple[int, ...]],
    whole: bool = False,
) -> tuple[CpuSet, CpuSet] | None:
    """So many CPUs, `threads` of each core, and one more of what is left for the emulator where it wants its own."""
    if threads * len(cores) < wanted:
        return None
    chosen = CpuSet(list(chain(*(core[:threads] for core in cores)))[:wanted])
    if not emulator:
        return chosen, EMPTY
    if not wanted:
        return None
    left = [
        cpu for core in rest if not (whole and any(cpu in chosen for cpu in core)) for cpu in core if cpu not in chosen
    ]
    return (chosen, CpuSet(left[:1])) if left else None


def _with_guest(cell: HostCell, guest: Guest, taken: Taken) -> HostCell:
    pinned = taken.pinned | taken.emulator
    if guest.threads is ThreadPolicy.ISOLATE:
        pinned = union(core for core in cell.cores if core & pinned)
    return replace(
        cell,
        pinned=cell.pinned | pinned,
        pages=tuple(
            replace(one, used=one.used + taken.cell.memory_mib * _KIB // one.size_kib)
            if one.size_kib == taken.page_kib
            else one
            for one in cell.pages
        ),
        memory_used_mib=cell.memory_used_mib + taken.cell.memory_mib,
        shared_used=cell.shared_used + taken.cell.shared,
    )
