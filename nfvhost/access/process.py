"""Processes and their threads, as /proc shows them."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from nfvhost.access.root import DirectoryRoot, Root
from nfvhost.errors import PreconditionError
from nfvhost.model.cpuset import CpuSet

_ROOT: Final = DirectoryRoot("/")
# TASK_COMM_LEN of include/linux/sched.h, without the NUL.
_COMM_LENGTH: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process; pid and start together are never used twice until the next boot."""

    pid: int
    start_ticks: int  # since boot: /proc/<pid>/stat, field 22
    executable: str  # /proc/<pid>/exe, without the " (deleted)" of a package upgrade
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """One thread and where it may run."""

    tid: int
    name: str  # /proc/<pid>/task/<tid>/comm, at most 15 bytes
    cpus: CpuSet  # Cpus_allowed_list


def read_process(pid: int) -> Process | None:
    """The process that has this pid now.

    None where none has, where it has ended and awaits its parent, and where it may not be looked at.
    """
    try:
        executable = _ROOT.read_link(f"/proc/{pid}/exe")
    except PreconditionError:
        return None
    stat = _ROOT.read_text(f"/proc/{pid}/stat")
    arguments = _ROOT.read_text(f"/proc/{pid}/cmdline")
    if not stat or not executable or not arguments:
        return None
    # The name in brackets may hold blanks and brackets itself: fields are counted after the last one (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return Process(
        pid=pid,
        start_ticks=int(fields[19]),
        executable=executable.removesuffix(" (deleted)"),
        argv=tuple(arguments.rstrip("\0").split("\0")),
    )


def read_threads(pid: int) -> tuple[Thread, ...]:
    """The threads of a process by tid; empty where there is no such process."""
    threads = []
    for task in sorted(_ROOT.list_dir(f"/proc/{pid}/task"), key=int):
        name = _ROOT.read_line(f"/proc/{pid}/task/{task}/comm")
        status = _ROOT.read_text(f"/proc/{pid}/task/{task}/status") or ""
        allowed = next((line for line in status.splitlines() if line.startswith("Cpus_allowed_list:")), None)
        if name is not None and allowed is not None:
            cpus = CpuSet.parse(allowed.partition(":")[2])
            threads.append(Thread(tid=int(task), name=name, cpus=cpus))
    return tuple(threads)


def end(process: Process, *, timeout_s: float = 5.0) -> None:
    """Nothing, once exactly this process is gone: asked to end first, killed after `timeout_s`.

    PreconditionError where it outlives SIGKILL by as long.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # The pid cannot pass to another process while the descriptor is open: what is checked here is what is ended.
        if read_process(process.pid) != process:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                signal.pidfd_send_signal(descriptor, number)
            except ProcessLookupError:
                return
            if select.select([descriptor], [], [], timeout_s)[0]:
                return
    finally:
        os.close(descriptor)
    raise PreconditionError(
        f"the process does not end, not even by SIGKILL within {timeout_s:g} s",
        where=f"/proc/{process.pid} ({process.executable})",
        hint="it hangs in the kernel: see /proc/<pid>/stack and dmesg",
    )


def pids_by_name(root: Root, names: Collection[str]) -> dict[str, tuple[int, ...]]:
    """The processes of these names, each ascending; a name that nobody has is left out.

    Source: /proc/<pid>/comm, which the kernel cuts to 15 bytes; a script is called as its file is.
    """
    found: dict[str, list[int]] = {}
    cut = {comm_of(name): name for name in names}
    for pid, comm in comms(root):
        if comm in cut:
            found.setdefault(cut[comm], []).append(pid)
    return {name: tuple(pids) for name, pids in found.items()}


def comms(root: Root) -> Iterator[tuple[int, str]]:
    """Each process and its /proc/<pid>/comm, by pid."""
    for pid in sorted(map(int, filter(str.isdecimal, root.list_dir("/proc")))):
        comm = root.read_line(f"/proc/{pid}/comm")
        if comm is not None:
            yield pid, comm


def comm_of(program: str) -> str:
    """What the kernel calls a process of a program of this name."""
    return program[:_COMM_LENGTH]
