"""What a running ovs-vswitchd counts, read from its control socket: threads, queues, drops, flows, ports.

Texts of Open vSwitch 2.17 to 4.0. They are for people, so that each number is looked for by its name alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from nfvhost.access.unixctl import RefusedError, ask

# lib/dpif-netdev.c, format_pmd_thread; the thread for ports without a PMD stands under "main thread:".
_THREAD: Final = re.compile(r"(?:pmd thread numa_id (\d+) core_id (\d+)|\S.*):$")
# lib/dpif-netdev-perf.c, pmd_perf_format_overall_stats: "  - EMC hits:            249843630  (100.0 %)"; from the 13th
# digit on, no blank is left.
_COUNT: Final = re.compile(r"\s+(?:- )?([^:]+): *(\d+)")
# lib/dpif-netdev.c, pmd_info_show_rxq: "  port: p0   queue-id:  0 (enabled)   pmd usage: 12 %", or NOT AVAIL
_QUEUE: Final = re.compile(r"\s+port: (.+?)\s+queue-id:\s*(\d+) \((enabled|disabled)\)\s+pmd usage:\s*(?:(\d+) %)?")
_OVERHEAD: Final = re.compile(r"\s+overhead:\s*(\d+) %")
# lib/coverage.c, coverage_read: "drop_action_of_pipeline  2.0/sec  0.950/sec  0.2/sec   total: 245517299"
_COVERAGE: Final = re.compile(r"(datapath_drop|drop_action)_(\w+) .*total: (\d+)$", re.MULTILINE)
# ofproto/ofproto-dpif-upcall.c, upcall_unixctl_show
_FLOWS: Final = re.compile(
    r"^(\S+):\n\s+flows\s*: \(current (\d+)\).*\(limit (\d+)\)(?:\n.*?dump duration : (\d+)ms)?", re.MULTILINE
)
# lib/dpctl.c, show_dpif
_PORT: Final = re.compile(r"port \d+: (\S+)")
_TRAFFIC: Final = re.compile(r"\s+(RX|TX) packets:(\d+) errors:(\d+|\?) dropped:(\d+|\?)")

# Every name that the data path can drop a packet under, in lib/dpif-netdev.c and lib/odp-execute.c of 3.1 to 4.0. A
# counter that was never hit is not in the text, and one that begins at its first drop hides that drop from a rate.
DATAPATH_DROPS: Final = (
    *("hw_post_process", "invalid_bond", "invalid_port", "invalid_tnl_port", "lock_error", "meter", "nsh_decap_error"),
    *("recirc_error", "rx_invalid_packet", "sample_error", "tunnel_pop_error", "tunnel_push_error"),
    *("upcall_error", "userspace_action_error"),
)
PIPELINE_DROPS: Final = (
    *("bridge_not_found", "congestion", "forwarding_disabled", "invalid_tunnel_metadata", "no_recirculation_context"),
    *("of_pipeline", "recirculation_conflict", "recursion_too_deep", "stack_too_deep", "too_many_mpls_labels"),
    *("too_many_resubmit", "tunnel_header_build_failed", "tunnel_neigh_cache_miss", "tunnel_output_no_ethernet"),
    *("tunnel_routing_failed", "unsupported_packet_type"),
)
_FAMILIES: Final = {"datapath_drop": "datapath", "drop_action": "pipeline"}
# Label -> name in the text.
_CACHES: Final = {
    "phwol": "PHWOL hits",
    "simple_match": "Simple Match hits",
    "emc": "EMC hits",
    "smc": "SMC hits",
    "megaflow": "Megaflow hits",
}
_PERCENT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PmdCounters:
    """What one poll-mode thread has counted since its start, or since somebody cleared it."""

    core: int
    node: int
    used_cycles: int  # of the TSC, busy and idle; not those that it slept
    busy_cycles: int | None  # None from OVS 4.0 on, which prints a rounded share alone
    received: int  # packets
    sent: int
    hits: tuple[tuple[str, int], ...]  # cache -> packets, each pass counted
    upcalls: int  # misses that were answered
    lost_upcalls: int  # misses whose packet was dropped
    iterations: int
    sleep_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueUsage:
    """One receive queue and its share of the thread that polls it."""

    port: str
    queue: int
    core: int
    enabled: bool
    percent: int | None  # None until 5 s are measured


@dataclass(frozen=True, slots=True, kw_only=True)
class PmdUsage:
    """How busy one thread was over the last seconds."""

    core: int
    node: int
    overhead_percent: int | None  # busy, but with no queue
    queues: tuple[QueueUsage, ...]

    @property
    def busy_percent(self) -> int | None:
        """Of its time; None until that is measured."""
        shares = [one.percent for one in self.queues]
        if self.overhead_percent is None or None in shares:
            return None
        return min(_PERCENT, self.overhead_percent + sum(share or 0 for share in shares))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapathDrops:
    """Packets that the data path has dropped for one cause, on whatever port."""

    family: str  # "datapath": it could not go on; "pipeline": flows, or what they led to, said so
    cause: str
    packets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowTable:
    """The flows in one data path."""

    datapath: str  # "netdev@ovs-netdev"
    flows: int
    limit: int  # more are not installed; lower than it was set where dumps are slow
    dump_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortTraffic:
    """What one port of a data path has counted until now; the database's copy is up to 5 s old."""

    port: str
    received: int
    sent: int
    receive_dropped: int | None  # None: its driver does not count it
    transmit_dropped: int | None


