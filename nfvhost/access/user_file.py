"""Files that a person named: replaced as a whole, with the mode that the person's files have."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from typing import Final

# A name may be as long as the file system allows; the temporary one needs room for more.
_NAME_CHARACTERS: Final = 100


def replace_file(path: str, content: bytes, *, accept: Callable[[str], object] = lambda _path: None) -> None:
    """Nothing, once the file holds this content, on disk; whoever reads it sees the old content or the new one.

    A file that is there keeps its mode. `accept` is shown the path of the new file before it takes the place of the
    old one. OSError, or what `accept` raised: the old content is still there, and nothing beside it.
    """
    name = os.path.basename(path)[:_NAME_CHARACTERS]
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=os.path.dirname(os.path.abspath(path)))
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), _mode(path))
            os.fsync(file.fileno())
        accept(temporary)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _mode(path: str) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
