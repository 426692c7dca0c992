"""Captured trees: a tar archive, read in memory and never unpacked, or the folder that one was unpacked to."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import posixpath
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Final

from nfvhost.access.root import DirectoryRoot, Root, resolve
from nfvhost.access.user_file import replace_file
from nfvhost.errors import DocumentError, PreconditionError

# Links of a capture, which itself holds files and directories alone: path -> target, both as the kernel writes them.
LINKS: Final = "/nfvhost/links.json"
# The largest machine known, 512 CPUs and all of its /sys, takes 20 MiB and 23 thousand members.
MAX_BYTES: Final = 96 << 20
MAX_MEMBERS: Final = 400_000
# POSIX.1-1988 ustar: blocks of 512 bytes; /usr/include/tar.h
_BLOCK: Final = 512
# A capture is mostly headers and zeros: xz's higher presets take half as long again and save nothing.
_PRESET: Final = 2
_ZERO: Final = bytes(_BLOCK)
_REGULAR: Final = frozenset({b"0", b"\0", b"7"})
_LINK: Final = b"2"
_DIRECTORY: Final = b"5"
_LONG_NAME: Final = b"L"
_LONG_LINK: Final = b"K"
_PAX: Final = b"x"
_PAX_FOR_ALL: Final = b"g"
_REFUSED: Final = {
    b"1": "a hard link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a fifo",
    b"S": "a sparse file",
}
_TOPS: Final = ("sys", "proc")
_HINT: Final = "make a capture with `nfvhost capture host.tar.xz`, or pack sys/ and proc/ of the machine with tar"
_UNTRUSTED: Final = "do not use this file; ask for a new capture"
_UNREADABLE: Final = "ask its owner for permission, or run as a user who may read it"


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry of a tar archive; `start` and `size` say where its bytes lie."""

    name: str
    kind: bytes
    target: str
    start: int
    size: int


class _LinkedRoot(Root):
    """A captured tree whose links are known beforehand."""

    def __init__(self, links: dict[str, str], others: Iterable[str] = ()) -> None:
        """`others` are the files and directories of the tree, as far as they are known beforehand."""
        self._links = links
        self._directories: dict[str, str | None] = {}
        self._names: dict[str, list[str]] = {"": []}
        pending = [*links, *others]
        seen = {""}
        while pending:
            path = pending.pop()
            if path not in seen:
                seen.add(path)
                parent, _, leaf = path.rpartition("/")
                self._names.setdefault(parent, []).append(leaf)
                pending.append(parent)

    @property
    def live(self) -> bool:
        return False

    def read_link(self, path: str) -> str | None:
        parent, _, leaf = path.rpartition("/")
        place = self._directory(parent)
        return None if place is None else self._links.get(f"{place}/{leaf}")

    def _place(self, path: str) -> str | None:
        """The path with every link followed; None where links run in a circle."""
        parent, _, leaf = path.rpartition("/")
        place = self._directory(parent)
        if place is None:
            return None
        full = f"{place}/{leaf}" if leaf else place
        return self._directory(full) if full in self._links else full

    def _directory(self, path: str) -> str | None:
        """The real path of a directory, without a slash at its end; remembered, as trees are read by directory."""
        if path not in self._directories:
            place = resolve(self._links.get, path)
            self._directories[path] = None if place is None else place.rstrip("/")
        return self._directories[path]


