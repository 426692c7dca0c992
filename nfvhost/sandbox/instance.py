"""A sandbox comes up, tells how it is, and goes without a trace."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.hugepages import available_mib, memory_nodes, read_pool, resize_pool
from nfvhost.access.process import Process, end
from nfvhost.access.unixctl import DaemonError, ask
from nfvhost.errors import PreconditionError
from nfvhost.model.units import PageSize
from nfvhost.sandbox.daemons import Programs, daemons, find_programs, last_complaint, start_database, start_switch
from nfvhost.sandbox.record import (
    BASE,
    Record,
    Reservation,
    StartedDaemon,
    names,
    new_record,
    only_run,
    read_record,
    remove_record,
    with_reservation,
    write_record,
)
from nfvhost.sandbox.wires import WIRES, Wire, make_wires, namespace_exists, remove_namespaces

DEFAULT_MEMORY_MIB: Final = 1024
_ANSWER_S: Final = 10.0
# Below this, a shell on the machine that made the sandbox may be killed for want of memory.
_HOST_FLOOR_MIB: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A private OVS-DPDK that runs."""

    name: str
    netns: str
    peer_netns: tuple[str, str]
    run_dir: str
    ovsdb: str  # unix:<run_dir>/db.sock
    unixctl: str  # the switch's socket: ovs-appctl -t <unixctl>
    switch_pid: int
    memory_mib: int  # hugepages of 2 MiB, on each node
    wires: tuple[Wire, ...]
    made: bool  # False: it was up before


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One sandbox that is recorded."""

    name: str
    sandbox: Sandbox | None  # None where something is missing
    missing: tuple[str, ...]  # what a run that was killed, or a crash, has left undone


def up(*, name: str = "default", memory_mib: int | None = None, run_dir: str | None = None) -> Sandbox:
    """A sandbox that runs: the one that is up already, or a new one.

    `memory_mib` of 2 MiB hugepages on each node that has memory (None: 1024) are reserved on top of what is there.
    What a killed run left under this name goes first. PreconditionError where something that it needs is missing;
    nothing is left behind then.
    """
    record = new_record(name, run_dir=run_dir, memory_mib=DEFAULT_MEMORY_MIB if memory_mib is None else memory_mib)
    _demand_root()
    programs = find_programs()
    with only_run():
        present = read_record(name)
        if present is not None:
            if not _missing(present):
                _demand_same(present, memory_mib=memory_mib, run_dir=run_dir)
                return _sandbox(present, made=False)
            _remove(present)
        _demand_free(record)
        with contextlib.ExitStack() as undo:
            undo.callback(lambda: _remove(read_record(name) or record))
            write_record(record)
            complete = _make(record, programs)
            undo.pop_all()
        return _sandbox(complete, made=True)


def down(name: str = "default") -> bool:
    """Whether there was something to remove; all that `up` made is gone, and nothing else."""
    _demand_root()
    with only_run():
        record = read_record(name)
        if record is not None:
            _remove(record)
        return record is not None


def restart_switch(name: str = "default") -> Sandbox:
    """The sandbox with a new ovs-vswitchd on the database as it is: DPDK reads some settings at its start only.

    PreconditionError with the switch's last words where it does not come up on what the database says.
    """
    _demand_root()
    programs = find_programs()
    with only_run():
        record = read_record(name)
        if record is None or not record.complete or not record.of_this_boot:
            raise PreconditionError(f"the sandbox {name} is not up", hint="nfvhost sandbox up")
        database = tuple(one for one in record.daemons if one.program == "ovsdb-server")
        for process in daemons(record):
            if process.pid not in {one.pid for one in database}:
                end(process)
        switch = start_switch(record, programs)
        record = write_record(replace(record, daemons=(*database, _as_daemon("ovs-vswitchd", switch))))
        missing = _missing(record)
        if missing:
            raise PreconditionError("; ".join(missing), where=f"sandbox {name}", hint="nfvhost sandbox up")
        return _sandbox(record, made=True)


def status(name: str | None = None) -> tuple[Status, ...]:
    """The sandboxes that are recorded, or the one of this name; empty where there is none."""
    found = []
    for one in names() if name is None else (name,):
        record = read_record(one)
        if record is not None:
            _demand_root()
            missing = _missing(record)
            found.append(Status(name=one, sandbox=None if missing else _sandbox(record, made=False), missing=missing))
    return tuple(found)


def _make(record: Record, programs: Programs) -> Record:
    """The record of a sandbox that runs; each step is in the record on disk before it is taken."""
    os.makedirs(record.run_dir, mode=0o755)
    for node in memory_nodes():
        record = _reserve(record, node)
    make_wires(record.netns, record.peer_netns)
    database = start_database(record, programs)
    switch = start_switch(record, programs)
    started = (_as_daemon("ovsdb-server", database), _as_daemon("ovs-vswitchd", switch))
    record = write_record(replace(record, daemons=started, complete=True))
    missing = _missing(record)
    if missing:
        raise PreconditionError("; ".join(missing), where=f"{record.run_dir}/ovs-vswitchd.log")
    return record


def _reserve(record: Record, node: int | None) -> Record:
    """The record with pages added to the node's pool; PreconditionError with the numbers where the grant is short."""
    size = PageSize.MIB_2
    where = "this machine" if node is None else f"node {node}"
    pool = read_pool(node, size)
    if pool is None:
        raise PreconditionError(f"has no hugepages of {size}", where=where, hint="a kernel with 4 KiB base pages")
    wanted = record.memory_mib // size.mib
    left_mib = available_mib(node) - record.memory_mib
    if left_mib < _HOST_FLOOR_MIB:
        raise PreconditionError(
            f"{record.memory_mib} MiB of hugepages would leave the machine {left_mib} MiB; {_HOST_FLOOR_MIB} must stay",
            where=where,
            hint="a smaller --memory",
        )
    intent = Reservation(node=node, before=pool.total, wanted=wanted)
    record = write_record(with_reservation(record, intent))
    granted = resize_pool(node, size, pages=pool.total + wanted).total - pool.total
    record = write_record(with_reservation(record, replace(intent, granted=max(0, granted))))
    if granted < wanted:
        raise PreconditionError(
            f"asked for {wanted} hugepages of {size}, the kernel granted {max(0, granted)} even after compaction",
            where=where,
            hint="free memory there, or ask for less by --memory",
        )
    return record


