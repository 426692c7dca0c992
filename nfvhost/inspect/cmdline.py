"""The running kernel: its version and its arguments."""

from __future__ import annotations

from typing import Final

from nfvhost.access.boot import kernel_args, split_cmdline
from nfvhost.access.cpulist import parse_cpu_list
from nfvhost.access.root import Root
from nfvhost.model.cpuset import EMPTY, CpuSet

__all__ = ["isolcpus", "kernel_args", "kernel_version", "split_cmdline"]

# kernel/sched/isolation.c, housekeeping_isolcpus_setup
_ISOLCPUS_FLAGS: Final = frozenset({"nohz", "domain", "managed_irq"})


def kernel_version(root: Root) -> str | None:
    """The release, `6.1.0-13-amd64`; None where no file states it.

    Source: /proc/sys/kernel/osrelease, else the third word of /proc/version.
    """
    if release := root.read_line("/proc/sys/kernel/osrelease"):
        return release
    words = (root.read_line("/proc/version") or "").split()
    return words[2] if words[:2] == ["Linux", "version"] and len(words) > 2 else None  # noqa: PLR2004 - the third word


def isolcpus(args: tuple[str, ...]) -> CpuSet:
    """The CPUs that `isolcpus=` takes from the scheduler's domains; empty where it asks for none.

    Flags without `domain` isolate from something else (Documentation/admin-guide/kernel-parameters.rst).
    """
    isolated = EMPTY
    for arg in args:
        name, _, value = arg.partition("=")
        if name != "isolcpus":
            continue
        parts = value.split(",")
        flags = [part for part in parts if part in _ISOLCPUS_FLAGS]
        if not flags or "domain" in flags:
            isolated |= parse_cpu_list(",".join(part for part in parts if part not in _ISOLCPUS_FLAGS)) or EMPTY
    return isolated
