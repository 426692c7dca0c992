"""The search for rates, on a switch on paper: its capacity is known, and its noise is that of a busy machine."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from nfvhost.bench.search import PDR_LOSS_RATIO, RELATIVE_WIDTH, Found, search
from nfvhost.bench.trial import Trial

SEEDS = 100
TRIAL_S = 1.0
CEILING_PPS = 16e6
# The capacity of a trial differs from the switch's by this part (one standard deviation).
JITTER = 0.001
# How often a second another process takes the poll-mode thread's CPU, and what is lost then.
STALLS_PER_S = 0.1
STALL_S = 0.002
# What a trial of a real generator costs beside its traffic is left out: seconds of traffic alone are compared.


@dataclass(kw_only=True)
class PaperSwitch:
    """Forwards up to its capacity; all else is lost, and some more in each stall."""

    capacity_pps: float
    chance: random.Random
    seconds: float = 0.0
    generator_pps: float = CEILING_PPS
    trials: list[Trial] = field(default_factory=list)

    def measure(self, *, duration_s: float, load_pps: float) -> Trial:
        self.seconds += duration_s
        intended = round(load_pps * duration_s)
        sent = min(intended, round(self.generator_pps * duration_s))
        capacity = self.capacity_pps * self.chance.gauss(1.0, JITTER)
        lost = max(0.0, sent - capacity * duration_s)
        if self.chance.random() < STALLS_PER_S * duration_s:
            lost += min(load_pps, capacity) * STALL_S
        trial = Trial(
            duration_s=duration_s,
            load_pps=load_pps,
            intended=intended,
            sent=sent,
            refused=0,
            behind=intended - sent,
            received=sent - round(lost),
        )
        self.trials.append(trial)
        return trial


def switch(seed: int) -> PaperSwitch:
    chance = random.Random(seed)  # noqa: S311 - a seed is what makes it repeatable
    return PaperSwitch(capacity_pps=chance.uniform(0.05, 0.9) * CEILING_PPS, chance=chance)


def bisection(measurer: PaperSwitch, *, loss_ratio: float) -> float:
    """RFC 2544, 26.1, to the same width, each load decided by the same two trials of three that agree."""
    low, high = 0.0, CEILING_PPS
    while high - low > RELATIVE_WIDTH * high:
        load = (low + high) / 2
        good = bad = 0
        while max(good, bad) < 2:
            passed = measurer.measure(duration_s=TRIAL_S, load_pps=load).loss_ratio <= loss_ratio
            good, bad = good + passed, bad + (not passed)
        low, high = (load, high) if good > bad else (low, load)
    return low


@pytest.fixture(scope="module")
def searches() -> list[tuple[PaperSwitch, Found]]:
    """The same hundred switches for all tests here."""
    switches = [switch(seed) for seed in range(SEEDS)]
    return [(one, search(one, ceiling_pps=CEILING_PPS, trial_s=TRIAL_S)) for one in switches]


def within(found_pps: float | None, true_pps: float) -> bool:
    return found_pps is not None and abs(found_pps / true_pps - 1) <= 0.01


def test_the_rate_without_loss_is_within_one_percent_in_95_of_100_seeds(
    searches: list[tuple[PaperSwitch, Found]],
) -> None:
    hits = sum(within(found.ndr.pps, one.capacity_pps) for one, found in searches)
    assert hits >= 95


def test_the_rate_with_little_loss_is_within_one_percent_in_95_of_100_seeds(
    searches: list[tuple[PaperSwitch, Found]],
) -> None:
    hits = sum(within(found.pdr.pps, one.capacity_pps / (1 - PDR_LOSS_RATIO)) for one, found in searches)
    assert hits >= 95


def test_it_takes_fewer_seconds_of_traffic_than_bisection(searches: list[tuple[PaperSwitch, Found]]) -> None:
    by_bisection_s, hits = 0.0, 0
    for seed in range(SEEDS):
        for loss_ratio in (0.0, PDR_LOSS_RATIO):
            rival = switch(seed)
            hits += within(bisection(rival, loss_ratio=loss_ratio), rival.capacity_pps / (1 - loss_ratio))
            by_bisection_s += rival.seconds
    # It is a rival worth the name.
    assert hits >= 180
    assert sum(found.traffic_s for _, found in searches) < by_bisection_s
    assert all(found.traffic_s == pytest.approx(one.seconds) for one, found in searches)


def test_trials_have_several_lengths_and_a_load_is_decided_by_two_that_agree(
    searches: list[tuple[PaperSwitch, Found]],
) -> None:
    for _, found in searches:
        lengths = {one.duration_s for one in found.trials}
        assert len(lengths) > 1
        assert max(lengths) == TRIAL_S
        decided = [
            one.loss_ratio == 0
            for one in found.trials
            if one.duration_s == TRIAL_S and one.load_pps == pytest.approx(found.ndr.pps)
        ]
        assert decided.count(True) >= 2


def test_no_rate_is_above_what_the_generator_can(searches: list[tuple[PaperSwitch, Found]]) -> None:
    del searches
    slow = PaperSwitch(capacity_pps=8e6, chance=random.Random(1), generator_pps=2e6)  # noqa: S311 - as above
    found = search(slow, ceiling_pps=CEILING_PPS, trial_s=TRIAL_S)
    assert found.ndr.pps is not None
    assert found.ndr.pps <= 2e6 * 1.005


def test_a_path_that_loses_at_every_rate_has_no_rate_without_loss() -> None:
    class Leak(PaperSwitch):
        def measure(self, *, duration_s: float, load_pps: float) -> Trial:
            intended = round(load_pps * duration_s)
            return Trial(
                duration_s=duration_s,
                load_pps=load_pps,
                intended=intended,
                sent=intended,
                refused=0,
                behind=0,
                received=round(intended * 0.5),
            )

    found = search(Leak(capacity_pps=1e6, chance=random.Random(1)), ceiling_pps=CEILING_PPS, trial_s=TRIAL_S)  # noqa: S311 - as above
    assert found.ndr.pps is None
    assert found.pdr.pps is None


def test_what_the_generators_own_ring_refused_is_no_loss_of_the_path_and_no_success() -> None:
    trial = Trial(duration_s=1.0, load_pps=100.0, intended=100, sent=90, refused=10, behind=0, received=90)
    assert trial.lost == 0
    assert trial.loss_ratio == pytest.approx(0.1)
