"""A command that answers line by line for as long as it is talked to."""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Final, Self, cast

from nfvhost.access.clock import now_s
from nfvhost.access.command import CommandError, CommandMissingError, find, last_lines, search_path
from nfvhost.access.namespace import call_inside

_END_S: Final = 5.0


class Dialogue:
    """A process with a line on its stdout for each line on its stdin; ends with the `with` block.

    Should this process be killed, the other one reads the end of its stdin, and ends by itself.
    """

    def __init__(self, argv: Sequence[str], *, netns: str | None = None, env: Mapping[str, str] | None = None) -> None:
        self.argv = tuple(argv)
        self._netns = netns
        self._env = env or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Self:
        program = find(self.argv[0])
        if program is None:
            raise CommandMissingError(f"{self.argv[0]} is not installed", where=shlex.join(self.argv))
        self._said = tempfile.TemporaryFile()
        try:
            self._process = (
                self._start(program) if self._netns is None else call_inside(self._netns, lambda: self._start(program))
            )
        except OSError as error:
            self._said.close()
            raise CommandError(f"cannot be started: {error.strerror}", where=shlex.join(self.argv)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._running
        with suppress(BrokenPipeError):
            self._stdin.close()
        try:
            process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        finally:
            self._stdout.close()
            self._said.close()

    def say(self, line: str) -> None:
        """Nothing; the line is handed over. CommandError where the process has ended."""
        try:
            self._stdin.write(f"{line}\n".encode())
            self._stdin.flush()
        except BrokenPipeError:
            raise self._failure("has ended") from None

    def hear(self, *, timeout_s: float) -> str:
        """The next line; CommandError with the last of its stderr where it ends, or is silent for `timeout_s`."""
        deadline = now_s() + timeout_s
        while b"\n" not in self._unread:
            left_s = deadline - now_s()
            if left_s <= 0 or not select.select([self._stdout], [], [], left_s)[0]:
                raise self._failure(f"has said nothing for {timeout_s:g} s")
            read = os.read(self._stdout.fileno(), 65536)
            if not read:
                raise self._failure("has ended")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace")

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise CommandError("was not started", where=shlex.join(self.argv))
        return self._process

    @property
    def _stdin(self) -> IO[bytes]:
        return cast(IO[bytes], self._running.stdin)

    @property
    def _stdout(self) -> IO[bytes]:
        return cast(IO[bytes], self._running.stdout)

    def _start(self, program: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv,
            executable=program,
            env={**os.environ, "LC_ALL": "C", "PATH": search_path(), **self._env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            process_group=0,
        )

    def _failure(self, what: str) -> CommandError:
        self._said.seek(0)
        return CommandError(f"{what}{last_lines(self._said.read())}", where=shlex.join(self.argv))