class ArchiveRoot(_LinkedRoot):
    """The tree in a tar archive, plain or compressed by xz, gzip or bzip2; it refuses whatever is not a plain tree.

    The tree may lie at the top, under `./` or in one folder. DocumentError for an archive that is none, is cut off, is
    too large, holds neither sys/ nor proc/, or has members that a capture never has: devices, fifos, hard links,
    absolute names, `..`, links out of the tree.
    """

    def __init__(self, path: str) -> None:
        self._content, compressed = _decompressed(path)
        self._files: dict[str, tuple[int, int]] = {}
        directories: set[str] = set()
        links: dict[str, str] = {}
        members = _below_top(path, _checked(path, self._content, compressed=compressed))
        for name, member in members.items():
            if member.kind == _DIRECTORY:
                directories.add(name)
            elif member.kind == _LINK:
                links[name] = member.target
            else:
                self._files[name] = (member.start, member.size)
        if LINKS in self._files:
            links.update(_stated_links(self._bytes(LINKS), f"{path}: {LINKS}"))
        for name, target in links.items():
            _check_link(path, name, target)
        super().__init__(links, [*self._files, *directories])
        for directory in directories:
            self._names.setdefault(directory, [])

    def read_bytes(self, path: str) -> bytes | None:
        place = self._place(path)
        return self._bytes(place) if place in self._files else None

    def list_dir(self, path: str) -> tuple[str, ...]:
        place = self._place(path)
        return () if place is None else tuple(sorted(self._names.get(place, ())))

    def exists(self, path: str) -> bool:
        place = self._place(path)
        return place is not None and (place in self._files or place in self._names)

    def _bytes(self, place: str) -> bytes:
        start, size = self._files[place]
        return self._content[start : start + size]


class _UnpackedRoot(_LinkedRoot):
    """The folder that a capture of nfvhost was unpacked to: its files, and the links that it states."""

    def __init__(self, directory: DirectoryRoot, links: dict[str, str]) -> None:
        super().__init__(links)
        self._inner = directory

    def read_bytes(self, path: str) -> bytes | None:
        place = self._place(path)
        return None if place is None else self._inner.read_bytes(place)

    def list_dir(self, path: str) -> tuple[str, ...]:
        place = self._place(path)
        if place is None:
            return ()
        return tuple(sorted({*self._inner.list_dir(place), *self._names.get(place, ())}))

    def exists(self, path: str) -> bool:
        place = self._place(path)
        return place is not None and (self._inner.exists(place) or place in self._names)


def open_root(path: str | None = None) -> Root:
    """The tree of the running machine, of a folder, or of an archive, by what `path` names.

    DocumentError where nothing is there or it is no such tree, PreconditionError where this user may not read it.
    """
    if path is None or os.path.abspath(path) == "/":
        return DirectoryRoot("/")
    try:
        mode = os.stat(path).st_mode
    except PermissionError as error:
        raise PreconditionError("may not be read by this user", where=path, hint=_UNREADABLE) from error
    except OSError as error:
        raise DocumentError(
            f"cannot be opened: {error.strerror}",
            where=path,
            hint="name a folder or a capture, or `/` for this machine",
        ) from error
    except ValueError as error:
        raise DocumentError(f"is no path: {error}", where=repr(path), hint="name a folder or a capture") from error
    return _folder(path) if stat.S_ISDIR(mode) else ArchiveRoot(path)


def _folder(path: str) -> Root:
    directory = DirectoryRoot(os.path.abspath(path))
    try:
        names = os.listdir(path)
    except PermissionError as error:
        raise PreconditionError("may not be read by this user", where=path, hint=_UNREADABLE) from error
    if not any(top in names for top in _TOPS):
        raise DocumentError("holds neither sys/ nor proc/", where=path, hint=_HINT)
    stated = directory.read_bytes(LINKS)
    if stated is None:
        return directory
    links = _stated_links(stated, f"{path}{LINKS}")
    for name, target in links.items():
        _check_link(path, name, target)
    return _UnpackedRoot(directory, links)


def _decompressed(path: str) -> tuple[bytes, bool]:
    """The bytes of the archive inside, at most MAX_BYTES, and whether they were compressed."""
    try:
        with ExitStack() as stack:
            # A fifo or a device must not keep us waiting.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            packed: IO[bytes] = stack.enter_context(os.fdopen(descriptor, "rb"))
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DocumentError("is neither a folder nor a file", where=path, hint=_HINT)
            head = packed.read(6)
            packed.seek(0)
            unpacker = _unpacker(head, packed)
            content = (packed if unpacker is None else stack.enter_context(unpacker)).read(MAX_BYTES + 1)
    except PermissionError as error:
        raise PreconditionError("may not be read by this user", where=path, hint=_UNREADABLE) from error
    except EOFError as error:
        raise DocumentError("is cut off: the compressed data has no end", where=path, hint=_HINT) from error
    except (OSError, lzma.LZMAError, zlib.error) as error:
        raise DocumentError(f"cannot be read: {error}", where=path, hint=_HINT) from error
    if not content:
        raise DocumentError("is empty", where=path, hint=_HINT)
    if len(content) > MAX_BYTES:
        raise DocumentError(
            f"holds more than {MAX_BYTES >> 20} MiB, and no machine's capture does", where=path, hint=_UNTRUSTED
        )
    return content, unpacker is not None


