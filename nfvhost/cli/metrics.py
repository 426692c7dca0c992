"""`nfvhost metrics`: numbers of this host for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption, OvsdbOption
from nfvhost.cli.terminal import emit, say
from nfvhost.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from nfvhost.access.root import Root
    from nfvhost.metrics import DriftWatch, Exporter

HELP = """Tell Prometheus of PMD threads, queues, ports, drops, flows, hugepages, VFs, tunnels and drift.

Serves them by HTTP until Ctrl-C; or writes a file for the textfile collector of node_exporter, again and again; or,
with --once, prints or writes them once. A switch that is gone or hangs is told as nfvhost_up 0, and ends nothing.
Needs root to see the switch, and prometheus_client: pip install 'nfvhost[metrics]'.

\b
Examples:
  nfvhost metrics
  nfvhost metrics plan.yaml --listen 192.0.2.1:19100
  nfvhost metrics --textfile /var/lib/prometheus/node-exporter/nfvhost.prom
  nfvhost metrics --once
"""

LISTEN: Final = "127.0.0.1:19100"


@ending
def metrics(  # noqa: PLR0913, PLR0917 - an option each
    plan: Annotated[
        str | None, typer.Argument(metavar="[PLAN]", help="Count what is not as this plan says, too.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="ADDRESS:PORT", help=f"Where to serve. [{LISTEN}]")
    ] = None,
    textfile: Annotated[
        str | None, typer.Option("--textfile", metavar="FILE", help="Write this file instead; its name ends in .prom.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=1, help="Write the file so often. [15]")
    ] = 15.0,
    drift_interval: Annotated[
        float, typer.Option("--drift-interval", metavar="SECONDS", min=1, help="Check the plan so often. [300]")
    ] = 300.0,
    ports: Annotated[
        int, typer.Option("--ports", metavar="N", min=0, help="Tell of so many ports, NICs before others. [512]")
    ] = 512,
    ovsdb: OvsdbOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Serve, write or print the numbers."""
    from nfvhost.access.archive import open_root
    from nfvhost.access.clock import sleep
    from nfvhost.access.machine import Machine
    from nfvhost.metrics import Exporter, serve, write_textfile
    from nfvhost.metrics.exporter import demand_library

    _demand_one_way(listen, textfile, once=once, json=json)
    if not json:
        demand_library()
    root = open_root()
    address = Machine(root=root, ovsdb=ovsdb).ovsdb_address
    drift = _drift(plan, ovsdb, drift_interval)
    exporter = Exporter(root, ovsdb=address, most_ports=ports, drift=None if drift is None else lambda: drift.last)
    if once or json:
        if drift is not None:
            drift.look()
        _once(exporter, root, textfile, json=json)
        return ExitCode.OK
    if drift is not None:
        drift.start()
    try:
        if textfile is None:
            say(f"serving {serve(exporter, listen or LISTEN)}")
        while True:
            if textfile is not None:
                write_textfile(exporter, root, textfile)
            sleep(interval)
    except KeyboardInterrupt:
        return ExitCode.OK


def _demand_one_way(listen: str | None, textfile: str | None, *, once: bool, json: bool) -> None:
    """Raise UsageError where the options contradict each other."""
    if listen is not None and (textfile is not None or once or json):
        raise UsageError("--listen serves until it is ended", hint="leave out --textfile, --once and --json")
    if json and textfile is not None:
        raise UsageError("--json goes to standard output", hint="leave out --textfile")


def _once(exporter: Exporter, root: Root, textfile: str | None, *, json: bool) -> None:
    from nfvhost.metrics import exposition, write_textfile

    if json:
        from nfvhost.planfile import headed, to_json

        emit(to_json(headed("Metrics", {"metrics": _grouped(exporter)})))
    elif textfile is not None:
        write_textfile(exporter, root, textfile)
    else:
        emit(exposition(exporter))


def _grouped(exporter: Exporter) -> dict[str, list[dict[str, object]]]:
    """Samples by metric."""
    from nfvhost.metrics import METRICS

    labels_of = {one.name: one.labels for one in METRICS}
    found: dict[str, list[dict[str, object]]] = {}
    for name, labels, value in exporter.samples():
        full = f"nfvhost_{name}"
        sample = {"labels": dict(zip(labels_of[full], labels, strict=True)), "value": float(value)}
        found.setdefault(full, []).append(sample)
    return found


def _drift(plan: str | None, ovsdb: str | None, interval_s: float) -> DriftWatch | None:
    """What counts the drift from a plan; None without one."""
    if plan is None:
        return None
    from nfvhost import engine
    from nfvhost.cli.subject import open_subject
    from nfvhost.metrics import DriftWatch

    subject = open_subject(plan, ovsdb=ovsdb)
    return DriftWatch(lambda: len(engine.verify(subject.plan, subject.machine)), interval_s=interval_s)
