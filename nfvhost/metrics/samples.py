"""A reading as numbers under the names of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.access.port_statistics import PortStatistics
from nfvhost.access.switch_counters import PmdCounters, PmdUsage
from nfvhost.access.vf_settings import VfCounters
from nfvhost.metrics.drift import DriftCount
from nfvhost.metrics.reading import Reading, Switch

# Metric without its prefix, values of its labels, number.
Sample = tuple[str, tuple[str, ...], float]

_PERCENT: Final = 100
_MICROSECONDS: Final = 1_000_000
_MILLISECONDS: Final = 1000
_DIRECTIONS: Final = (("receive", "rx"), ("transmit", "tx"))
# Counters of ovs-vswitchd.conf.db(5), Interface:statistics -> direction and cause. rx_dropped and tx_dropped are sums
# with these in them (lib/netdev-dpdk.c, netdev_dpdk_get_stats).
_CAUSES: Final = {
    "rx_missed_errors": ("receive", "missed"),
    "rx_mbuf_allocation_errors": ("receive", "no_buffer"),
    "ovs_rx_qos_drops": ("receive", "qos"),
    "ovs_tx_failure_drops": ("transmit", "queue_full"),
    "ovs_tx_mtu_exceeded_drops": ("transmit", "mtu_exceeded"),
    "ovs_tx_qos_drops": ("transmit", "qos"),
    "ovs_tx_invalid_hwol_drops": ("transmit", "invalid_offload"),
}


def samples(reading: Reading, drift: DriftCount | None = None) -> Iterator[Sample]:
    """All that the reading holds; what nobody could say has none."""
    yield "up", (), reading.switch is not None
    yield "ovsdb_up", (), reading.ports is not None
    yield "scrape_duration_seconds", (), reading.took_s
    if reading.switch is not None:
        yield from _switch(reading.switch, {port.name for port in reading.ports or ()})
    for port in reading.ports or ():
        yield from _port(port)
    if reading.ports is not None:
        yield "ports_left_out", (), reading.left_out
    yield from _host(reading)
    if drift is not None:
        yield "drift_check_up", (), drift.up
        if drift.items is not None and drift.at_s is not None:
            yield "drift_items", (), drift.items
            yield "drift_checked_timestamp_seconds", (), drift.at_s


def _host(reading: Reading) -> Iterator[Sample]:
    for pool in reading.pools:
        labels = (str(pool.node), str(pool.size.kib * 1024))
        yield "hugepages_bytes", labels, pool.total * pool.size.kib * 1024
        yield "hugepages_free_bytes", labels, pool.free * pool.size.kib * 1024
    for cpu, count in reading.interrupts:
        yield "isolated_cpu_interrupts_total", (str(cpu),), count
    for pf, vfs in reading.vfs:
        for vf in vfs:
            yield from _vf(pf, vf)
    for tunnel, count in reading.rearms:
        yield "tunnel_rearms_total", (tunnel,), count


def _switch(switch: Switch, told: set[str]) -> Iterator[Sample]:
    yield "switch_info", (switch.version,), 1
    for pmd in switch.pmds:
        yield from _pmd(pmd)
    for thread in switch.usage:
        yield from _usage(thread, told)
    for drops in switch.drops:
        yield "datapath_drops_total", (drops.family, drops.cause), drops.packets
    for table in switch.tables:
        yield "flows", (table.datapath,), table.flows
        yield "flows_limit", (table.datapath,), table.limit
        if table.dump_ms is not None:
            yield "flows_dump_seconds", (table.datapath,), table.dump_ms / _MILLISECONDS


def _pmd(pmd: PmdCounters) -> Iterator[Sample]:
    labels = (str(pmd.core), str(pmd.node))
    yield "pmd_used_cycles_total", labels, pmd.used_cycles
    if pmd.busy_cycles is not None:
        yield "pmd_busy_cycles_total", labels, pmd.busy_cycles
    yield "pmd_sleep_seconds_total", labels, pmd.sleep_us / _MICROSECONDS
    yield "pmd_iterations_total", labels, pmd.iterations
    yield "pmd_received_packets_total", labels, pmd.received
    yield "pmd_sent_packets_total", labels, pmd.sent
    for cache, hits in pmd.hits:
        yield "pmd_hits_total", (*labels, cache), hits
    yield "pmd_upcalls_total", (*labels, "answered"), pmd.upcalls
    yield "pmd_upcalls_total", (*labels, "lost"), pmd.lost_upcalls


def _usage(thread: PmdUsage, told: set[str]) -> Iterator[Sample]:
    if thread.busy_percent is not None:
        yield "pmd_busy_ratio", (str(thread.core), str(thread.node)), thread.busy_percent / _PERCENT
    for queue in thread.queues:
        if queue.port not in told:
            continue
        labels = (queue.port, str(queue.queue), str(queue.core))
        yield "rx_queue_enabled", labels, queue.enabled
        if queue.percent is not None:
            yield "rx_queue_usage_ratio", labels, queue.percent / _PERCENT


def _port(port: PortStatistics) -> Iterator[Sample]:
    yield "port_info", (port.name, port.bridge, port.type), 1
    if port.link_up is not None:
        yield "port_link_up", (port.name,), port.link_up
    counts = dict(port.counters)
    for direction, short in _DIRECTIONS:
        for metric, counter in (
            ("port_packets_total", f"{short}_packets"),
            ("port_bytes_total", f"{short}_bytes"),
            ("port_errors_total", f"{short}_errors"),
            ("port_dropped_packets_total", f"{short}_dropped"),
        ):
            if counter in counts:
                yield metric, (port.name, direction), counts[counter]
    for counter, (direction, cause) in _CAUSES.items():
        if counter in counts:
            yield "port_drops_total", (port.name, direction, cause), counts[counter]


def _vf(pf: str, vf: VfCounters) -> Iterator[Sample]:
    number = str(vf.vf)
    for direction, packets, size, dropped in (
        ("receive", vf.received_packets, vf.received_bytes, vf.receive_dropped),
        ("transmit", vf.sent_packets, vf.sent_bytes, vf.transmit_dropped),
    ):
        yield "vf_packets_total", (pf, number, direction), packets
        yield "vf_bytes_total", (pf, number, direction), size
        yield "vf_dropped_packets_total", (pf, number, direction), dropped
