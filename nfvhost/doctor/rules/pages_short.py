"""Fewer hugepages than were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence, page_counts
from nfvhost.doctor.finding import ARGUMENTS, Rule, Severity, Sign, need
from nfvhost.model.host import HugepagePool
from nfvhost.model.units import PageSize


def _look(evidence: Evidence) -> Iterator[Sign]:
    need(evidence.host.kernel_args, ARGUMENTS)
    pools = need(evidence.host.hugepages or None, "no pools of hugepages are to be seen")
    totals = {pool.size: pool.total for pool in pools}
    asked: dict[PageSize, int] = {}
    for size, node, count in page_counts(evidence):
        asked[size] = asked.get(size, 0) + count
        there = _on_node(evidence, node, size)
        if there is not None and there < count:
            yield Sign(evidence=f"hugepages={node}:{count} of {size} at boot; node {node} has {there}")
    for size, count in sorted(asked.items()):
        # A pool may be out of sight: /proc/meminfo knows that of the default size alone.
        if size in totals and totals[size] < count:
            yield Sign(evidence=f"hugepages={count} of {size} at boot; there are {totals[size]}")
        flags = evidence.host.model.flags
        if count and size == PageSize.GIB_1 and "pse" in flags and "pdpe1gb" not in flags:
            yield Sign(evidence=f"hugepages={count} of {size} at boot; this CPU has none (no pdpe1gb among its flags)")
    setting, default = evidence.page_setting, _default(evidence, pools)
    if setting is not None and default in totals and totals[default] < setting.count:
        there = totals[default]
        yield Sign(evidence=f"{setting.path}: vm.nr_hugepages = {setting.count}; there are {there} of {default}")


def _on_node(evidence: Evidence, node: int | None, size: PageSize) -> int | None:
    """Its pages of that size; None where its pool is not to be seen."""
    pools = next((one.hugepages for one in evidence.host.nodes if one.id == node), ())
    return next((pool.total for pool in pools if pool.size == size), None)


def _default(evidence: Evidence, pools: tuple[HugepagePool, ...]) -> PageSize | None:
    """The default size; None where the machine has several and does not say which."""
    stated = evidence.args("default_hugepagesz")
    if stated:
        return next((pool.size for pool in pools if str(pool.size) == stated[-1]), None)
    x86 = evidence.host.model.architecture == "x86_64"
    return PageSize.MIB_2 if x86 else pools[0].size if len(pools) == 1 else None


RULE: Final = Rule(
    name="pages-short",
    severity=Severity.WARNING,
    sees="fewer hugepages than the command line or sysctl.d asks",
    why="the kernel grants what it finds in one piece and says nothing: guests or Open vSwitch fail later",
    hint="reserve pages of 1 GiB at boot, and fewer than the node has; at run time compact memory first (echo 1 >"
    " /proc/sys/vm/compact_memory) and read the count back",
    look=_look,
)
