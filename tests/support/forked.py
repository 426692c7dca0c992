"""Work that may be killed."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_a_process(work: Callable[[], object]) -> int | None:
    """The signal that ended a process of its own that did this; None where it came to its end."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.waitstatus_to_exitcode(status) == 0
    return None
