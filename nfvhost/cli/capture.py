"""`nfvhost capture`: the facts of this machine as a file."""

from __future__ import annotations

from typing import Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import HostOption, JsonOption
from nfvhost.cli.terminal import emit, say

HELP = """Write what `inspect` reads into FILE, a tar.xz that plans the same elsewhere.

Holds no serial numbers, no host name, no IP addresses, and no MAC addresses unless asked.

\b
Examples:
  nfvhost capture host.tar.xz
  nfvhost plan --host host.tar.xz
"""


@ending
def capture(
    file: Annotated[str, typer.Argument(metavar="FILE.tar.xz", help="Where to write it.")],
    with_macs: Annotated[bool, typer.Option("--with-macs", help="Keep MAC addresses.")] = False,
    host: HostOption = None,
    json: JsonOption = False,
) -> None:
    """Write a capture."""
    from nfvhost.access.archive import open_root
    from nfvhost.inspect.capture import write_capture

    written = write_capture(open_root(host), file, with_macs=with_macs)
    if json:
        from nfvhost.planfile import headed, to_json

        body = {"path": written.path, "files": written.files, "sizeBytes": written.size, "macs": with_macs}
        emit(to_json(headed("Capture", body)))
    else:
        say(f"{written.path}: {written.files} files, {-(-written.size // 1024)} KiB")
