"""`nfvhost doctor`: what is wrong with this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nfvhost.cli.ending import ending
from nfvhost.cli.options import HostOption, JsonOption, OvsdbOption
from nfvhost.cli.terminal import emit, say
from nfvhost.errors import ExitCode

if TYPE_CHECKING:
    from nfvhost.doctor import Diagnosis

HELP = """Find the known failures of an NFV host on this machine, or on a captured one, with no plan at hand.

Changes nothing and needs no root, which sees more. A rule that lacks its evidence says nothing; how many did is told.
Ends with 10 where something is an error or a warning.

\b
Examples:
  sudo nfvhost doctor
  nfvhost doctor --host host.tar.xz
  nfvhost doctor --json | jq '.findings[] | select(.severity == "error")'
"""


@ending
def doctor(host: HostOption = None, ovsdb: OvsdbOption = None, json: JsonOption = False) -> ExitCode:
    """Tell what was found."""
    from nfvhost.access.archive import open_root
    from nfvhost.doctor import diagnose, survey

    diagnosis = diagnose(survey(open_root(host), ovsdb=ovsdb))
    if json:
        from nfvhost.planfile import headed, to_json
        from nfvhost.planfile.structure import plain

        emit(to_json(headed("Diagnosis", plain(diagnosis))))
    else:
        _tell(diagnosis)
    return ExitCode.OK if diagnosis.healthy else ExitCode.DIFFERENCES


def _tell(diagnosis: Diagnosis) -> None:
    for found in diagnosis.findings:
        emit(f"{found.severity}: {found.evidence} [{found.rule}]\n")
        emit(f"    why:  {found.why}\n    hint: {found.hint}\n")
    by_reason: dict[str, list[str]] = {}
    for one in diagnosis.unlooked:
        by_reason.setdefault(one.lacks, []).append(one.rule)
    told = len(diagnosis.findings)
    say(f"{told or 'nothing'} found by {diagnosis.rules} rules; {len(diagnosis.unlooked)} could not look")
    for lacks, rules in by_reason.items():
        say(f"  {lacks}: {', '.join(rules)}")
