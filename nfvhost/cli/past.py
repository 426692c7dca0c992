"""Applies of the past, for people and for programs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nfvhost.cli.terminal import say
from nfvhost.errors import PreconditionError

if TYPE_CHECKING:
    from nfvhost.access.machine import Machine
    from nfvhost.engine import PastApply
    from nfvhost.model.change import Change


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
        "confirmed": one.last.confirmed,
        "rollback": None if rollback is None else {"time": rollback.at.utc, "reason": rollback.reason},
        "problems": plain(one.problems),
    }
