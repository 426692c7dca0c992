#!/usr/bin/env python3
"""The machine of tests/vm by hand: `python tests/vm/machine.py up`, then `run`, `shell`, `push`, `save`, `down`.

One machine of that kind at a time, for whoever claims it with `--as NAME` (or NFVHOST_VM_AS); a claim of which nothing
was heard for ten minutes is void. Between two commands its CPUs stand still, so that it costs nothing, unless
`--awake` says otherwise.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from vm import VirtualMachine, close_machine, open_machine
from vm_cache import CACHE, locked
from vm_shapes import SHAPES

_CLAIM_S: Final = 600
_LEAVE: Final = b"\x1d"  # Ctrl-]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as", dest="who", default=os.environ.get("NFVHOST_VM_AS", "anyone"), help="who uses it")
    parser.add_argument("--name", default="by-hand", help="which machine; tests have others")
    parser.add_argument("--awake", action="store_true", help="let its CPUs run after the command")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="a fresh machine, booted, with this checkout's nfvhost in it")
    up.add_argument("--shape", choices=sorted(SHAPES), default="server")
    run = verbs.add_parser("run", help="run a command in it, and end with its exit code")
    run.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="or one word with blanks, for bash")
    verbs.add_parser("push", help="put this checkout's nfvhost/ into it again")
    for verb, what in (("put", "copy a file into it"), ("get", "copy a file out of it")):
        copy = verbs.add_parser(verb, help=what)
        copy.add_argument("source")
        copy.add_argument("target")
    for verb, what in (
        ("save", "a snapshot of memory and disk"),
        ("restore", "back to a snapshot; booted is the first"),
    ):
        snapshot = verbs.add_parser(verb, help=what)
        snapshot.add_argument("snapshot")
    verbs.add_parser("reboot", help="reboot by its own GRUB, and wait")
    verbs.add_parser("cut-power", help="reset it at once, and wait")
    verbs.add_parser("resume", help="let its CPUs run until the next command")
    verbs.add_parser("shell", help="its serial console as root; Ctrl-] leaves")
    verbs.add_parser("down", help="end it and remove its disk")
    return parser


def main() -> int:
    """The exit code: that of the command that ran in the machine, 0 where another verb did its work."""
    given = _parser().parse_args()
    with locked(f"run-{given.name}"):
        machine = VirtualMachine(CACHE / "run" / given.name)
        _claim(given.name, given.who)
        if given.verb == "up":
            machine = open_machine(given.name, SHAPES[given.shape])
            machine.install()
        elif machine.pid is None:
            raise SystemExit("there is no machine: begin with `up`")
        elif given.verb == "down":
            close_machine(machine)
            _claim_file(given.name).unlink()
            return 0
        machine.resume()
        code = 0
        try:
            code = _VERBS[given.verb](machine, given)
        finally:
            if not given.awake and given.verb != "resume":
                machine.pause()
            _claim_file(given.name).touch()
        return code


def _claim_file(name: str) -> Path:
    return CACHE / f"run-{name}.claim"


def _claim(name: str, who: str) -> None:
    """Writes down who has the machine; SystemExit where someone else has it."""
    file = _claim_file(name)
    if file.exists() and time.time() - file.stat().st_mtime < _CLAIM_S and (owner := file.read_text().strip()) != who:
        raise SystemExit(
            f"{owner} has the machine; you are {who} (--as NAME). It is free after `down`, or in ten minutes"
        )
    file.write_text(f"{who}\n")


def _nothing(_machine: VirtualMachine, _given: argparse.Namespace) -> int:
    return 0


def _run(machine: VirtualMachine, given: argparse.Namespace) -> int:
    argv = [one for one in given.argv if one != "--"] if given.argv[:1] == ["--"] else given.argv
    if len(argv) == 1 and " " in argv[0]:
        argv = ["bash", "-c", argv[0]]
    ended = machine.run(*argv, timeout_s=given.timeout)
    sys.stdout.write(ended.out)
    sys.stderr.write(ended.err)
    return ended.code


def _push(machine: VirtualMachine, _given: argparse.Namespace) -> int:
    machine.install()
    return 0


def _put(machine: VirtualMachine, given: argparse.Namespace) -> int:
    machine.check("tee", given.target, stdin=Path(given.source).read_bytes())
    return 0


def _get(machine: VirtualMachine, given: argparse.Namespace) -> int:
    machine.fetch(given.source, Path(given.target))
    return 0


def _save(machine: VirtualMachine, given: argparse.Namespace) -> int:
    machine.save(given.snapshot)
    return 0


def _restore(machine: VirtualMachine, given: argparse.Namespace) -> int:
    machine.restore(given.snapshot)
    return 0


def _reboot(machine: VirtualMachine, _given: argparse.Namespace) -> int:
    machine.reboot()
    return 0


def _cut_power(machine: VirtualMachine, _given: argparse.Namespace) -> int:
    machine.cut_power()
    return 0


def _shell(machine: VirtualMachine, _given: argparse.Namespace) -> int:
    """The terminal, joined to the serial console."""
    console = socket.socket(socket.AF_UNIX)
    os.chdir(machine.folder)
    console.connect("console")
    kept = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        console.sendall(b"\r")
        while True:
            ready, _, _ = select.select([0, console.fileno()], [], [])
            if console.fileno() in ready:
                shown = console.recv(65536)
                if not shown:
                    return 0
                os.write(1, shown)
            if 0 in ready:
                typed = os.read(0, 1024)
                if _LEAVE in typed:
                    return 0
                console.sendall(typed)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, kept)


_VERBS: Final[Mapping[str, Callable[[VirtualMachine, argparse.Namespace], int]]] = {
    "up": _nothing,
    "resume": _nothing,
    "run": _run,
    "push": _push,
    "put": _put,
    "get": _get,
    "save": _save,
    "restore": _restore,
    "reboot": _reboot,
    "cut-power": _cut_power,
    "shell": _shell,
}

if __name__ == "__main__":
    sys.exit(main())
