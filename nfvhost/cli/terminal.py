"""The two streams of a command: results on stdout, all the rest on stderr."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_CODES: Final = {"+": "32", "-": "31", "~": "33", "!": "1"}


class StdoutError(Exception):
    """Standard output takes nothing more: its reader has left, or its disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.reader_left = error.errno == errno.EPIPE
        self.reason = os.strerror(error.errno or errno.EIO)


class _Stdout(io.FileIO):
    """Standard output whose errors are told from those of any other file."""

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            raise StdoutError(error) from error


def open_streams() -> None:
    """Make stdout one that no letter can fail on; a stream that the parent has closed takes everything."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - it lives as long as the process
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the same
        return
    raw = _Stdout(sys.stdout.fileno(), "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=sys.stdout.encoding,
        errors="backslashreplace",
        line_buffering=raw.isatty(),
    )


def mute_stdout() -> None:
    """Let what is still buffered go nowhere: the interpreter writes it out at its end, and complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def emit(text: str) -> None:
    """Write a result."""
    sys.stdout.write(text)


def say(text: str) -> None:
    """Write a line for the person who waits, below what was written so far."""
    sys.stdout.flush()
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
