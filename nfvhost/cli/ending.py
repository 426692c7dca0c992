"""How a command ends: its exit code, and one readable message where something went wrong.

Ctrl-C and a closed pipe end the process by their signal, as they end `cat`: the shell shows 130 and 141, and no exit
code of our own is above 125.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import NoReturn, ParamSpec

import typer

from nfvhost.cli.terminal import StdoutError, mute_stdout, say
from nfvhost.errors import ExitCode, NfvhostError, PreconditionError

P = ParamSpec("P")

# Whether `--debug` was given: tracebacks are shown.
DEBUG: ContextVar[bool] = ContextVar("DEBUG", default=False)


def ending(verb: Callable[P, ExitCode | None]) -> Callable[P, None]:
    """The verb as typer calls it: it ends with its exit code, and errors become messages."""

    @wraps(verb)
    def ended(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = verb(*args, **kwargs) or ExitCode.OK
            sys.stdout.flush()
        except NfvhostError as error:
            code = _told(error)
        except KeyboardInterrupt:
            die_of(signal.SIGINT)
        except StdoutError as error:
            code = stdout_failed(error)
        except Exception as error:  # noqa: BLE001 - the last one to see it; the exit code says that it is a bug
            code = _bug(error)
        raise typer.Exit(int(code))

    return ended


def die_of(number: signal.Signals) -> NoReturn:
    """End the process as the signal would have ended it, had nobody caught it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(int(ExitCode.BUG))


def stdout_failed(error: StdoutError) -> ExitCode:
    """The code for a result that could not be written; where its reader has left, the process ends here, silently."""
    mute_stdout()
    if error.reader_left:
        die_of(signal.SIGPIPE)
    return _told(PreconditionError(f"cannot be written: {error.reason}", where="standard output"))


def _told(error: NfvhostError) -> ExitCode:
    if DEBUG.get():
        traceback.print_exc()
    for problem in error.problems:
        say(f"error: {problem}")
    return error.exit_code


def _bug(error: Exception) -> ExitCode:
    if DEBUG.get():
        traceback.print_exc()
    say(f"error: this is a bug in nfvhost: {type(error).__name__}: {error}")
    say(f"  hint: {'report it with the traceback above' if DEBUG.get() else 'run it again with --debug and report it'}")
    return ExitCode.BUG
