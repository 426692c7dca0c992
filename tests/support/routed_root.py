"""A machine of two trees: what stands where is said by the path."""

from __future__ import annotations

from abc import abstractmethod

from nfvhost.access.root import DirectoryRoot, Root
from nfvhost.access.writing import FolderAccess


class RoutedRoot(Root):
    """Each path is of the tree that `root_of` names for it."""

    @abstractmethod
    def root_of(self, path: str) -> DirectoryRoot:
        """The tree that this path is of."""

    def read_bytes(self, path: str) -> bytes | None:
        return self.root_of(path).read_bytes(path)

    def list_dir(self, path: str) -> tuple[str, ...]:
        return self.root_of(path).list_dir(path)

    def read_link(self, path: str) -> str | None:
        return self.root_of(path).read_link(path)

    def exists(self, path: str) -> bool:
        return self.root_of(path).exists(path)

    def file_mode(self, path: str) -> int | None:
        return self.root_of(path).file_mode(path)

    def is_socket(self, path: str) -> bool:
        return self.root_of(path).is_socket(path)

    def folder_access(self, path: str) -> FolderAccess | None:
        return self.root_of(path).folder_access(path)

    def make_folder(self, path: str, access: FolderAccess) -> tuple[str, ...]:
        return self.root_of(path).make_folder(path, access)

    def remove_folder(self, path: str, *, folders: tuple[str, ...] = ()) -> None:
        self.root_of(path).remove_folder(path, folders=folders)

    def write_file(self, path: str, content: bytes, *, mode: int) -> tuple[str, ...]:
        return self.root_of(path).write_file(path, content, mode=mode)

    def remove_file(self, path: str, *, folders: tuple[str, ...] = ()) -> None:
        self.root_of(path).remove_file(path, folders=folders)

    def remove_leftover(self, path: str) -> None:
        self.root_of(path).remove_leftover(path)

    def write_attribute(self, path: str, text: str) -> None:
        self.root_of(path).write_attribute(path, text)
