"""One apply at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nfvhost.access.clock import wait_for
from nfvhost.access.command import leftover, marking
from nfvhost.access.machine import Machine
from nfvhost.access.ovsdb import socket_path
from nfvhost.errors import PreconditionError

_DIRECTORY: Final = "/run/nfvhost"
_HOLDER_BYTES: Final = 512
_INTERVAL_S: Final = 0.2
# For a command that outlives a killed apply: most boot loaders' tools are done by then.
_COMMAND_S: Final = 30.0


class BusyError(PreconditionError):
    """Another process changes the same machine now."""


def lock_path(machine: Machine) -> str:
    """The file whose lock stands for this machine; a private database has one of its own, next to its socket."""
    path = os.path.realpath(socket_path(machine.ovsdb_address))
    return f"{os.path.dirname(path)}/nfvhost.lock" if machine.private else f"{_DIRECTORY}/apply.lock"


@contextmanager
def locked(machine: Machine, *, wait_s: float = 0.0) -> Iterator[None]:
    """Nobody else applies meanwhile; the kernel lets go of it however this process ends.

    BusyError, naming the holder, where someone still does after `wait_s`, and where a command of a killed apply still
    runs; PreconditionError where the lock cannot be made.
    """
    path = lock_path(machine)
    try:
        if os.path.dirname(path) == _DIRECTORY:
            os.makedirs(_DIRECTORY, mode=0o755, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise PreconditionError(
            f"the lock of an apply cannot be made: {error.strerror}", where=path, hint="run as root"
        ) from error
    try:
        if not wait_for(lambda: _taken(descriptor), timeout_s=wait_s, interval_s=_INTERVAL_S):
            holder = os.pread(descriptor, _HOLDER_BYTES, 0).decode(errors="replace").strip() or "another process"
            raise BusyError(
                f"another apply is at work: {holder}", where=path, hint="wait for its end; it changes the same machine"
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)
        mark = f"{path.removesuffix('.lock')}.command"
        command = leftover(mark, timeout_s=max(wait_s, _COMMAND_S))
        if command is not None:
            raise BusyError(
                f"a command of an apply that was killed still runs: {command}",
                where=mark,
                hint="wait for its end, or end it; it changes the same machine",
            )
        with marking(mark):
            yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    """Whether this process holds the lock now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
