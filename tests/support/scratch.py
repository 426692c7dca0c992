"""A machine in a folder that may be changed: its files, the few reactions of a kernel, and commands of its own."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nfvhost.access.kernel_links import KernelLinks
from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.access.switch_flows import FlowTables
from nfvhost.access.switch_network import SwitchNetwork
from nfvhost.errors import ApplyError

_COMPACT: Final = "/proc/sys/vm/compact_memory"
# What each command of a scratch machine does first: it notes its call, and fails or is the last one where it was told.
_PROLOGUE: Final = """#!/bin/sh
set -eu
tree={tree} folder={folder}
case "${{1-}}" in {asks}) asked=1 ;; *) asked= ;; esac
if [ ! "$asked" ]; then
echo "${{0##*/}} $*" >> "$folder/calls"
call=$(wc -l < "$folder/calls")
[ "$(cat "$folder/fail_at" 2>/dev/null)" != "$call" ] || {{ echo "told to fail" >&2; exit 1; }}
case $(cat "$folder/kill_at" 2>/dev/null) in
"before $call") kill -9 $PPID; exit 1 ;;
"after $call") trap 'kill -9 $PPID' EXIT ;;
esac
fi
"""
# The first line of a program that can be asked: its questions, by their first word.
_ASKS: Final = "# asks:"


@dataclass
class Kernel:
    """How this machine's kernel reacts, and what is to go wrong at which of the changing calls, counted from 1."""

    grants: dict[str, int] = field(default_factory=dict)  # nr_hugepages file -> pages that can be had in all
    compacted: dict[str, int] = field(default_factory=dict)  # the same, once memory was compacted
    calls: list[str] = field(default_factory=list)
    fail_at: int | None = None
    kill_at: int | None = None  # this process, as power or the out-of-memory killer would
    # What else happens when an attribute takes a text: (tree, path, text, text before). An OSError is the kernel's no;
    # a reaction for each area is in a module of its own.
    reactions: list[Callable[[Path, str, str, str | None], None]] = field(default_factory=list)
    links: Callable[[ScratchRoot], KernelLinks] | None = None  # its door by netlink; None: it has none
    network: Callable[[ScratchRoot], SwitchNetwork] | None = None  # around its Open vSwitch; None: it runs none
    flows: Callable[[ScratchRoot], FlowTables] | None = None  # of that Open vSwitch


class ScratchRoot(DirectoryRoot):
    """Its tree."""

    def __init__(self, directory: Path, kernel: Kernel) -> None:
        super().__init__(str(directory), writable=True)
        self.directory = directory
        self.kernel = kernel

    def changing(self, call: str, path: str) -> None:
        kernel = self.kernel
        kernel.calls.append(f"{call} {path}")
        if len(kernel.calls) == kernel.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if len(kernel.calls) == kernel.fail_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def write_attribute(self, path: str, text: str) -> None:
        before = self.read_text(path)
        super().write_attribute(path, text)
        if path == _COMPACT:
            self.kernel.grants |= self.kernel.compacted
            (self.directory / path.strip("/")).write_text("")
        elif path.endswith("/nr_hugepages"):
            self._resize(path, int(text), before=int(before or 0))
        for react in self.kernel.reactions:
            try:
                react(self.directory, path, text, before)
            except OSError as error:
                raise ApplyError(f"the kernel refused {text!r}: {error.strerror}", where=path) from error

    def _resize(self, path: str, wanted: int, *, before: int) -> None:
        """As set_max_huge_pages of mm/hugetlb.c: grants what can be had; what is in use stays, as surplus."""
        folder = self.directory / path.strip("/").rpartition("/")[0]
        used = before - int((folder / "free_hugepages").read_text())
        total = max(used, min(wanted, self.kernel.grants.get(path, wanted)))
        (folder / "nr_hugepages").write_text(f"{total}\n")
        (folder / "free_hugepages").write_text(f"{total - used}\n")
        (folder / "surplus_hugepages").write_text(f"{max(0, total - wanted) if wanted < used else 0}\n")


@dataclass
class ScratchMachine:
    """A folder with a tree and a folder with commands; `machine()` are the doors to both."""

    top: Path
    kernel: Kernel = field(default_factory=Kernel)

    @property
    def tree(self) -> Path:
        """The folder that stands for `/`."""
        return self.top / "tree"

    @property
    def programs(self) -> Path:
        """The folder of its commands."""
        return self.top / "programs"

    def make(self, files: Mapping[str, str | bytes], programs: Mapping[str, str]) -> ScratchMachine:
        """This machine, with these files; a program is the text of a shell script that knows `$tree`.

        Where its first line is `# asks: show -s`, calls whose first word is one of these are questions: they are not
        among its commands.
        """
        self.tree.mkdir(parents=True)
        self.programs.mkdir()
        (self.programs / "calls").touch()
        for path, content in files.items():
            self.put(path, content)
        for name, text in programs.items():
            program = self.programs / name
            program.write_text(_PROLOGUE.format(tree=self.tree, folder=self.programs, asks=_questions(text)) + text)
            program.chmod(0o755)
        return self

    def put(self, path: str, content: str | bytes) -> None:
        """A file of someone else; a path that ends in / is an empty folder."""
        place = self.tree / path.strip("/")
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())

    def read(self, path: str) -> str:
        """The text of a file."""
        return (self.tree / path.strip("/")).read_text()

    def machine(self) -> Machine:
        """Its doors; the lock of an apply is beside the database that it would have."""
        root = ScratchRoot(self.tree, self.kernel)
        links = self.kernel.links(root) if self.kernel.links is not None else None
        network = self.kernel.network(root) if self.kernel.network is not None else None
        flows = self.kernel.flows(root) if self.kernel.flows is not None else None
        return Machine(
            root=root,
            ovsdb=f"unix:{self.top}/db.sock",
            programs=str(self.programs),
            kernel_links=links,
            switch_network=network,
            flow_tables=flows,
        )

    def commands(self) -> list[str]:
        """The commands that ran."""
        return (self.programs / "calls").read_text().splitlines()

    def fail_command(self, number: int) -> None:
        """Lets that one of its commands fail, counted from 1, before it has done anything."""
        (self.programs / "fail_at").write_text(str(number))

    def kill_at_command(self, number: int, when: str) -> None:
        """Lets that one of its commands kill whoever runs it, `before` or `after` it does its work."""
        (self.programs / "kill_at").write_text(f"{when} {number}")

    def unharmed(self) -> None:
        """Nothing is to go wrong any more."""
        for name in ("fail_at", "kill_at"):
            (self.programs / name).unlink(missing_ok=True)
        self.kernel.fail_at = self.kernel.kill_at = None
        self.kernel.calls.clear()

    def snapshot(self) -> dict[str, tuple[int, str | bytes | None]]:
        """Mode and content of everything in the tree; of a folder None, of a link its text."""
        found: dict[str, tuple[int, str | bytes | None]] = {}
        for path in sorted(self.tree.rglob("*")):
            mode = path.lstat().st_mode
            content: str | bytes | None = None
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
            found[f"/{path.relative_to(self.tree)}"] = (mode, content)
        return found


def _questions(program: str) -> str:
    """The pattern of `case` for the first words of its questions."""
    first = program.lstrip().partition("\n")[0]
    words = first.removeprefix(_ASKS).split() if first.startswith(_ASKS) else []
    return "|".join(words) or "'none of its words'"
