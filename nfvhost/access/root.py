"""A tree of files: the live machine, a captured folder or a captured archive.

Paths are absolute and are joined to the real place here alone. A link is followed inside the tree and never out
of it, as `openat2(RESOLVE_IN_ROOT)` would. Only the live machine, and a folder that was opened for it, is written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nfvhost.access import writing
from nfvhost.access.clock import now_s
from nfvhost.access.writing import FolderAccess
from nfvhost.errors import PreconditionError

if TYPE_CHECKING:
    from collections.abc import Callable

# What the kernel answers where an attribute exists but has nothing to say: no such file, a link that is down
# (net/core/net-sysfs.c, speed_show: EINVAL), a device that is gone or does not implement it, a process that
# has ended (ESRCH from /proc/<pid>).
_ABSENT: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EINVAL,
        errno.EIO,
        errno.ENODEV,
        errno.ENXIO,
        errno.ESRCH,
        errno.ENODATA,
        errno.EOPNOTSUPP,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    }
)
# The kernel gives up a path after so many links (include/linux/namei.h, MAXSYMLINKS).
_MAX_LINKS: Final = 40
_CHUNK: Final = 65536
# The kernel counts pages, VFs and nodes in ints, or far below their end.
_MOST: Final = 2**31 - 1
_ATTRIBUTES: Final = ("/sys/", "/proc/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a file said, and when."""

    at_s: float  # as `now_s` tells it
    text: str | None


class Root(ABC):
    """A tree; None or an empty tuple means that it does not offer what is read. Most refuse to be written."""

    @property
    @abstractmethod
    def live(self) -> bool:
        """Whether this is the running machine, which has more facts than its files."""

    @abstractmethod
    def read_bytes(self, path: str) -> bytes | None:
        """The file's bytes; None where there is none. PreconditionError where reading is forbidden."""

    def first_look(self, path: str) -> Look:
        """The file as it was when this look at the machine began, which is now."""
        return Look(at_s=now_s(), text=self.read_text(path))

    @abstractmethod
    def list_dir(self, path: str) -> tuple[str, ...]:
        """The sorted names in a directory; empty where there is none."""

    @abstractmethod
    def read_link(self, path: str) -> str | None:
        """The text of a symbolic link; None where there is none."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether the path leads to something inside the tree."""

    def read_text(self, path: str) -> str | None:
        """The file's text; None where there is none.

        Bytes that are not UTF-8 become U+FFFD; NUL bytes at the end go, as some kernels append them to lists.
        """
        content = self.read_bytes(path)
        return None if content is None else content.rstrip(b"\0").decode(errors="replace")

    def read_line(self, path: str) -> str | None:
        """The text without white space and NUL bytes around it; None where there is none, or nothing in it."""
        text = self.read_text(path)
        return (text.strip("\0 \t\n\r") or None) if text is not None else None

    def read_int(self, path: str, *, base: int = 10) -> int | None:
        """The file's number; None where there is no file or no number in it."""
        line = self.read_line(path)
        if line is None:
            return None
        try:
            return int(line, base)
        except ValueError:
            return None

    def read_count(self, path: str, *, most: int = _MOST) -> int | None:
        """The file's number of things; None where there is no number in it from 0 to `most`."""
        count = self.read_int(path)
        return count if count is not None and 0 <= count <= most else None

    def file_mode(self, path: str) -> int | None:
        """Permission bits of a file; None where there is none or the tree does not keep them."""
        del path
        return None

    def is_socket(self, path: str) -> bool:
        """Whether the path itself is a socket."""
        del path
        return False

    def folder_access(self, path: str) -> FolderAccess | None:
        """Owner, group and permission bits of a folder; None where there is none or the tree does not keep them."""
        del path
        return None

    def make_folder(self, path: str, access: FolderAccess) -> tuple[str, ...]:
        """The directories that had to be made, outermost first, once the folder is there with this access.

        Errors as `write_file`.
        """
        del access
        raise _capture(path)

    def remove_folder(self, path: str, *, folders: tuple[str, ...] = ()) -> None:
        """Nothing; the folder and those of `folders` are gone, as far as they are empty; errors as `write_file`."""
        del folders
        raise _capture(path)

    def write_file(self, path: str, content: bytes, *, mode: int) -> tuple[str, ...]:
        """The directories that had to be made, outermost first; a reader sees the old file or the new one.

        PreconditionError where the tree is a capture, where the path leads through a link or may not be written,
        ApplyError where the disk is full or fails.
        """
        del content, mode
        raise _capture(path)

    def remove_file(self, path: str, *, folders: tuple[str, ...] = ()) -> None:
        """Nothing, once the file is not there, and those of `folders` that are empty then; errors as `write_file`."""
        del folders
        raise _capture(path)

    def remove_leftover(self, path: str) -> None:
        """Nothing, once what a killed write of this file left beside it is gone; the file stays as it is."""
        raise _capture(path)

    def write_attribute(self, path: str, text: str) -> None:
        """Nothing, once the kernel has taken exactly this text, of an attribute that is there; never makes a file.

        PreconditionError as `write_file` and where there is no such attribute, ApplyError with the kernel's answer.
        """
        del text
        raise _capture(path)


