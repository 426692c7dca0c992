"""What an apply is about to do and what was there before, on disk before it is done.

One file for each apply, `<id>.jsonl`, that only grows: a record on each line, with a checksum of it. What was being
written when the power went is a last line that does not match its checksum; it tells of nothing that was done. The file
is made long enough before the first change, for before-images that are written later as well, so that no record fails
for want of space; NUL bytes at its end are that room.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from nfvhost.access.clock import since_boot_s, utc
from nfvhost.access.machine import Machine
from nfvhost.engine.stored import restored, stored
from nfvhost.errors import ApplyError, PreconditionError, Problem
from nfvhost.model.change import Change

VERSION: Final = 2
# Version 1 held all before-images in front, and said less in its first and last record.
_READABLE: Final = frozenset({1, VERSION})
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_NAME: Final = re.compile(r"([1-9]\d{0,8})\.jsonl")
_FORM: Final = b'{"crc":"%08x","record":%s}\n'
_LINE: Final = re.compile(rb'\{"crc":"(?P<crc>[0-9a-f]{8})","record":(?P<record>.*)\}')
# Room for what comes besides the before-images: two short lines a resource, and the problems of an end.
_ROOM_BYTES: Final = 65536
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022

# What a store is told before each system call that changes something: the call and the path; an OSError counts as
# the call's.
Changing = Callable[[str, str], None]


class Ending(StrEnum):
    """How an apply, or the undoing of one, ended."""

    APPLIED = "applied"
    ROLLED_BACK = "rolled-back"
    ROLLBACK_FAILED = "rollback-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something was."""

    utc: str  # 2026-01-31T12:00:00Z
    boot: str  # /proc/sys/kernel/random/boot_id; "" on a tree that has none
    since_boot_s: float  # CLOCK_BOOTTIME, which nobody sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Which apply this is."""

    version: int
    id: int
    at: Moment
    program: str  # version of nfvhost
    plan: str  # sha256 of its document
    profile: str
    host: str
    fingerprint: tuple[tuple[str, str], ...]
    resumes: int | None = None  # the apply that this one finishes: one that was cut off, or that waited for this boot
    confirm_within_s: int | None = None
    planned: tuple[tuple[str, int], ...] = ()  # the resources that have changes, and how many, as seen before the first
    boot: bool = False  # it is a boot that makes again, or for the first time, what the apply asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What is to change in one resource, and the part of its state that undoing it needs."""

    resource: str
    changes: tuple[Change, ...]
    state: Any  # of the resource's own class, as `stored` writes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """From here on, any of this resource's changes may have been made."""

    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """All of them are made, and were read back."""

    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """From here on, any of the changes may have been taken back."""

    at: Moment
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """The changes of this resource by that apply, or try of it, are all taken back."""

    id: int
    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Nothing is half done any more."""

    at: Moment
    ending: Ending
    problems: tuple[Problem, ...] = ()
    pending: tuple[str, ...] = ()  # the resources of which something waits for a reboot


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Nothing waits for a reboot any more: all was found as planned."""

    at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A person has said that the machine is well."""

    at: Moment


Record = Begin | Before | Started | Done | Rollback | PutBack | End | Settled | Confirmed


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One apply as its journal tells it."""

    path: str
    begin: Begin
    records: tuple[Record, ...]  # all others
    length: int  # bytes of whole lines

    @property
    def id(self) -> int:
        """Its number; a later apply has a higher one."""
        return self.begin.id

    @property
    def touched(self) -> bool:
        """Whether anything may have been changed, or was found to be finished."""
        return any(isinstance(record, (Started, Rollback, End)) for record in self.records)

    @property
    def started(self) -> tuple[Before, ...]:
        """The before-images of the resources that may have been changed, in the order of the apply."""
        names = {record.resource for record in self.records if isinstance(record, Started)}
        return tuple(one for one in self.records if isinstance(one, Before) and one.resource in names)

    @property
    def done(self) -> frozenset[str]:
        """The resources whose changes were all made and read back."""
        return frozenset(record.resource for record in self.records if isinstance(record, Done))

    @property
    def end(self) -> End | None:
        """How it ended; None where it, or a rollback of it, was cut off."""
        for record in reversed(self.records):
            if isinstance(record, End):
                return record
            if isinstance(record, (Rollback, Started)):
                return None
        return None

    @property
    def rollback(self) -> Rollback | None:
        """The last rollback of it that began."""
        return next((one for one in reversed(self.records) if isinstance(one, Rollback)), None)

    @property
    def confirmed(self) -> bool:
        """Whether a person has confirmed it."""
        return any(isinstance(record, Confirmed) for record in self.records)

    @property
    def changes(self) -> tuple[Change, ...]:
        """All that it was to change."""
        return tuple(change for one in self.records if isinstance(one, Before) for change in one.changes)


