"""What a switch counts of its own: cycles a packet, drops by cause, and how long its threads waited for their CPU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nfvhost.access.process import read_threads
from nfvhost.access.root import Root
from nfvhost.access.switch_counters import port_traffic
from nfvhost.access.unixctl import RefusedError, ask
from nfvhost.sandbox import Sandbox

# lib/dpif-netdev-perf.c, pmd_perf_format_overall_stats: "  Rx packets:  717387  (65 Kpps, 8217 cycles/pkt)"
_CYCLES: Final = re.compile(r"Rx packets: +(\d+) +\(\d+ Kpps, (\d+) cycles/pkt\)")
# lib/coverage.c: "datapath_drop_upcall_error   0.0/sec … total: 12". All that ends a packet has one of these words.
_COVERAGE: Final = re.compile(r"(\S*(?:_drop|drop_|_lost|_error)\S*) .*total: (\d+)")
_PMD: Final = re.compile(r"pmd-c(\d+)/id:")
_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drops:
    """Packets that ended, by cause: "bench-rx: sent, no room", "datapath_drop_upcall_error"."""

    cause: str
    packets: int


def clear_cycles(sandbox: Sandbox) -> None:
    """Nothing; the poll-mode threads count from here."""
    ask(sandbox.unixctl, "dpif-netdev/pmd-stats-clear")


def cycles_per_packet(sandbox: Sandbox) -> float | None:
    """TSC cycles of the poll-mode threads for each packet, since they were cleared; None where none came by.

    Source: dpif-netdev/pmd-perf-show.
    """
    try:
        said = ask(sandbox.unixctl, "dpif-netdev/pmd-perf-show")
    except RefusedError:  # the switch has no data path: the kernel forwards
        return None
    found = [(int(packets), int(cycles)) for packets, cycles in _CYCLES.findall(said)]
    total = sum(packets for packets, _ in found)
    return sum(packets * cycles for packets, cycles in found) / total if total else None


def drop_counts(sandbox: Sandbox) -> dict[str, int]:
    """All the switch's counters of dropped packets as they are now, by cause."""
    counts: dict[str, int] = {}
    for one in port_traffic(sandbox.unixctl, timeout_s=_TIMEOUT_S):
        for way, dropped in (("received", one.receive_dropped), ("sent", one.transmit_dropped)):
            if dropped is not None:
                counts[f"{one.port}: {way}, no room"] = dropped
    for name, total in _COVERAGE.findall(ask(sandbox.unixctl, "coverage/show")):
        counts[name] = int(total)
    return counts


def since(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Drops, ...]:
    """The causes that have counted meanwhile, by name."""
    grown = {cause: packets - before.get(cause, 0) for cause, packets in after.items()}
    return tuple(Drops(cause=cause, packets=packets) for cause, packets in sorted(grown.items()) if packets > 0)


def waited_s(root: Root, pid: int) -> float:
    """Seconds that the poll-mode threads of this process were ready to run and did not have their CPU, so far.

    Source: /proc/<pid>/task/<tid>/schedstat, second field, nanoseconds; 0 on a kernel without it.
    """
    lines = (
        root.read_line(f"/proc/{pid}/task/{thread.tid}/schedstat")
        for thread in read_threads(pid)
        if _PMD.match(thread.name)
    )
    return sum(int(line.split()[1]) for line in lines if line) / 1e9
