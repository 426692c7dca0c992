"""`nfvhost watch`: keep what Open vSwitch forgets while it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption
from nfvhost.cli.terminal import emit
from nfvhost.errors import ExitCode

if TYPE_CHECKING:
    from nfvhost.model.plan import Plan

HELP = """Bring back what Open vSwitch forgets of SRv6 tunnels, until Ctrl-C.

Looks once a second at the segments that would really be sent and, where a plan is given, at the flows that steer
packets into its tunnels. Tells each tunnel and flow that was brought back; with --json one document on each line.
Counts of tunnels are in /run/nfvhost/watch.json. The unit nfvhost-watch.service runs it where a plan has such tunnels.
Only what nfvhost has made is touched.

\b
Examples:
  nfvhost watch
  nfvhost watch /etc/nfvhost/plan.json
  nfvhost watch --interval 0.5 --json
"""


@ending
def watch(
    plan: Annotated[
        str | None, typer.Argument(metavar="[PLAN]", help="Whose flows; read again when it changes.")
    ] = None,
    interval: Annotated[float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="Look so often.")] = 1.0,
    ovsdb: OvsdbOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Look again and again."""
    from nfvhost.access.clock import sleep
    from nfvhost.access.ovsdb import kept_connections
    from nfvhost.cli.past import machine_of
    from nfvhost.engine.root import demand_root
    from nfvhost.engine.watch import read_rearms, rearm_lost, steer_again, write_rearms
    from nfvhost.errors import NfvhostError

    machine = machine_of(ovsdb)
    demand_root(machine, verb="watch")
    plan_file = None if plan is None else _PlanFile(plan)
    rearms = read_rearms(machine)
    write_rearms(machine, rearms)
    told = ""
    try:
        while True:
            lost: tuple[str, ...] = ()
            flows: tuple[str, ...] = ()
            problem = ""
            try:
                with kept_connections():
                    lost = rearm_lost(machine)
                    if plan_file is not None:
                        flows = steer_again(machine, plan_file.read())
            except NfvhostError as error:
                # A daemon that is being restarted ends no watch.
                problem = str(error)
            for tunnel in lost:
                rearms[tunnel] = rearms.get(tunnel, 0) + 1
            if lost:
                write_rearms(machine, rearms)
            if lost or flows or (problem and problem != told):
                _tell(lost, flows, problem, json=json)
            told = problem
            sleep(interval)
    except KeyboardInterrupt:
        return ExitCode.OK


class _PlanFile:
    """A plan that may be written anew at any time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._read: tuple[tuple[int, int, int], Plan] | None = None

    def read(self) -> Plan:
        """The plan as the file says it now; DocumentError where it says none."""
        import os

        from nfvhost.errors import DocumentError
        from nfvhost.planfile import load_plan

        try:
            there = os.stat(self._path)
        except OSError as error:
            raise DocumentError(f"cannot be read: {error.strerror}", where=self._path) from error
        version = (there.st_ino, there.st_mtime_ns, there.st_size)
        if self._read is None or self._read[0] != version:
            self._read = (version, load_plan(self._path))
        return self._read[1]


def _tell(tunnels: tuple[str, ...], flows: tuple[str, ...], problem: str, *, json: bool) -> None:
    from nfvhost.access.clock import utc

    if json:
        from json import dumps

        from nfvhost.planfile import headed

        body = {"time": utc(), "tunnels": list(tunnels), "flows": list(flows), "problem": problem or None}
        emit(f"{dumps(headed('WatchChange', body), sort_keys=True)}\n")
    else:
        for what, names in (("segments", tunnels), ("flows", flows)):
            if names:
                emit(f"{utc()}  {what} brought back: {'; '.join(names)}\n")
        if problem:
            emit(f"{utc()}  {problem}\n")
    sys.stdout.flush()
