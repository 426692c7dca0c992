"""Choice of the hugepages' size."""

from __future__ import annotations

from typing import Final

from nfvhost.model.host import Host
from nfvhost.model.ovs_keys import release
from nfvhost.model.profile import PageChoice, Profile
from nfvhost.model.units import PageSize
from nfvhost.planner.budgets import Budget
from nfvhost.planner.notebook import Notebook

# 1 GiB pages serve where a node has room for so many; below, rounding to whole pages would waste an eighth or more.
GIB_PAGES_LEAST: Final = 8
GIB: Final = 1024
# mm/hugetlb.c takes counts by node on the command line from this release on.
PER_NODE_PAGES: Final = (5, 16)


def page_size(
    host: Host, profile: Profile, budgets: tuple[Budget, ...], notes: Notebook, *, needed: bool
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


def _gib_serves(host: Host, budgets: tuple[Budget, ...]) -> bool:
    """Whether pages of 1 GiB waste little: enough of them on each guest node, and as many on all if they must be."""
    rooms = [budget.room_mib // GIB for budget in budgets if budget.guests]
    if min(rooms, default=0) < GIB_PAGES_LEAST:
        return False
    if not spreads_evenly(host):
        return True
    least = min(budget.room_mib // GIB if budget.guests else 0 for budget in budgets if budget.total_mib)
    return least * len(rooms) * 4 >= sum(rooms) * 3


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
            "kernels before 5.16 spread the pages of 1 GiB that they reserve at boot evenly over the nodes, and what "
            "these nodes can give differs"
        )
    elif host.model.architecture == "x86_64":
        why = "the machine offers no pages of 1 GiB (pdpe1gb)"
    else:
        sizes = ", ".join(str(PageSize(size * 1024)) for size in sorted(offered))
        why = f"this kernel offers {sizes} and no pages of 1 GiB; the smallest wastes least"
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
