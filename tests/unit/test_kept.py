"""A tree that is asked for each of its facts once in a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nfvhost.access.clock import wait_for
from nfvhost.access.kept import KeptRoot
from nfvhost.access.root import DirectoryRoot


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/comm").write_text("before\n")
    (tmp_path / "proc/interrupts").write_text("1\n")
    (tmp_path / "proc/exe").symlink_to("/before")
    return tmp_path


def kept(tree: Path) -> KeptRoot:
    """The tree, once all of it has been read, and changed by someone else since."""
    root = KeptRoot(DirectoryRoot(str(tree), writable=True))
    assert facts(root) == BEFORE
    assert root.read_line("/proc/interrupts") == "1"
    (tree / "proc/comm").write_text("after\n")
    (tree / "proc/interrupts").write_text("2\n")
    (tree / "proc/exe").unlink()
    (tree / "proc/exe").symlink_to("/after")
    (tree / "proc/new").touch()
    return root


def facts(root: KeptRoot) -> tuple[str | None, str | None, tuple[str, ...], bool]:
    return root.read_line("/proc/comm"), root.read_link("/proc/exe"), root.list_dir("/proc"), root.exists("/proc/new")


BEFORE = ("before", "/before", ("comm", "exe", "interrupts"), False)
AFTER = ("after", "/after", ("comm", "exe", "interrupts", "new"), True)


def test_who_reads_the_same_a_second_time_gets_what_the_first_one_got(tree: Path) -> None:
    assert facts(kept(tree)) == BEFORE


def test_who_has_waited_for_something_sees_what_has_become_of_it(tree: Path) -> None:
    root = kept(tree)
    looks: list[str | None] = []

    def is_after() -> bool:
        looks.append(root.read_line("/proc/comm"))
        return looks[-1] == "after"

    assert wait_for(is_after, timeout_s=5.0, interval_s=0.0)
    assert looks == ["before", "after"]
    assert facts(root) == AFTER


@pytest.mark.parametrize(
    "change",
    [
        KeptRoot.end,
        lambda root: root.write_attribute("/proc/comm", "after"),
        lambda root: root.write_file("/etc", b"", mode=0o644),
        lambda root: root.remove_file("/etc"),
    ],
)
def test_from_the_first_change_on_nothing_is_kept(tree: Path, change: Callable[[KeptRoot], None]) -> None:
    root = kept(tree)

    change(root)

    assert facts(root) == AFTER
    (tree / "proc/comm").write_text("later\n")
    assert root.read_line("/proc/comm") == "later"


def test_counters_are_read_each_time(tree: Path) -> None:
    assert kept(tree).read_line("/proc/interrupts") == "2"


def test_a_tree_is_wrapped_once(tree: Path) -> None:
    root = KeptRoot(DirectoryRoot(str(tree)))

    assert KeptRoot.around(root) is root


def test_a_counter_counts_from_the_first_look_until_something_is_changed(tree: Path) -> None:
    root = KeptRoot(DirectoryRoot(str(tree), writable=True))
    first = root.first_look("/proc/interrupts")
    (tree / "proc/interrupts").write_text("2\n")

    assert root.first_look("/proc/interrupts") is first
    assert (first.text, root.read_line("/proc/interrupts")) == ("1\n", "2")
    root.write_attribute("/proc/comm", "changed")
    assert root.first_look("/proc/interrupts").text == "2\n"
    (tree / "proc/interrupts").write_text("3\n")
    assert root.first_look("/proc/interrupts").text == "3\n"
