"""`nfvhost rollback`: back to what was there before an apply."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption, StateDirOption, YesOption
from nfvhost.cli.terminal import confirmed, emit, painted, say
from nfvhost.errors import ExitCode

if TYPE_CHECKING:
    from nfvhost.access.machine import Machine
    from nfvhost.engine import PastApply, Undone

HELP = """Put the machine back to what it was before the last apply, or before apply ID; also one that was cut off.

What someone else has changed since stays and is named, unless --force. Asks at a terminal only; elsewhere, without
--yes, it changes nothing and ends with 10. Ends with 7 where something could not be put back. Run again, it goes one
apply further back.

\b
Examples:
  nfvhost rollback
  nfvhost rollback --to 3 --yes
"""


@ending
def rollback(
    to: Annotated[int | None, typer.Option("--to", metavar="ID", help="Undo this apply and all after it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what others have changed since.")] = False,
    yes: YesOption = False,
    ovsdb: OvsdbOption = None,
    state_dir: StateDirOption = None,
    unless_confirmed: Annotated[
        int | None, typer.Option("--unless-confirmed", metavar="ID", hidden=True, help="Wait for it first.")
    ] = None,
    json: JsonOption = False,
) -> ExitCode:
    """Put it back."""
    from nfvhost import engine
    from nfvhost.cli.past import machine_of
    from nfvhost.engine.root import demand_root

    machine = machine_of(ovsdb, state_dir)
    demand_root(machine, verb="rollback")
    if unless_confirmed is not None:
        return _told(engine.revert_unless_confirmed(machine, unless_confirmed), json=json)
    applies = engine.to_undo(machine, to=to)
    _tell_diff(applies)
    if applies and not yes and not confirmed(f"Roll back {_count(applies)} changes?"):
        say("nothing was changed; --yes rolls it back")
        return ExitCode.DIFFERENCES
    return _told(_undo(machine, applies, to=to, force=force), json=json)


def _undo(machine: Machine, applies: tuple[PastApply, ...], *, to: int | None, force: bool) -> tuple[Undone, ...]:
    from nfvhost import engine

    if not applies:
        return ()
    return engine.rollback(machine, to=to, force=force, shown=[one.id for one in applies])


def _tell_diff(applies: tuple[PastApply, ...]) -> None:
    from nfvhost.cli.changes import change_line
    from nfvhost.cli.past import back, name_of

    for one in applies:
        say(f"{name_of(one)} is {one.stage}; before it:")
        for change in reversed(one.changes):
            say(painted(change_line(back(change)), sys.stderr))


def _count(applies: tuple[PastApply, ...]) -> int:
    return sum(len(one.changes) for one in applies)


def _told(undone: tuple[Undone, ...], *, json: bool) -> ExitCode:
    from nfvhost.cli.past import name_of, past_document

    failed = any(one.problems for one in undone)
    if json:
        from nfvhost.planfile import headed, to_json
        from nfvhost.planfile.structure import plain

        documents = [
            {
                **{key: past_document(one.apply)[key] for key in ("id", "time", "plan", "profile", "changes")},
                "outcome": "rollback-failed" if one.problems else "rolled-back",
                "problems": plain(one.problems),
            }
            for one in undone
        ]
        emit(to_json(headed("Rollback", {"applies": documents})))
    for one in undone:
        if not json:
            state = "is not wholly rolled back" if one.problems else "is rolled back"
            emit(f"{name_of(one.apply)} {state}\n")
        for problem in one.problems:
            say(f"error: {problem}")
    if not undone:
        say("there is nothing to roll back")
    return ExitCode.ROLLBACK_FAILED if failed else ExitCode.OK
