"""A tree that is asked for each of its facts once in a moment."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from nfvhost.access.clock import moment
from nfvhost.access.interrupts import COUNTERS
from nfvhost.access.root import Look, Root

if TYPE_CHECKING:
    from collections.abc import Callable

    from nfvhost.access.writing import FolderAccess

T = TypeVar("T")
# They run on by themselves: whoever reads them twice asks for the difference.
_COUNTERS: Final = frozenset({COUNTERS})


class KeptRoot(Root):
    """Wraps a tree for those who read it one after another, and read much of the same: all processes, say.

    A moment ends as soon as this process waits for something (`wait_for`): who looks again then, sees what has become
    of it. Counters, and what may not be read, are asked for each time. It is for the time before anything is changed:
    `end` comes first, and a write ends it as well.
    """

    def __init__(self, inner: Root) -> None:
        self._inner = inner
        # One for each way of reading; by a path alone, since there are ten thousands of them.
        self._known: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        self._moment = moment()
        self._first: dict[str, Look] = {}
        self._ended = False

    @classmethod
    def around(cls, root: Root) -> Self:
        """The tree wrapped; itself where it is already."""
        return root if isinstance(root, cls) else cls(root)

    @property
    def live(self) -> bool:
        return self._inner.live

    def end(self) -> None:
        """Nothing is kept any more: whoever reads it reads the tree itself."""
        self._ended = True
        self._known.clear()
        self._first.clear()

    def first_look(self, path: str) -> Look:
        """The file as whoever asked first saw it: a counter counts from there on, until something is changed."""
        if self._ended:
            return super().first_look(path)
        if path not in self._first:
            self._first[path] = super().first_look(path)
        return self._first[path]

    def read_bytes(self, path: str) -> bytes | None:
        return self._kept("read_bytes", self._inner.read_bytes, path)

    def list_dir(self, path: str) -> tuple[str, ...]:
        return self._kept("list_dir", self._inner.list_dir, path)

    def read_link(self, path: str) -> str | None:
        return self._kept("read_link", self._inner.read_link, path)

    def exists(self, path: str) -> bool:
        return self._kept("exists", self._inner.exists, path)

    def file_mode(self, path: str) -> int | None:
        return self._kept("file_mode", self._inner.file_mode, path)

    def is_socket(self, path: str) -> bool:
        return self._kept("is_socket", self._inner.is_socket, path)

    def folder_access(self, path: str) -> FolderAccess | None:
        return self._kept("folder_access", self._inner.folder_access, path)

    def make_folder(self, path: str, access: FolderAccess) -> tuple[str, ...]:
        self.end()
        return self._inner.make_folder(path, access)

    def remove_folder(self, path: str, *, folders: tuple[str, ...] = ()) -> None:
        self.end()
        self._inner.remove_folder(path, folders=folders)

    def write_file(self, path: str, content: bytes, *, mode: int) -> tuple[str, ...]:
        self.end()
        return self._inner.write_file(path, content, mode=mode)

    def remove_file(self, path: str, *, folders: tuple[str, ...] = ()) -> None:
        self.end()
        self._inner.remove_file(path, folders=folders)

    def remove_leftover(self, path: str) -> None:
        self.end()
        self._inner.remove_leftover(path)

    def write_attribute(self, path: str, text: str) -> None:
        self.end()
        self._inner.write_attribute(path, text)

    def _kept(self, way: str, read: Callable[[str], T], path: str) -> T:
        now = moment()
        if now != self._moment:
            self._known.clear()
            self._moment = now
        known: dict[str, T] = self._known[way]
        try:
            return known[path]
        except KeyError:
            found = read(path)
        if not self._ended and path not in _COUNTERS:
            known[path] = found
        return found
