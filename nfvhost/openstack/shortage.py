"""Why a guest does not fit a host: which resource is short, by how much, and what would fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.model.profile import CpuPolicy, ThreadPolicy
from nfvhost.openstack.fit import fit
from nfvhost.openstack.flavor import ANY, LARGE, SMALL, Guest, GuestCell
from nfvhost.openstack.nova_host import CellPages, HostCell, NovaHost

_KIB: Final = 1024
_NAMES: Final = {SMALL: "small pages", LARGE: "hugepages", ANY: "pages"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """What is short, and what would fit."""

    what: str
    hint: str


def shortage(host: NovaHost, guest: Guest) -> Shortage | None:
    """Why the guest does not fit; None where it does."""
    if fit(host, guest) is not None:
        return None
    lacks = [*_inventory_lacks(host, guest), *_node_lacks(host, guest)]
    hints = list(_hints(host, guest))
    return Shortage(
        what="; ".join(lacks) or "no choice of nodes has room for all of the guest's nodes",
        hint=" or ".join(hints) or "plan more dedicated CPUs and pages, or a larger host",
    )


def _inventory_lacks(host: NovaHost, guest: Guest) -> Iterator[str]:
    """What Placement has too little of."""
    for name, need, have in (
        ("PCPU", guest.pcpus, host.pcpus),
        ("VCPU for one guest", guest.shared, min(host.vcpus, host.vcpus_at_once)),
        ("MEMORY_MB", guest.memory_mib, host.memory_mib),
    ):
        if need > have:
            yield f"{name}: {need} needed, {have} there, {need - have} short"


def _node_lacks(host: NovaHost, guest: Guest) -> Iterator[str]:
    """What each node has too little of for the guest's first cell, which also holds its emulator threads."""
    if len(guest.cells) > len(host.cells):
        yield f"NUMA nodes: {len(guest.cells)} needed, {len(host.cells)} there"
        return
    if not guest.cells:
        return
    wanted = guest.cells[0]
    for cell in host.cells:
        lacks = list(_cell_lacks(cell, guest, wanted))
        if lacks:
            yield f"node {cell.node}: {', '.join(lacks)}"


def _cell_lacks(cell: HostCell, guest: Guest, wanted: GuestCell) -> Iterator[str]:
    need = wanted.pinned + guest.isolated_emulator
    width = max((len(core) for core in cell.cores), default=1)
    if guest.policy is not CpuPolicy.SHARED:
        if need > len(cell.free):
            yield f"{need} dedicated CPUs needed, {len(cell.free)} free, {need - len(cell.free)} short"
        elif guest.threads is ThreadPolicy.ISOLATE and width > 1:
            yield "threads: isolate is given on hosts without SMT alone"
        elif guest.threads is ThreadPolicy.REQUIRE and width == 1:
            yield "threads: require is given on hosts with SMT alone"
        elif guest.threads is ThreadPolicy.REQUIRE and not _pairs_serve(cell, need):
            yield f"threads: require wants whole cores, and too few of {need} CPUs are siblings that are free together"
    if guest.policy is not CpuPolicy.DEDICATED and wanted.shared > len(cell.shared):
        short = wanted.shared - len(cell.shared)
        yield f"{wanted.shared} shared CPUs needed for its floating vCPUs, {len(cell.shared)} there, {short} short"
    pages = _pages(cell, guest)
    free_mib = max((one.free * one.size_kib // _KIB for one in pages), default=0)
    name = "memory" if guest.page is None else _NAMES.get(guest.page, f"pages of {guest.page} KiB")
    if wanted.memory_mib > free_mib:
        yield f"{wanted.memory_mib} MiB of {name} needed, {free_mib} free, {wanted.memory_mib - free_mib} short"
    elif all(wanted.memory_mib * _KIB % one.size_kib for one in pages):
        sizes = ", ".join(str(one.size_kib // _KIB) for one in pages)
        yield f"{wanted.memory_mib} MiB is no multiple of its pages of {sizes} MiB"


def _pairs_serve(cell: HostCell, need: int) -> bool:
    return sum(len(core & cell.free) for core in cell.cores if len(core & cell.free) > 1) >= need


def _pages(cell: HostCell, guest: Guest) -> tuple[CellPages, ...]:
    """The pages that the guest's memory may be made of."""
    sizes = sorted(cell.pages, key=lambda one: one.size_kib)
    if guest.page is None or guest.page == SMALL:
        return tuple(sizes[:1])
    if guest.page in {LARGE, ANY}:
        return tuple(sizes[1:] if guest.page == LARGE else sizes)
    return tuple(one for one in sizes if one.size_kib == guest.page)


def _hints(host: NovaHost, guest: Guest) -> Iterator[str]:
    """The largest guests like this one that fit: with fewer vCPUs, with less memory."""
    if not guest.cells or len(guest.cells) > len(host.cells):
        return
    if guest.threads is not None and fit(host, replace(guest, threads=None)) is not None:
        yield "without threads it would fit"
    count = len(guest.cells)
    for each in range(max(max(cell.pinned, cell.shared) for cell in guest.cells) - 1, 0, -1):
        smaller = _with_cells(
            guest,
            tuple(replace(cell, pinned=min(cell.pinned, each), shared=min(cell.shared, each)) for cell in guest.cells),
        )
        if fit(host, smaller) is not None:
            yield f"vcpus: {smaller.vcpus} would fit"
            break
    sizes = {one.free * one.size_kib // _KIB for cell in host.cells for one in _pages(cell, guest)}
    rounded = {_down(guest.memory_mib // count, one.size_kib) for cell in host.cells for one in _pages(cell, guest)}
    for mib in sorted(sizes | rounded, reverse=True):
        if not 0 < mib * count < guest.memory_mib:
            continue
        smaller = _with_cells(guest, tuple(replace(cell, memory_mib=mib) for cell in guest.cells))
        if fit(host, smaller) is not None:
            yield f"memoryMiB: {smaller.memory_mib} would fit"
            break


def _down(mib: int, page_kib: int) -> int:
    return mib * _KIB // page_kib * page_kib // _KIB


def _with_cells(guest: Guest, cells: tuple[GuestCell, ...]) -> Guest:
    return replace(
        guest,
        cells=cells,
        vcpus=sum(cell.pinned + cell.shared for cell in cells),
        memory_mib=sum(cell.memory_mib for cell in cells),
    )
