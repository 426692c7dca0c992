"""`nfvhost apply`: make the machine what the plan says."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption, PlanArgument, YesOption
from nfvhost.cli.terminal import confirmed, emit, painted, say
from nfvhost.errors import ExitCode

if TYPE_CHECKING:
    from nfvhost.engine import Step
    from nfvhost.model.change import Change
    from nfvhost.model.report import Report

HELP = """Show the differences, ask, change, verify; or put everything back.

Asks at a terminal only. Elsewhere, without --yes, it changes nothing and ends with 10 where there is something to do.
A second apply changes nothing. Ends with 20 where a reboot is still needed; what can only be made after it is left to
the boot. What a killed apply left half done is told and refused (5) until --resume finishes it, or `nfvhost rollback`
takes it back.

\b
Examples:
  nfvhost apply plan.yaml
  nfvhost apply plan.yaml --yes --json
  nfvhost apply plan.yaml --yes --confirm-within 120
"""

# A longer line would wrap, and stay.
_WIDTH: Final = 79


@ending
def apply(
    plan: PlanArgument,
    yes: YesOption = False,
    confirm_within: Annotated[
        int | None,
        typer.Option(
            "--confirm-within", metavar="SECONDS", min=1, help="Roll back by itself unless `nfvhost confirm` comes."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish an apply of this plan that was cut off.")] = False,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="RESOURCE", help="This resource alone.")] = None,
    skip: Annotated[list[str] | None, typer.Option("--skip", metavar="RESOURCE", help="All but this one.")] = None,
    ovsdb: OvsdbOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Make it so."""
    from nfvhost import engine
    from nfvhost.cli.changes import change_line
    from nfvhost.cli.past import machine_of
    from nfvhost.cli.subject import open_subject
    from nfvhost.engine.root import demand_root

    declined = False

    def agreed(changes: tuple[Change, ...]) -> bool:
        nonlocal declined
        _show(None, None)
        for change in changes:
            say(painted(change_line(change), sys.stderr))
        declined = not yes and not confirmed(f"Apply {len(changes)} changes?")
        return not declined

    demand_root(machine_of(ovsdb), verb="apply")
    subject = open_subject(plan, ovsdb=ovsdb)
    try:
        report = engine.apply(
            subject.plan,
            subject.machine,
            subject.host,
            agreed=agreed,
            progress=_show,
            only=only or (),
            skip=skip or (),
            resume=resume,
            confirm_within_s=confirm_within,
        )
    finally:
        _show(None, None)
    if declined:
        if json:
            _print(report, json=True)
        say("nothing was changed; --yes applies it")
        return ExitCode.DIFFERENCES
    _print(report, json=json)
    if confirm_within is not None and report.results:
        before = ", and before the reboot" if report.pending else ""
        say(f"all of it is rolled back in {confirm_within} s; to keep it: nfvhost confirm{before}")
    return _exit_code(report)


def _show(step: Step | None, change: Change | None) -> None:
    """The step on a line that the next one overwrites; on a terminal alone."""
    if sys.stderr.isatty():
        # A terminal that went away is no reason to stop in the middle.
        with contextlib.suppress(OSError):
            text = "" if step is None else f"{step} {change.key if change is not None else ''}"
            sys.stderr.write(f"\r\x1b[K{text[:_WIDTH]}")
            sys.stderr.flush()


def _print(report: Report, *, json: bool) -> None:
    if json:
        from nfvhost.planfile import report_document, to_json

        emit(to_json(report_document(report)))
        return
    from nfvhost.model.report import Outcome

    for result in report.results:
        if result.outcome is not Outcome.APPLIED:
            detail = f": {result.detail}" if result.detail else ""
            emit(f"{result.outcome}: {result.change.resource}: {result.change.key}{detail}\n")
    counts = Counter(result.outcome for result in report.results)
    if counts:
        done = "; all as planned" if set(counts) == {Outcome.APPLIED} else ""
        emit(", ".join(f"{number} {outcome}" for outcome, number in counts.items()) + f"{done}\n")
    if counts[Outcome.PENDING_RESTART]:
        say("restart Open vSwitch, then see what `nfvhost verify` says")
    if report.pending:
        say(f"waits for a reboot: {', '.join(report.pending)}")
        say("reboot, then see what `nfvhost verify` says")
    for warning in report.warnings:
        say(f"warning: {warning}")
    if not report.results:
        say("nothing to change" if report.pending else "nothing to change; all as planned")


def _exit_code(report: Report) -> ExitCode:
    from nfvhost.model.report import Outcome

    restart = any(result.outcome is Outcome.PENDING_RESTART for result in report.results)
    return ExitCode.REBOOT_PENDING if restart or report.pending else ExitCode.OK