class DirectoryRoot(Root):
    """A tree in a directory: `/` is the live machine, anything else a capture, unless it is opened to be written."""

    def __init__(self, directory: str = "/", *, writable: bool = False) -> None:
        self._base = directory.rstrip("/")
        self._writable = writable or self.live
        self._directories: dict[str, str | None] = {}

    @property
    def live(self) -> bool:
        return not self._base

    def changing(self, call: str, path: str) -> None:
        """Nothing; called before each system call that changes the tree, for those who count, refuse or log them.

        `call` is mkdir, create, write, rename, unlink, rmdir or attribute; an OSError counts as the call's own.
        """

    def file_mode(self, path: str) -> int | None:
        return writing.file_mode(self._base, path)

    def is_socket(self, path: str) -> bool:
        place = self._place(path)
        return place is not None and stat.S_ISSOCK(_mode(place))

    def folder_access(self, path: str) -> FolderAccess | None:
        return writing.folder_access(self._base, path)

    def make_folder(self, path: str, access: FolderAccess) -> tuple[str, ...]:
        self._demand_writable(path)
        return writing.make_folder(self._base, path, access, changing=self.changing)

    def remove_folder(self, path: str, *, folders: tuple[str, ...] = ()) -> None:
        self._demand_writable(path)
        writing.remove_folder(self._base, path, folders=folders, changing=self.changing)

    def write_file(self, path: str, content: bytes, *, mode: int) -> tuple[str, ...]:
        self._demand_writable(path)
        return writing.write_file(self._base, path, content, mode=mode, changing=self.changing)

    def remove_file(self, path: str, *, folders: tuple[str, ...] = ()) -> None:
        self._demand_writable(path)
        writing.remove_file(self._base, path, folders=folders, changing=self.changing)

    def remove_leftover(self, path: str) -> None:
        self._demand_writable(path)
        writing.remove_leftover(self._base, path, changing=self.changing)

    def write_attribute(self, path: str, text: str) -> None:
        self._demand_writable(path)
        # /sys/class and /sys/bus are links into /sys/devices.
        place = os.path.realpath(path) if self.live else self._place(path)
        if place is None or (self.live and not place.startswith(_ATTRIBUTES)):
            raise PreconditionError("is no attribute of the kernel", where=path)
        writing.write_attribute(place, path, text, changing=self.changing)

    def _demand_writable(self, path: str) -> None:
        if not self._writable:
            raise _capture(path)
        # What was a folder may be none any more, and a link may lead elsewhere.
        self._directories.clear()

    def read_bytes(self, path: str) -> bytes | None:
        place = self._place(path)
        if place is None:
            return None
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if self.live else os.O_NOFOLLOW)
        try:
            descriptor = os.open(place, flags)
        except OSError as error:
            return self._absent(error, path)
        try:
            content = os.read(descriptor, _CHUNK)
            # A short first read is the end for sysfs; /proc answers in pieces of a page or less.
            while content and (more := os.read(descriptor, _CHUNK)):
                content += more
            return content
        except OSError as error:
            return self._absent(error, path)
        finally:
            os.close(descriptor)

    def list_dir(self, path: str) -> tuple[str, ...]:
        place = self._place(path)
        if place is None:
            return ()
        try:
            return tuple(sorted(os.listdir(place)))
        except OSError as error:
            self._absent(error, path)
            return ()

    def read_link(self, path: str) -> str | None:
        parent, _, leaf = path.rpartition("/")
        place = self._directory(parent)
        if place is None:
            return None
        try:
            return os.readlink(f"{place}/{leaf}")
        except OSError as error:
            self._absent(error, path)
            return None

    def exists(self, path: str) -> bool:
        place = self._place(path)
        return place is not None and os.path.lexists(place)

    def _place(self, path: str) -> str | None:
        """The real path of `path` with every link followed inside the tree; None where one leads nowhere."""
        if self.live:
            return path
        parent, _, leaf = path.rpartition("/")
        place = self._directory(parent)
        if place is None:
            return None
        full = f"{place}/{leaf}" if leaf else place
        try:
            target = os.readlink(full)
        except OSError:
            return full
        inside = resolve(self._link_at, posixpath.join(parent or "/", target))
        return None if inside is None else self._base + inside

    def _directory(self, path: str) -> str | None:
        """The real path of a directory of the tree; remembered, since sysfs is read directory by directory."""
        if self.live:
            return path
        inside = self._inside(path)
        return None if inside is None else self._base + inside

    def _inside(self, path: str) -> str | None:
        """`path` with every link followed, the top as ""; only its last part is looked at where the rest is known."""
        if path not in self._directories:
            parent, _, leaf = path.rpartition("/")
            above = self._inside(parent) if leaf and leaf not in {".", ".."} else None
            place = path if above is None else f"{above}/{leaf}"
            inside: str | None = place
            if above is None or self._link_at(place) is not None:
                inside = resolve(self._link_at, place or "/")
            self._directories[path] = None if inside is None else inside.rstrip("/")
        return self._directories[path]

    def _link_at(self, path: str) -> str | None:
        with contextlib.suppress(OSError):
            return os.readlink(self._base + path)
        return None

    @staticmethod
    def _absent(error: OSError, path: str) -> None:
        if error.errno in _ABSENT:
            return
        raise PreconditionError(
            f"cannot be read: {error.strerror}", where=path, hint="run as a user who may read it, or as root"
        ) from error


def _mode(place: str) -> int:
    try:
        return os.lstat(place).st_mode
    except OSError:
        return 0


def _capture(path: str) -> PreconditionError:
    return PreconditionError("is part of a captured tree, which is never written", where=path)


def resolve(link_at: Callable[[str], str | None], path: str) -> str | None:
    """`path` with its links followed and `..` stopped at the top; None where links run in a circle."""
    pending = path.split("/")[::-1]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            if done:
                done.pop()
            continue
        done.append(part)
        target = link_at("/" + "/".join(done))
        if target is None:
            continue
        links += 1
        if links > _MAX_LINKS:
            return None
        done = [] if target.startswith("/") else done[:-1]
        pending.extend(target.split("/")[::-1])
    return "/" + "/".join(done)
