"""Time that only goes forward, and waiting with an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

T = TypeVar("T")

_moment = 0


def now_s() -> float:
    """Seconds since some fixed moment; never steps back (CLOCK_MONOTONIC)."""
    return time.monotonic()


def since_boot_s() -> float:
    """Seconds since the machine was booted, those of its sleep too; the same for all processes (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def utc() -> str:
    """The time of day, for people: 2026-01-31T12:00:00Z. Whoever sets the clock sets it too."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def epoch_s() -> float:
    """Seconds since 1970-01-01 UTC, as Prometheus counts them. Whoever sets the clock sets it too."""
    return time.time()


def moment() -> int:
    """The same number until this process waits for something: what was read before that is to change."""
    return _moment


def sleep(seconds: float) -> None:
    """Nothing, `seconds` later."""
    global _moment  # noqa: PLW0603 - what one waits for, others may read
    time.sleep(seconds)
    _moment += 1


def pause(seconds: float) -> None:
    """Nothing, `seconds` later, in which nothing is expected to change: the moment goes on."""
    time.sleep(seconds)


def wait_for(look: Callable[[], T | None], *, timeout_s: float, interval_s: float = 0.02) -> T | None:
    """The first answer of `look` that counts as true; its last answer where none did within `timeout_s`.

    Looks at least once, and once more at the deadline.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline
        answer = look()
        if answer or late:
            return answer
        sleep(min(interval_s, max(0.0, deadline - time.monotonic())))