def _remove(record: Record) -> None:
    """Nothing; what the record tells of is gone, and then the record."""
    held: list[str] = []
    if record.of_this_boot:
        for process in daemons(record):
            end(process)
        remove_namespaces(record.netns, record.peer_netns)
        for reservation in record.reservations:
            record, left = _give_back(record, reservation)
            if left:
                held.append(f"node {reservation.node}: {left}")
    remove_record(record)
    if held:
        raise PreconditionError(
            f"another process still uses hugepages that were added for this sandbox: {', '.join(held)}",
            where=f"sandbox {record.name}",
            hint="the kernel takes them back when that process ends; all the rest is removed",
        )


def _give_back(record: Record, reservation: Reservation) -> tuple[Record, int]:
    """The record without this reservation, and how many of its pages are still in use elsewhere.

    A run that is killed in between gives back the rest at the next try, and no page twice.
    """
    pool = read_pool(reservation.node, PageSize.MIB_2)
    if pool is None:
        return record, 0
    granted = reservation.granted
    if granted is None:
        granted = min(max(0, pool.total - reservation.before), reservation.wanted)
    target = reservation.giving_back_to
    if target is None:
        target = max(0, pool.total - granted)
        record = write_record(with_reservation(record, replace(reservation, granted=granted, giving_back_to=target)))
    left = max(0, resize_pool(reservation.node, PageSize.MIB_2, pages=target).total - target) if granted else 0
    return write_record(with_reservation(record, replace(reservation, granted=0, giving_back_to=target))), left


def _missing(record: Record) -> tuple[str, ...]:
    """What a complete sandbox has and this one has not; empty where it runs and answers."""
    if not record.of_this_boot:
        return ("the machine was booted since",)
    missing = [] if record.complete else ["its start was not finished"]
    missing += [f"no namespace {name}" for name in (record.netns, *record.peer_netns) if not namespace_exists(name)]
    running = {(process.pid, process.start_ticks) for process in daemons(record)}
    missing += [
        f"{one.program} (pid {one.pid}) has ended{last_complaint(record, one.program)}"
        for one in record.daemons
        if (one.pid, one.start_ticks) not in running
    ]
    if not missing:
        socket = f"{record.run_dir}/vswitchd.ctl"
        try:
            ask(socket, "version", timeout_s=_ANSWER_S)
        except DaemonError as error:
            missing.append(str(error))
    return tuple(missing)


def _sandbox(record: Record, *, made: bool) -> Sandbox:
    return Sandbox(
        name=record.name,
        netns=record.netns,
        peer_netns=record.peer_netns,
        run_dir=record.run_dir,
        ovsdb=f"unix:{record.run_dir}/db.sock",
        unixctl=f"{record.run_dir}/vswitchd.ctl",
        switch_pid=next(one.pid for one in record.daemons if one.program == "ovs-vswitchd"),
        memory_mib=record.memory_mib,
        wires=WIRES,
        made=made,
    )


def _as_daemon(program: str, process: Process) -> StartedDaemon:
    return StartedDaemon(program=program, pid=process.pid, start_ticks=process.start_ticks)


def _demand_root() -> None:
    if os.geteuid() != 0:
        raise PreconditionError(
            "network namespaces, hugepages and DPDK need root", where="nfvhost sandbox", hint="sudo nfvhost sandbox …"
        )


def _demand_same(record: Record, *, memory_mib: int | None, run_dir: str | None) -> None:
    """Nothing where what runs is what is asked for."""
    asked = {
        "memory": (memory_mib, record.memory_mib),
        "run directory": (run_dir and os.path.abspath(run_dir), record.run_dir),
    }
    for what, (wish, fact) in asked.items():
        if wish is not None and wish != fact:
            raise PreconditionError(
                f"is up with another {what}: {fact}, not {wish}",
                where=f"sandbox {record.name}",
                hint="take it down first, or leave the option out",
            )


def _demand_free(record: Record) -> None:
    """Nothing where no one else's namespaces or files are in the way."""
    for netns in (record.netns, *record.peer_netns):
        if namespace_exists(netns):
            raise PreconditionError(
                "is there already, and no sandbox is recorded that made it",
                where=f"network namespace {netns}",
                hint=f"another --name, or `ip netns delete {netns}`",
            )
    if record.run_dir == f"{BASE}/{record.name}":
        # Under a directory of our own, files without a record are what a removed record left.
        shutil.rmtree(record.run_dir, ignore_errors=True)
    elif os.path.isdir(record.run_dir) and os.listdir(record.run_dir):
        raise PreconditionError("is not empty", where=record.run_dir, hint="an empty or a new --run-dir")
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(record.run_dir)
