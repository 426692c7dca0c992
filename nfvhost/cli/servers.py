"""`nfvhost servers`: what nfvhost has launched."""

from __future__ import annotations

from nfvhost.cli.ending import ending
from nfvhost.cli.options import CloudOption, JsonOption
from nfvhost.cli.terminal import emit, say

HELP = """List the servers that nfvhost has launched, with their power state and fault; others are not shown.

\b
Example:
  nfvhost servers --cloud lab
"""


@ending
def servers(cloud: CloudOption = None, json: JsonOption = False) -> None:
    """List."""
    from nfvhost.openstack.connect import connect
    from nfvhost.openstack.servers import listed, servers_of

    found = tuple(map(listed, servers_of(connect(cloud))))
    if json:
        from nfvhost.planfile import headed, to_json
        from nfvhost.planfile.structure import plain

        emit(to_json(headed("Servers", {"servers": plain(found)})))
        return
    if not found:
        say("no servers of nfvhost's")
        return
    from nfvhost.cli.tables import table

    rows = [("SERVER", "VNF", "STATUS", "POWER", "HOST", "FLAVOR")]
    rows += [(one.name, one.vnf, one.status, one.power, one.host or "-", one.flavor) for one in found]
    emit(table(rows))
    for one in found:
        if one.fault is not None:
            emit(f"{one.name}: {one.fault}\n")
