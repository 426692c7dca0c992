"""The highest rate without loss (NDR) and with little loss (PDR), by FD.io CSIT's MLRsearch.

The algorithm: draft-ietf-bmwg-mlrsearch. Both rates are searched at once, in trials that begin short; a load is
decided when two of up to three trials of the final length agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nfvhost.bench.trial import Trial
from nfvhost.errors import PreconditionError

if TYPE_CHECKING:
    from nfvhost.bench.trial import Measurer

PDR_LOSS_RATIO: Final = 0.005
RELATIVE_WIDTH: Final = 0.005
# The first trials are this part of the final ones.
_SHORT: Final = 0.2
# With half of the seconds allowed to be bad, two good ones of three, or two bad ones, decide.
_AGREEING_TRIALS: Final = 3
_BAD_SHARE: Final = 0.5
_LOWEST_SHARE: Final = 1e-4
# A trial in which the generator was not given its CPU says nothing of the path: it is made again, this often.
_MORE_TRIES: Final = 2
# A path that answers differently each time is searched no longer than this, in final trials and seconds on top.
_MOST_TRIALS: Final = 90
_MOST_OVERHEAD_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One rate that was searched; packets a second, None where even the lowest load was lost."""

    pps: float | None  # the highest load that was decided to be good
    bad_pps: float | None  # the lowest load that was decided to be bad; None: the ceiling is good


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search has found, and all of its trials in their order."""

    ndr: Rate
    pdr: Rate
    finished: bool  # False: the path answered differently each time, and time was up before the bounds were close
    trials: tuple[Trial, ...]

    @property
    def traffic_s(self) -> float:
        """Seconds of traffic that it took."""
        return sum(one.duration_s for one in self.trials)


def search(
    measurer: Measurer, *, ceiling_pps: float, trial_s: float = 1.0, pdr_loss_ratio: float = PDR_LOSS_RATIO
) -> Found:
    """NDR and PDR up to `ceiling_pps`, each to half a percent; PreconditionError where MLRsearch is not installed.

    `trial_s` is the length of the final trials; the first ones have a fifth of it.
    """
    mlrsearch = _library()
    recorder = _recorder(mlrsearch, measurer)
    goals = [
        mlrsearch.SearchGoal(
            loss_ratio=loss_ratio,
            exceed_ratio=_BAD_SHARE,
            relative_width=RELATIVE_WIDTH,
            initial_trial_duration=trial_s * _SHORT,
            final_trial_duration=trial_s,
            duration_sum=trial_s * _AGREEING_TRIALS,
            preceding_targets=2,
            expansion_coefficient=4,
            fail_fast=False,
        )
        for loss_ratio in (0.0, pdr_loss_ratio)
    ]
    config = mlrsearch.Config()
    config.goals = goals
    config.max_load = ceiling_pps
    config.min_load = ceiling_pps * _LOWEST_SHARE
    config.search_duration_max = trial_s * _MOST_TRIALS + _MOST_OVERHEAD_S
    config.warmup_duration = trial_s * _SHORT
    run = mlrsearch.MultipleLossRatioSearch(config=config)
    try:
        run.search(recorder, debug=lambda _text: None)
        finished = True
    except RuntimeError:  # of the library: out of time
        finished = False
    ndr, pdr = (_rate(run, goal) for goal in goals)
    return Found(ndr=ndr, pdr=pdr, finished=finished, trials=tuple(recorder.trials))


def _library() -> Any:  # noqa: ANN401 - it ships no types
    try:
        import MLRsearch  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise PreconditionError("MLRsearch is not installed", hint="pip install 'nfvhost[bench]'") from error
    return MLRsearch


def _recorder(mlrsearch: Any, measurer: Measurer) -> Any:  # noqa: ANN401 - the same
    """The measurer as the library wants it; it keeps all trials."""

    class Recorder(mlrsearch.AbstractMeasurer):  # type: ignore[misc]  # the library ships no types
        def __init__(self) -> None:
            self.trials: list[Trial] = []

        def measure(self, intended_duration: float, intended_load: float) -> object:
            for _ in range(1 + _MORE_TRIES):
                trial = measurer.measure(duration_s=intended_duration, load_pps=intended_load)
                self.trials.append(trial)
                if trial.kept_up:
                    break
            offered = trial.sent + trial.refused
            return mlrsearch.MeasurementResult(
                intended_duration=intended_duration,
                intended_load=intended_load,
                # What the generator owes beyond what is forgiven counts as not sent: its ceiling is the result's.
                intended_count=offered if trial.kept_up else trial.intended,
                offered_count=trial.sent,
                loss_count=trial.lost,
            )

    return Recorder()


def _rate(run: Any, goal: Any) -> Rate:  # noqa: ANN401 - the same
    bounds = run.database.get_relevant_bounds(target=run.scaling.goal_to_final_target[goal])
    return Rate(
        pps=None if bounds.clo is None else float(bounds.clo), bad_pps=None if bounds.chi is None else float(bounds.chi)
    )