def pmd_counters(control: str, *, timeout_s: float) -> tuple[PmdCounters, ...]:
    """One for each poll-mode thread; empty where no bridge has the userspace data path. DaemonError as of `ask`."""
    performance = _of_datapath(lambda: ask(control, "dpif-netdev/pmd-perf-show", "-nh", timeout_s=timeout_s))
    # From 4.0 on it is another name of pmd-perf-show.
    cycles = _of_datapath(lambda: ask(control, "dpif-netdev/pmd-stats-show", timeout_s=timeout_s))
    return read_pmd_counters(performance, cycles)


def read_pmd_counters(performance: str, statistics: str) -> tuple[PmdCounters, ...]:
    """The same from the texts of pmd-perf-show and pmd-stats-show."""
    busy = {key: counts.get("processing cycles") for key, counts in _threads(statistics)}
    return tuple(
        PmdCounters(
            core=core,
            node=node,
            used_cycles=counts.get("Used TSC cycles", 0),
            busy_cycles=busy.get((node, core)),
            received=counts.get("Rx packets", 0),
            sent=counts.get("Tx packets", 0),
            hits=tuple((cache, counts.get(name, 0)) for cache, name in _CACHES.items()),
            upcalls=counts.get("Upcalls", 0),
            lost_upcalls=counts.get("Lost upcalls", 0),
            iterations=counts.get("Iterations", 0),
            sleep_us=counts.get("Sleep time (us)", 0),
        )
        for (node, core), counts in _threads(performance)
    )


def pmd_usage(control: str, *, over_s: int, timeout_s: float) -> tuple[PmdUsage, ...]:
    """How busy each thread was over the last `over_s` seconds, in steps of 5 up to 60; empty as of `pmd_counters`.

    Before OVS 3.1, always over the last 60.
    """
    command = "dpif-netdev/pmd-rxq-show"

    def asked() -> str:
        try:
            return ask(control, command, "-secs", str(over_s), timeout_s=timeout_s)
        except RefusedError:
            return ask(control, command, timeout_s=timeout_s)

    return read_pmd_usage(_of_datapath(asked))


def read_pmd_usage(text: str) -> tuple[PmdUsage, ...]:
    """The same from the text of pmd-rxq-show."""
    found = []
    for (node, core), lines in _blocks(text):
        matches = filter(None, map(_QUEUE.match, lines))
        queues = tuple(
            QueueUsage(
                port=match[1],
                queue=int(match[2]),
                core=core,
                enabled=match[3] == "enabled",
                percent=None if match[4] is None else int(match[4]),
            )
            for match in matches
        )
        overhead = next(filter(None, map(_OVERHEAD.match, lines)), None)
        found.append(
            PmdUsage(core=core, node=node, overhead_percent=int(overhead[1]) if overhead else None, queues=queues)
        )
    return tuple(found)


