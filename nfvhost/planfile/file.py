"""Text files of people: read whole, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import Final

from nfvhost.access.user_file import replace_file
from nfvhost.errors import DocumentError, PreconditionError
from nfvhost.planfile.tree import MAX_BYTES

# The first lines of a plan, as YAML or as JSON.
_PLAN: Final = re.compile(r"""^\s*["']?kind["']?\s*:\s*["']?Plan["']?\s*,?\s*(#.*)?$""", re.MULTILINE)
_VERSION: Final = re.compile(r"""["']?apiVersion["']?\s*:\s*["']?nfvhost/""")


def read_text(path: str) -> str:
    """The text of a document; DocumentError where there is none to be read."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DocumentError("there is no such file", where=path, hint=_look_alike(path)) from error
    except IsADirectoryError as error:
        raise DocumentError("is a directory, not a document", where=path) from error
    except PermissionError as error:
        raise DocumentError("may not be read", where=path, hint="ask its owner, or become one who may") from error
    except (OSError, ValueError) as error:
        raise DocumentError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=path) from error
    if len(content) > MAX_BYTES:
        raise DocumentError(f"is longer than {MAX_BYTES // 2**20} MiB, so it is no document of nfvhost", where=path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DocumentError("is not UTF-8 text", where=f"{path}:{line}", hint="save it as UTF-8") from error


def _look_alike(path: str) -> str | None:
    """A hint where the folder has a file of nearly that name."""
    import difflib  # noqa: PLC0415 - only for mistakes

    folder, name = os.path.split(path)
    with contextlib.suppress(OSError):
        close = difflib.get_close_matches(name, sorted(os.listdir(folder or ".")), n=1, cutoff=0.75)
        return f"did you mean {os.path.join(folder, close[0])}?" if close else None
    return f"there is no folder {folder} either"


def write_plan_text(path: str, text: str) -> None:
    """Write a plan; a file that is there and is neither a plan nor empty stays as it is (PreconditionError)."""
    _demand_plan(path)
    write_text(path, text)


def _demand_plan(path: str) -> None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return
        with open(path, "rb") as file:
            head = file.read(65536).decode(errors="replace")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    if head.strip() and not (_PLAN.search(head) and _VERSION.search(head)):
        raise PreconditionError(
            "is there and is not a plan of nfvhost, so it stays", where=path, hint="name another file with -o FILE"
        )


def write_text(path: str, text: str) -> None:
    """Replace the file as a whole: whoever reads it sees the old text or the new one. PreconditionError where not."""
    write_bytes(path, text.encode())


def write_bytes(path: str, content: bytes) -> None:
    """The same of a picture."""
    try:
        # A link stays a link; a pipe or a terminal is written to.
        place = os.path.realpath(path)
        if os.path.exists(place) and not os.path.isfile(place):
            with open(place, "wb") as stream:
                stream.write(content)
            return
        replace_file(place, content)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def _unwritable(path: str, error: OSError | ValueError) -> PreconditionError:
    reason = getattr(error, "strerror", None) or str(error)
    return PreconditionError(f"cannot be written: {reason}", where=path, hint="name another file")
