"""A tree in which what this user may not read counts as not there."""

from __future__ import annotations

from typing import Final

from nfvhost.access.root import Root
from nfvhost.errors import PreconditionError

# Only the owner may read it, and it names a container at most: no user misses it.
_NOT_MISSED: Final = frozenset({"/proc/1/environ"})


class LenientRoot(Root):
    """Wraps a tree for a survey by any user; `forbidden` lists what was there and could not be read."""

    def __init__(self, inner: Root) -> None:
        self._inner = inner
        self._forbidden: set[str] = set()

    @property
    def live(self) -> bool:
        return self._inner.live

    @property
    def forbidden(self) -> tuple[str, ...]:
        """The paths that this user may not read, and that an administrator may; sorted."""
        return tuple(sorted(self._forbidden - _NOT_MISSED))

    def read_bytes(self, path: str) -> bytes | None:
        try:
            return self._inner.read_bytes(path)
        except PreconditionError:
            self._forbidden.add(path)
            return None

    def list_dir(self, path: str) -> tuple[str, ...]:
        try:
            return self._inner.list_dir(path)
        except PreconditionError:
            self._forbidden.add(path)
            return ()

    def read_link(self, path: str) -> str | None:
        try:
            return self._inner.read_link(path)
        except PreconditionError:
            self._forbidden.add(path)
            return None

    def exists(self, path: str) -> bool:
        return self._inner.exists(path)
