"""`nfvhost verify`: whether the machine is what the plan says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption, PlanArgument
from nfvhost.cli.terminal import emit, painted, say
from nfvhost.errors import ExitCode

if TYPE_CHECKING:
    from nfvhost.model.report import Drift

HELP = """Read the machine and say where it is not what the plan says, one line each.

Looks at what really runs (threads, queues, ports), not just at what is configured. Ends with 10 where something is
not so, with 20 where nothing but a reboot is missing.

\b
Examples:
  nfvhost verify plan.yaml
  nfvhost verify plan.yaml --json
"""


@ending
def verify(plan: PlanArgument, ovsdb: OvsdbOption = None, json: JsonOption = False) -> ExitCode:
    """Tell the drift."""
    from nfvhost import engine
    from nfvhost.cli.changes import drift_line
    from nfvhost.cli.past import note_settled, tell_half_done
    from nfvhost.cli.subject import open_subject

    subject = open_subject(plan, ovsdb=ovsdb)
    tell_half_done(subject.machine)
    drifts = engine.verify(subject.plan, subject.machine, subject.host)
    note_settled(subject, drifts)
    findings = engine.findings(subject.plan, subject.machine)
    if json:
        from nfvhost.planfile import to_json, verification_document

        emit(to_json(verification_document(drifts, findings)))
    else:
        for drift in drifts:
            emit(f"{painted(drift_line(drift), sys.stdout)}\n")
            if drift.hint:
                emit(f"    hint: {drift.hint}\n")
        for finding in findings:
            say(f"note: {finding}")
        say(f"{len(drifts)} not as planned" if drifts else "all as planned")
    return _exit_code(drifts)


def _exit_code(drifts: tuple[Drift, ...]) -> ExitCode:
    from nfvhost.model.change import Activation

    if not drifts:
        return ExitCode.OK
    waits = all(drift.pending is Activation.REBOOT for drift in drifts)
    return ExitCode.REBOOT_PENDING if waits else ExitCode.DIFFERENCES
