"""A process that outlives the one that starts it, and its terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from nfvhost.errors import PreconditionError

_STREAMS: Final = ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY))


def start_detached(argv: Sequence[str]) -> int:
    """The pid of a process in a session of its own, with no terminal and no open file of this one's.

    `argv` begins with a path. PreconditionError where it cannot be started.
    """
    silent = [(os.POSIX_SPAWN_OPEN, number, os.devnull, flags, 0) for number, flags in _STREAMS]
    try:
        # All other files are closed by themselves: Python opens them so (PEP 446).
        return os.posix_spawn(argv[0], list(argv), os.environ, file_actions=silent, setsid=True)
    except OSError as error:
        raise PreconditionError(f"cannot be started: {error.strerror}", where=argv[0]) from error
