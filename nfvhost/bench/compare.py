"""Two results side by side: the ratio of each rate, and whether it is more than the noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nfvhost.bench.result import BenchResult, Point, Summary
from nfvhost.bench.search import RELATIVE_WIDTH
from nfvhost.errors import DocumentError

# Fewer say nothing of how far apart two rounds of the same are.
LEAST_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One rate of one point in both results."""

    frames: str
    flows: int
    rate: str  # "NDR", "PDR"
    before_pps: float | None
    after_pps: float | None
    ratio: float | None  # after by before; None where either found no rate
    more_than_noise: bool | None  # None: too few rounds to say
    reason: str


def compare(before: BenchResult, after: BenchResult) -> tuple[Comparison, ...]:
    """Each point that both have, NDR and PDR; DocumentError where they have none in common."""
    found = tuple(_points(before, after))
    if not found:
        raise DocumentError(
            "the two results have no frames and flows in common", hint="run both with the same --frames and --flows"
        )
    return found


def differences(before: BenchResult, after: BenchResult) -> tuple[str, ...]:
    """What else is not the same: a ratio of two generators, or of two machines, is not one of two plans."""
    pairs = {
        "the CPU": (before.cpu_model, after.cpu_model),
        "the path": (before.path, after.path),
        "the generator": (before.generator.name, after.generator.name),
        "the length of trials": (f"{before.trial_s:g} s", f"{after.trial_s:g} s"),
        **{
            f"the version of {name}": (value, dict(after.versions).get(name, "none")) for name, value in before.versions
        },
    }
    return tuple(f"{what}: {one}, then {other}" for what, (one, other) in pairs.items() if one != other)


def _points(before: BenchResult, after: BenchResult) -> Iterator[Comparison]:
    others = {(point.frames, point.flows): point for point in after.points}
    for point in before.points:
        other = others.get((point.frames, point.flows))
        if other is not None:
            yield _compared(point, other, "NDR", point.ndr, other.ndr)
            yield _compared(point, other, "PDR", point.pdr, other.pdr)


def _compared(before: Point, after: Point, rate: str, one: Summary, other: Summary) -> Comparison:
    ratio = None if one.pps is None or other.pps is None else other.pps / one.pps
    more, reason = _verdict(min(len(before.rounds), len(after.rounds)), one, other)
    return Comparison(
        frames=before.frames,
        flows=before.flows,
        rate=rate,
        before_pps=one.pps,
        after_pps=other.pps,
        ratio=ratio,
        more_than_noise=more,
        reason=reason,
    )


def _verdict(rounds: int, one: Summary, other: Summary) -> tuple[bool | None, str]:
    if rounds < LEAST_ROUNDS:
        return (
            None,
            f"of {rounds} round{'s' if rounds != 1 else ''} no noise is known; --rounds {LEAST_ROUNDS} tells it",
        )
    if one.least_pps is None or other.least_pps is None or one.most_pps is None or other.most_pps is None:
        return None, "a round found no rate"
    # Each rate is known to the width of its search alone, however well the rounds agree.
    width = 1 + RELATIVE_WIDTH
    if other.least_pps > one.most_pps * width or one.least_pps > other.most_pps * width:
        return True, "every round of one is above every round of the other"
    return False, "the rounds of both overlap"
