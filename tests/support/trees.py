"""Trees in memory: quick to spoil, with no files to write."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from nfvhost.access.archive import open_root
from nfvhost.access.root import Root, resolve

# A path that ends in a link, and what it leads to; other values are contents of files.
Tree = dict[str, bytes | str]


class MemoryRoot(Root):
    """A tree of `{path: bytes of a file, or str of where a link leads}`; `read` has the paths that were asked for."""

    def __init__(self, tree: Mapping[str, bytes | str]) -> None:
        self._tree = tree
        self._links = {path: target for path, target in tree.items() if isinstance(target, str)}
        self._names: dict[str, set[str]] = {}
        self._places: dict[str, str | None] = {}
        for path in tree:
            below = path
            while below not in {"", "/"}:
                above, _, leaf = below.rpartition("/")
                if leaf in self._names.setdefault(above, set()):
                    break
                self._names[above].add(leaf)
                below = above
        self.read: set[str] = set()

    @property
    def live(self) -> bool:
        return False

    def read_bytes(self, path: str) -> bytes | None:
        place = self._place(path)
        content = None if place is None else self._tree.get(place)
        if isinstance(content, bytes) and place is not None:
            self.read.add(place)
            return content
        return None

    def list_dir(self, path: str) -> tuple[str, ...]:
        place = self._place(path)
        return () if place is None else tuple(sorted(self._names.get(place, ())))

    def read_link(self, path: str) -> str | None:
        parent, _, leaf = path.rpartition("/")
        place = self._place(parent)
        if place is None or (target := self._links.get(f"{place}/{leaf}")) is None:
            return None
        self.read.add(f"{place}/{leaf}")
        return target

    def exists(self, path: str) -> bool:
        place = self._place(path)
        return place is not None and (place in self._tree or place in self._names)

    def _place(self, path: str) -> str | None:
        if path not in self._places:
            place = resolve(self._links.get, path)
            self._places[path] = None if place is None else place.rstrip("/")
        return self._places[path]


def load_tree(capture: str) -> Tree:
    """All files and links of a captured machine, an archive or a folder."""
    root = open_root(capture)
    tree: Tree = {}
    pending = ["/"]
    while pending:
        folder = pending.pop()
        for name in root.list_dir(folder):
            path = posixpath.join(folder, name)
            if (target := root.read_link(path)) is not None:
                tree[path] = target
            elif (content := root.read_bytes(path)) is not None:
                tree[path] = content
            else:
                pending.append(path)
    return tree
