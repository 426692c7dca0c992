"""The command `nfvhost`."""

from __future__ import annotations

import gc
import signal
import sys
from typing import Annotated, Final

import typer

from nfvhost import __version__
from nfvhost.cli import (
    apply,
    boot,
    capture,
    confirm,
    destroy,
    diff,
    doctor,
    history,
    inspect,
    launch,
    metrics,
    plan,
    rollback,
    servers,
    top,
    verify,
    watch,
)
from nfvhost.cli.bench import bench
from nfvhost.cli.ending import DEBUG, die_of, stdout_failed
from nfvhost.cli.flavor import flavor
from nfvhost.cli.sandbox import sandbox
from nfvhost.cli.terminal import StdoutError, emit, open_streams
from nfvhost.cli.tunnel import tunnel

HELP: Final = """Turn a server into an NFV host: look, plan, explain, apply, verify.

\b
  nfvhost inspect             what is in this box
  nfvhost plan                decide; writes plan.yaml and says why
  nfvhost diff plan.yaml      what would change
  nfvhost apply plan.yaml     change it, verify it, or put it back
  nfvhost verify plan.yaml    is it still so?
  nfvhost rollback            back to what was there before
  nfvhost launch vnf.yaml     bring a VNF to run on an OpenStack
  nfvhost doctor              what is wrong here, with no plan at hand
  nfvhost bench run           what it forwards without loss
  nfvhost top                 what the switch does right now
  nfvhost metrics             the same for Prometheus

\b
Exit codes: 0 done or nothing to do, 1 bug, 2 usage, 3 bad document, 4 stale plan,
5 unsafe or something missing, 6 failed and rolled back, 7 failed and not fully
rolled back, 10 differences, 20 reboot pending.
"""
_DEBUG: Final = "--debug"
# So many objects more than were freed before Python looks for cycles among them.
_GARBAGE: Final = 50_000
# What typer makes of Ctrl-C before a verb has begun.
_INTERRUPTED: Final = 130

app = typer.Typer(
    help=HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb, summary, text in (
    (inspect.inspect, "Show what is in this machine.", inspect.HELP),
    (capture.capture, "Write that into a file, to plan it elsewhere.", capture.HELP),
    (plan.plan, "Decide who gets which core, page and port.", plan.HELP),
    (diff.diff, "Show what apply would change.", diff.HELP),
    (apply.apply, "Make the machine what the plan says.", apply.HELP),
    (verify.verify, "Say where it is not what the plan says.", verify.HELP),
    (watch.watch, "Keep what Open vSwitch forgets.", watch.HELP),
    (rollback.rollback, "Put the machine back to what it was.", rollback.HELP),
    (history.history, "List what was applied.", history.HELP),
    (confirm.confirm, "Keep what was applied to be confirmed.", confirm.HELP),
    (launch.launch, "Bring VNFs to run on an OpenStack.", launch.HELP),
    (servers.servers, "List the servers that were launched.", servers.HELP),
    (destroy.destroy, "Remove VNFs and all that was made for them.", destroy.HELP),
    (doctor.doctor, "Find the known failures of an NFV host.", doctor.HELP),
    (top.top, "Show what the switch does, live.", top.HELP),
    (metrics.metrics, "Tell Prometheus of this host.", metrics.HELP),
):
    app.command(verb.__name__, help=text, short_help=summary)(verb)
# For the units of systemd: a person applies.
app.command("boot", help=boot.HELP, short_help="Make again what a boot has forgotten.", hidden=True)(boot.boot)
app.add_typer(bench, name="bench", short_help="Measure what a plan forwards without loss.")
app.add_typer(flavor, name="flavor", short_help="Nova flavors that fit planned hosts.")
app.add_typer(tunnel, name="tunnel", short_help="The tunnels of a plan.")
app.add_typer(sandbox, name="sandbox", short_help="A private OVS-DPDK to try a plan on.")


def _print_version(wanted: bool) -> None:
    if wanted:
        emit(f"nfvhost {__version__}\n")
        sys.stdout.flush()
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show tracebacks.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Set what holds for all verbs; alone, show the help."""
    DEBUG.set(debug)
    if context.invoked_subcommand is None:
        emit(f"{context.get_help()}\n")
        sys.stdout.flush()


def main() -> None:
    """Run the command line of this process."""
    # Most verbs end before it has found a cycle.
    gc.set_threshold(_GARBAGE)
    open_streams()
    try:
        app(args=_debug_first(_with_seconds(sys.argv[1:])), prog_name="nfvhost")
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            die_of(signal.SIGINT)
        raise
    except StdoutError as error:  # of the help, or of the version
        sys.exit(int(stdout_failed(error)))


def _with_seconds(arguments: list[str]) -> list[str]:
    """The same with a number behind a `--watch` that has none: typer's options have a value always, or never."""
    found: list[str] = []
    for at, one in enumerate(arguments):
        found.append(one)
        following = arguments[at + 1] if at + 1 < len(arguments) else ""
        if one == verify.WATCH and not following.replace(".", "", 1).isdecimal():
            found.append(f"{verify.WATCH_S:g}")
    return found


def _debug_first(arguments: list[str]) -> list[str]:
    """The same with `--debug` in front: whoever adds it, adds it at the end."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if _DEBUG not in options:
        return arguments
    return [_DEBUG, *(one for one in options if one != _DEBUG), *arguments[len(options) :]]
