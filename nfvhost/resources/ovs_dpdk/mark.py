"""The mark that nfvhost leaves on the rows it writes: who made the row, and which settings are nfvhost's.

One key of external_ids, `nfvhost`: the word `made` or `adopted`, then the settings, as in
`made mtu_request options:n_rxq`. What a later plan does not name any more can so be taken back, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nfvhost.access.ovs_rows import Pairs

KEY = "nfvhost"
SETTING = f"external_ids:{KEY}"
_MADE = "made"
_ADOPTED = "adopted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What nfvhost has to do with one row."""

    made: bool  # nfvhost made the row, and may drop it
    settings: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((_MADE if self.made else _ADOPTED, *self.settings))


def read_mark(external_ids: Pairs) -> Mark | None:
    """The mark of a row; None where it has none, or where the value is not one of ours."""
    words = dict(external_ids).get(KEY, "").split()
    if not words or words[0] not in {_MADE, _ADOPTED}:
        return None
    return Mark(made=words[0] == _MADE, settings=tuple(words[1:]))


def mark_of(*, made: bool, settings: Iterable[str]) -> Mark:
    """The mark of a row with these settings."""
    return Mark(made=made, settings=tuple(sorted(settings)))
