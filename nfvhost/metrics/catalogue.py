"""Every metric: its name, kind, labels and what it says.

Names: https://prometheus.io/docs/practices/naming/ (base units, `_total` for what only grows).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """As Prometheus calls them."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=f"nfvhost_{name}", kind=Kind.GAUGE, labels=labels, help=text)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=f"nfvhost_{name}_total", kind=Kind.COUNTER, labels=labels, help=text)


METRICS: Final = (
    _gauge("up", "1 where ovs-vswitchd answered all that it was asked, else 0"),
    _gauge("ovsdb_up", "1 where the database of Open vSwitch answered, else 0"),
    _gauge("scrape_duration_seconds", "How long it took to read all of this"),
    _gauge("switch_info", "1; the release of ovs-vswitchd", "version"),
    _gauge("pmd_busy_ratio", "Share of its time that a PMD thread worked, over the last 15 s", "core", "node"),
    _counter("pmd_used_cycles", "TSC cycles that a PMD thread ran, busy or not", "core", "node"),
    _counter("pmd_busy_cycles", "TSC cycles that a PMD thread worked; none from OVS 4.0 on", "core", "node"),
    _counter("pmd_sleep_seconds", "Time that a PMD thread slept for want of packets", "core", "node"),
    _counter("pmd_iterations", "Rounds of a PMD thread over its queues", "core", "node"),
    _counter("pmd_received_packets", "Packets that a PMD thread took from its queues", "core", "node"),
    _counter("pmd_sent_packets", "Packets that a PMD thread sent", "core", "node"),
    _counter(
        "pmd_hits",
        "Passes through a PMD thread that found their flow, by where: phwol, simple_match, emc, smc, megaflow",
        *("core", "node", "cache"),
    ),
    _counter(
        "pmd_upcalls",
        "Packets that found no flow, by what came of it: answered, or lost with the packet",
        *("core", "node", "result"),
    ),
    _gauge(
        "rx_queue_usage_ratio",
        "Share of its PMD thread's time that a receive queue took, over the last 15 s",
        *("port", "queue", "core"),
    ),
    _gauge(
        "rx_queue_enabled", "1 where a receive queue is polled, 0 where its guest has it off", "port", "queue", "core"
    ),
    _counter(
        "datapath_drops",
        "Packets dropped inside the data path: family datapath (it could not go on) or pipeline (flows said so)",
        *("family", "cause"),
    ),
    _gauge("flows", "Flows in a data path", "datapath"),
    _gauge("flows_limit", "Flows that a data path may have; falls where they cannot be checked in time", "datapath"),
    _gauge("flows_dump_seconds", "How long the last check of all flows took", "datapath"),
    _gauge("port_info", "1; what a port is", "port", "bridge", "type"),
    _gauge("port_link_up", "1 where a port has a link", "port"),
    _counter("port_packets", "Packets at a port, by direction: receive, transmit", "port", "direction"),
    _counter("port_bytes", "Bytes at a port", "port", "direction"),
    _counter("port_errors", "Damaged frames, and those that could not be sent", "port", "direction"),
    _counter("port_dropped_packets", "Packets dropped at a port; the causes are parts of it", "port", "direction"),
    _counter(
        "port_drops",
        "Packets dropped at a port by cause: missed, no_buffer, qos, queue_full, mtu_exceeded, invalid_offload",
        *("port", "direction", "cause"),
    ),
    _gauge("ports_left_out", "Ports beyond --ports, of which nothing is told"),
    _gauge("hugepages_bytes", "Memory in a pool of hugepages", "node", "page_bytes"),
    _gauge("hugepages_free_bytes", "Memory in it that nobody uses", "node", "page_bytes"),
    _counter("isolated_cpu_interrupts", "Interrupts of devices that came in on an isolated CPU", "cpu"),
    _counter("vf_packets", "Packets of a VF, as its PF counts them", "pf", "vf", "direction"),
    _counter("vf_bytes", "Bytes of a VF", "pf", "vf", "direction"),
    _counter("vf_dropped_packets", "Packets of a VF that were dropped", "pf", "vf", "direction"),
    _counter("tunnel_rearms", "Times that nfvhost watch had to write a tunnel anew", "tunnel"),
    _gauge("drift_items", "Things that are not as the plan says; only with a plan"),
    _gauge("drift_check_up", "1 where the last check against the plan could be done, else 0; only with a plan"),
    _gauge("drift_checked_timestamp_seconds", "When drift_items was counted; only with a plan"),
)
