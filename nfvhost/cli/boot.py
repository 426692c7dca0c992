"""`nfvhost boot`: make again at a boot what it has forgotten; the units that `apply` writes run it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption, PlanArgument, StateDirOption
from nfvhost.cli.terminal import emit, say
from nfvhost.errors import ExitCode

if TYPE_CHECKING:
    from nfvhost.engine import Booted
    from nfvhost.model.plan import Plan

HELP = """Make what a boot forgets, and what has waited for it. The units nfvhost-devices and nfvhost run it.

Each change by itself: one that fails is told (10) and stops no other, nothing is rolled back. An apply that nobody had
confirmed before the reboot is taken back; one that was cut off is told, and nothing is made (5).

\b
Examples:
  nfvhost boot --stage devices /etc/nfvhost/plan.json
  nfvhost boot /etc/nfvhost/plan.json
"""


@ending
def boot(
    plan: PlanArgument,
    stage: Annotated[
        str | None,
        typer.Option("--stage", metavar="devices|services", help="Before the services, or once Open vSwitch runs."),
    ] = None,
    ovsdb: OvsdbOption = None,
    state_dir: StateDirOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Make it so again."""
    from nfvhost import engine
    from nfvhost.cli.past import machine_of, name_of
    from nfvhost.errors import UsageError

    if stage is not None and stage not in set(engine.BootStage):
        raise UsageError(f"there is no stage {stage}", where="--stage", hint=f"{', '.join(engine.BootStage)}, or none")
    machine = machine_of(ovsdb, state_dir)
    booted = engine.boot(
        machine,
        lambda: _read_plan(plan),
        stage=engine.BootStage(stage) if stage is not None else None,
    )
    for one in booted.undone:
        state = "is not wholly rolled back" if one.problems else "is rolled back"
        say(f"{name_of(one.apply)} {state}: nobody had confirmed it before the reboot")
        if any(change.resource == "kernel_cmdline" for change in one.apply.changes):
            say("the kernel still has the arguments of that apply: reboot once more")
    _print(booted, json=json)
    return _exit_code(booted)


def _read_plan(path: str) -> Plan | None:
    """The plan; None where a rollback took it away."""
    from nfvhost.planfile import load_plan

    return load_plan(path) if os.path.exists(path) else None


def _print(booted: Booted, *, json: bool) -> None:
    from nfvhost.cli.changes import change_line

    if json:
        from nfvhost.planfile import headed, to_json
        from nfvhost.planfile.structure import plain

        body = {name: plain(getattr(booted, name)) for name in ("results", "problems", "pending")}
        emit(to_json(headed("Boot", body)))
    else:
        for result in booted.results:
            detail = f" ({result.detail})" if result.detail else ""
            emit(f"{result.outcome}: {change_line(result.change)}{detail}\n")
    for problem in (*(problem for one in booted.undone for problem in one.problems), *booted.problems):
        say(f"error: {problem}")
    if booted.pending:
        say(f"waits for a reboot: {', '.join(booted.pending)}")
    if not booted.planned:
        say("there is no plan any more: nothing to make")
    elif not booted.results and not booted.problems:
        say("nothing to make; all as planned" if not booted.pending else "nothing to make")


def _exit_code(booted: Booted) -> ExitCode:
    if any(one.problems for one in booted.undone):
        return ExitCode.ROLLBACK_FAILED
    if booted.problems:
        return ExitCode.DIFFERENCES
    return ExitCode.REBOOT_PENDING if booted.pending else ExitCode.OK
