"""A tree that notes what is read from it."""

from __future__ import annotations

from typing import Final

from nfvhost.access.root import Root, resolve

# Links to the folder of whoever asks; a capture has a folder there.
_OWN_FOLDERS: Final = frozenset({"/proc/self", "/proc/thread-self"})


class RecordingRoot(Root):
    """Wraps a tree; `files`, `links` and `directories` are the part of it that was asked for, by real path.

    It is no live machine to those who read it: what they ask is what they will ask of the capture. `stated` are
    files that the capture adds.
    """

    def __init__(self, inner: Root, stated: dict[str, bytes]) -> None:
        self._inner = inner
        self._stated = stated
        self.files: dict[str, bytes] = dict(stated)
        self.links: dict[str, str] = {}
        self.directories: set[str] = set()
        self._names: set[str] = set()
        self._asked: dict[str, str | None] = {}

    @property
    def live(self) -> bool:
        return False

    @property
    def names(self) -> frozenset[str]:
        """Paths that were seen in a listing or asked for, and never read: a capture has an empty file there."""
        known = {*self.files, *self.links, *self.directories}
        folders = {path[:at] for path in known for at, letter in enumerate(path) if letter == "/"}
        return frozenset(self._names - known - folders)

    def read_bytes(self, path: str) -> bytes | None:
        if path in self._stated:
            return self._stated[path]
        content = self._inner.read_bytes(path)
        if content is not None and (place := self._real(path)) is not None:
            self.files[place] = content
        return content

    def list_dir(self, path: str) -> tuple[str, ...]:
        names = self._inner.list_dir(path)
        place = self._real(path)
        if place is not None and (names or self._inner.exists(path)):
            self.directories.add(place)
            self._names.update(f"{place.rstrip('/')}/{name}" for name in names)
        return names

    def read_link(self, path: str) -> str | None:
        parent, _, leaf = path.rpartition("/")
        place = self._real(parent or "/")
        return None if place is None else self._link_at(f"{place.rstrip('/')}/{leaf}")

    def exists(self, path: str) -> bool:
        there = self._inner.exists(path)
        if there and (place := self._real(path)) is not None:
            self._names.add(place)
        return there

    def _real(self, path: str) -> str | None:
        return resolve(self._link_at, path)

    def _link_at(self, path: str) -> str | None:
        if path not in self._asked:
            target = None if path in _OWN_FOLDERS else self._inner.read_link(path)
            self._asked[path] = target
            if target is not None:
                self.links[path] = target
        return self._asked[path]
