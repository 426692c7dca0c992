"""What happened between two looks at a switch, per second."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nfvhost.access import switch_counters as switch
from nfvhost.access.clock import now_s
from nfvhost.access.ovsdb import socket_path
from nfvhost.access.port_statistics import PortStatistics, port_statistics
from nfvhost.access.root import Root
from nfvhost.access.switch_counters import DatapathDrops, PmdCounters, PmdUsage, PortTraffic
from nfvhost.access.unixctl import DaemonError
from nfvhost.access.vswitchd import find_vswitchd

_TIMEOUT_S: Final = 2.0
# The shortest that Open vSwitch measures.
_USAGE_S: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a switch had counted at one moment."""

    at_s: float
    version: str
    pid: int
    pmds: tuple[PmdCounters, ...]
    usage: tuple[PmdUsage, ...]
    drops: tuple[DatapathDrops, ...]
    traffic: tuple[PortTraffic, ...]
    ports: tuple[PortStatistics, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PmdRow:
    """One poll-mode thread."""

    core: int
    node: int
    busy_percent: int | None  # over the last 5 s
    received_pps: float
    sent_pps: float
    cycles_per_packet: float | None  # busy ones; None without packets, and from OVS 4.0 on
    upcalls_ps: float
    lost_upcalls_ps: float
    hit_percent: tuple[tuple[str, float], ...]  # cache -> share of the passes; empty without packets


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """One receive queue."""

    port: str
    queue: int
    core: int
    enabled: bool
    percent: int | None  # of its thread, over the last 5 s


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRow:
    """One port of a bridge."""

    port: str
    bridge: str
    type: str
    link_up: bool | None
    received_pps: float | None  # None where the switch does not count it
    sent_pps: float | None
    receive_drops_ps: float | None
    transmit_drops_ps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRow:
    """Packets dropped in the data path for one cause."""

    family: str
    cause: str
    packets: int  # since the switch started
    drops_ps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """All of it, over `seconds`."""

    version: str
    seconds: float
    pmds: tuple[PmdRow, ...]
    queues: tuple[QueueRow, ...]
    ports: tuple[PortRow, ...]
    drops: tuple[DropRow, ...]  # those that there were


def look(root: Root, *, ovsdb: str) -> Look:
    """What the switch has counted until now; DaemonError or OvsdbError where it does not answer."""
    daemon = find_vswitchd(root, os.path.dirname(socket_path(ovsdb))) if root.live else None
    if daemon is None:
        raise DaemonError("ovs-vswitchd is not running", where=ovsdb, hint="systemctl start openvswitch-switch")
    control = daemon.control
    ports = port_statistics(ovsdb, timeout_s=_TIMEOUT_S)
    return Look(
        version=daemon.version,
        pid=daemon.process.pid,
        usage=switch.pmd_usage(control, over_s=_USAGE_S, timeout_s=_TIMEOUT_S),
        drops=switch.datapath_drops(control, timeout_s=_TIMEOUT_S),
        traffic=switch.port_traffic(control, timeout_s=_TIMEOUT_S),
        pmds=switch.pmd_counters(control, timeout_s=_TIMEOUT_S),
        ports=ports,
        at_s=now_s(),
    )


def top(before: Look, after: Look) -> Top:
    """What happened between the two; zeros where the switch is another one by now, or somebody cleared its counters."""
    seconds = max(after.at_s - before.at_s, 1e-3)
    same = before.pid == after.pid
    pmds = {pmd.core: pmd for pmd in before.pmds} if same else {}
    traffic = {one.port: one for one in before.traffic} if same else {}
    drops = {(one.family, one.cause): one.packets for one in before.drops} if same else {}
    busy = {one.core: one.busy_percent for one in after.usage}
    now = {one.port: one for one in after.traffic}
    return Top(
        version=after.version,
        seconds=seconds,
        pmds=tuple(_pmd_row(pmds.get(pmd.core, pmd), pmd, busy.get(pmd.core), seconds) for pmd in after.pmds),
        queues=tuple(
            QueueRow(port=one.port, queue=one.queue, core=one.core, enabled=one.enabled, percent=one.percent)
            for thread in after.usage
            for one in thread.queues
        ),
        ports=tuple(_port_row(port, traffic.get(port.name), now.get(port.name), seconds) for port in after.ports),
        drops=tuple(
            DropRow(
                family=one.family,
                cause=one.cause,
                packets=one.packets,
                drops_ps=_rate(drops.get((one.family, one.cause), one.packets), one.packets, seconds),
            )
            for one in after.drops
            if one.packets
        ),
    )


def _pmd_row(before: PmdCounters, after: PmdCounters, busy: int | None, seconds: float) -> PmdRow:
    packets = after.received - before.received
    cycles = None
    if packets > 0 and before.busy_cycles is not None and after.busy_cycles is not None:
        cycles = max(0, after.busy_cycles - before.busy_cycles) / packets
    return PmdRow(
        core=after.core,
        node=after.node,
        busy_percent=busy,
        received_pps=_rate(before.received, after.received, seconds),
        sent_pps=_rate(before.sent, after.sent, seconds),
        cycles_per_packet=cycles,
        upcalls_ps=_rate(before.upcalls, after.upcalls, seconds),
        lost_upcalls_ps=_rate(before.lost_upcalls, after.lost_upcalls, seconds),
        hit_percent=tuple(_shares(before, after)),
    )


def _shares(before: PmdCounters, after: PmdCounters) -> Iterator[tuple[str, float]]:
    old = dict(before.hits)
    hits = {cache: max(0, count - old[cache]) for cache, count in after.hits}
    missed = after.upcalls + after.lost_upcalls - before.upcalls - before.lost_upcalls
    passes = sum(hits.values()) + max(0, missed)
    for cache, count in hits.items() if passes else ():
        yield cache, 100 * count / passes


def _port_row(port: PortStatistics, before: PortTraffic | None, after: PortTraffic | None, seconds: float) -> PortRow:
    # A port that has just come has counted nothing yet that one could tell a rate from.
    old = before or after

    def rate(counter: str) -> float | None:
        was, now = getattr(old, counter, None), getattr(after, counter, None)
        return None if was is None or now is None else _rate(was, now, seconds)

    return PortRow(
        port=port.name,
        bridge=port.bridge,
        type=port.type,
        link_up=port.link_up,
        received_pps=rate("received"),
        sent_pps=rate("sent"),
        receive_drops_ps=rate("receive_dropped"),
        transmit_drops_ps=rate("transmit_dropped"),
    )


def _rate(before: int, after: int, seconds: float) -> float:
    return max(0, after - before) / seconds
