"""One look at a host: all that is told of it, read without starting a process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from nfvhost.access import switch_counters as switch
from nfvhost.access.clock import now_s
from nfvhost.access.cpulist import cpu_list
from nfvhost.access.hugepages import Pool, read_pool
from nfvhost.access.interrupts import counters, counts_on
from nfvhost.access.machine import SYSTEM_OVSDB, Machine
from nfvhost.access.ovsdb import socket_path
from nfvhost.access.port_statistics import PortStatistics, port_statistics
from nfvhost.access.root import Root
from nfvhost.access.switch_counters import DatapathDrops, FlowTable, PmdCounters, PmdUsage
from nfvhost.access.unixctl import DaemonError
from nfvhost.access.vf_settings import VfCounters, count_vfs
from nfvhost.access.vswitchd import find_vswitchd
from nfvhost.errors import NfvhostError, PreconditionError
from nfvhost.model.cpuset import EMPTY
from nfvhost.model.units import PageSize

T = TypeVar("T")

# A scrape is given up by Prometheus after 10 s (scrape_timeout), and a switch that hangs shall be told before.
_TIMEOUT_S: Final = 2.0
_USAGE_S: Final = 15
DEFAULT_PORTS: Final = 512
# Of `nfvhost watch`; beside the database where that is a private one.
WATCH_FILE: Final = "/run/nfvhost/watch.json"
# Types that are a NIC; they are never the ones left out.
_PHYSICAL: Final = frozenset({"dpdk", "afxdp", "afxdp-nonpmd"})
_NODES: Final = "/sys/devices/system/node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What ovs-vswitchd says of itself."""

    version: str
    pmds: tuple[PmdCounters, ...]
    usage: tuple[PmdUsage, ...]
    drops: tuple[DatapathDrops, ...]
    tables: tuple[FlowTable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All of it; None where who was asked did not answer."""

    switch: Switch | None
    ports: tuple[PortStatistics, ...] | None  # those that are told, by name
    left_out: int  # ports
    pools: tuple[Pool, ...]
    interrupts: tuple[tuple[int, int], ...]  # isolated CPU -> how many came in
    vfs: tuple[tuple[str, tuple[VfCounters, ...]], ...]  # PF's interface -> its VFs
    rearms: tuple[tuple[str, int], ...]  # tunnel -> how often
    problems: tuple[str, ...]
    took_s: float


def read(root: Root, *, ovsdb: str, most_ports: int = DEFAULT_PORTS) -> Reading:
    """What there is to tell now; nobody who does not answer is an error, or keeps it for more than some seconds."""
    began = now_s()
    problems: list[str] = []
    found = _try(lambda: _switch(root, ovsdb), problems)
    everyone = _try(lambda: port_statistics(ovsdb, timeout_s=_TIMEOUT_S), problems)
    told = None if everyone is None else first_ports(everyone, most_ports)
    isolated = (cpu_list(root, "/sys/devices/system/cpu/isolated") or EMPTY) | (
        cpu_list(root, "/sys/fs/cgroup/cpuset.cpus.isolated") or EMPTY
    )
    return Reading(
        switch=found,
        ports=told,
        left_out=len(everyone or ()) - len(told or ()),
        pools=tuple(_pools(root)),
        # The file is large on a large machine: it is only opened where there is something to look for.
        interrupts=tuple(counts_on(counters(root), isolated).items()) if isolated else (),
        vfs=_try(lambda: _vfs(root), problems) or (),
        rearms=rearms(root, ovsdb=ovsdb),
        problems=tuple(problems),
        took_s=now_s() - began,
    )


def first_ports(ports: tuple[PortStatistics, ...], most: int) -> tuple[PortStatistics, ...]:
    """At most so many, NICs before all others; always the same ones of the same ports."""
    kept = sorted(ports, key=lambda port: (port.type not in _PHYSICAL, port.name))[:most]
    return tuple(sorted(kept, key=lambda port: port.name))


def rearms(root: Root, *, ovsdb: str = SYSTEM_OVSDB) -> tuple[tuple[str, int], ...]:
    """Tunnel -> how often it had to be written anew; empty where nobody watches, or what he wrote is damaged."""
    private = Machine(root=root, ovsdb=ovsdb).private
    path = f"{os.path.dirname(socket_path(ovsdb))}/watch.json" if private else WATCH_FILE
    try:
        counts = json.loads(root.read_text(path) or "{}")["rearms"]
        return tuple(sorted((str(tunnel), int(count)) for tunnel, count in counts.items()))
    except (ValueError, KeyError, TypeError, AttributeError, PreconditionError):
        return ()


def _switch(root: Root, ovsdb: str) -> Switch:
    # Another tree's switch does not run here.
    daemon = find_vswitchd(root, os.path.dirname(socket_path(ovsdb))) if root.live else None
    if daemon is None:
        raise DaemonError("ovs-vswitchd is not running", where=ovsdb)
    control = daemon.control
    return Switch(
        version=daemon.version,
        pmds=switch.pmd_counters(control, timeout_s=_TIMEOUT_S),
        usage=switch.pmd_usage(control, over_s=_USAGE_S, timeout_s=_TIMEOUT_S),
        drops=switch.datapath_drops(control, timeout_s=_TIMEOUT_S),
        tables=switch.flow_tables(control, timeout_s=_TIMEOUT_S),
    )


def _pools(root: Root) -> Iterator[Pool]:
    """Each size on each node that has memory."""
    for node in cpu_list(root, f"{_NODES}/has_memory") or ():
        for name in root.list_dir(f"{_NODES}/node{node}/hugepages"):
            kib = name.removeprefix("hugepages-").removesuffix("kB")
            pool = read_pool(node, PageSize(int(kib)), root=root) if kib.isdecimal() else None
            if pool is not None:
                yield pool


def _vfs(root: Root) -> tuple[tuple[str, tuple[VfCounters, ...]], ...]:
    folder = "/sys/class/net"
    pfs = [name for name in root.list_dir(folder) if root.read_count(f"{folder}/{name}/device/sriov_numvfs")]
    return tuple(count_vfs(pfs).items()) if pfs and root.live else ()


def _try(asked: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return asked()
    except NfvhostError as error:
        problems += [
            problem.what if problem.where is None else f"{problem.where}: {problem.what}" for problem in error.problems
        ]
        return None