def _unpacker(head: bytes, packed: IO[bytes]) -> lzma.LZMAFile | gzip.GzipFile | bz2.BZ2File | None:
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(packed)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=packed)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(packed)
    return None


def _checked(path: str, content: bytes, *, compressed: bool) -> Iterator[tuple[str, _Member]]:
    """The members with clean names: no `./`, no slash at the end, each of a kind that a capture may have."""
    for count, member in enumerate(_members(path, content, compressed=compressed), start=1):
        where = f"{path}: {member.name}"
        if count > MAX_MEMBERS:
            raise DocumentError(f"has more than {MAX_MEMBERS} members", where=path, hint=_UNTRUSTED)
        if member.kind not in _REGULAR and member.kind not in {_DIRECTORY, _LINK}:
            kind = _REFUSED.get(member.kind, f"a member of type {member.kind!r}")
            raise DocumentError(
                f"is {kind}; a capture holds only files, folders and links", where=where, hint=_UNTRUSTED
            )
        if member.name.startswith("/"):
            raise DocumentError("has an absolute name", where=where, hint=_UNTRUSTED)
        parts = [part for part in member.name.split("/") if part not in {"", "."}]
        if ".." in parts:
            raise DocumentError("leads out of the archive with `..`", where=where, hint=_UNTRUSTED)
        if parts:
            yield "/".join(parts), member


def _below_top(path: str, members: Iterator[tuple[str, _Member]]) -> dict[str, _Member]:
    """Path in the tree -> member, the last of each name; one folder around the tree is taken off."""
    found = dict(members)
    tops = {name.partition("/")[0] for name in found}
    if any(top in tops for top in _TOPS):
        return {f"/{name}": member for name, member in found.items()}
    if len(tops) == 1:
        prefix = f"{tops.pop()}/"
        below = {f"/{name.removeprefix(prefix)}": member for name, member in found.items() if name.startswith(prefix)}
        if any(name.split("/")[1] in _TOPS for name in below):
            return below
    raise DocumentError("holds neither sys/ nor proc/", where=path, hint=_HINT)


def _check_link(path: str, name: str, target: str) -> None:
    """Refuses a link that leads out of the tree when it is unpacked somewhere."""
    if target.startswith("/"):
        inside = target.split("/")[1] in _TOPS and ".." not in target.split("/")
    else:
        inside = not posixpath.normpath(posixpath.join(name.rpartition("/")[0].lstrip("/"), target)).startswith("..")
    if not inside:
        raise DocumentError(f"is a link that leaves the tree: {target}", where=f"{path}: {name}", hint=_UNTRUSTED)


def _stated_links(content: bytes, where: str) -> dict[str, str]:
    try:
        stated = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"is not JSON: {error}", where=where, hint=_HINT) from error
    if not isinstance(stated, Mapping) or not all(
        isinstance(target, str) and name.startswith("/") and ".." not in name.split("/")
        for name, target in stated.items()
    ):
        raise DocumentError("does not map absolute paths to link targets", where=where, hint=_HINT)
    return dict(stated)


