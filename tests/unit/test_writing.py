"""Files and attributes written in a scratch tree."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from nfvhost.access.root import DirectoryRoot
from nfvhost.errors import ApplyError, NfvhostError, PreconditionError

if TYPE_CHECKING:
    from pathlib import Path


class Watched(DirectoryRoot):
    """A writable tree that notes each changing call, and fails at one of them."""

    def __init__(self, directory: Path, *, fail_at: int | None = None, number: int = errno.EIO) -> None:
        super().__init__(str(directory), writable=True)
        self.calls: list[str] = []
        self._fail_at, self._number = fail_at, number

    def changing(self, call: str, path: str) -> None:
        self.calls.append(f"{call} {path}")
        if len(self.calls) == self._fail_at:
            raise OSError(self._number, os.strerror(self._number))


def contents(top: Path) -> dict[str, bytes | None]:
    """Every file and folder below, hidden ones too."""
    return {str(path.relative_to(top)): path.read_bytes() if path.is_file() else None for path in top.rglob("*")}


def test_a_written_file_has_its_content_its_mode_and_no_leftover(tmp_path: Path) -> None:
    root = Watched(tmp_path)
    os.umask(before := os.umask(0o077))

    made = root.write_file("/etc/nova/nova.conf.d/zz.conf", b"[DEFAULT]\n", mode=0o640)

    os.umask(before)
    assert made == ("/etc", "/etc/nova", "/etc/nova/nova.conf.d")
    assert contents(tmp_path) == {
        "etc": None,
        "etc/nova": None,
        "etc/nova/nova.conf.d": None,
        "etc/nova/nova.conf.d/zz.conf": b"[DEFAULT]\n",
    }
    assert root.file_mode("/etc/nova/nova.conf.d/zz.conf") == 0o640
    assert (tmp_path / "etc/nova").stat().st_mode & 0o777 == 0o755


def test_a_removed_file_takes_the_folders_along_that_were_made_for_it_and_are_empty(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    root = Watched(tmp_path)
    made = root.write_file("/etc/nova/nova.conf.d/zz.conf", b"x", mode=0o644)
    (tmp_path / "etc/nova/theirs").write_text("stays")

    root.remove_file("/etc/nova/nova.conf.d/zz.conf", folders=made)

    assert contents(tmp_path) == {"etc": None, "etc/nova": None, "etc/nova/theirs": b"stays"}
    root.remove_file("/etc/nova/nova.conf.d/zz.conf", folders=made)


def test_the_owner_of_a_replaced_file_stays(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    (tmp_path / "a").write_text("old")
    os.chown(tmp_path / "a", 1234, 1235)

    Watched(tmp_path).write_file("/a", b"new", mode=0o600)

    there = (tmp_path / "a").stat()
    assert (there.st_uid, there.st_gid, there.st_mode & 0o777) == (1234, 1235, 0o600)


@pytest.mark.parametrize("link", ["etc", "etc/grub.d", "etc/grub.d/zz.cfg"])
def test_no_link_is_followed_in_a_written_path(tmp_path: Path, link: str) -> None:
    top, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "zz.cfg").write_text("theirs")
    (top / link).parent.mkdir(parents=True)
    (top / link).symlink_to(elsewhere / "zz.cfg" if link.endswith("cfg") else elsewhere)
    root = Watched(top)

    with pytest.raises(PreconditionError, match="does not write through it"):
        root.write_file("/etc/grub.d/zz.cfg", b"ours", mode=0o644)
    with pytest.raises(PreconditionError, match="does not write through it"):
        root.remove_file("/etc/grub.d/zz.cfg")

    assert contents(elsewhere) == {"zz.cfg": b"theirs"}
    assert root.calls == []


@pytest.mark.parametrize("path", ["etc/a", "/etc/../a", "/etc/", "/etc/./a", ""])
def test_a_path_that_is_none_is_refused(tmp_path: Path, path: str) -> None:
    root = Watched(tmp_path)

    with pytest.raises(PreconditionError, match="no absolute path"):
        root.write_file(path, b"", mode=0o644)

    assert contents(tmp_path) == {}


def test_a_capture_is_never_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("as it was")
    root = DirectoryRoot(str(tmp_path))

    for write in (
        lambda: root.write_file("/a", b"", mode=0o644),
        lambda: root.remove_file("/a"),
        lambda: root.write_attribute("/a", "1"),
    ):
        with pytest.raises(PreconditionError, match="captured tree"):
            write()

    assert contents(tmp_path) == {"a": b"as it was"}


@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_an_error_at_any_call_leaves_the_old_file_alone(tmp_path: Path, fail_at: int) -> None:
    (tmp_path / "a").write_text("old")

    with pytest.raises(ApplyError, match="Input/output error") as caught:
        Watched(tmp_path, fail_at=fail_at).write_file("/a", b"new", mode=0o644)

    assert caught.value.problems[0].where == "/a"
    assert contents(tmp_path) == {"a": b"old"}


def test_a_file_is_replaced_in_three_calls(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    root = Watched(tmp_path)

    root.write_file("/a", b"new", mode=0o644)

    assert root.calls == ["create /a", "write /a", "rename /a"]


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.ENOSPC, ApplyError, "make room"),
        (errno.EROFS, PreconditionError, "mount it writable"),
        (errno.EACCES, PreconditionError, "as root"),
    ],
)
def test_what_stands_in_the_way_of_a_write_is_told(
    tmp_path: Path, number: int, kind: type[NfvhostError], hint: str
) -> None:
    with pytest.raises(kind) as caught:
        Watched(tmp_path, fail_at=1, number=number).write_file("/a", b"new", mode=0o644)

    assert hint in (caught.value.problems[0].hint or "")


def test_the_leftover_of_a_killed_write_is_cleared_by_the_next_write_and_by_a_removal(tmp_path: Path) -> None:
    for left in (".a.nfvhost", ".b.nfvhost"):
        (tmp_path / left).write_text("half")
    root = Watched(tmp_path)

    root.write_file("/a", b"whole", mode=0o644)
    root.remove_file("/b")

    assert contents(tmp_path) == {"a": b"whole"}


def test_an_attribute_is_written_through_links_inside_the_tree_and_never_made(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/pci0000:00"
    folder.mkdir(parents=True)
    (folder / "numvfs").write_text("16\n")
    (tmp_path / "sys/class").symlink_to("/sys/devices")
    root = Watched(tmp_path)

    root.write_attribute("/sys/class/pci0000:00/numvfs", "4")

    assert (folder / "numvfs").read_text() == "4"
    with pytest.raises(PreconditionError, match="No such file"):
        root.write_attribute("/sys/class/pci0000:00/none", "4")
    assert not (folder / "none").exists()


def test_the_kernels_refusal_of_an_attribute_is_told_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "numvfs").write_text("4\n")

    with pytest.raises(ApplyError, match=r"refused '8': Device or resource busy \(EBUSY\)"):
        Watched(tmp_path, fail_at=1, number=errno.EBUSY).write_attribute("/numvfs", "8")


@pytest.mark.outside("the live root's own refusal is what is tested; nothing is written")
def test_on_the_live_machine_only_files_of_the_kernel_are_attributes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("theirs")

    with pytest.raises(PreconditionError, match="no attribute of the kernel"):
        DirectoryRoot("/").write_attribute(str(tmp_path / "file"), "ours")

    assert (tmp_path / "file").read_text() == "theirs"
