"""Pools of hugepages, node by node: those of the run time are resized, those of the boot are counted."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.boot import kernel_args
from nfvhost.access.hugepage_holders import hugepage_holders
from nfvhost.access.hugepages import available_mib, read_pool, resize_pool
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.errors import ApplyError, NfvhostError, Problem
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.host import Host
from nfvhost.model.plan import Pages, Plan
from nfvhost.model.report import Drift
from nfvhost.model.units import PageSize

RESOURCE: Final = "hugepages"
_NODES: Final = "/sys/devices/system/node"
_MIB: Final = 1024
_KEY: Final = re.compile(r"node(\d+) (\d+[KMG])")
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """Pages of one size on one node."""

    node: int
    size_kib: int
    total: int  # as it was asked for: nr_hugepages without surplus_hugepages
    free: int
    holders: tuple[str, ...]  # asked for only where the plan wants fewer pages than are in use

    @property
    def key(self) -> str:
        """How changes name it: `node0 2M`."""
        return f"node{self.node} {PageSize(self.size_kib)}"

    @property
    def mib(self) -> int:
        """Its memory."""
        return self.total * self.size_kib // _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Every pool of the planned nodes, and what could be had for more."""

    pools: tuple[PoolState, ...]
    available: tuple[tuple[int, int], ...]  # node -> MiB that are free or hold clean file pages
    by_node: bool  # the kernel knows nodes
    boot_args: tuple[str, ...]  # what /proc/cmdline says of hugepages

    def pool(self, node: int, size: PageSize) -> PoolState | None:
        """That pool; None where the kernel has no pages of this size there."""
        return next((pool for pool in self.pools if pool.node == node and pool.size_kib == size.kib), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hugepages:
    """Hugepages of each node, those that are made while the machine runs.

    Pages of 1 GiB are reserved at boot, by `kernel_cmdline`; here it is seen whether the kernel could. Smaller ones are
    asked for node by node, after memory was compacted where need be. A pool never shrinks below what is in use, and
    a short grant is a failure that names the numbers and who holds pages.

    Configured: nothing; a boot forgets them, and the boot units ask again.
    Active: /sys/devices/system/node/node<N>/hugepages/hugepages-<size>/nr_hugepages, or /sys/kernel/mm/hugepages on a
        kernel without nodes.
    Keys: node and size: `node0 2M`.
    Effect: now; pages at boot with the next reboot.
    Refuses: fewer pages than are in use, with the names of the holders; more than leaves the host what the plan
        promises it, or than is available now; a size that the kernel does not have.
    Rollback: as many pages as before, of pools that nobody else has resized since. Pages that a process still holds
        (ovs-vswitchd keeps DPDK's until it is restarted) are surplus then: the kernel frees them as it ends.
    Source: Documentation/admin-guide/mm/hugetlbpage.rst, mm/hugetlb.c.
    """

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        root = machine.root
        by_node = root.exists(_NODES)
        pools = []
        for node in plan.memory.nodes:
            wanted = {PageSize(pages.size_mib * _MIB): pages.count for pages in node.pages}
            for size in sorted({*wanted, *_sizes(root, node.node, by_node=by_node)}):
                pool = read_pool(node.node if by_node else None, size, root=root)
                if pool is None:
                    continue
                used = pool.total - pool.free
                asked = used > wanted.get(size, used)
                pools.append(
                    PoolState(
                        node=node.node,
                        size_kib=size.kib,
                        total=pool.total - pool.surplus,
                        free=pool.free,
                        holders=hugepage_holders(root, pool.node, size) if asked else (),
                    )
                )
        return State(
            pools=tuple(pools),
            available=tuple(
                (node.node, available_mib(node.node if by_node else None, root=root)) for node in plan.memory.nodes
            ),
            by_node=by_node,
            boot_args=tuple(arg for arg in kernel_args(root) or () if _of_hugepages(arg)),
        )

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        changes = []
        for node, pages in _planned(plan):
            pool = state.pool(node, _size(pages))
            if pages.at_boot or pool is None or pool.total == pages.count:
                continue
            changes.append(
                Change(
                    resource=RESOURCE,
                    key=pool.key,
                    before=str(pool.total),
                    after=str(pages.count),
                    activation=Activation.NOW,
                    disruption=Disruption.NONE,
                    reason=f"OVS and the guests on node {node} take {pages.count * pages.size_mib} MiB in such pages",
                )
            )
        # What is given back first can be had again in another size.
        return tuple(sorted(changes, key=lambda change: _growth(change) > 0))

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        missing = tuple(
            Problem(what=f"the kernel has no pages of {_size(pages)}", where=f"{RESOURCE}: node{node} {_size(pages)}")
            for node, pages in _planned(plan)
            if pages.count and not pages.at_boot and state.pool(node, _size(pages)) is None
        )
        changes = self.diff(state, plan)
        return (
            *missing,
            *_in_use(state, changes),
            *_beyond_floor(state, changes, plan, host),
            *_scarce(state, changes),
        )

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del state
        keys = [f"node{node} {_size(pages)}" for node, pages in _planned(plan) if pages.count and not pages.at_boot]
        if not keys:
            return ()
        return (
            Problem(
                what="a reboot forgets pages that were made at run time",
                where=f"{RESOURCE}: {', '.join(keys)}",
                hint="apply the plan again after each boot",
            ),
        )

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        for change in changes:
            node, size = _place(change)
            wanted = int(change.after or 0)
            pool = resize_pool(node if state.by_node else None, size, pages=wanted, root=machine.root)
            if pool.total - pool.surplus == wanted:
                continue
            holders = hugepage_holders(machine.root, pool.node, size)
            left = available_mib(pool.node, root=machine.root)
            raise ApplyError(
                f"asked for {wanted} pages of {size}, the kernel has {pool.total - pool.surplus} now (before: "
                f"{change.before}); {left} MiB are available there, in pieces that are too small{_naming(holders)}",
                where=change.where,
                hint="ask soon after a boot, before memory is in pieces, or for fewer",
            )

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        state = self.read(machine, plan) if seen is None else seen
        drifts = []
        for node, pages in _planned(plan):
            pool = state.pool(node, _size(pages))
            total = pool.total if pool is not None else 0
            if total == pages.count:
                continue
            drift = Drift(
                resource=RESOURCE,
                key=f"node{node} {_size(pages)}",
                planned=str(pages.count),
                actual=str(total),
                hint=_hint(pages, state),
                pending=Activation.REBOOT if pages.at_boot and not _booted_with(state, plan) else None,
            )
            drifts.append(drift)
        return tuple(drifts)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        del changes
        return replace(state, pools=(), available=(), boot_args=())

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        return tuple(
            Problem(
                what=f"has {_total(machine.root, before, change)} pages by now, asked for were {change.after}",
                where=change.where,
                hint="someone else resized it since; --force overwrites it",
            )
            for change in changes
            if not _ours(machine.root, before, change)
        )

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        left = () if force else self.foreign(machine, before, changes)
        theirs = {problem.where for problem in left}
        return (
            *left,
            *(
                problem
                for change in reversed(changes)
                if change.where not in theirs
                for problem in _put_back(machine.root, before, change)
            ),
        )


def _put_back(root: Root, before: State, change: Change) -> tuple[Problem, ...]:
    node, size = _place(change)
    wanted = int(change.before or 0)
    where = change.where
    if _total(root, before, change) == wanted:
        return ()
    try:
        pool = resize_pool(node if before.by_node else None, size, pages=wanted, root=root)
    except NfvhostError as error:
        return tuple(Problem(what=one.what, where=where, hint=one.hint) for one in error.problems)
    if pool.total - pool.surplus == wanted:
        return ()
    what = f"{pool.total} pages instead of {wanted}, {pool.total - pool.free} of them in use"
    return (Problem(what=what + _naming(hugepage_holders(root, pool.node, size)), where=where),)


def _ours(root: Root, before: State, change: Change) -> bool:
    """Whether the pool may be as this change left it: a grant may be short, so anything between its two ends."""
    low, high = sorted((int(change.before or 0), int(change.after or 0)))
    now = _total(root, before, change)
    return now is not None and low <= now <= high


def _planned(plan: Plan) -> tuple[tuple[int, Pages], ...]:
    return tuple((node.node, pages) for node in plan.memory.nodes for pages in node.pages)


def _size(pages: Pages) -> PageSize:
    return PageSize(pages.size_mib * _MIB)


def _sizes(root: Root, node: int, *, by_node: bool) -> tuple[PageSize, ...]:
    """Source: the names `hugepages-2048kB`."""
    names = root.list_dir(f"{_NODES}/node{node}/hugepages" if by_node else "/sys/kernel/mm/hugepages")
    return tuple(PageSize.parse(name.removeprefix("hugepages-")) for name in names if name.startswith("hugepages-"))


def _of_hugepages(arg: str) -> bool:
    return arg.partition("=")[0] in {"default_hugepagesz", "hugepagesz", "hugepages"}


def _place(change: Change) -> tuple[int, PageSize]:
    match = _KEY.fullmatch(change.key)
    if match is None:
        raise ApplyError("is no pool of hugepages", where=change.where)
    return int(match[1]), PageSize.parse(match[2])


def _total(root: Root, before: State, change: Change) -> int | None:
    node, size = _place(change)
    pool = read_pool(node if before.by_node else None, size, root=root)
    return None if pool is None else pool.total - pool.surplus


def _growth(change: Change) -> int:
    return int(change.after or 0) - int(change.before or 0)


def _growth_mib(change: Change) -> int:
    return _growth(change) * _place(change)[1].kib // _MIB


def _in_use(state: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
    """Pools that would have to give up pages that somebody holds."""
    found = []
    for change in changes:
        pool = state.pool(*_place(change))
        used = pool.total - pool.free if pool is not None else 0
        if pool is not None and used > int(change.after or 0):
            found.append(
                Problem(
                    what=f"{used} of its {pool.total} pages are in use, planned are {change.after}"
                    + _naming(pool.holders),
                    where=change.where,
                    hint="end those that hold them, or remove files that outlived their process",
                )
            )
    return tuple(found)


def _beyond_floor(state: State, changes: tuple[Change, ...], plan: Plan, host: Host) -> tuple[Problem, ...]:
    """Nodes whose pools of all sizes, foreign ones included, would leave the host less than the plan promises it."""
    found = []
    for node in plan.memory.nodes:
        own = [change for change in changes if _place(change)[0] == node.node]
        growth = sum(map(_growth_mib, own))
        if growth <= 0:
            continue
        pools = sum(pool.mib for pool in state.pools if pool.node == node.node) + growth
        total_kib = next((one.memory_kib for one in host.nodes if one.id == node.node), None)
        total = total_kib // _MIB if total_kib is not None else node.total_mib
        if pools > total - node.host_mib:
            found.append(
                Problem(
                    what=f"pools of {pools} MiB would leave {total - pools} of its {total} MiB to the host, "
                    f"which is to keep {node.host_mib}",
                    where=f"{RESOURCE}: node{node.node}",
                    hint="give back pages of other sizes, or ask for less memory.guestMiB",
                )
            )
    return tuple(found)


def _scarce(state: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
    """Nodes that have less memory to spare now than the pools would take."""
    found = []
    for node, available in state.available:
        growth = sum(_growth_mib(change) for change in changes if _place(change)[0] == node)
        if growth > available:
            found.append(
                Problem(
                    what=f"{growth} MiB more are wanted in pages, and {available} MiB are available now",
                    where=f"{RESOURCE}: node{node}",
                    hint="end what takes the memory, or reboot and apply then",
                )
            )
    return tuple(found)


def _naming(holders: tuple[str, ...]) -> str:
    if not holders:
        return ""
    more = f" and {len(holders) - _SHOWN} more" if len(holders) > _SHOWN else ""
    return f"; held by {', '.join(holders[:_SHOWN])}{more}"


def _booted_with(state: State, plan: Plan) -> bool:
    """Whether the running kernel was told to make the planned pages."""
    return tuple(arg for arg in plan.kernel_args if _of_hugepages(arg)) == state.boot_args


def _hint(pages: Pages, state: State) -> str | None:
    if not pages.at_boot:
        return None
    if not state.boot_args:
        return "the kernel's command line reserves them at the next boot"
    return f"this kernel was told {' '.join(state.boot_args)}; dmesg says what it could not reserve"


__all__ = ["Hugepages"]
