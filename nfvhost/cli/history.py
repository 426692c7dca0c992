"""`nfvhost history`: the applies of the past."""

from __future__ import annotations

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption, StateDirOption
from nfvhost.cli.terminal import emit, say

HELP = """List what was applied to this machine, the last first: number, time, plan, outcome, changes.

\b
Examples:
  nfvhost history
  nfvhost rollback --to 3
"""


@ending
def history(ovsdb: OvsdbOption = None, state_dir: StateDirOption = None, json: JsonOption = False) -> None:
    """Tell the past."""
    from nfvhost import engine
    from nfvhost.cli.past import machine_of, past_document

    applies = engine.history(machine_of(ovsdb, state_dir))
    if json:
        from nfvhost.planfile import headed, to_json

        emit(to_json(headed("History", {"applies": [past_document(one) for one in applies]})))
        return
    for one in applies:
        begin = one.begin
        waits = f", waits for `nfvhost confirm` ({begin.confirm_within_s} s)" if one.waits_for_confirmation else ""
        rollback = one.last.rollback
        why = f": {rollback.reason}" if rollback is not None else ""
        emit(
            f"{one.id:>4}  {begin.at.utc}  {begin.profile} {begin.plan[:8]}  "
            f"{one.stage}{', reboot pending' if one.pending else ''}, {len(one.changes)} changes{waits}{why}\n"
        )
        for problem in one.problems:
            say(f"      left: {problem}")
    if not applies:
        say("nothing was applied yet")