def datapath_drops(control: str, *, timeout_s: float) -> tuple[DatapathDrops, ...]:
    """Packets dropped by cause, of all data paths and ports together, known causes first; DaemonError as of `ask`."""
    return read_datapath_drops(ask(control, "coverage/show", timeout_s=timeout_s))


def read_datapath_drops(text: str) -> tuple[DatapathDrops, ...]:
    """The same from the text of coverage/show."""
    counts = {("datapath", cause): 0 for cause in DATAPATH_DROPS} | {("pipeline", cause): 0 for cause in PIPELINE_DROPS}
    counts |= {(_FAMILIES[match[1]], match[2]): int(match[3]) for match in _COVERAGE.finditer(text)}
    return tuple(DatapathDrops(family=family, cause=cause, packets=count) for (family, cause), count in counts.items())


def flow_tables(control: str, *, timeout_s: float) -> tuple[FlowTable, ...]:
    """One for each kind of data path that a bridge has; DaemonError as of `ask`."""
    return read_flow_tables(ask(control, "upcall/show", timeout_s=timeout_s))


def read_flow_tables(text: str) -> tuple[FlowTable, ...]:
    """The same from the text of upcall/show."""
    return tuple(
        FlowTable(
            datapath=match[1],
            flows=int(match[2]),
            limit=int(match[3]),
            dump_ms=None if match[4] is None else int(match[4]),
        )
        for match in _FLOWS.finditer(text)
    )


def port_traffic(control: str, *, timeout_s: float) -> tuple[PortTraffic, ...]:
    """What the ports have counted, those left out whose driver cannot say; DaemonError as of `ask`."""
    return read_port_traffic(_of_datapath(lambda: ask(control, "dpctl/show", "-s", timeout_s=timeout_s)))


def read_port_traffic(text: str) -> tuple[PortTraffic, ...]:
    """The same from the text of dpctl/show -s."""
    found = []
    # What could not be retrieved ends without a newline: the next port is then on the same line.
    for part in re.split(r"(?=port \d+: \S)", text)[1:]:
        port = _PORT.match(part)
        lines = {match[1]: match for match in filter(None, map(_TRAFFIC.match, part.splitlines()))}
        if port is None or lines.keys() != {"RX", "TX"}:
            continue
        found.append(
            PortTraffic(
                port=port[1],
                received=int(lines["RX"][2]),
                sent=int(lines["TX"][2]),
                receive_dropped=_known(lines["RX"][4]),
                transmit_dropped=_known(lines["TX"][4]),
            )
        )
    return tuple(found)


def _of_datapath(asked: Callable[[], str]) -> str:
    try:
        return asked()
    except RefusedError:
        # "please specify an existing datapath": no bridge of the userspace data path is there.
        return ""


def _threads(text: str) -> Iterator[tuple[tuple[int, int], dict[str, int]]]:
    """(node, core) of each poll-mode thread, with its numbers by name."""
    for key, lines in _blocks(text):
        yield key, {match[1]: int(match[2]) for match in map(_COUNT.match, lines) if match}


def _blocks(text: str) -> Iterator[tuple[tuple[int, int], list[str]]]:
    """(node, core) of each poll-mode thread, with the lines under its name."""
    key: tuple[int, int] | None = None
    lines: list[str] = []
    for line in text.splitlines():
        thread = _THREAD.match(line)
        if thread is None:
            lines.append(line)
            continue
        if key is not None:
            yield key, lines
        key = (int(thread[1]), int(thread[2])) if thread[1] is not None else None
        lines = []
    if key is not None:
        yield key, lines


def _known(text: str) -> int | None:
    return None if text == "?" else int(text)
