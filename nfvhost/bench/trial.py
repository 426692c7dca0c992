"""One trial: so many packets a second for so long, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """From the generator's transmit call to its receive call, of a sample; microseconds."""

    samples: int
    minimum_us: float
    median_us: float
    p99_us: float
    maximum_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """intended = sent + refused + behind; lost = sent - received."""

    duration_s: float  # in which the generator had its CPU
    load_pps: float  # as asked
    intended: int
    sent: int
    refused: int  # no room in the generator's own transmit ring: the other side had not emptied it
    behind: int  # the generator itself did not get round to it
    received: int
    absent_s: float = 0.0  # on top of the duration: the scheduler had given the generator's CPU away
    latency: Latency | None = None

    @property
    def lost(self) -> int:
        """Sent and not seen again."""
        return max(0, self.sent - self.received)

    @property
    def loss_ratio(self) -> float:
        """Lost and refused, of all that was offered: both mean that the path did not take it."""
        offered = self.sent + self.refused
        return (self.lost + self.refused) / offered if offered else 0.0

    @property
    def kept_up(self) -> bool:
        """Whether the generator itself offered what it was asked to."""
        return self.behind <= self.intended * FORGIVEN_BEHIND


# The width to which a rate is searched: what the generator owes must not be read as what the path can.
FORGIVEN_BEHIND: Final = 0.005


class Measurer(Protocol):
    """Whatever can send at a rate and count: a generator on a path, or a switch on paper."""

    def measure(self, *, duration_s: float, load_pps: float) -> Trial: ...
