"""How far a machine is from its plan, counted beside the scrapes: a check takes longer than they may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread

from nfvhost.access.clock import epoch_s, sleep
from nfvhost.errors import NfvhostError


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftCount:
    """The last count."""

    items: int | None  # None until there was one
    at_s: float | None  # seconds since 1970 at which it was made
    up: bool  # whether the last try made one


class DriftWatch:
    """Counts at once, and again after each `interval_s`; a count that fails leaves the one before in its place."""

    def __init__(self, count: Callable[[], int], *, interval_s: float) -> None:
        self._count = count
        self._interval_s = interval_s
        self._last = DriftCount(items=None, at_s=None, up=False)

    @property
    def last(self) -> DriftCount:
        """The last one."""
        return self._last

    def look(self) -> DriftCount:
        """The count of now."""
        try:
            self._last = DriftCount(items=self._count(), at_s=epoch_s(), up=True)
        except NfvhostError:
            self._last = DriftCount(items=self._last.items, at_s=self._last.at_s, up=False)
        return self._last

    def start(self) -> None:
        """Nothing; another thread counts from now on, and ends with the process."""
        Thread(target=self._run, name="drift", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.look()
            sleep(self._interval_s)
