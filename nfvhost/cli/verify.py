"""`nfvhost verify`: whether the machine is what the plan says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption, PlanArgument
from nfvhost.cli.terminal import emit, painted, say
from nfvhost.errors import ExitCode

if TYPE_CHECKING:
    from nfvhost.cli.subject import Subject
    from nfvhost.errors import Problem
    from nfvhost.model.report import Drift

HELP = """Read the machine and say where it is not what the plan says, one line each.

Looks at what really runs (threads, queues, ports), not just at what is configured. Ends with 10 where something is
not so, with 20 where nothing but a reboot is missing. With --watch it looks again and again, and tells what changes
since, until Ctrl-C; with --json one document on each line then.

\b
Examples:
  nfvhost verify plan.yaml
  nfvhost verify plan.yaml --json
  nfvhost verify plan.yaml --watch 30
"""

WATCH: Final = "--watch"
WATCH_S: Final = 10.0


@ending
def verify(
    plan: PlanArgument,
    watch: Annotated[
        float | None,
        typer.Option(WATCH, metavar="[SECONDS]", min=0.1, help=f"Look again so often. [{WATCH_S:g}]"),
    ] = None,
    ovsdb: OvsdbOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Tell the drift."""
    from nfvhost.cli.past import tell_half_done
    from nfvhost.cli.subject import open_subject

    subject = open_subject(plan, ovsdb=ovsdb)
    tell_half_done(subject.machine)
    return _once(subject, json=json) if watch is None else _watch(subject, watch, json=json)


def _once(subject: Subject, *, json: bool) -> ExitCode:
    from dataclasses import replace

    from nfvhost import engine
    from nfvhost.access.kept import KeptRoot
    from nfvhost.access.ovsdb import kept_connections
    from nfvhost.cli.changes import drift_line
    from nfvhost.cli.past import note_settled

    # One look at the machine serves both.
    machine = replace(subject.machine, root=KeptRoot(subject.machine.root))
    with kept_connections():
        drifts = engine.verify(subject.plan, machine, subject.host)
        findings = engine.findings(subject.plan, machine)
    note_settled(subject, drifts)
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


def _watch(subject: Subject, interval_s: float, *, json: bool) -> ExitCode:
    """The code of what was seen last, once Ctrl-C ends it."""
    from nfvhost.access.clock import sleep

    known: tuple[Drift, ...] | None = None
    lost: tuple[Problem, ...] = ()
    try:
        while True:
            before, was_lost = known, lost
            drifts, problems = _look(subject)
            # Kept before it is told: a reader who ends the watch on a line gets that line's code.
            known, lost = before if problems else drifts, problems
            if problems and problems != was_lost:
                _tell_changes((), (), problems, json=json)
            elif not problems and (before is None or was_lost or set(drifts) != set(before)):
                _tell_changes(before or (), drifts, (), json=json)
            sleep(interval_s)
    except KeyboardInterrupt:
        return ExitCode.UNSAFE if lost else _exit_code(known or ())


def _look(subject: Subject) -> tuple[tuple[Drift, ...], tuple[Problem, ...]]:
    """What is not as planned now, and why it cannot be said: a daemon that is being restarted ends no watch."""
    from nfvhost import engine
    from nfvhost.errors import NfvhostError

    try:
        return engine.verify(subject.plan, subject.machine), ()
    except NfvhostError as error:
        return (), error.problems


def _tell_changes(
    known: tuple[Drift, ...], drifts: tuple[Drift, ...], problems: tuple[Problem, ...], *, json: bool
) -> None:
    from nfvhost.access.clock import utc
    from nfvhost.cli.changes import drift_line

    gone = tuple(drift for drift in known if drift not in drifts)
    came = tuple(drift for drift in drifts if drift not in known)
    if json:
        _emit_line(utc(), came, gone, problems)
    else:
        for drift in gone:
            emit(f"{utc()}  as planned: {drift.key}\n")
        for drift in came:
            emit(f"{utc()}  {painted(drift_line(drift), sys.stdout)}\n")
        for problem in problems:
            emit(f"{utc()}  error: {problem}\n")
        if not drifts and not problems:
            emit(f"{utc()}  all as planned\n")
    sys.stdout.flush()


def _emit_line(time: str, came: tuple[Drift, ...], gone: tuple[Drift, ...], problems: tuple[Problem, ...]) -> None:
    from nfvhost.planfile import headed, to_line
    from nfvhost.planfile.structure import plain

    body = {
        "time": time,
        "appeared": plain(tuple(came)),
        "gone": plain(tuple(gone)),
        "problems": plain(tuple(problems)),
    }
    emit(to_line(headed("VerificationChange", body)))


def _exit_code(drifts: tuple[Drift, ...]) -> ExitCode:
    from nfvhost.model.change import Activation

    if not drifts:
        return ExitCode.OK
    waits = all(drift.pending is Activation.REBOOT for drift in drifts)
    return ExitCode.REBOOT_PENDING if waits else ExitCode.DIFFERENCES
