"""`nfvhost sandbox`: a private OVS-DPDK for trying a plan with no risk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, NameOption
from nfvhost.cli.terminal import emit, say
from nfvhost.errors import ExitCode, PreconditionError

if TYPE_CHECKING:
    from nfvhost.sandbox import Sandbox
    from nfvhost.sandbox.probe import ProbeResult

HELP = """A private ovsdb-server and ovs-vswitchd with DPDK in a network namespace of their own. Needs root.

\b
Examples:
  nfvhost sandbox up
  nfvhost plan --profile sandbox -o sandbox.yaml
  nfvhost apply sandbox.yaml --ovsdb unix:…/db.sock     (what `sandbox up` prints)
  nfvhost sandbox probe
  nfvhost sandbox down
"""
sandbox = typer.Typer(help=HELP, rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@sandbox.command("up", help="Start it, or say where it is.\n\n\b\nExample:\n  nfvhost sandbox up --memory 512")
@ending
def up(
    name: NameOption = "default",
    memory: Annotated[
        int | None, typer.Option("--memory", metavar="MIB", min=1, help="Hugepages on each node, in MiB. [1024]")
    ] = None,
    run_dir: Annotated[
        str | None, typer.Option("--run-dir", metavar="DIR", help="Folder of its sockets and logs.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start a sandbox."""
    from nfvhost.sandbox import up as start

    made = start(name=name, memory_mib=memory, run_dir=run_dir)
    if json:
        emit(_json("Sandbox", made))
        return
    say(f"the sandbox {name} {'is up' if made.made else 'was up already'}\n{_description(made)}")
    emit(f"{made.ovsdb}\n")


@sandbox.command("down", help="Stop it and take away all that it made.\n\n\b\nExample:\n  nfvhost sandbox down")
@ending
def down(name: NameOption = "default", json: JsonOption = False) -> None:
    """Remove a sandbox."""
    from nfvhost.sandbox import down as stop

    removed = stop(name)
    if json:
        from nfvhost.planfile import headed, to_json

        emit(to_json(headed("Sandbox", {"name": name, "removed": removed})))
    else:
        say(f"the sandbox {name} {'is gone' if removed else 'was not there'}")


@sandbox.command("status", help="Which sandboxes there are.\n\n\b\nExample:\n  nfvhost sandbox status --json")
@ending
def status(
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="This one alone.")] = None,
    json: JsonOption = False,
) -> ExitCode:
    """Tell of sandboxes; 10 where one of them lacks something."""
    from nfvhost.sandbox import status as read

    found = read(name)
    if json:
        from nfvhost.planfile import headed, to_json
        from nfvhost.planfile.structure import plain

        emit(to_json(headed("Sandboxes", {"sandboxes": plain(found)})))
    for one in found if not json else ():
        if one.sandbox is not None:
            emit(_description(one.sandbox))
        for missing in one.missing:
            emit(f"{one.name}: {missing}\n")
    if not found:
        say("there is no sandbox" if name is None else f"there is no sandbox {name}")
    return ExitCode.DIFFERENCES if any(one.missing for one in found) else ExitCode.OK


@sandbox.command(
    "restart",
    help="Start its switch anew.\n\nDPDK reads some settings at its start alone.\n\n\b\nExample:\n"
    "  nfvhost sandbox restart",
)
@ending
def restart(name: NameOption = "default", json: JsonOption = False) -> None:
    """Restart the switch of a sandbox."""
    from nfvhost.sandbox import restart_switch

    made = restart_switch(name)
    if json:
        emit(_json("Sandbox", made))
        return
    say(f"the switch of the sandbox {name} was started anew")
    emit(_description(made))


@sandbox.command(
    "probe",
    help="Send packets through and count them.\n\nEnds with 10 where one is lost.\n\n\b\nExample:\n"
    "  nfvhost sandbox probe --count 1000",
)
@ending
def probe(
    name: NameOption = "default",
    count: Annotated[int, typer.Option("--count", metavar="N", help="How many.")] = 100,
    size: Annotated[int, typer.Option("--size", metavar="BYTES", help="Length of a frame.")] = 98,
    json: JsonOption = False,
) -> ExitCode:
    """Tell whether packets cross."""
    from nfvhost.sandbox import probe as send
    from nfvhost.sandbox import status as read

    running = next((one.sandbox for one in read(name)), None)
    if running is None:
        raise PreconditionError(f"the sandbox {name} is not up", hint="nfvhost sandbox up")
    result = send(running, count=count, size=size)
    if json:
        emit(_json("Probe", result, passed=result.passed))
    else:
        emit(_probe_text(result))
    return ExitCode.OK if result.passed else ExitCode.DIFFERENCES


def _json(kind: str, value: object, **more: object) -> str:
    from nfvhost.planfile import headed, to_json
    from nfvhost.planfile.structure import plain

    return to_json(headed(kind, {**plain(value), **more}))


def _description(made: Sandbox) -> str:
    return (
        f"{made.name}: OVSDB {made.ovsdb}\n"
        f"  switch       pid {made.switch_pid}, {made.memory_mib} MiB of hugepages a node, namespace {made.netns}\n"
        f"  apply with   nfvhost apply PLAN --ovsdb {made.ovsdb}\n"
        f"  look inside  ovs-appctl -t {made.unixctl} dpif-netdev/pmd-rxq-show\n"
    )


def _probe_text(result: ProbeResult) -> str:
    if not result.sent:
        return "no packet crossed: nothing joins the two ends; is a plan applied?\n"
    lines = [
        f"sent {result.sent}, arrived {result.arrived}, answered {result.answered}, in {result.seconds:.3f} s",
        f"damaged {result.damaged}, repeated {result.repeated}",
        *(f"  port {one.port}: received {one.received}, sent {one.sent}" for one in result.ports),
        *(f"  PMD on CPU {one.cpu}, node {one.node}: received {one.received}" for one in result.pmds),
        "passed" if result.passed else "not passed",
    ]
    return "\n".join(lines) + "\n"
