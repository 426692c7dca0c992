"""Machines that a contract is tried on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import CASES, Case
from scratch import ScratchMachine


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """Each case in turn."""
    one: Case = request.param
    return one


@pytest.fixture
def fresh(case: Case, tmp_path: Path) -> Callable[[], ScratchMachine]:
    """Makes the machine of the case, anew each time."""
    made = 0

    def make() -> ScratchMachine:
        nonlocal made
        made += 1
        return case.machine(tmp_path / str(made))

    return make


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[str], tuple[Case, ScratchMachine]]:
    """Gives the case of a name and its machine."""

    def make(name: str) -> tuple[Case, ScratchMachine]:
        found = next(case for case in CASES if case.name == name)
        return found, found.machine(tmp_path / name)

    return make


def pytest_terminal_summary(terminalreporter: Any) -> None:  # noqa: ANN401 - pytest keeps its class to itself
    """Prints at how many points a process was killed."""
    points: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        points.update({name: int(value) for name, value in report.user_properties if name.startswith("kill points")})
    for name, number in sorted(points.items()):
        terminalreporter.write_line(f"{name}: {number}")
