"""Memory of the machine and of its nodes."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access.root import Root

# "MemTotal:  16316412 kB", "Node 0 MemTotal:  8158206 kB", "HugePages_Total:  4"
_FIELD: Final = re.compile(r"^(?:Node +\d+ +)?([\w()]+): +(\d+)", re.MULTILINE)
# 1 PiB, and 1 Ti of pages; 64 TiB is what the largest machines have. A number beyond is no memory.
_MOST: Final = 1 << 40
_DIGITS: Final = len(str(_MOST))


def meminfo(root: Root) -> dict[str, int] | None:
    """The fields of the whole machine in the file's units: KiB, and pages for `HugePages_*`; None without the file.

    Source: /proc/meminfo.
    """
    return _read(root, "/proc/meminfo")


def node_meminfo(root: Root, node: int) -> dict[str, int] | None:
    """The same of one node.

    Source: /sys/devices/system/node/node<N>/meminfo.
    """
    return _read(root, f"/sys/devices/system/node/node{node}/meminfo")


def parse_meminfo(text: str) -> dict[str, int]:
    """Field and number of each line that has one that a machine can have."""
    return {name: int(value) for name, value in _FIELD.findall(text) if len(value) <= _DIGITS and int(value) <= _MOST}


def _read(root: Root, path: str) -> dict[str, int] | None:
    text = root.read_text(path)
    return None if text is None else parse_meminfo(text)
