"""`nfvhost confirm`: keep what was applied."""

from __future__ import annotations

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption, StateDirOption
from nfvhost.cli.terminal import emit, say

HELP = """Keep what `apply --confirm-within` has applied; without this it is rolled back.

Ends with 5 where it is too late.

\b
Example:
  nfvhost confirm
"""


@ending
def confirm(ovsdb: OvsdbOption = None, state_dir: StateDirOption = None, json: JsonOption = False) -> None:
    """Confirm the last apply."""
    from nfvhost import engine
    from nfvhost.cli.past import machine_of, name_of

    kept = engine.confirm(machine_of(ovsdb, state_dir))
    if json:
        from nfvhost.planfile import headed, to_json

        emit(to_json(headed("Confirmation", {"apply": kept.id if kept is not None else None})))
    say(f"{name_of(kept)} stays" if kept is not None else "nothing waits for a confirmation")
