"""`nfvhost top`: the switch, live."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption
from nfvhost.cli.terminal import emit
from nfvhost.errors import ExitCode

if TYPE_CHECKING:
    from nfvhost.access.root import Root
    from nfvhost.metrics import Look

HELP = """Show what the switch does right now: PMD threads, receive queues, ports, drops, each per second.

Until Ctrl-C; without a terminal, or with --once or --json, one picture of one interval. Needs root.

\b
Examples:
  nfvhost top
  nfvhost top --interval 5
  nfvhost top --json | jq '.pmds[].busyPercent'
"""


@ending
def top(
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.2, help="Look again so often. [2]")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one interval, and end.")] = False,
    ovsdb: OvsdbOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Show it."""
    from nfvhost.access.archive import open_root
    from nfvhost.access.clock import sleep
    from nfvhost.access.machine import Machine
    from nfvhost.metrics import look
    from nfvhost.metrics import top as between

    root = open_root()
    address = Machine(root=root, ovsdb=ovsdb).ovsdb_address
    first = look(root, ovsdb=address)
    if not (once or json) and sys.stdout.isatty():
        _live(root, address, first, interval)
        return ExitCode.OK
    sleep(interval)
    seen = between(first, look(root, ovsdb=address))
    if json:
        from nfvhost.planfile import headed, to_json
        from nfvhost.planfile.structure import plain

        emit(to_json(headed("Top", plain(seen))))
    else:
        from nfvhost.metrics.screen import top_screen
        from nfvhost.render import print_screen

        print_screen(top_screen(seen), file=sys.stdout)
    return ExitCode.OK


def _live(root: Root, ovsdb: str, first: Look, interval_s: float) -> None:
    """Nothing, once Ctrl-C ends it."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from nfvhost.access.clock import sleep
    from nfvhost.errors import NfvhostError
    from nfvhost.metrics import look
    from nfvhost.metrics import top as between
    from nfvhost.metrics.screen import top_screen
    from nfvhost.render.text import Harmless

    console = Console(highlight=False, markup=False, emoji=False)
    before: Look | None = first
    with Live(Harmless(top_screen(between(first, first))), console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                sleep(interval_s)
                try:
                    now = look(root, ovsdb=ovsdb)
                except NfvhostError as error:
                    # It may be back at the next look.
                    before = None
                    live.update(Harmless(Text(str(error))), refresh=True)
                    continue
                live.update(Harmless(top_screen(between(before or now, now))), refresh=True)
                before = now
        except KeyboardInterrupt:
            return
