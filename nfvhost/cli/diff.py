"""`nfvhost diff`: what an apply would change."""

from __future__ import annotations

import sys

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption, PlanArgument
from nfvhost.cli.terminal import emit, painted, say
from nfvhost.errors import ExitCode

HELP = """Show what `apply` would change, and change nothing.

+ is made, - is removed, ~ is changed. Ends with 10 where something would change, with 0 where nothing would.

\b
Examples:
  nfvhost diff plan.yaml
  nfvhost diff plan.yaml --ovsdb unix:/run/nfvhost/sandbox/db.sock --json
"""


@ending
def diff(plan: PlanArgument, ovsdb: OvsdbOption = None, json: JsonOption = False) -> ExitCode:
    """Tell the differences."""
    from nfvhost import engine
    from nfvhost.cli.changes import change_line
    from nfvhost.cli.past import tell_half_done
    from nfvhost.cli.subject import open_subject

    subject = open_subject(plan, ovsdb=ovsdb)
    tell_half_done(subject.machine)
    changes = engine.diff(subject.plan, subject.machine)
    if json:
        from nfvhost.planfile import diff_document, to_json

        emit(to_json(diff_document(changes)))
    else:
        for change in changes:
            emit(f"{painted(change_line(change), sys.stdout)}\n")
        say(f"{len(changes)} to change" if changes else "nothing to change")
    return ExitCode.DIFFERENCES if changes else ExitCode.OK
