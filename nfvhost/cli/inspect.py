"""`nfvhost inspect`: what is in this machine."""

from __future__ import annotations

import sys

from nfvhost.cli.ending import ending
from nfvhost.cli.options import HostOption, JsonOption, SvgOption
from nfvhost.cli.terminal import emit, say

HELP = """Show what is in this machine: cores, memory, NICs, IOMMU, Open vSwitch.

Changes nothing, needs no root; what an ordinary user may not read is left out, and a warning says so.

\b
Examples:
  nfvhost inspect
  nfvhost inspect --json | jq '.nics[] | select(.totalVfs)'
  nfvhost inspect --host host.tar.xz --svg host.svg
"""


@ending
def inspect(host: HostOption = None, json: JsonOption = False, svg: SvgOption = None) -> None:
    """Tell the facts of a machine."""
    from nfvhost.access.archive import open_root
    from nfvhost.inspect import inspect_host

    found = inspect_host(open_root(host))
    if svg is not None:
        from nfvhost.planfile.file import write_text
        from nfvhost.render.svg import host_svg

        write_text(svg, host_svg(found))
        say(f"drawn into {svg}")
    if json:
        from nfvhost.planfile import host_document, to_json

        emit(to_json(host_document(found)))
    else:
        from nfvhost.render import print_host

        print_host(found, file=sys.stdout)
