"""Commands of the operating system: an argv, a deadline, never a shell."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from nfvhost.access.clock import wait_for
from nfvhost.errors import PreconditionError

# An ordinary user's PATH on Debian lacks these, and ovs-vswitchd, ip and ethtool live there.
_SYSTEM_DIRECTORIES: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
_LAST_LINES: Final = 12
_LINE_BYTES: Final = 512
_INTERVAL_S: Final = 0.05
# For what a command has left running when it was killed for being late.
_LEFTOVER_S: Final = 10.0
_mark: ContextVar[str | None] = ContextVar("_mark", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ended by itself."""

    argv: tuple[str, ...]
    code: int  # below 0: ended by that signal
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """The command as it can be pasted into a shell."""
        return shlex.join(self.argv)


class CommandError(PreconditionError):
    """A command failed, or ran longer than its deadline."""


class CommandMissingError(CommandError):
    """The program is not installed."""


def find(program: str, *, folder: str | None = None) -> str | None:
    """The path of an executable: as given, from PATH or from the system's directories; None where there is none.

    With `folder`, from there alone.
    """
    return shutil.which(program, path=folder or search_path())


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    input_text: str | None = None,
    folder: str | None = None,
) -> Completed:
    """What the command said, whatever its exit code; messages are in English (LC_ALL=C).

    `env` is added to the environment of this process; `folder` is as for `find`. CommandMissingError where the program
    is not there, CommandError where it cannot be started or has not ended after `timeout_s`; it is killed then.
    """
    words = tuple(map(str, argv))
    program = find(words[0], folder=folder)
    if program is None:
        raise CommandMissingError(f"{words[0]} is not installed", where=shlex.join(words))
    try:
        with (
            _marked_file(shlex.join(words)) as inherited,
            subprocess.Popen(
                words,
                executable=program,
                env={**os.environ, "LC_ALL": "C", "PATH": search_path(), **(env or {})},
                stdin=subprocess.DEVNULL if input_text is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                pass_fds=inherited,
                # Ctrl-C is this process's to hear: it ends the command, and all that it has started, by itself.
                process_group=0,
            ) as process,
        ):
            try:
                stdout, stderr = process.communicate(input_text, timeout=timeout_s)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
    except subprocess.TimeoutExpired as error:
        raise CommandError(
            f"has not ended after {timeout_s:g} s{last_lines(error.stderr)}", where=shlex.join(words)
        ) from error
    except OSError as error:
        raise CommandError(f"cannot be started: {error.strerror}", where=shlex.join(words)) from error
    return Completed(argv=words, code=process.returncode, stdout=stdout, stderr=stderr)


def check(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    input_text: str | None = None,
    folder: str | None = None,
) -> Completed:
    """What `run` returns, where the command ended with 0; otherwise CommandError with its last lines."""
    done = run(argv, timeout_s=timeout_s, env=env, input_text=input_text, folder=folder)
    if done.code != 0:
        end = f"exit code {done.code}" if done.code > 0 else f"killed by signal {-done.code}"
        raise CommandError(f"{end}{last_lines(done.stderr or done.stdout)}", where=done.line)
    return done


@contextmanager
def marking(path: str) -> Iterator[None]:
    """Inside, each command holds a lock on the file `path` while it, or anything that it has started, lives.

    Whoever comes after a process that was killed waits for that lock (`leftover`): until then a command of it, such as
    update-grub, may still write. A death signal (PR_SET_PDEATHSIG) would reach the command alone and not what it has
    started, and would end a package manager in the middle.
    """
    token = _mark.set(path)
    try:
        yield
    finally:
        _mark.reset(token)


def leftover(path: str, *, timeout_s: float) -> str | None:
    """The command that still runs, after `timeout_s`, although whoever started it was killed; None where none does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        if wait_for(lambda: _lock(descriptor), timeout_s=timeout_s, interval_s=_INTERVAL_S):
            os.unlink(path)
            return None
        return os.pread(descriptor, _LINE_BYTES, 0).decode(errors="replace").strip() or "a command"
    finally:
        os.close(descriptor)


@contextmanager
def _marked_file(line: str) -> Iterator[tuple[int, ...]]:
    """The descriptors that a command is to inherit; the file of the mark goes once the command has ended by itself.

    A daemon that it has started may keep the descriptor for ever: it holds a file that nobody finds any more.
    """
    path = _mark.get()
    if path is None:
        yield ()
        return
    found = leftover(path, timeout_s=_LEFTOVER_S)
    if found is not None:
        raise CommandError(f"what an earlier command has started still runs: {found}", where=line)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(descriptor)
        os.write(descriptor, line.encode()[:_LINE_BYTES])
        yield (descriptor,)
        os.unlink(path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether this open file, and all who inherit it, hold the lock of it now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def search_path() -> str:
    """PATH, and the system's directories behind it."""
    given = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([*given, *_SYSTEM_DIRECTORIES]))


def last_lines(output: str | bytes | None) -> str:
    """The end of what a command printed, indented under its error; empty where it printed nothing."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "".join(f"\n  | {line}" for line in lines[-_LAST_LINES:])
