"""`nfvhost launch`: VNFs running on an OpenStack, with what they got."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import CloudOption, JsonOption
from nfvhost.cli.terminal import emit, say
from nfvhost.errors import ExitCode

if TYPE_CHECKING:
    from nfvhost.model.server import LaunchedServer

HELP = """Bring VNFs to run: networks, ports, image, flavor and servers are made where they are missing.

A second launch changes nothing; one that was killed is taken up by the next. Where a server does not come to run, its
fault is shown with the cause as Nova, Placement and Neutron tell it, and what was made is removed. Then a table: what
was promised, and what the servers really got. Ends with 10 where the two differ.

\b
Examples:
  nfvhost launch router.yaml
  nfvhost launch router.yaml helper.yaml --plan plan.yaml --cloud lab
  nfvhost launch router.yaml --keep         (what does not run is left to be looked at)
"""


@ending
def launch(
    vnfs: Annotated[list[str], typer.Argument(metavar="VNF…", help="Documents of kind Vnf.")],
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="PLAN", help="Compare with the pools of this plan.")
    ] = None,
    cloud: CloudOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Where a server fails, leave what was made.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="For one server to be built.")
    ] = 300.0,
    at_once: Annotated[
        int, typer.Option("--at-once", metavar="COUNT", min=1, help="Servers that are built at a time.")
    ] = 8,
    json: JsonOption = False,
) -> ExitCode:
    """Launch, and show what the servers got."""
    from nfvhost.openstack.connect import connect
    from nfvhost.openstack.launch import demand_launchable
    from nfvhost.openstack.launch import launch as bring_up
    from nfvhost.planfile import load_plan
    from nfvhost.planfile.vnfs import load_vnf

    wanted = [load_vnf(path) for path in vnfs]
    planned = load_plan(plan) if plan is not None else None
    demand_launchable(wanted, planned)
    servers = bring_up(connect(cloud), wanted, plan=planned, keep=keep, timeout_s=timeout, at_once=at_once, tell=say)
    if json:
        from nfvhost.planfile import headed, to_json
        from nfvhost.planfile.structure import plain

        emit(to_json(headed("Launch", {"servers": plain(servers)})))
    else:
        _show(servers)
    return (
        ExitCode.OK if all(one.agrees is not False for each in servers for one in each.checks) else ExitCode.DIFFERENCES
    )


def _show(servers: tuple[LaunchedServer, ...]) -> None:
    from nfvhost.cli.tables import table

    for at, server in enumerate(servers):
        host = f" on {server.host}" if server.host else ""
        emit(("\n" if at else "") + f"{server.name}  {server.outcome}, running{host}  {server.id}\n")
        rows = [("", "promised", "real", "")]
        rows += [(one.subject, one.planned, one.real, _verdict(one.agrees)) for one in server.checks]
        emit(table(rows, indent=2))


def _verdict(agrees: bool | None) -> str:
    return "?" if agrees is None else "ok" if agrees else "DIFFERS"