class Store:
    """The journals of one machine."""

    def __init__(self, machine: Machine, *, changing: Changing = lambda _call, _path: None) -> None:
        self._root = machine.root
        self._folder = f"{machine.state_folder}/journal"
        self._changing = changing

    def now(self) -> Moment:
        """This moment."""
        return Moment(
            utc=utc(),
            boot=self._root.read_line(_BOOT_ID) or "",
            since_boot_s=round(since_boot_s(), 3),
        )

    def ids(self) -> tuple[int, ...]:
        """The numbers of all journals, highest first; empty where there are none.

        PreconditionError where they may not be read, or where others may have written them.
        """
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unreadable(error, self._folder) from error
        self._demand_own()
        return tuple(sorted((int(match[1]) for name in names if (match := _NAME.fullmatch(name))), reverse=True))

    def read(self, number: int) -> Journal | None:
        """That journal; None where it was cut off before it said anything, so that nothing was changed.

        PreconditionError where there is none, or where it is damaged in the middle.
        """
        return _parsed(self._content(number), self._path(number))

    def has_ended(self) -> bool:
        """Whether the newest journal is whole and closes with an end: whatever it was, it is not half done.

        Restores no record: most applies find nothing to do.
        """
        numbers = self.ids()
        *lines, torn = self._content(numbers[0]).rstrip(b"\0").split(b"\n") if numbers else [b""]
        if torn or not lines or not all(map(_is_whole, lines)):
            return False
        first, last = _body(lines[0]), _body(lines[-1])
        known = first is not None and first.get("version") in _READABLE
        return known and last is not None and last.get("kind") == "end"

    def _content(self, number: int) -> bytes:
        path = self._path(number)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with open(descriptor, "rb") as file:
                if os.fstat(descriptor).st_uid not in _trusted():
                    raise PreconditionError("is not this user's own file, so another may have written it", where=path)
                return file.read()
        except OSError as error:
            raise self._unreadable(error, path) from error

    def journals(self) -> Iterator[Journal]:
        """The journals of applies that may have changed something, newest first."""
        for number in self.ids():
            journal = self.read(number)
            if journal is not None and journal.touched:
                yield journal

    def create(self, begin: Callable[[int], Begin], *, befores: Iterable[Before] = ()) -> Writer:
        """A new journal, safe on disk; `begin` is told its number. There is room in it for before-images like these.

        PreconditionError where it cannot be written, a full disk among others; nothing is left behind then.
        """
        self._make_folder()
        number = next(iter(self.ids()), 0) + 1
        path = self._path(number)
        writer = None
        try:
            self._changing("create", path)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            writer = Writer(number, os.open(path, flags, _FILE_MODE), path, 0, self._changing)
            # What is there at a resource's turn may be more than what was there before the first change.
            writer.write_first(begin(number), room_bytes=2 * sum(len(_line(before)) for before in befores))
            self._changing("fsync", self._folder)
            _sync_folder(self._folder)
        except OSError as error:
            if writer is not None:
                writer.close()
                with contextlib.suppress(OSError):
                    os.unlink(path)
            raise _unwritable(error, path) from error
        return writer

    def reopen(self, journal: Journal) -> Writer:
        """The same journal, to go on with; what was cut off at its end is gone. PreconditionError as for `create`."""
        try:
            descriptor = os.open(journal.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            writer = Writer(journal.id, descriptor, journal.path, journal.length, self._changing)
            try:
                writer.make_room()
            except OSError:
                writer.close()
                raise
        except OSError as error:
            raise _unwritable(error, journal.path) from error
        return writer

    def remove(self, number: int) -> None:
        """Nothing, once that journal is gone; where it cannot go, it stays."""
        path = self._path(number)
        with contextlib.suppress(OSError):
            self._changing("unlink", path)
            os.unlink(path)

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number}.jsonl"

    def _make_folder(self) -> None:
        try:
            if not os.path.isdir(self._folder):
                self._changing("mkdir", self._folder)
                os.makedirs(os.path.dirname(self._folder), mode=0o755, exist_ok=True)
                os.mkdir(self._folder, _FOLDER_MODE)
                _sync_folder(os.path.dirname(self._folder))
        except OSError as error:
            raise _unwritable(error, self._folder) from error
        self._demand_own()

    def _demand_own(self) -> None:
        """Nothing where nobody else can have put a journal here: what it says is written back as root."""
        for path, others in ((os.path.dirname(self._folder), _OTHERS_WRITE), (self._folder, _OTHERS)):
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in _trusted() or found.st_mode & others:
                raise PreconditionError(
                    "is not a folder that this user alone may write to, so what is in it may be another's",
                    where=path,
                    hint="move it away; a new one is made",
                )

    @staticmethod
    def _unreadable(error: OSError, path: str) -> PreconditionError:
        hint = "run as root" if isinstance(error, PermissionError) else None
        return PreconditionError(f"the journal cannot be read: {error.strerror}", where=path, hint=hint)


