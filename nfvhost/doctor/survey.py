"""Root -> Evidence."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Final

from nfvhost.access.clock import now_s, sleep
from nfvhost.access.cpulist import cpu_list
from nfvhost.access.hugepage_holders import hugepage_holders
from nfvhost.access.lenient import LenientRoot
from nfvhost.access.machine import SYSTEM_OVSDB
from nfvhost.access.ovs_rows import OpenVswitch
from nfvhost.access.ovsdb import OvsdbError, connected, socket_path
from nfvhost.access.process import read_threads
from nfvhost.access.root import Root
from nfvhost.access.tunnel_segments import sent_segments
from nfvhost.access.vswitchd import find_vswitchd, pmd_threads, rx_queues
from nfvhost.doctor.boot_files import boot_files
from nfvhost.doctor.evidence import CpuSetting, Evidence, HeldPages, PageSetting, SwitchProcess
from nfvhost.doctor.nova_files import nova_settings
from nfvhost.doctor.processes import Counts, interrupt_counts, interrupts_between, keepers, memory_locks
from nfvhost.errors import PreconditionError, UsageError
from nfvhost.inspect import inspect_host
from nfvhost.inspect.pci import linked_name, pci_functions
from nfvhost.model.host import Host
from nfvhost.resources.irqbalance import stated_ban
from nfvhost.resources.tunnels import with_several_segments

# Long enough for the interrupts of a busy port; a person waits.
_WATCH_S: Final = 1.0
_INTERRUPTS: Final = "/proc/interrupts"
# sysctl.d(5): of files of one name the first folder's counts, then all in order of name; /etc/sysctl.conf last.
_SYSCTL: Final = ("/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d")
_NR_HUGEPAGES: Final = re.compile(r"(?m)^\s*-?\s*vm[./]nr_hugepages\s*=\s*(\d{1,10})\s*$")


def survey(root: Root, *, ovsdb: str | None = None) -> Evidence:
    """All that can be seen of the machine whose tree this is; of a live one a second is watched.

    UsageError for a database beside a capture, OvsdbError where the one that was named does not answer.
    """
    if ovsdb is not None and not root.live:
        raise UsageError("a captured machine has no database that answers", where="--ovsdb")
    tree = LenientRoot(root)
    start, before = now_s(), interrupt_counts(tree.read_text(_INTERRUPTS) or "") if root.live else {}
    host = inspect_host(root)
    database = _database(tree, ovsdb) if root.live else None
    running = host.ovs.version if host.ovs is not None else None
    # A container's boot files and sysctl.d came with its image; the kernel is the host's.
    own_kernel = host.container is None
    evidence = Evidence(
        host=host,
        drivers=tuple((one.pci, linked_name(tree, f"{one.path}/driver")) for one in pci_functions(tree)),
        stated_isolated=cpu_list(tree, "/sys/devices/system/cpu/isolated"),
        partitioned=cpu_list(tree, "/sys/fs/cgroup/cpuset.cpus.isolated"),
        nohz_full=cpu_list(tree, "/sys/devices/system/cpu/nohz_full"),
        boot=boot_files(tree) if own_kernel else None,
        page_setting=_page_setting(tree) if own_kernel else None,
        irqbalance_banned=_irqbalance_banned(tree),
        nova=nova_settings(tree),
        database=database,
        switch=_switch(tree, ovsdb or SYSTEM_OVSDB, database) if root.live else None,
        ovs_version=(database.ovs_version if database is not None else None) or running,
        # Whom another user's process holds pages and devices for is not to be seen.
        locks=memory_locks(tree) if root.live and os.geteuid() == 0 else None,
        held=_held(tree, host) if root.live and os.geteuid() == 0 else None,
        keepers=keepers(tree, host),
    )
    return _watched(tree, evidence, start=start, before=before) if before else evidence


def _watched(tree: Root, evidence: Evidence, *, start: float, before: Counts) -> Evidence:
    if evidence.isolated or evidence.pmd_mask:
        sleep(max(0.0, _WATCH_S - (now_s() - start)))
    after = interrupt_counts(tree.read_text(_INTERRUPTS) or "")
    return replace(evidence, interrupts=interrupts_between(before, after, watched_s=now_s() - start))


def _database(tree: Root, ovsdb: str | None) -> OpenVswitch | None:
    if ovsdb is None and not tree.exists(socket_path(SYSTEM_OVSDB)):
        return None
    try:
        with connected(ovsdb or SYSTEM_OVSDB) as database:
            return database.read()
    except OvsdbError:
        if ovsdb is not None:
            raise
        return None


def _switch(tree: Root, address: str, database: OpenVswitch | None) -> SwitchProcess | None:
    try:
        daemon = find_vswitchd(tree, os.path.dirname(socket_path(address)))
        if daemon is None:
            return None
        return SwitchProcess(
            pid=daemon.process.pid,
            threads=read_threads(daemon.process.pid),
            pmd_threads=pmd_threads(daemon),
            rx_queues=rx_queues(daemon),
            segments=tuple(
                (port, sent)
                for bridge, port, _, ofport in (
                    with_several_segments(database, ours=False) if database is not None else ()
                )
                for sent in (sent_segments(daemon.control, bridge, ofport),)
                if sent is not None
            ),
        )
    except (PreconditionError, OSError):
        # It ends, or belongs to someone else.
        return None


def _held(tree: Root, host: Host) -> tuple[HeldPages, ...]:
    found = []
    for pool in host.hugepages:
        if pool.total and pool.free is not None and pool.free < pool.total:
            holders = hugepage_holders(tree, None, pool.size)
            files = tuple(one.removesuffix(" (file)") for one in holders if one.endswith(" (file)"))
            processes = tuple(one for one in holders if not one.endswith(" (file)"))
            found.append(HeldPages(size=pool.size, processes=processes, files=files))
    return tuple(found)


def _page_setting(tree: Root) -> PageSetting | None:
    by_name = {name: f"{folder}/{name}" for folder in _SYSCTL for name in tree.list_dir(folder) if _is_conf(name)}
    found = None
    for path in (*(by_name[name] for name in sorted(by_name)), "/etc/sysctl.conf"):
        counts = _NR_HUGEPAGES.findall(tree.read_text(path) or "")
        if counts:
            found = PageSetting(path=path, count=int(counts[-1]))
    return found


def _is_conf(name: str) -> bool:
    return name.endswith(".conf")


def _irqbalance_banned(tree: Root) -> CpuSetting | None:
    ban = stated_ban(tree)
    return CpuSetting(path=ban.path, cpus=ban.cpus) if ban is not None else None
