"""What pools, memory and roles look like: a letter and a colour each.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), told apart by colour-blind readers too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nfvhost.model.profile import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from nfvhost.model.cpuset import CpuSet
    from nfvhost.model.plan import CpuPools, NodeMemory

SKY: Final = "#56b4e9"
PURPLE: Final = "#cc79a7"
VERMILLION: Final = "#d55e00"
GREEN: Final = "#009e73"
ORANGE: Final = "#e69f00"
YELLOW: Final = "#f0e442"
GREY: Final = "#c3c7cc"
# On each of them black keeps a contrast of 5 to 1 and more (WCAG 2.1, 1.4.3, asks for 4.5).
INK: Final = "#000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLook:
    """One CPU pool as a reader meets it."""

    name: str
    letter: str
    color: str
    purpose: str
    cpus: Callable[[CpuPools], CpuSet]


POOLS: Final = (
    PoolLook(name="host", letter="H", color=SKY, purpose="operating system", cpus=lambda pools: pools.host),
    PoolLook(
        name="shared",
        letter="S",
        color=PURPLE,
        purpose="floating guests",
        cpus=lambda pools: pools.shared,
    ),
    PoolLook(
        name="pmd", letter="P", color=VERMILLION, purpose="OVS-DPDK polling threads", cpus=lambda pools: pools.pmd
    ),
    PoolLook(name="dedicated", letter="D", color=GREEN, purpose="pinned guests", cpus=lambda pools: pools.dedicated),
    PoolLook(name="idle", letter="i", color=GREY, purpose="left alone", cpus=lambda pools: pools.idle),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLook:
    """One share of a node's memory."""

    name: str
    color: str


SHARES: Final = (
    ShareLook(name="host", color=SKY),
    ShareLook(name="ovs", color=VERMILLION),
    ShareLook(name="guest", color=GREEN),
    ShareLook(name="left", color=GREY),
)

ROLES: Final = {
    Role.MANAGEMENT: SKY,
    Role.DPDK: VERMILLION,
    Role.SRIOV: GREEN,
    Role.VDPA: YELLOW,
    Role.AFXDP: ORANGE,
    Role.KERNEL: PURPLE,
    Role.UNUSED: GREY,
}


def pools_of(pools: CpuPools) -> dict[int, tuple[PoolLook, ...]]:
    """The pools of each planned CPU, in the order of `POOLS`; more than one where a small machine makes them overlap.

    Where the host pool serves floating guests as well, that is said once, in the legend, and not at each CPU.
    """
    found: dict[int, tuple[PoolLook, ...]] = {}
    for look in shown_pools(pools):
        for cpu in look.cpus(pools):
            found[cpu] = (*found.get(cpu, ()), look)
    return found


def shown_pools(pools: CpuPools) -> tuple[PoolLook, ...]:
    """The pools that have a row of their own in a legend: those with CPUs, `shared` only where it is not `host`."""
    return tuple(
        look for look in POOLS if look.cpus(pools) and not (look.name == "shared" and pools.shared == pools.host)
    )


def memory_shares(node: NodeMemory) -> tuple[int, int, int, int]:
    """MiB of a node in the order of `SHARES`; the last is what nobody gets."""
    given = (node.host_mib, node.ovs_mib, node.guest_mib)
    return (*given, max(0, node.total_mib - sum(given)))
