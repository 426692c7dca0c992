"""What Open vSwitch holds, and what its process does."""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.access.ovs_rows import OpenVswitch
from nfvhost.access.ovsdb import NotRunningError, connected, socket_path
from nfvhost.access.root import Root
from nfvhost.access.vswitchd import (
    RxQueue,
    Vswitchd,
    eal_arguments,
    find_vswitchd,
    locks_memory,
    log_complaints,
    log_path,
    netdev_names,
    netdev_queues,
    pmd_threads,
    rx_queues,
)
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.plan import Plan

AFXDP_TYPES: Final = frozenset({"afxdp", "afxdp-nonpmd"})
AF_XDP: Final = ("net_af_xdp", "eth_af_xdp")


@dataclass(frozen=True, slots=True, kw_only=True)
class PmdThread:
    """One poll-mode thread: the core that OVS made it for, and where the kernel lets it run."""

    core: int
    cpus: CpuSet  # /proc/<pid>/task/<tid>/status, Cpus_allowed_list


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The running ovs-vswitchd."""

    daemon: Vswitchd
    version: str  # "3.1.0", in its own words
    netdevs: frozenset[str]  # kernel interfaces of its network namespace
    shares_host_network: bool  # that namespace is also this process's
    hugetlbfs: tuple[str, ...]  # mount points, as it sees them
    absent: frozenset[str]  # those of the plan's directories that are not there, as it sees them
    log: str | None  # its log file
    queues: tuple[tuple[str, int | None], ...] = ()  # of each interface that AF_XDP is planned on: receive queues
    locks_memory: bool = True  # as much as it wants


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What the process does."""

    eal: tuple[str, ...] | None  # what DPDK was initialised with; None where it was not or nobody can say
    rx_queues: tuple[RxQueue, ...]
    pmd_threads: tuple[PmdThread, ...]
    complaints: tuple[str, ...]  # warnings and errors at the end of its log


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The database as configured, the process as active."""

    database: OpenVswitch
    switch: Switch | None  # None where no ovs-vswitchd runs
    absent: str | None = None  # why there is no database to ask, and so no row; None where there is one


# A database that is not there yet, or that nobody asks.
_NO_ROWS: Final = OpenVswitch(
    other_config=(),
    external_ids=(),
    bridges=(),
    next_cfg=0,
    cur_cfg=0,
    ovs_version=None,
    dpdk_version=None,
    dpdk_initialized=False,
    iface_types=(),
)


def read_state(machine: Machine, plan: Plan) -> State:
    """Both halves, read now; OvsdbError where the database does not answer, DaemonError where the process hangs.

    Where the system's Open vSwitch is not installed, or not started, there is nothing to reach, and that is no error.
    Without anything planned for it, nobody asks whether it runs.
    """
    if plan.ovs is None:
        return State(database=_NO_ROWS, switch=None)
    address = machine.ovsdb_address
    daemon = find_vswitchd(machine.root, os.path.dirname(socket_path(address)))
    try:
        with connected(address) as database:
            rows = database.read()
    except NotRunningError as error:
        if machine.private:
            raise
        return State(database=_NO_ROWS, switch=None, absent=error.problems[0].what)
    return State(database=rows, switch=None if daemon is None else _read_switch(machine.root, daemon, plan))


def read_activity(machine: Machine, state: State) -> Activity | None:
    """What the process of this state does now; None where there was none, DaemonError where it hangs."""
    if state.switch is None:
        return None
    daemon = state.switch.daemon
    return Activity(
        eal=eal_arguments(machine.root, daemon) if state.database.dpdk_initialized else None,
        rx_queues=rx_queues(daemon),
        pmd_threads=tuple(PmdThread(core=core, cpus=thread.cpus) for core, thread in pmd_threads(daemon)),
        complaints=log_complaints(state.switch.log),
    )


def _read_switch(root: Root, daemon: Vswitchd, plan: Plan) -> Switch:
    own_root = f"/proc/{daemon.process.pid}/root"
    mounts = (root.read_text(f"/proc/{daemon.process.pid}/mounts") or "").splitlines()
    fields = (line.split() for line in mounts)
    return Switch(
        daemon=daemon,
        version=daemon.version,
        netdevs=netdev_names(root, daemon),
        shares_host_network=root.read_link(f"/proc/{daemon.process.pid}/ns/net") == root.read_link("/proc/self/ns/net"),
        hugetlbfs=tuple(field[1] for field in fields if len(field) > 2 and field[2] == "hugetlbfs"),  # noqa: PLR2004 - device, mount point, type: proc(5)
        absent=frozenset(path for path in _directories(plan) if not root.exists(own_root + path)),
        log=log_path(root, daemon),
        queues=tuple((name, netdev_queues(root, daemon, name)) for name in sorted(_xdp_netdevs(plan))),
        locks_memory=locks_memory(root, daemon),
    )


def _xdp_netdevs(plan: Plan) -> frozenset[str]:
    """The interfaces of ports of type afxdp, and of DPDK's net_af_xdp."""
    ports = [port for bridge in plan.ovs.bridges for port in bridge.ports] if plan.ovs is not None else []
    devices = [dict(port.options).get("dpdk-devargs", "") for port in ports]
    over = [dict(word.partition("=")[::2] for word in one.split(",")) for one in devices if one.startswith(AF_XDP)]
    own = [port.name for port in ports if port.type in AFXDP_TYPES]
    return frozenset([*own, *(words["iface"] for words in over if words.get("iface"))])


def _directories(plan: Plan) -> frozenset[str]:
    """The directories that the plan's vhost-user sockets need."""
    if plan.ovs is None:
        return frozenset()
    paths = (
        value
        for bridge in plan.ovs.bridges
        for port in bridge.ports
        for name, value in port.options
        if name == "vhost-server-path"
    )
    return frozenset(os.path.dirname(path) for path in paths if os.path.isabs(path))