class Writer:
    """Adds records to one journal; each is on disk when `add` returns."""

    def __init__(self, number: int, descriptor: int, path: str, length: int, changing: Changing) -> None:
        self.id = number
        self._descriptor = descriptor
        self._path = path
        self._length = length
        self._changing = changing
        self._cut_off = False  # whether a write was interrupted, so that half a line is there

    def add(self, record: Record) -> None:
        """Nothing, once it is on disk; ApplyError where it cannot be written."""
        try:
            self._write(_line(record))
        except OSError as error:
            raise ApplyError(f"the journal cannot be written: {error.strerror}", where=self._path) from error

    def write_first(self, record: Record, *, room_bytes: int) -> None:
        """The first record with room for more behind it; OSError where that cannot be had."""
        line = _line(record)
        self._changing("fallocate", self._path)
        os.posix_fallocate(self._descriptor, 0, len(line) + room_bytes + _ROOM_BYTES)
        self._write(line)

    def make_room(self) -> None:
        """Cut off what is no whole line, and have room again behind the last one; OSError where there is none."""
        self._changing("truncate", self._path)
        os.ftruncate(self._descriptor, self._length)
        self._changing("fallocate", self._path)
        os.posix_fallocate(self._descriptor, self._length, _ROOM_BYTES)

    def close(self) -> None:
        """The journal ends after its last record."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._length)
        os.close(self._descriptor)

    def _write(self, lines: bytes) -> None:
        end = self._length
        if self._cut_off:
            self.make_room()
        self._cut_off = True
        self._changing("write", self._path)
        while end - self._length < len(lines):
            end += os.pwrite(self._descriptor, lines[end - self._length :], end)
        self._changing("fsync", self._path)
        os.fsync(self._descriptor)
        self._length = end
        self._cut_off = False


def _line(record: Record) -> bytes:
    """A JSON object: the checksum is of the record's bytes as they stand in the line."""
    body = json.dumps(stored(record, Record), sort_keys=True, separators=(",", ":")).encode("ascii")
    return _FORM % (zlib.crc32(body), body)


def _parsed(content: bytes, path: str) -> Journal | None:
    *lines, _torn = content.rstrip(b"\0").split(b"\n")
    bodies = [_body(line) for line in lines]
    whole = next((at for at, body in enumerate(bodies) if body is None), len(bodies))
    # Behind a line that was being written there is nothing but what was written with it: before-images of version 1.
    if any(body is not None and body.get("kind") not in {"begin", "before"} for body in bodies[whole:]):
        raise _damaged(path, whole + 1, "does not match its checksum")
    records: list[Record] = []
    for at, body in enumerate(bodies[:whole]):
        if at == 0 and body is not None and body.get("version") not in _READABLE:
            raise PreconditionError(
                f"is a journal of version {body.get('version')}; this nfvhost reads up to version {VERSION}",
                where=path,
                hint="use the nfvhost that wrote it, or a newer one",
            )
        try:
            records.append(restored(body, Record))
        except ValueError as error:
            raise _damaged(path, at + 1, str(error)) from error
    if not records:
        return None
    first, *rest = records
    if not isinstance(first, Begin):
        raise _damaged(path, 1, "does not say which apply it is of")
    return Journal(path=path, begin=first, records=tuple(rest), length=sum(len(line) + 1 for line in lines[:whole]))


def _body(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None where the line is not what was written."""
    if not _is_whole(line):
        return None
    try:
        body = json.loads(line)["record"]
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _is_whole(line: bytes) -> bool:
    parts = _LINE.fullmatch(line)
    return parts is not None and int(parts["crc"], 16) == zlib.crc32(parts["record"])


def _damaged(path: str, line: int, what: str) -> PreconditionError:
    return PreconditionError(
        f"the journal is damaged: {what}",
        where=f"{path}:{line}",
        hint="the lines above it still say what was changed; move the file away once the machine is as it shall be",
    )


def _unwritable(error: OSError, path: str) -> PreconditionError:
    if isinstance(error, PermissionError):
        hint = "run as root"
    else:
        hint = "without a journal nothing is changed, since nobody could undo it: make room, or mount it writable"
    return PreconditionError(f"the journal cannot be written: {error.strerror}", where=path, hint=hint)


def _trusted() -> frozenset[int]:
    """The owners whose journals are believed: this user and root."""
    return frozenset({os.geteuid(), 0})


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
