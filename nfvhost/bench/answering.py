"""A generator that is a program of ours: one line for each trial, one line of JSON for what became of it."""

from __future__ import annotations

import json

from nfvhost.access.dialogue import Dialogue
from nfvhost.bench.generator import OVERHEAD_S
from nfvhost.bench.trial import Latency, Trial


class Answering:
    """The measurer at the other end of a dialogue: "SECONDS PPS" in, a trial as a line of JSON out."""

    def __init__(self, dialogue: Dialogue, *, ready_s: float) -> None:
        """Once the program has said that it is ready; CommandError with its last words where it does not."""
        self._dialogue = dialogue
        self._answer(timeout_s=ready_s)

    def measure(self, *, duration_s: float, load_pps: float) -> Trial:
        """One trial."""
        self._dialogue.say(f"{duration_s:.6f} {load_pps:.3f}")
        told = self._answer(timeout_s=duration_s + OVERHEAD_S)
        samples = int(told["samples"])
        return Trial(
            duration_s=told["seconds"],
            load_pps=load_pps,
            intended=int(told["intended"]),
            sent=int(told["sent"]),
            refused=int(told["refused"]),
            behind=int(told["behind"]),
            received=int(told["received"]),
            absent_s=told["absent_s"],
            latency=None
            if samples == 0
            else Latency(
                samples=samples,
                minimum_us=told["minimum_us"],
                median_us=told["median_us"],
                p99_us=told["p99_us"],
                maximum_us=told["maximum_us"],
            ),
        )

    def _answer(self, *, timeout_s: float) -> dict[str, float]:
        """The next line that is an answer: drivers and libraries print lines of their own."""
        while not (line := self._dialogue.hear(timeout_s=timeout_s)).startswith("{"):
            pass
        answer: dict[str, float] = json.loads(line)
        return answer
