"""Captured trees in archives, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unpack import unpack

from nfvhost.access import archive
from nfvhost.access.archive import ArchiveRoot, open_root, write_archive
from nfvhost.errors import DocumentError, ExitCode, PreconditionError

Make = Callable[..., Path]


def member(name: str, content: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:  # noqa: ANN401 - of a TarInfo
    found = tarfile.TarInfo(name)
    found.size = len(content)
    for attribute, value in attributes.items():
        setattr(found, attribute, value)
    return found, content


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


ONLINE = member("sys/devices/system/cpu/online", b"0-3\n")


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for one, content in members:
            tar.addfile(one, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
        path = tmp_path / "host.tar"
        path.write_bytes(packed(*members, form=form))
        return path

    return make


@pytest.mark.parametrize("prefix", ["", "./", "sosreport-7/"])
def test_the_tree_may_lie_at_the_top_or_in_one_folder(make: Make, prefix: str) -> None:
    root = open_root(str(make(member(f"{prefix}sys/devices/system/cpu/online", b"0-3\n"))))
    assert root.read_line("/sys/devices/system/cpu/online") == "0-3"
    assert root.list_dir("/sys/devices/system") == ("cpu",)
    assert not root.live


@pytest.mark.parametrize("compress", [bytes, lzma.compress, gzip.compress, bz2.compress])
def test_every_usual_compression_is_read(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "host.bin"
    path.write_bytes(compress(packed(ONLINE)))
    assert open_root(str(path)).exists("/sys/devices/system/cpu/online")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_targets_are_read_in_every_format(make: Make, form: int) -> None:
    folder = "/".join(f"0000:{bus:02x}:00.0" for bus in range(8))
    name = f"sys/devices/pci0000:00/{folder}/class"
    target = "../" * 3 + f"devices/pci0000:00/{folder}"
    assert len(name) > 100
    members = [member(name, b"0x020000\n")]
    if form != tarfile.USTAR_FORMAT:
        members.append(symlink("sys/bus/pci/devices/0000:07:00.0", target))
    root = ArchiveRoot(str(make(*members, form=form)))
    assert root.read_line(f"/{name}") == "0x020000"
    if form != tarfile.USTAR_FORMAT:
        assert root.read_line("/sys/bus/pci/devices/0000:07:00.0/class") == "0x020000"


def test_links_are_followed_inside_the_archive(make: Make) -> None:
    root = ArchiveRoot(
        str(
            make(
                member("sys/devices/pci0000:00/0000:00:01.0/class", b"0x020000\n"),
                symlink("sys/bus/pci/devices/0000:00:01.0", "../../../devices/pci0000:00/0000:00:01.0"),
                symlink("sys/bus/pci/devices/0000:00:02.0", "../../../devices/gone"),
                symlink("sys/a", "b"),
                symlink("sys/b", "a"),
                symlink("etc/mtab", "/proc/self/mounts"),
                member("proc/self/mounts", b"sysfs /sys sysfs rw 0 0\n"),
            )
        )
    )
    assert root.list_dir("/sys/bus/pci/devices") == ("0000:00:01.0", "0000:00:02.0")
    assert root.list_dir("/sys/bus/pci/devices/0000:00:01.0") == ("class",)
    assert root.read_line("/sys/bus/pci/devices/0000:00:01.0/class") == "0x020000"
    assert root.read_link("/sys/bus/pci/devices/0000:00:02.0") == "../../../devices/gone"
    assert root.read_text("/sys/bus/pci/devices/0000:00:02.0/class") is None
    assert not root.exists("/sys/bus/pci/devices/0000:00:02.0")
    assert root.read_text("/sys/a/x") is None
    assert root.read_text("/etc/mtab") == "sysfs /sys sysfs rw 0 0\n"


def test_a_file_is_no_folder_and_a_folder_no_file(make: Make) -> None:
    root = ArchiveRoot(str(make(ONLINE, member("proc", type=tarfile.DIRTYPE))))
    assert root.list_dir("/sys/devices/system/cpu/online") == ()
    assert root.read_bytes("/sys/devices") is None
    assert root.read_link("/sys/devices") is None
    assert root.exists("/proc")
    assert root.list_dir("/") == ("proc", "sys")


def refusal(path: Path) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        open_root(str(path))
    (problem,) = caught.value.problems
    assert problem.hint
    assert str(path) in (problem.where or "")
    assert caught.value.exit_code == ExitCode.BAD_DOCUMENT
    return caught.value


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (member("/etc/passwd", b"x"), "absolute name"),
        (member("../etc/passwd", b"x"), r"`\.\.`"),
        (member("sys/../../etc/passwd", b"x"), r"`\.\.`"),
        (symlink("sys/out", "../../etc/passwd"), "leaves the tree"),
        (symlink("sys/out", "/etc/passwd"), "leaves the tree"),
        (symlink("sys/out", "/proc/../etc/passwd"), "leaves the tree"),
        (member("sys/hard", type=tarfile.LNKTYPE, linkname="sys/devices"), "hard link"),
        (member("dev/null", type=tarfile.CHRTYPE), "character device"),
        (member("dev/sda", type=tarfile.BLKTYPE), "block device"),
        (member("run/fifo", type=tarfile.FIFOTYPE), "fifo"),
        (member("sys/odd", type=b"Z"), "type b'Z'"),
    ],
)
def test_a_member_that_no_capture_has_is_refused(make: Make, bad: tuple[tarfile.TarInfo, bytes], what: str) -> None:
    path = make(ONLINE, bad)
    error = refusal(path)
    assert re.search(what, str(error))
    assert bad[0].name.rpartition("/")[2] in str(error)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (lzma.compress(b""), "is empty"),
        (b"just some text\n" * 100, "not a tar archive"),
        (b"short", "not a tar archive"),
        (b"\0" * 10240, "neither sys/ nor proc/"),
        (packed(member("etc/passwd", b"x")), "neither sys/ nor proc/"),
        (packed(member("a/sys/x", b""), member("b/sys/x", b"")), "neither sys/ nor proc/"),
        (packed(ONLINE)[:700], "cut off"),
        (packed(ONLINE)[:1024], "cut off"),
        (packed(ONLINE)[:1024] + b"\xff" * 512, "damaged"),
        (lzma.compress(packed(ONLINE))[:-20], "cut off"),
        (gzip.compress(packed(ONLINE))[:-10], "cut off"),
        (bz2.compress(packed(ONLINE))[:-10], "cut off"),
        (lzma.compress(packed(ONLINE))[:40] + b"\0" * 100, "cannot be read"),
        (b"\x1f\x8b" + b"\xff" * 100, "cannot be read"),
        (b"\x28\xb5\x2f\xfd" + b"\0" * 600, "not a tar archive"),
    ],
)
def test_what_is_no_whole_archive_of_a_machine_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "host.tar"
    path.write_bytes(content)
    assert what in str(refusal(path))


def test_an_archive_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "host.tar"
    whole = packed(ONLINE, symlink("sys/a", "b"), form=tarfile.USTAR_FORMAT)
    end = whole.rstrip(b"\0")
    for length in range(0, len(end), 37):
        path.write_bytes(whole[:length])
        refusal(path)


def test_an_absurd_size_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "host.tar.xz"
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 20)
    path.write_bytes(lzma.compress(bytes(8 << 20), preset=0))
    assert "more than 1 MiB" in str(refusal(path))


def test_an_absurd_number_of_members_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 100)
    path = make(*(member(f"sys/{number}") for number in range(101)))
    assert "more than 100 members" in str(refusal(path))


def test_a_size_beyond_the_archive_is_refused(make: Make) -> None:
    path = make(ONLINE)
    content = bytearray(path.read_bytes())
    content[124:136] = b"77777777777\0"
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)
    assert "cut off" in str(refusal(path))


@pytest.mark.parametrize("path", ["/nowhere/host.tar", "", "a\0b"])
def test_a_path_to_nothing_is_one_clear_error(path: str) -> None:
    with pytest.raises(DocumentError) as caught:
        open_root(path)
    assert caught.value.problems[0].hint


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert "neither a folder nor a file" in str(refusal(path))


def test_a_folder_without_sys_and_proc_is_refused(tmp_path: Path) -> None:
    assert "neither sys/ nor proc/" in str(refusal(tmp_path))


def test_a_folder_is_read_as_a_tree(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text("quiet\n")
    root = open_root(str(tmp_path))
    assert root.read_line("/proc/cmdline") == "quiet"
    assert not root.live


TREE = {"/sys/devices/pci0000:00/0000:00:01.0/class": b"0x020000\n", "/proc/cmdline": b"quiet\n"}
LINKS = {"/sys/bus/pci/devices/0000:00:01.0": "../../../devices/pci0000:00/0000:00:01.0"}


def written(path: Path) -> Path:
    write_archive(str(path), TREE, frozenset({"/sys/kernel/iommu_groups"}), LINKS)
    return path


def test_a_written_archive_reads_back_whole(tmp_path: Path) -> None:
    root = open_root(str(written(tmp_path / "host.tar.xz")))
    assert root.read_line("/sys/bus/pci/devices/0000:00:01.0/class") == "0x020000"
    assert root.read_link("/sys/bus/pci/devices/0000:00:01.0") == LINKS["/sys/bus/pci/devices/0000:00:01.0"]
    assert root.list_dir("/sys/bus/pci/devices") == ("0000:00:01.0",)
    assert root.exists("/sys/kernel/iommu_groups")
    assert root.list_dir("/sys/kernel/iommu_groups") == ()
    assert root.list_dir("/sys/bus") == ("pci",)


def test_an_unpacked_archive_reads_like_the_archive(tmp_path: Path) -> None:
    path = written(tmp_path / "host.tar.xz")
    unpack(path, tmp_path / "unpacked")
    packed_root, root = open_root(str(path)), open_root(str(tmp_path / "unpacked"))
    for folder in ("/", "/sys", "/sys/bus", "/sys/bus/pci/devices", "/sys/bus/pci/devices/0000:00:01.0", "/nowhere"):
        assert root.list_dir(folder) == packed_root.list_dir(folder)
    assert root.read_line("/sys/bus/pci/devices/0000:00:01.0/class") == "0x020000"
    assert root.exists("/sys/bus/pci/devices/0000:00:01.0")
    assert root.read_link("/sys/bus/pci/devices/0000:00:01.0") == LINKS["/sys/bus/pci/devices/0000:00:01.0"]
    assert not root.live


def test_a_written_archive_holds_files_and_folders_of_nobody_from_no_time(tmp_path: Path) -> None:
    with tarfile.open(written(tmp_path / "host.tar.xz")) as tar:
        members = tar.getmembers()
    assert all(one.isreg() or one.isdir() for one in members)
    assert [one.name for one in members] == sorted(one.name for one in members)
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in members} == {(0, 0, "", "", 0)}


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    assert written(tmp_path / "a.tar.xz").read_bytes() == written(tmp_path / "b.tar.xz").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "host.tar.xz"
    path.write_text("the old one")
    with pytest.raises(DocumentError):
        write_archive(str(path), TREE, frozenset(), {"/sys/out": "../../etc/passwd"})
    assert path.read_text() == "the old one"
    assert [one.name for one in tmp_path.iterdir()] == ["host.tar.xz"]


def test_a_folder_that_is_not_there_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError) as caught:
        written(tmp_path / "nowhere" / "host.tar.xz")
    assert caught.value.exit_code == ExitCode.UNSAFE


@pytest.mark.parametrize(
    ("links", "what"),
    [
        (b"{", "not JSON"),
        (b"[]", "does not map"),
        (json.dumps({"sys/a": "b"}).encode(), "does not map"),
        (json.dumps({"/sys/../../a": "b"}).encode(), "does not map"),
        (json.dumps({"/sys/a": 1}).encode(), "does not map"),
        (json.dumps({"/sys/a": "../../etc"}).encode(), "leaves the tree"),
    ],
)
def test_stated_links_are_checked_like_any_other(make: Make, links: bytes, what: str) -> None:
    path = make(ONLINE, member("nfvhost/links.json", links))
    assert what in str(refusal(path))
