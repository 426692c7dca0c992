"""Files replaced as a whole, and attributes of the kernel: what a tree that may be written does.

No link is followed in the path of a file: each directory is opened below the one before, as
`openat2(RESOLVE_NO_SYMLINKS)` would.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from nfvhost.errors import ApplyError, NfvhostError, PreconditionError

# What a tree is told before each system call that changes it: the call and the path; an OSError counts as the call's.
Changing = Callable[[str, str], None]

_FOLDER_MODE: Final = 0o755
# A file system that keeps no owners and modes, as vfat of an EFI partition, answers so to the owner (fat_setattr).
_KEEPS_NONE: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP})
_FORBIDDEN: Final = {
    errno.EACCES: "run as root",
    errno.EPERM: "run as root; lsattr(1) shows whether it is immutable",
    errno.EROFS: "mount it writable, or, in a container, run on the host itself",
}
_ATTRIBUTE_HINTS: Final = {
    errno.EACCES: "run as root",
    errno.EPERM: "run as root; kernel lockdown or a container may forbid it as well",
    errno.EROFS: "a container sees /sys read-only: run on the host itself",
    errno.ENOENT: "this kernel or device does not offer it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderAccess:
    """Who may do what with a folder."""

    uid: int
    gid: int
    mode: int  # permission bits


def write_file(base: str, path: str, content: bytes, *, mode: int, changing: Changing) -> tuple[str, ...]:
    """The directories that were made for it, outermost first; all or nothing of the content is there at any moment.

    The owner of a file that was there stays. PreconditionError where it may not be written, ApplyError where the disk
    is full or fails; the temporary file beside it is gone then.
    """
    folder, leaf = _split(path)
    with _errors(path):
        made = _make_folders(base, folder, changing)
        with _opened(base, folder) as parent:
            temporary = _temporary(leaf)
            _refuse_link(parent, leaf, path)
            _unlink(parent, temporary, path, changing)
            try:
                _fill(parent, leaf, content, mode=mode, path=path, changing=changing)
                changing("rename", path)
                os.rename(temporary, leaf, src_dir_fd=parent, dst_dir_fd=parent)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise
            os.fsync(parent)
    return made


def remove_file(base: str, path: str, *, folders: tuple[str, ...], changing: Changing) -> None:
    """Nothing, once the file is gone, and those of these folders that are empty then; absence is no error."""
    folder, leaf = _split(path)
    with _errors(path):
        with contextlib.suppress(FileNotFoundError), _opened(base, folder) as parent:
            _refuse_link(parent, leaf, path)
            _unlink(parent, _temporary(leaf), path, changing)
            if _unlink(parent, leaf, path, changing):
                os.fsync(parent)
        for one in sorted(folders, key=len, reverse=True):
            _remove_folder(base, one, changing)


def remove_leftover(base: str, path: str, *, changing: Changing) -> None:
    """Nothing, once the temporary file of a killed write is gone; the file itself stays as it is."""
    folder, leaf = _split(path)
    with _errors(path), contextlib.suppress(FileNotFoundError), _opened(base, folder) as parent:
        _unlink(parent, _temporary(leaf), path, changing)


def folder_access(base: str, path: str) -> FolderAccess | None:
    """Who may do what with the folder itself, no link followed; None where there is none."""
    try:
        with _opened(base, path) as folder:
            there = os.fstat(folder)
    except (OSError, PreconditionError):
        return None
    return FolderAccess(uid=there.st_uid, gid=there.st_gid, mode=stat.S_IMODE(there.st_mode))


def make_folder(base: str, path: str, access: FolderAccess, *, changing: Changing) -> tuple[str, ...]:
    """The directories that were made, outermost first; the folder is there, with this access.

    PreconditionError where it may not be made, ApplyError where the disk is full or fails.
    """
    with _errors(path):
        made = _make_folders(base, path, changing)
        with _opened(base, path) as folder:
            there = os.fstat(folder)
            # Nobody gets in by the old mode under the new owner, or the other way round.
            if (there.st_uid, there.st_gid) != (access.uid, access.gid):
                changing("chmod", path)
                os.fchmod(folder, 0o700)
                changing("chown", path)
                os.fchown(folder, access.uid, access.gid)
            if stat.S_IMODE(os.fstat(folder).st_mode) != access.mode:
                changing("chmod", path)
                os.fchmod(folder, access.mode)
            os.fsync(folder)
    return made


def remove_folder(base: str, path: str, *, folders: tuple[str, ...], changing: Changing) -> None:
    """Nothing; the folder and those above it are gone, as far as they are empty."""
    with _errors(path):
        for one in sorted({path, *folders}, key=len, reverse=True):
            _remove_folder(base, one, changing)


def file_mode(base: str, path: str) -> int | None:
    """Permission bits of the file itself, no link followed; None where there is none."""
    folder, leaf = _split(path)
    try:
        with _opened(base, folder) as parent:
            return stat.S_IMODE(os.stat(leaf, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return None


def write_attribute(place: str, path: str, text: str, *, changing: Changing) -> None:
    """Nothing, once the kernel has taken exactly this text in one write; `place` is where the attribute really is.

    PreconditionError where it is not there or may not be written, ApplyError with the kernel's answer where it refuses.
    """
    try:
        changing("attribute", path)
        descriptor = os.open(place, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            written = os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        number = error.errno or 0
        if number in _ATTRIBUTE_HINTS:
            raise PreconditionError(
                f"cannot be written: {error.strerror}", where=path, hint=_ATTRIBUTE_HINTS[number]
            ) from error
        raise ApplyError(
            f"the kernel refused {text!r}: {error.strerror} ({errno.errorcode.get(number, number)})",
            where=path,
            hint="dmesg may say more",
        ) from error
    if written != len(text.encode()):
        raise ApplyError(f"the kernel took {written} bytes of {text!r}", where=path)


def _split(path: str) -> tuple[str, str]:
    folder, _, leaf = path.rpartition("/")
    if not path.startswith("/") or not leaf or {".", ".."} & set(path.split("/")):
        raise PreconditionError("is no absolute path of a file", where=path)
    return folder or "/", leaf


def _temporary(leaf: str) -> str:
    """A name in the same directory, always the same: what a killed process left is found by the next one."""
    return f".{leaf}.nfvhost"


def _parts(folder: str) -> list[str]:
    return [part for part in folder.split("/") if part]


@contextlib.contextmanager
def _opened(base: str, folder: str) -> Iterator[int]:
    """A descriptor of the folder, no link followed below `base`."""
    descriptor = os.open(base or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    walked = ""
    try:
        for part in _parts(folder):
            walked += f"/{part}"
            below = _open_folder(descriptor, part, walked)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _open_folder(parent: int, name: str, path: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except NotADirectoryError:
        # The kernel answers ENOTDIR to O_NOFOLLOW with O_DIRECTORY on a link (open(2)).
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise _link_error(path) from None
        raise


def _make_folders(base: str, folder: str, changing: Changing) -> tuple[str, ...]:
    made: list[str] = []
    walked = ""
    for part in _parts(folder):
        above, walked = walked, f"{walked}/{part}"
        with _opened(base, above) as parent:
            try:
                os.close(_open_folder(parent, part, walked))
            except FileNotFoundError:
                changing("mkdir", walked)
                os.mkdir(part, dir_fd=parent)
                # Whatever the umask: services that read it run as users of their own.
                os.chmod(part, _FOLDER_MODE, dir_fd=parent)
                os.fsync(parent)
                made.append(walked)
    return tuple(made)


def _remove_folder(base: str, folder: str, changing: Changing) -> None:
    above, leaf = _split(folder)
    try:
        with _opened(base, above) as parent:
            changing("rmdir", folder)
            os.rmdir(leaf, dir_fd=parent)
            os.fsync(parent)
    except OSError as error:
        # Somebody else has put something there, or took it away.
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise


def _fill(parent: int, leaf: str, content: bytes, *, mode: int, path: str, changing: Changing) -> None:
    """Writes the temporary file, with its mode and the owner of the file that it will replace."""
    changing("create", path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(_temporary(leaf), flags, 0o600, dir_fd=parent)
    try:
        changing("write", path)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        _keep_owner(descriptor, parent, leaf)
        with _unless_kept_by_none():
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_owner(descriptor: int, parent: int, leaf: str) -> None:
    try:
        there = os.stat(leaf, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (there.st_uid, there.st_gid):
        with _unless_kept_by_none():
            os.fchown(descriptor, there.st_uid, there.st_gid)


@contextlib.contextmanager
def _unless_kept_by_none() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _KEEPS_NONE:
            raise


def _unlink(parent: int, name: str, path: str, changing: Changing) -> bool:
    """Whether there was something to unlink."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    changing("unlink", path)
    os.unlink(name, dir_fd=parent)
    return True


def _refuse_link(parent: int, leaf: str, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(leaf, dir_fd=parent, follow_symlinks=False).st_mode):
            raise _link_error(path)


def _link_error(path: str) -> PreconditionError:
    return PreconditionError(
        "is a symbolic link or something else than a plain file or folder; nfvhost does not write through it",
        where=path,
        hint="put a file or folder of its own there",
    )


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _error_of(error, path) from error


def _error_of(error: OSError, path: str) -> NfvhostError:
    hint = _FORBIDDEN.get(error.errno or 0)
    if hint is not None:
        return PreconditionError(f"cannot be written: {error.strerror}", where=path, hint=hint)
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return ApplyError(
        f"cannot be written: {error.strerror}",
        where=path,
        hint="make room on that file system" if full else "dmesg may say more of that disk",
    )
