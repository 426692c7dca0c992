"""Commands of the operating system: an argv, a deadline, never a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nfvhost.errors import PreconditionError

# An ordinary user's PATH on Debian lacks these, and ovs-vswitchd, ip and ethtool live there.
_SYSTEM_DIRECTORIES: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
_LAST_LINES: Final = 12


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
    return shutil.which(program, path=folder or _search_path())


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
        done = subprocess.run(
            words,
            executable=program,
            check=False,
            timeout=timeout_s,
            env={**os.environ, "LC_ALL": "C", "PATH": _search_path(), **(env or {})},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            **({"stdin": subprocess.DEVNULL} if input_text is None else {"input": input_text}),
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(
            f"has not ended after {timeout_s:g} s{_last_lines(error.stderr)}", where=shlex.join(words)
        ) from error
    except OSError as error:
        raise CommandError(f"cannot be started: {error.strerror}", where=shlex.join(words)) from error
    return Completed(argv=words, code=done.returncode, stdout=done.stdout, stderr=done.stderr)


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
        raise CommandError(f"{end}{_last_lines(done.stderr or done.stdout)}", where=done.line)
    return done


def _search_path() -> str:
    given = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([*given, *_SYSTEM_DIRECTORIES]))


def _last_lines(output: str | bytes | None) -> str:
    """The end of what a command printed, indented under its error; empty where it printed nothing."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "".join(f"\n  | {line}" for line in lines[-_LAST_LINES:])
