"""`nfvhost plan`: who gets which core, page and port, and why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import HostOption, JsonOption, SvgOption
from nfvhost.cli.terminal import emit, say
from nfvhost.errors import PreconditionError, UsageError

if TYPE_CHECKING:
    from nfvhost.model.plan import Decision, Plan

HELP = """Decide who gets which core, page and port; write plan.yaml and tell the reasons.

Works as an ordinary user, on a machine without Open vSwitch, and changes nothing.

\b
Examples:
  nfvhost plan
  nfvhost plan --profile throughput --set pmd.cores=2 -o node7.yaml
  nfvhost plan --host host.tar.xz -o -
  nfvhost plan --explain cpus.pmd
"""
DEFAULT_OUTPUT: Final = "plan.yaml"
STDOUT: Final = "-"


@ending
def plan(
    host: HostOption = None,
    profile: Annotated[
        str, typer.Option("--profile", metavar="FILE|NAME", help="What is wished for: a file, or one that comes along.")
    ] = "home",
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the profile; repeatable."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help=f"Where to write the plan; `-` prints it. [{DEFAULT_OUTPUT}]"
        ),
    ] = None,
    json: JsonOption = False,
    explain: Annotated[
        str | None,
        typer.Option("--explain", metavar="SUBJECT", help="Tell one decision in full: cpus.pmd, nics.0000:…"),
    ] = None,
    svg: SvgOption = None,
) -> None:
    """Make a plan."""
    from nfvhost.access.archive import open_root
    from nfvhost.inspect import inspect_host
    from nfvhost.planfile import load_profile
    from nfvhost.planner import make_plan

    if output == STDOUT and (json or explain is not None):
        other = "--json" if json else "--explain"
        raise UsageError("both want stdout", where=f"-o - and {other}", hint="name a file, or leave one of them out")
    wish = load_profile(profile, sets=sets or ())
    found = inspect_host(open_root(host))
    made = make_plan(found, wish)
    told = None if explain is None else _explained(made, explain)
    if svg is not None:
        from nfvhost.planfile.file import write_text
        from nfvhost.render.svg import plan_svg

        write_text(svg, plan_svg(found, made))
        say(f"drawn into {svg}")
    if output == STDOUT:
        from nfvhost.planfile import dump_plan

        emit(dump_plan(made))
        return
    named = output is not None
    if told is None and not json:
        output = output or DEFAULT_OUTPUT
    # Before the screen, which a pager may cut short.
    unwritten = None if output is None else _save(output, made)
    if unwritten is not None and named:
        raise unwritten
    if told is not None:
        _tell(told, json=json)
    elif json:
        from nfvhost.planfile import plan_document, to_json

        emit(to_json(plan_document(made)))
    else:
        from nfvhost.render import print_plan

        print_plan(found, made, file=sys.stdout)
    if unwritten is not None:
        raise unwritten
    if output is not None:
        say(f"written to {output}")


def _save(output: str, made: Plan) -> PreconditionError | None:
    """Why the plan could not be written; where nobody named the file, to be raised after the plan was shown."""
    from nfvhost.planfile import save_plan

    try:
        save_plan(output, made)
    except PreconditionError as error:
        return error
    return None


def _explained(made: Plan, subject: str) -> tuple[Decision, ...]:
    """The decisions whose subject begins with that word, or else has it in it; UsageError where there is none."""
    word = subject.lower()
    found = tuple(one for one in made.decisions if one.subject.lower().startswith(word))
    found = found or tuple(one for one in made.decisions if word in one.subject.lower())
    if not found:
        known = ", ".join(dict.fromkeys(one.subject for one in made.decisions))
        raise UsageError("nothing was decided on that", where=f"--explain {subject}", hint=f"decided was: {known}")
    return found


def _tell(decisions: tuple[Decision, ...], *, json: bool) -> None:
    if json:
        from nfvhost.planfile import explanation_document, to_json

        emit(to_json(explanation_document(decisions)))
        return
    from nfvhost.render import print_decision

    for decision in decisions:
        print_decision(decision, file=sys.stdout)
