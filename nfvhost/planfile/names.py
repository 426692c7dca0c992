"""Names of fields as documents spell them."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

_UNITS: Final = {"gib": "GiB", "mib": "MiB", "kib": "KiB"}


@cache
def key_of(field: str) -> str:
    """The camelCase key of a field; units keep their own capitals: `host_mib` is `hostMiB`."""
    first, *rest = field.split("_")
    return first + "".join(_UNITS.get(part, part.capitalize()) for part in rest)


def nearest(key: str, known: tuple[str, ...]) -> str | None:
    """The known key that `key` was probably meant to be."""
    import difflib  # noqa: PLC0415 - documents without mistakes do not need it

    plain = {re.sub(r"[^a-z0-9]", "", one.lower()): one for one in known}
    close = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", key.lower()), plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None
