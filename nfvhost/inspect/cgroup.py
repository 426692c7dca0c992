"""What the control group of this process lets it use."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from nfvhost.access.cpulist import cpu_list, parse_cpu_list
from nfvhost.access.root import Root
from nfvhost.model.cpuset import CpuSet

_ALLOWED: Final = re.compile(r"^Cpus_allowed_list:\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpusetGroup:
    """The place of this process in the cpuset hierarchy."""

    mounts: tuple[str, ...]  # where the hierarchy may be mounted
    path: str  # within the hierarchy: /user.slice/session-1.scope
    unified: bool  # version 2

    def folders(self) -> Iterator[str]:
        """Its folder and those above it.

        A container may see its own as the top; a group that has no cpuset of its own has its parent's.
        """
        for mount in self.mounts:
            path = posixpath.normpath("/" + self.path)
            while path not in {"/", "//"}:
                yield mount + path
                path = posixpath.dirname(path)
            yield mount


def cpuset_groups(root: Root) -> tuple[CpusetGroup, ...]:
    """The groups to look at, the authoritative one first: version 1 owns the cpusets wherever it has them.

    Source: /proc/self/cgroup, before Linux 2.6.24 /proc/self/cpuset; /proc/mounts.
    """
    legacy, unified = _mounts(root.read_text("/proc/mounts") or "")
    legacy_path, unified_path = _paths(root.read_text("/proc/self/cgroup") or "")
    if legacy_path is None and unified_path is None:
        legacy_path = unified_path = root.read_line("/proc/self/cpuset")
    groups: list[CpusetGroup] = []
    if legacy_path is not None or unified_path is None:
        mounts = legacy or ("/sys/fs/cgroup/cpuset", "/dev/cpuset")
        groups.append(CpusetGroup(mounts=mounts, path=legacy_path or "/", unified=False))
    groups.append(CpusetGroup(mounts=unified or ("/sys/fs/cgroup",), path=unified_path or "/", unified=True))
    return tuple(groups)


def allowed_cpus(root: Root, groups: Iterable[CpusetGroup], *, isolated: CpuSet) -> CpuSet | None:
    """The CPUs that the first of `groups` to say anything may use, offline ones maybe included; None where none does.

    Source: cpuset.cpus.effective (version 2), cpuset.effective_cpus and cpuset.cpus (version 1), `cpus` of a
    hierarchy without prefixes; on a kernel without cpusets Cpus_allowed_list of /proc/self/status, to which the
    isolated CPUs belong as well: isolcpus takes them from every process's affinity, and gives them on request.
    """
    for group in groups:
        if cpus := _first(root, group, "cpus"):
            return cpus
    match = _ALLOWED.search(root.read_text("/proc/self/status") or "")
    cpus = parse_cpu_list(match[1]) if match else None
    return cpus | isolated if cpus else None


def allowed_nodes(root: Root, groups: Iterable[CpusetGroup]) -> tuple[int, ...] | None:
    """The nodes whose memory the first of `groups` to say anything may use; None where none does.

    Source: cpuset.mems.effective, cpuset.effective_mems, cpuset.mems.
    """
    for group in groups:
        if nodes := _first(root, group, "mems"):
            return tuple(nodes)
    return None


def _first(root: Root, group: CpusetGroup, what: str) -> CpuSet | None:
    names = (f"cpuset.{what}.effective",) if group.unified else (f"cpuset.effective_{what}", f"cpuset.{what}", what)
    for folder in group.folders():
        for name in names:
            if found := cpu_list(root, f"{folder}/{name}"):
                return found
    return None


def _mounts(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where cpuset hierarchies of version 1 and those of version 2 are mounted."""
    legacy: list[str] = []
    unified: list[str] = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 4:  # noqa: PLR2004 - fs_spec, fs_file, fs_vfstype, fs_mntops: fstab(5)
            continue
        place, kind, options = fields[1:4]
        if kind == "cpuset" or (kind == "cgroup" and "cpuset" in options.split(",")):
            legacy.append(place)
        elif kind == "cgroup2":
            unified.append(place)
    return tuple(legacy), tuple(unified)


def _paths(text: str) -> tuple[str | None, str | None]:
    """The path in the cpuset hierarchy of version 1 and the one of version 2: cgroups(7)."""
    legacy = unified = None
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "cpuset" in controllers.split(","):
            legacy = path
        elif number == "0" and not controllers:
            unified = path
    return legacy, unified
