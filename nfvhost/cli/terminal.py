"""The two streams of a command: results on stdout, all the rest on stderr."""

from __future__ import annotations

import os
import sys
from typing import IO, Final

_CODES: Final = {"+": "32", "-": "31", "~": "33", "!": "1"}


def emit(text: str) -> None:
    """Write a result."""
    sys.stdout.write(text)


def say(text: str) -> None:
    """Write a line for the person who waits."""
    sys.stderr.write(f"{text}\n")


def painted(line: str, stream: IO[str]) -> str:
    """The line in the colour of its first character, where the stream is a terminal that wants colours.

    NO_COLOR: https://no-color.org
    """
    code = _CODES.get(line[:1])
    plain = not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return line if code is None or plain else f"\x1b[{code}m{line}\x1b[0m"


def confirmed(question: str) -> bool:
    """Whether a person at a terminal answers yes; False where nobody is there to be asked."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
