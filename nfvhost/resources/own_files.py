"""Whole files that nfvhost owns: as they were, as they are to be, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost.access.root import Root
from nfvhost.errors import NfvhostError, Problem

_MODE: Final = 0o644  # settings, no secrets; services read them as users of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class FileImage:
    """One file at one moment, enough to put it back."""

    path: str
    content: bytes | None  # None: there was none
    mode: int | None = None  # permission bits
    absent_folders: tuple[str, ...] = ()  # of its path, those that were not there, outermost first


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """One file before, and what it is to hold; `keys` are the changes that want it so."""

    before: FileImage
    content: bytes | None  # None: it is to go
    keys: tuple[str, ...]
    mode: int = _MODE  # of a file that is made; one that is there keeps its own

    @property
    def path(self) -> str:
        """Where the file is."""
        return self.before.path


def read_image(root: Root, path: str) -> FileImage:
    """The file as it is now."""
    parts = path.split("/")[1:-1]
    folders = ("/" + "/".join(parts[: at + 1]) for at in range(len(parts)))
    return FileImage(
        path=path,
        content=root.read_bytes(path),
        mode=root.file_mode(path),
        absent_folders=tuple(folder for folder in folders if not root.exists(folder)),
    )


def write_out(root: Root, replacements: tuple[Replacement, ...]) -> None:
    """Nothing, once each file holds what it is to hold; errors as of Root.write_file."""
    for one in replacements:
        if root.read_bytes(one.path) == one.content:
            root.remove_leftover(one.path)
            continue
        if one.content is None:
            root.remove_file(one.path)
        else:
            root.write_file(one.path, one.content, mode=one.before.mode or one.mode)


def foreign_files(root: Root, resource: str, replacements: tuple[Replacement, ...]) -> tuple[Problem, ...]:
    """Those that hold neither what they held before nor what they were to hold: somebody else wrote them."""
    return tuple(
        problem
        for one in replacements
        if root.read_bytes(one.path) not in {one.before.content, one.content}
        for problem in _problems(resource, one, "was changed by someone else since", hint="--force overwrites it")
    )


def put_back(
    root: Root, resource: str, replacements: tuple[Replacement, ...], *, force: bool = False
) -> tuple[Problem, ...]:
    """The files that are not as before after all; one that somebody else wrote stays as it is, unless `force`."""
    left: list[Problem] = []
    for one in reversed(replacements):
        now = root.read_bytes(one.path)
        if now not in {one.before.content, one.content} and not force:
            left += _problems(resource, one, "was changed by someone else since and stays so", hint="--force")
            continue
        try:
            _restore(root, one.before, now=now)
        except NfvhostError as error:
            for problem in error.problems:
                what = f"could not be put back: {problem.what}"
                left += _problems(resource, one, what, hint=problem.hint)
            continue
        if root.read_bytes(one.path) != one.before.content:
            left += _problems(resource, one, "was written and does not read as before")
    return tuple(left)


def _restore(root: Root, before: FileImage, *, now: bytes | None) -> None:
    """Writes nothing where all is as before, the temporary file and the folders of a killed write included."""
    if before.content is not None:
        if now != before.content or root.file_mode(before.path) != before.mode:
            root.write_file(before.path, before.content, mode=before.mode or _MODE)
        else:
            root.remove_leftover(before.path)
        return
    if now is not None or any(root.exists(folder) for folder in before.absent_folders):
        root.remove_file(before.path, folders=before.absent_folders)
    else:
        root.remove_leftover(before.path)


def _problems(resource: str, one: Replacement, what: str, *, hint: str | None = None) -> list[Problem]:
    return [Problem(what=f"{one.path} {what}", where=f"{resource}: {key}", hint=hint) for key in one.keys]
