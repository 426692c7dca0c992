"""Every resource by way of the journal: rolled back later, and after a kill at any write of either."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from contract import run
from forked import in_a_process
from scratch import ScratchMachine

from nfvhost import engine
from nfvhost.access.root import DirectoryRoot
from nfvhost.engine.confirm import start_reverter
from nfvhost.errors import NfvhostError

if TYPE_CHECKING:
    from pathlib import Path

    from cases import Case

Fresh = Callable[[], ScratchMachine]


def apply(case: Case, scratch: ScratchMachine, *, resume: bool = False) -> None:
    """An apply whose journal is told to the same counter as the tree is."""
    machine = scratch.machine()
    assert isinstance(machine.root, DirectoryRoot)
    store = engine.Store(machine, changing=machine.root.changing)
    engine.apply(case.plan, machine, case.host, resources=(case.resource,), store=store, resume=resume)


def roll_back(case: Case, scratch: ScratchMachine) -> None:
    for undone in engine.rollback(scratch.machine(), resources=(case.resource,)):
        assert undone.problems == ()


def points(case: Case, fresh: Fresh) -> int:
    """The writes of a whole apply, those of the journal among them."""
    scratch = fresh()
    apply(case, scratch)
    return len(scratch.kernel.calls)


def test_a_rollback_by_the_journal_leaves_the_same_bytes_as_before(case: Case, fresh: Fresh) -> None:
    scratch = fresh()
    before = scratch.snapshot()
    assert run(case, scratch)
    assert scratch.snapshot() != before

    roll_back(case, scratch)

    assert scratch.snapshot() == before
    assert [str(one.stage) for one in engine.history(scratch.machine())] == ["rolled-back"]


def test_an_apply_killed_at_any_write_is_rolled_back_by_its_journal(
    case: Case, fresh: Fresh, capsys: pytest.CaptureFixture[str]
) -> None:
    last = points(case, fresh)
    for point in range(1, last + 1):
        scratch = fresh()
        before = scratch.snapshot()
        scratch.kernel.kill_at = point
        assert in_a_process(lambda: apply(case, scratch)) == signal.SIGKILL  # noqa: B023 - runs at once
        scratch.unharmed()

        roll_back(case, scratch)

        assert scratch.snapshot() == before, point
        assert engine.half_done(engine.Store(scratch.machine())) is None
    with capsys.disabled():
        sys.stdout.write(f" {case.name}: {last} kill points with a journal\n")


def test_an_apply_killed_at_any_write_is_resumed_and_then_rolled_back_to_before_the_first_try(
    case: Case, fresh: Fresh
) -> None:
    whole = fresh()
    apply(case, whole)
    for point in range(1, len(whole.kernel.calls) + 1):
        scratch = fresh()
        before = scratch.snapshot()
        scratch.kernel.kill_at = point
        assert in_a_process(lambda: apply(case, scratch)) == signal.SIGKILL  # noqa: B023 - runs at once
        scratch.unharmed()

        apply(case, scratch, resume=True)
        assert scratch.snapshot() == whole.snapshot(), point
        roll_back(case, scratch)

        assert scratch.snapshot() == before, point


def test_a_write_that_fails_at_any_point_of_an_apply_leaves_all_as_it_was(case: Case, fresh: Fresh) -> None:
    for point in range(1, points(case, fresh) + 1):
        scratch = fresh()
        before = scratch.snapshot()
        scratch.kernel.fail_at = point
        with pytest.raises(NfvhostError):
            apply(case, scratch)
        scratch.unharmed()
        assert scratch.snapshot() == before, point


def test_where_systemd_runs_its_timer_takes_an_unconfirmed_apply_back(tmp_path: Path) -> None:
    scratch = ScratchMachine(tmp_path).make({"/run/systemd/system/": ""}, {"systemd-run": "", "systemctl": ""})

    start_reverter(scratch.machine(), 7, within_s=120)

    (command,) = scratch.commands()
    assert "--on-active=120s" in command
    assert "-m nfvhost.cli rollback --unless-confirmed 7 --yes" in command
    assert f"--ovsdb unix:{tmp_path}/db.sock" in command