def _members(path: str, content: bytes, *, compressed: bool) -> Iterator[_Member]:
    """The entries of a tar archive, in its order; three times as fast as tarfile, as trees have 20000 tiny files.

    Compressed data has a checksum of its own, so each header's is only computed without one.
    """
    at = 0
    name: str | None = None
    target: str | None = None
    while True:
        header = content[at : at + _BLOCK]
        if header == _ZERO:
            return
        if len(header) < _BLOCK:
            raise DocumentError(
                "is cut off: the archive has no end" if at else "is not a tar archive", where=path, hint=_HINT
            )
        kind, size = _kind_and_size(path, header, first=at == 0, checked=at == 0 or not compressed)
        start = at + _BLOCK
        at = start + -(-size // _BLOCK) * _BLOCK
        if start + size > len(content):
            raise DocumentError("is cut off: the archive has no end", where=path, hint=_HINT)
        if kind == _LONG_NAME:
            name = _string(content[start : start + size])
        elif kind == _LONG_LINK:
            target = _string(content[start : start + size])
        elif kind == _PAX:
            records = _pax_records(path, content[start : start + size])
            name, target = records.get("path", name), records.get("linkpath", target)
        elif kind != _PAX_FOR_ALL:
            yield _Member(name or _name(header), kind, target or _string(header[157:257]), start, size)
            name = target = None


def _kind_and_size(path: str, header: bytes, *, first: bool, checked: bool) -> tuple[bytes, int]:
    """The type flag, and the bytes that follow the header."""
    kind = header[156:157]
    try:
        size = int(header[124:136].strip(b"\0 ") or b"0", 8)
        # The checksum counts itself as eight spaces.
        sound = not checked or int(header[148:156].strip(b"\0 "), 8) == sum(header[:148] + b" " * 8 + header[156:])
    except ValueError:
        size, sound = 0, False
    if not sound or size < 0:
        raise DocumentError(
            "is not a tar archive" if first else "is damaged: a header in the archive is wrong", where=path, hint=_HINT
        )
    return kind, 0 if kind in {_LINK, _DIRECTORY} else size


def _name(header: bytes) -> str:
    name = _string(header[:100])
    # GNU tar writes "ustar  " and keeps other things at the prefix's place.
    prefix = _string(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _string(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def _pax_records(path: str, content: bytes) -> dict[str, str]:
    """The keywords of an extended header: `<length> <keyword>=<value>` (POSIX.1-2001, pax)."""
    found: dict[str, str] = {}
    while content.strip(b"\0"):
        length, _, _ = content.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(content):
            raise DocumentError("is damaged: an extended header is wrong", where=path, hint=_HINT)
        keyword, _, value = content[len(length) + 1 : int(length)].removesuffix(b"\n").partition(b"=")
        found[keyword.decode(errors="replace")] = value.decode(errors="surrogateescape")
        content = content[int(length) :]
    if "size" in found or any(keyword.startswith("GNU.sparse") for keyword in found):
        raise DocumentError("has members larger than a capture's", where=path, hint=_UNTRUSTED)
    return found


def write_archive(path: str, files: Mapping[str, bytes], directories: frozenset[str], links: Mapping[str, str]) -> int:
    """Writes a tar.xz with these files and directories at once or not at all; the bytes written.

    `links` go into the file LINKS. The same tree gives the same bytes. PreconditionError where it cannot be written.
    """
    content = _packed(
        {**files, LINKS: (json.dumps(dict(links), indent=0, sort_keys=True) + "\n").encode()}, directories
    )
    try:
        # What others cannot read is no capture.
        replace_file(path, content, accept=ArchiveRoot)
    except OSError as error:
        raise PreconditionError(
            f"cannot be written: {error.strerror}", where=path, hint="name a file in a folder that you may write to"
        ) from error
    return len(content)


def _packed(files: Mapping[str, bytes], directories: frozenset[str]) -> bytes:
    import tarfile  # noqa: PLC0415 - only captures are written

    all_directories = set(directories)
    for path in (*files, *directories):
        parent = path.rpartition("/")[0]
        while parent and parent not in all_directories:
            all_directories.add(parent)
            parent = parent.rpartition("/")[0]
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz", format=tarfile.PAX_FORMAT, preset=_PRESET) as archive:
        for path in sorted({*files, *all_directories} - {"", "/"}):
            # A TarInfo is root's, from 1970, unless told otherwise: nothing of this machine or moment goes in.
            member = tarfile.TarInfo(path.lstrip("/"))
            if path in files:
                member.size = len(files[path])
                archive.addfile(member, BytesIO(files[path]))
            else:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
    return packed.getvalue()
