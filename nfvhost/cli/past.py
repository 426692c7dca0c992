"""Applies of the past, for people and for programs."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nfvhost.cli.terminal import say
from nfvhost.errors import ApplyError, PreconditionError

if TYPE_CHECKING:
    from nfvhost.access.machine import Machine
    from nfvhost.cli.subject import Subject
    from nfvhost.engine import PastApply
    from nfvhost.model.change import Change
    from nfvhost.model.report import Drift


def machine_of(ovsdb: str | None, state_dir: str | None = None) -> Machine:
    """This machine."""
    from nfvhost.access.archive import open_root
    from nfvhost.access.machine import Machine

    return Machine(root=open_root(), ovsdb=ovsdb, state_dir=state_dir)


def tell_half_done(machine: Machine) -> None:
    """Say on stderr what was cut off, where something was and where this user may know."""
    from nfvhost import engine

    try:
        one = engine.half_done(engine.Store(machine))
    except PreconditionError:
        return
    for problem in engine.half_done_problems(one) if one is not None else ():
        say(f"warning: {problem}")


def note_settled(subject: Subject, drifts: tuple[Drift, ...]) -> None:
    """Note in the journal that nothing waits for a reboot any more, where that is so and this user may write there."""
    from nfvhost import engine
    from nfvhost.engine.lock import locked

    # A user who may not, and an apply that is at work and will say so itself: verify is no less true for it.
    with contextlib.suppress(PreconditionError, ApplyError):
        store = engine.Store(subject.machine)
        one = engine.newest(store)
        if one is None or not one.pending:
            return
        with locked(subject.machine):
            if engine.settle(store, drifts=drifts, plan=engine.plan_digest(subject.plan)):
                say(f"{name_of(one)} waits for no reboot any more")


def name_of(one: PastApply) -> str:
    """`apply 3 of 2026-01-31T12:00:00Z (home)`."""
    return f"apply {one.id} of {one.begin.at.utc} ({one.begin.profile})"


def back(change: Change) -> Change:
    """The change that takes this one back."""
    return replace(change, before=change.after, after=change.before)


def past_document(one: PastApply) -> dict[str, Any]:
    """The apply as part of a document."""
    from nfvhost.planfile.structure import plain

    rollback = one.last.rollback
    return {
        "id": one.id,
        "time": one.begin.at.utc,
        "ended": one.ended.utc if one.ended is not None else None,
        "profile": one.begin.profile,
        "plan": one.begin.plan,
        "outcome": str(one.stage),
        "changes": len(one.changes),
        "tries": [journal.id for journal in reversed(one.journals)],
        "waitsForConfirmation": one.waits_for_confirmation,
        "confirmed": one.confirmed,
        "waitsForReboot": list(one.pending),
        "rollback": None if rollback is None else {"time": rollback.at.utc, "reason": rollback.reason},
        "problems": plain(one.problems),
    }
