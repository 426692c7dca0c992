"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

HostOption = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="DIR|TAR",
        help="A captured machine: a folder holding sys/ and proc/, or a capture. [this machine]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
SvgOption = Annotated[str | None, typer.Option("--svg", metavar="FILE", help="Draw it into an SVG file as well.")]
OvsdbOption = Annotated[
    str | None,
    typer.Option("--ovsdb", metavar="ADDRESS", help="Database of Open vSwitch, unix:/path/db.sock. [the system's own]"),
]
PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="A plan that `nfvhost plan` wrote.")]
NameOption = Annotated[str, typer.Option("--name", metavar="NAME", help="Which sandbox.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
StateDirOption = Annotated[
    str | None, typer.Option("--state-dir", metavar="DIR", hidden=True, help="Where journals are. [/var/lib/nfvhost]")
]
CloudOption = Annotated[
    str | None,
    typer.Option("--cloud", metavar="NAME", help="A cloud of clouds.yaml. [OS_CLOUD, OS_*]"),
]
