"""A running ovs-vswitchd: which process it is, what it was started with, what its threads do."""

from __future__ import annotations

import json
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from nfvhost.access.process import Process, Thread, read_process, read_threads
from nfvhost.access.root import Root
from nfvhost.access.unixctl import RefusedError, ask, peer_pid, socket_peer
from nfvhost.model.pci import PciAddress

# "ovs-vswitchd (Open vSwitch) 3.1.0", "ovs-vswitchd-dpdk (Open vSwitch) 3.1.0"
_VERSION: Final = re.compile(r"\(Open vSwitch\)\s+(\d+(?:\.\d+)*)")
# lib/dpif-netdev.c, pmd_info_show_rxq: "pmd thread numa_id 0 core_id 1:", "  port: p0   queue-id:  0 (enabled) …"
_PMD: Final = re.compile(r"pmd thread numa_id (\S+) core_id (\d+):")
_RXQ: Final = re.compile(r"port: (.+?)\s+queue-id:\s*(\d+)(?: \((enabled|disabled)\))?")
# lib/dpif-netdev.c, pmd_thread name: "pmd-c01/id:8"
_PMD_THREAD: Final = re.compile(r"pmd-c(\d+)/id:")
# Where DPDK keeps its runtime directory (lib/eal/linux/eal.c, eal_create_runtime_dir): $RUNTIME_DIRECTORY, which
# systemd sets; /var/run of root; $XDG_RUNTIME_DIR and /tmp of others.
_RUNTIME_VARIABLES: Final = ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")
_RUNTIME_DIRECTORIES: Final = ("/run", "/tmp")  # noqa: S108 - where DPDK puts it; only read
_TELEMETRY_SOCKET: Final = "dpdk_telemetry.v2"
_TELEMETRY_TIMEOUT_S: Final = 2.0
_GREETING_BYTES: Final = 1024
# It stops the device first.
_DETACH_S: Final = 30.0
_LOG_FILE: Final = "--log-file="
_CAPABILITIES: Final = re.compile(r"(?m)^CapEff:\s+([0-9a-f]+)")
# "Max locked memory         8388608              8388608              bytes": soft, hard.
_LOCKED: Final = re.compile(r"(?m)^Max locked memory\s+\S+\s+(\S+)")
# include/uapi/linux/capability.h: CAP_IPC_LOCK is 14, by which nothing is counted (net/xdp/xdp_umem.c),
# CAP_SYS_RESOURCE 24, by which Open vSwitch raises its limit (lib/netdev-afxdp.c).
_LOCKING: Final = 1 << 14 | 1 << 24
_LOG_TAIL_BYTES: Final = 65536
_COMPLAINT: Final = frozenset({"WARN", "ERR", "EMER"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RxQueue:
    """One receive queue and the PMD core that polls it."""

    port: str
    queue: int
    core: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vswitchd:
    """One running ovs-vswitchd."""

    process: Process
    control: str  # path of its control socket
    version: str  # "3.1.0"

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return read_process(self.process.pid) == self.process


def find_vswitchd(root: Root, directory: str) -> Vswitchd | None:
    """The ovs-vswitchd whose control socket is in `directory`, where its database's socket is; None where none runs.

    Its name holds the program's name and pid (ovs-vswitchd.42.ctl, ovs-vswitchd-dpdk.42.ctl) unless an option says
    otherwise. The pid is the kernel's word for who listens: in a container's directory the name has another one.
    """
    for name in root.list_dir(directory):
        if not name.endswith(".ctl") or "vswitchd" not in name:
            continue
        path = f"{directory}/{name}"
        pid = peer_pid(path)
        process = read_process(pid) if pid else None
        if process is None:
            continue
        version = _version_of(process, path)
        if version is not None:
            return Vswitchd(process=process, control=path, version=version)
    return None


@lru_cache(maxsize=16)
def _version_of(process: Process, control: str) -> str | None:  # noqa: ARG001 - part of the cache's key: one process never changes its version
    found = _VERSION.search(ask(control, "version"))
    return found[1] if found else None


def rx_queues(vswitchd: Vswitchd) -> tuple[RxQueue, ...]:
    """Which core polls which queue, enabled or not; empty without PMD threads (dpif-netdev/pmd-rxq-show)."""
    try:
        text = ask(vswitchd.control, "dpif-netdev/pmd-rxq-show")
    except RefusedError:
        # "please specify an existing datapath": no bridge of the userspace data path is there.
        return ()
    queues = []
    core = -1
    for line in text.splitlines():
        if thread := _PMD.match(line.strip()):
            core = int(thread[2])
        elif queue := _RXQ.match(line.strip()):
            queues.append(RxQueue(port=queue[1], queue=int(queue[2]), core=core))
    return tuple(queues)


def detach_device(vswitchd: Vswitchd, pci: PciAddress) -> None:
    """Nothing; DPDK has let go of a device that no port uses, where it had it (netdev-dpdk/detach).

    Of what it probed at its start it keeps hold when the port goes (lib/netdev-dpdk.c, netdev_dpdk_destruct).
    """
    with suppress(RefusedError):
        ask(vswitchd.control, "netdev-dpdk/detach", str(pci), timeout_s=_DETACH_S)


def pmd_threads(vswitchd: Vswitchd) -> tuple[tuple[int, Thread], ...]:
    """The poll-mode threads, each with the core that OVS made it for."""
    named = ((_PMD_THREAD.match(thread.name), thread) for thread in read_threads(vswitchd.process.pid))
    return tuple((int(match[1]), thread) for match, thread in named if match)


def netdev_names(root: Root, vswitchd: Vswitchd) -> frozenset[str]:
    """The kernel interfaces in the network namespace of ovs-vswitchd."""
    lines = (root.read_text(f"/proc/{vswitchd.process.pid}/net/dev") or "").splitlines()[2:]
    return frozenset(line.partition(":")[0].strip() for line in lines)


def netdev_queues(root: Root, vswitchd: Vswitchd, netdev: str) -> int | None:
    """The receive queues that the interface has now, as ovs-vswitchd sees it; None where its driver shows none.

    Source: /sys/class/net/<netdev>/queues/rx-<n>, of the process's own /sys.
    """
    names = root.list_dir(f"/proc/{vswitchd.process.pid}/root/sys/class/net/{netdev}/queues")
    return sum(name.startswith("rx-") for name in names) or None


def locks_memory(root: Root, vswitchd: Vswitchd) -> bool:
    """Whether it may lock as much memory as it wants; also where nobody can say.

    Source: /proc/<pid>/status, CapEff; /proc/<pid>/limits, Max locked memory, its hard limit.
    """
    pid = vswitchd.process.pid
    capabilities = _CAPABILITIES.search(root.read_text(f"/proc/{pid}/status") or "")
    limit = _LOCKED.search(root.read_text(f"/proc/{pid}/limits") or "")
    able = capabilities is None or int(capabilities[1], 16) & _LOCKING
    return bool(able) or limit is None or limit[1] == "unlimited"


def eal_arguments(root: Root, vswitchd: Vswitchd) -> tuple[str, ...] | None:
    """What DPDK was initialised with in this process; None where it was not, or nobody can say.

    Asked of DPDK's own telemetry socket (/eal/params): the log that has the same line is rotated away sooner or later.
    """
    pid = vswitchd.process.pid
    environment = dict(
        entry.partition("=")[::2]
        for entry in (root.read_text(f"/proc/{pid}/environ") or "").split("\0")
        if "=" in entry
    )
    parents = [environment[name] for name in _RUNTIME_VARIABLES if name in environment]
    for parent in dict.fromkeys([*parents, *_RUNTIME_DIRECTORIES]):
        # As the process sees it: it may live in a mount namespace or container of its own.
        runtime = f"/proc/{pid}/root{parent}/dpdk"
        for prefix in root.list_dir(runtime):
            for name in root.list_dir(f"{runtime}/{prefix}"):
                if name.startswith(_TELEMETRY_SOCKET):
                    arguments = _ask_telemetry(f"{runtime}/{prefix}", name, pid)
                    if arguments is not None:
                        return arguments
    return None


def _ask_telemetry(directory: str, name: str, pid: int) -> tuple[str, ...] | None:
    # Documentation of DPDK, howto/telemetry: one JSON greeting, then one JSON answer per command.
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.settimeout(_TELEMETRY_TIMEOUT_S)
            # The path of a UNIX socket has at most 107 bytes (unix(7)); by way of the descriptor it is always short.
            door.connect(f"/proc/self/fd/{descriptor}/{name}")
            # The greeting's own pid is of the pid namespace of the process.
            if socket_peer(door) != pid:
                return None
            greeting = json.loads(door.recv(_GREETING_BYTES))
            door.send(b"/eal/params")
            answer = json.loads(door.recv(int(greeting.get("max_output_len", 16384))))
            return tuple(map(str, answer["/eal/params"]))
    except (OSError, ValueError, KeyError):
        return None
    finally:
        os.close(descriptor)


def log_path(root: Root, vswitchd: Vswitchd) -> str | None:
    """The log file that the process was told to write, or has open; None where it logs elsewhere."""
    for argument in vswitchd.process.argv:
        if argument.startswith(_LOG_FILE):
            return argument.removeprefix(_LOG_FILE)
    # Without a name it is one of hundreds: DPDK holds a descriptor for each hugepage.
    directory = f"/proc/{vswitchd.process.pid}/fd"
    links = (root.read_link(f"{directory}/{name}") for name in root.list_dir(directory))
    return next((link for link in links if link and link.endswith(".log")), None)


def log_size(path: str | None) -> int:
    """The bytes that a log has now; 0 where it cannot be read."""
    try:
        return os.stat(path).st_size if path else 0
    except OSError:
        return 0


def log_complaints(path: str | None, *, since: int = 0) -> tuple[str, ...]:
    """The warnings and errors of a log behind the offset `since`, at most 64 KiB back, without time and number.

    Oldest first, each once; empty where it cannot be read.
    """
    try:
        with open(path or os.devnull, "rb") as log:
            end = log.seek(0, os.SEEK_END)
            # A log that is shorter than it was has been rotated.
            log.seek(max(since if since <= end else 0, end - _LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    # "2026-01-01T00:00:00.000Z|00042|dpdk|ERR|text"; a thread other than the main one stands behind the module.
    fields = (line.split("|", 4) for line in lines)
    complaints = [field[4] for field in fields if len(field) == 5 and field[3] in _COMPLAINT]  # noqa: PLR2004 - as above
    # The last time that it was said is the one that counts.
    return tuple(dict.fromkeys(reversed(complaints)))[::-1]
