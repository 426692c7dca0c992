"""What a sandbox has made so far, written down before it is made, so that any later run can take it away."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from nfvhost.access.clock import wait_for
from nfvhost.access.root import DirectoryRoot
from nfvhost.errors import PreconditionError, UsageError
from nfvhost.model.units import PageSize

_ROOT: Final = DirectoryRoot("/")
_MODE: Final = 0o644
BASE: Final = "/run/nfvhost/sandbox"
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_LOCK_TIMEOUT_S: Final = 60.0
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
# The longest path that fits into sockaddr_un.sun_path with its NUL byte (unix(7)).
_SOCKET_PATH_BYTES: Final = 107


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Hugepages that were added to a node's pool for this sandbox."""

    node: int | None
    before: int
    wanted: int
    granted: int | None = None  # None: the run that asked for them ended before it could read back
    giving_back_to: int | None = None  # the pool without them, once giving back has begun


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedDaemon:
    """A daemon that this sandbox started."""

    program: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One sandbox, finished or not."""

    name: str
    boot_id: str
    run_dir: str
    memory_mib: int  # on each node
    complete: bool = False
    reservations: tuple[Reservation, ...] = ()
    daemons: tuple[StartedDaemon, ...] = ()

    @property
    def netns(self) -> str:
        """The namespace of the switch and its ports."""
        return f"nfvhost-{self.name}"

    @property
    def peer_netns(self) -> tuple[str, str]:
        """The namespaces of the two machines that the wires lead to."""
        return f"{self.netns}-a", f"{self.netns}-b"

    @property
    def of_this_boot(self) -> bool:
        """Whether processes, namespaces and pages that it tells of can still be there."""
        return self.boot_id == boot_id()


def boot_id() -> str:
    """The kernel's name for the time since this boot."""
    return _ROOT.read_line(_BOOT_ID) or ""


def new_record(name: str, *, run_dir: str | None, memory_mib: int) -> Record:
    """A record of nothing made yet; UsageError for what cannot serve."""
    # "x-a" would meet the peer namespace of "x".
    if not _NAME.fullmatch(name) or name.endswith(("-a", "-b")):
        raise UsageError(
            f"{name!r} cannot be the name of a sandbox",
            hint="at most 32 of a-z, 0-9 and -, not ending in -a or -b",
        )
    if memory_mib < PageSize.MIB_2.mib or memory_mib % PageSize.MIB_2.mib:
        raise UsageError(f"{memory_mib} MiB are not whole pages of {PageSize.MIB_2}", where="--memory")
    directory = os.path.abspath(run_dir or f"{BASE}/{name}")
    if len(os.fsencode(f"{directory}/vswitchd.ctl")) > _SOCKET_PATH_BYTES:
        raise UsageError("the path is too long for the sockets in it", where=directory, hint="a shorter --run-dir")
    return Record(name=name, boot_id=boot_id(), run_dir=directory, memory_mib=memory_mib)


def names() -> tuple[str, ...]:
    """The sandboxes that are recorded, up or not."""
    files = _ROOT.list_dir(BASE)
    return tuple(file.removesuffix(".json") for file in files if file.endswith(".json"))


def read_record(name: str) -> Record | None:
    """What was recorded under this name; None where nothing was."""
    text = _ROOT.read_text(_path(name))
    if text is None:
        return None
    try:
        return _record(json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise PreconditionError(
            "is not a record of a sandbox",
            where=_path(name),
            hint=f"remove it, then `ip netns del` what `ip netns list` shows as nfvhost-{name}*",
        ) from error


def write_record(record: Record) -> Record:
    """The record, once it is on disk; a run that is killed leaves the old one or the new one."""
    text = json.dumps(asdict(record), indent=1, sort_keys=True)
    _ROOT.write_file(_path(record.name), text.encode(), mode=_MODE)
    return record


def remove_record(record: Record) -> None:
    """Nothing; the record's files go, its run directory first."""
    if os.path.isdir(record.run_dir):
        shutil.rmtree(record.run_dir)
    _ROOT.remove_file(_path(record.name))


def with_reservation(record: Record, reservation: Reservation) -> Record:
    """The record with this node's reservation in place of what it held."""
    others = tuple(one for one in record.reservations if one.node != reservation.node)
    return replace(record, reservations=(*others, reservation))


@contextlib.contextmanager
def only_run() -> Iterator[None]:
    """Nobody else brings sandboxes up or down meanwhile; waits for another run to finish."""
    try:
        os.makedirs(BASE, mode=0o755, exist_ok=True)
        descriptor = os.open(f"{BASE}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PreconditionError(f"cannot be made: {error.strerror}", where=BASE, hint="run as root") from error

    def taken() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        if not wait_for(taken, timeout_s=_LOCK_TIMEOUT_S, interval_s=0.1):
            raise PreconditionError(f"another run holds the lock for {_LOCK_TIMEOUT_S:g} s", where=f"{BASE}/.lock")
        yield
    finally:
        os.close(descriptor)


def _record(document: dict[str, Any]) -> Record:
    """The record that was written; ValueError, TypeError or KeyError for anything else."""
    parts = {
        "reservations": tuple(Reservation(**one) for one in document["reservations"]),
        "daemons": tuple(StartedDaemon(**one) for one in document["daemons"]),
    }
    return Record(**{**document, **parts})


def _path(name: str) -> str:
    return f"{BASE}/{name}.json"
