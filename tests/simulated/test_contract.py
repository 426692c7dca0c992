"""What every resource of files and attributes keeps, whatever it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from contract import run

from nfvhost.errors import ApplyError
from nfvhost.model.change import Activation
from nfvhost.model.report import Outcome

if TYPE_CHECKING:
    from cases import Case
    from scratch import ScratchMachine

_OUTCOMES = {
    Activation.NOW: Outcome.APPLIED,
    Activation.RESTART: Outcome.PENDING_RESTART,
    Activation.REBOOT: Outcome.PENDING_REBOOT,
}
Fresh = Callable[[], "ScratchMachine"]


def rolled_back(case: Case, scratch: ScratchMachine) -> ApplyError:
    """The error of an apply that is told to fail."""
    with pytest.raises(ApplyError, match="everything was put back as it was") as caught:
        run(case, scratch)
    return caught.value


def writes(case: Case, fresh: Fresh) -> tuple[int, int]:
    """How many changing calls and how many commands a whole apply takes."""
    scratch = fresh()
    run(case, scratch)
    return len(scratch.kernel.calls), len(scratch.commands())


def test_after_an_apply_nothing_differs_and_all_is_as_planned(case: Case, fresh: Fresh) -> None:
    scratch = fresh()

    outcomes = run(case, scratch)

    assert outcomes
    assert set(outcomes) == {_OUTCOMES[case.activation]}
    machine = scratch.machine()
    assert case.resource.diff(case.resource.read(machine, case.plan), case.plan) == ()
    assert [drift for drift in case.resource.verify(machine, case.plan) if drift.pending is None] == []
    assert bool(case.resource.verify(machine, case.plan)) == case.pending


def test_a_second_apply_writes_nothing_and_runs_nothing(case: Case, fresh: Fresh) -> None:
    scratch = fresh()
    run(case, scratch)
    calls, commands, tree = len(scratch.kernel.calls), scratch.commands(), scratch.snapshot()

    assert run(case, scratch) == []

    assert scratch.kernel.calls[calls:] == []
    assert scratch.commands() == commands
    assert scratch.snapshot() == tree


def test_reading_and_comparing_write_nothing(case: Case, fresh: Fresh) -> None:
    scratch = fresh()
    machine = scratch.machine()

    state = case.resource.read(machine, case.plan)
    case.resource.diff(state, case.plan)
    problems = case.resource.check(state, case.plan, case.host)
    case.resource.findings(state, case.plan)
    case.resource.verify(machine, case.plan)

    assert problems == ()
    assert (scratch.kernel.calls, scratch.commands()) == ([], [])


def test_a_rollback_gives_the_same_bytes_as_before(case: Case, fresh: Fresh) -> None:
    scratch = fresh()
    before = scratch.snapshot()
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    kept = case.resource.image(state, changes)
    run(case, scratch)
    assert scratch.snapshot() != before

    # Another process, later: nothing of the apply is known to it but the image and the changes.
    assert case.resource.foreign(scratch.machine(), kept, changes) == ()
    assert case.resource.rollback(scratch.machine(), kept, changes) == ()

    assert scratch.snapshot() == before


def test_a_rollback_of_nothing_done_changes_nothing(case: Case, fresh: Fresh) -> None:
    scratch = fresh()
    before = scratch.snapshot()
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)

    assert case.resource.rollback(scratch.machine(), state, changes) == ()

    assert scratch.snapshot() == before
    assert scratch.kernel.calls == []


def test_an_error_at_any_write_ends_as_it_was_before(case: Case, fresh: Fresh) -> None:
    count, commands = writes(case, fresh)
    assert count or commands
    for number in range(1, count + 1):
        scratch = fresh()
        before = scratch.snapshot()
        scratch.kernel.fail_at = number

        error = rolled_back(case, scratch)

        assert scratch.snapshot() == before, f"after an error at {scratch.kernel.calls[number - 1]}"
        assert any("Input/output error" in problem.what for problem in error.problems)


def test_a_command_that_fails_ends_as_it_was_before(case: Case, fresh: Fresh) -> None:
    _, count = writes(case, fresh)
    assert bool(count) == bool(case.programs)
    for number in range(1, count + 1):
        scratch = fresh()
        before = scratch.snapshot()
        scratch.fail_command(number)

        error = rolled_back(case, scratch)

        assert scratch.snapshot() == before, f"after a failure of {scratch.commands()[number - 1]}"
        assert any("told to fail" in problem.what for problem in error.problems)


def test_a_rollback_that_fails_says_what_is_left(case: Case, fresh: Fresh) -> None:
    scratch = fresh()
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    scratch.kernel.fail_at = len(scratch.kernel.calls) + 1
    if not scratch.kernel.calls:
        # What it does, commands do.
        scratch.fail_command(len(scratch.commands()) + 1)

    left = case.resource.rollback(scratch.machine(), state, changes)

    assert left
    named = {f"{case.resource.name}: {change.key}" for change in changes}
    assert {problem.where for problem in left} <= named
