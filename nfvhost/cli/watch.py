"""`nfvhost watch`: keep what Open vSwitch forgets while it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption
from nfvhost.cli.terminal import emit
from nfvhost.errors import ExitCode

HELP = """Bring back the segments of SRv6 tunnels that Open vSwitch forgets, until Ctrl-C.

Looks at what would really be sent, once a second, and tells each tunnel that was brought back; with --json one document
on each line. Counts are in /run/nfvhost/watch.json. The unit nfvhost-watch.service runs it where a plan has such
tunnels. Needs no plan: only tunnels that nfvhost has made are touched.

\b
Examples:
  nfvhost watch
  nfvhost watch --interval 0.5 --json
"""


@ending
def watch(
    interval: Annotated[float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="Look so often.")] = 1.0,
    ovsdb: OvsdbOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Look again and again."""
    from nfvhost.access.clock import sleep
    from nfvhost.cli.past import machine_of
    from nfvhost.engine.root import demand_root
    from nfvhost.engine.watch import read_rearms, rearm_lost, write_rearms
    from nfvhost.errors import NfvhostError

    machine = machine_of(ovsdb)
    demand_root(machine, verb="watch")
    rearms = read_rearms(machine)
    write_rearms(machine, rearms)
    told = ""
    try:
        while True:
            try:
                lost = rearm_lost(machine)
                problem = ""
            except NfvhostError as error:
                # A daemon that is being restarted ends no watch.
                lost, problem = (), str(error)
            for tunnel in lost:
                rearms[tunnel] = rearms.get(tunnel, 0) + 1
            if lost:
                write_rearms(machine, rearms)
            if lost or (problem and problem != told):
                _tell(lost, problem, json=json)
            told = problem
            sleep(interval)
    except KeyboardInterrupt:
        return ExitCode.OK


def _tell(tunnels: tuple[str, ...], problem: str, *, json: bool) -> None:
    from nfvhost.access.clock import utc

    if json:
        from json import dumps

        from nfvhost.planfile import headed

        body = {"time": utc(), "tunnels": list(tunnels), "problem": problem or None}
        emit(f"{dumps(headed('WatchChange', body), sort_keys=True)}\n")
    else:
        emit(f"{utc()}  {problem or 'segments brought back: ' + ', '.join(tunnels)}\n")
    sys.stdout.flush()
