"""`nfvhost destroy`: VNFs gone from an OpenStack, with all that was made for them."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import CloudOption, JsonOption
from nfvhost.cli.terminal import emit, say
from nfvhost.errors import UsageError

HELP = """Remove VNFs: servers, ports, uploaded images, flavor, and networks that nobody is on any more.

Only what carries nfvhost's mark is touched. A VNF is named by its document or by its name; what is gone already is no
error.

\b
Examples:
  nfvhost destroy router.yaml
  nfvhost destroy router helper --cloud lab
  nfvhost destroy --all
"""


@ending
def destroy(
    vnfs: Annotated[list[str] | None, typer.Argument(metavar="VNF…", help="Names, or documents of kind Vnf.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All VNFs that have a server.")] = False,
    cloud: CloudOption = None,
    json: JsonOption = False,
) -> None:
    """Remove."""
    from nfvhost.openstack.connect import connect
    from nfvhost.openstack.launch import remove
    from nfvhost.openstack.marks import vnf_of
    from nfvhost.openstack.servers import servers_of

    if bool(vnfs) == everything:
        raise UsageError("name the VNFs, or say --all", where="destroy", hint="`nfvhost servers` lists them")
    names = [_name(one) for one in vnfs or ()]
    connection = connect(cloud)
    if everything:
        names = sorted({vnf_of(one.metadata) or "" for one in servers_of(connection)})
    gone: list[str] = []
    for name in names:
        gone += remove(connection, name, servers_of(connection, name))
    if json:
        from nfvhost.planfile import headed, to_json

        emit(to_json(headed("Destruction", {"removed": gone})))
        return
    for one in gone:
        say(f"removed {one}")
    if not gone:
        say("nothing of nfvhost's was there")


def _name(word: str) -> str:
    """The VNF of a document, or the word itself."""
    if word.endswith((".yaml", ".yml", ".json")) or os.sep in word:
        from nfvhost.planfile.vnfs import load_vnf

        return load_vnf(word).name
    return word
