"""A process that is killed at any of its writes, or while one of its commands runs, leaves what another puts back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forked import in_a_process

if TYPE_CHECKING:
    from cases import Case
    from scratch import ScratchMachine

    from nfvhost.model.change import Change

Fresh = Callable[[], "ScratchMachine"]


def prepared(case: Case, scratch: ScratchMachine) -> tuple[Any, tuple[Change, ...]]:
    """What a journal would hold: the image before, and the changes."""
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    return case.resource.image(state, changes), changes


def arm(scratch: ScratchMachine, point: int, *, writes: int) -> str:
    """Sets the trap of that number: first one at each write, then two at each command."""
    if point <= writes:
        scratch.kernel.kill_at = point
        return f"write {point}"
    command, when = divmod(point - writes - 1, 2)
    scratch.kill_at_command(len(scratch.commands()) + command + 1, ("before", "after")[when])
    return f"{('before', 'after')[when]} command {command + 1}"


def counted(scratch: ScratchMachine, work: Callable[[], object]) -> tuple[int, int]:
    """The writes and commands of a piece of work."""
    scratch.unharmed()
    before = len(scratch.commands())
    work()
    return len(scratch.kernel.calls), len(scratch.commands()) - before


def test_an_apply_killed_at_any_point_is_rolled_back_by_the_next_process(
    case: Case, fresh: Fresh, record_property: Callable[[str, object], None]
) -> None:
    whole = fresh()
    state = case.resource.read(whole.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    writes, commands = counted(whole, lambda: case.resource.apply(whole.machine(), state, changes))
    points = writes + 2 * commands
    for point in range(1, points + 1):
        scratch = fresh()
        before = scratch.snapshot()
        kept, changes = prepared(case, scratch)
        state = case.resource.read(scratch.machine(), case.plan)
        where = arm(scratch, point, writes=writes)

        ended = in_a_process(lambda: case.resource.apply(scratch.machine(), state, changes))  # noqa: B023 - runs at once

        assert ended == signal.SIGKILL, where
        scratch.unharmed()
        assert case.resource.foreign(scratch.machine(), kept, changes) == (), where
        assert case.resource.rollback(scratch.machine(), kept, changes) == (), where
        assert scratch.snapshot() == before, where
    record_property("kill points of an apply", points)


def test_an_apply_killed_at_any_point_is_finished_by_the_next_apply(case: Case, fresh: Fresh) -> None:
    whole = fresh()
    state = case.resource.read(whole.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    writes, commands = counted(whole, lambda: case.resource.apply(whole.machine(), state, changes))
    wanted = whole.snapshot()
    for point in range(1, writes + 2 * commands + 1):
        scratch = fresh()
        state = case.resource.read(scratch.machine(), case.plan)
        where = arm(scratch, point, writes=writes)
        assert in_a_process(lambda: case.resource.apply(scratch.machine(), state, changes)) == signal.SIGKILL  # noqa: B023 - runs at once

        scratch.unharmed()
        again = case.resource.read(scratch.machine(), case.plan)
        left = case.resource.diff(again, case.plan)
        assert case.resource.check(again, case.plan, case.host) == (), where
        case.resource.apply(scratch.machine(), again, left)

        assert [drift for drift in case.resource.verify(scratch.machine(), case.plan) if drift.pending is None] == []
        assert scratch.snapshot() == wanted, where


def test_a_rollback_killed_at_any_point_is_finished_by_the_next_process(
    case: Case, fresh: Fresh, record_property: Callable[[str, object], None]
) -> None:
    def applied() -> tuple[ScratchMachine, dict[str, Any], Any, tuple[Change, ...]]:
        scratch = fresh()
        before = scratch.snapshot()
        state = case.resource.read(scratch.machine(), case.plan)
        changes = case.resource.diff(state, case.plan)
        case.resource.apply(scratch.machine(), state, changes)
        scratch.unharmed()
        return scratch, before, case.resource.image(state, changes), changes

    whole, _, kept, changes = applied()
    writes, commands = counted(whole, lambda: case.resource.rollback(whole.machine(), kept, changes))
    points = writes + 2 * commands
    assert points
    for point in range(1, points + 1):
        scratch, before, kept, changes = applied()
        where = arm(scratch, point, writes=writes)

        ended = in_a_process(lambda: case.resource.rollback(scratch.machine(), kept, changes))  # noqa: B023 - runs at once

        assert ended == signal.SIGKILL, where
        scratch.unharmed()
        assert case.resource.rollback(scratch.machine(), kept, changes) == (), where
        assert scratch.snapshot() == before, where
    record_property("kill points of a rollback", points)
