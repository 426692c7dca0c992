from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import Link

if TYPE_CHECKING:
    from tests.conftest import MakeTree


@pytest.mark.parametrize(
    "path",
    [
        "/sys/bus/pci/devices/0000:01:00.0/vendor",
        "/sys/class/net/eth0/device/vendor",
        "/sys/class/net/eth0/device/../0000:01:00.0/vendor",
        "/sys/class/net/eth0/../../../0000:01:00.0/vendor",
        "/outside/0000:01:00.0/vendor",
        "/latest",
    ],
)
def test_links_are_followed_on_each_part_of_a_path(make_tree: MakeTree, path: str) -> None:
    root = make_tree(
        {
            "/sys/devices/pci0000:00/0000:01:00.0/vendor": "0x8086\n",
            "/sys/devices/pci0000:00/0000:01:00.0/net/eth0/device": Link("../../../0000:01:00.0"),
            "/sys/bus/pci/devices/0000:01:00.0": Link("../../../devices/pci0000:00/0000:01:00.0"),
            "/sys/class/net/eth0": Link("../../devices/pci0000:00/0000:01:00.0/net/eth0"),
            "/outside": Link("../../../../../../../../sys/devices/pci0000:00"),
            "/latest": Link("/sys/bus/pci/devices/0000:01:00.0/vendor"),
        }
    )

    assert root.read_line(path) == "0x8086"
    # And again, from what is remembered of its directories.
    assert root.read_line(path) == "0x8086"


def test_links_that_lead_nowhere_or_round_in_a_circle_are_absent(make_tree: MakeTree) -> None:
    root = make_tree({"/a": Link("b"), "/b": Link("a"), "/c": Link("/etc"), "/d/e": "", "/d/f": Link("missing")})

    assert root.read_text("/a") is None
    assert root.read_text("/a/x/y") is None
    assert root.list_dir("/b/x") == ()
    assert root.read_text("/c/hostname") is None
    assert root.read_text("/d/f") is None
    assert root.read_link("/a/x") is None
    assert root.list_dir("/") == ("a", "b", "c", "d")
    assert root.read_text("/d/e") == ""
