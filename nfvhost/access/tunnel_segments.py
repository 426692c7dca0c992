"""The segments that ovs-vswitchd itself puts into the packets of an SRv6 port, whatever its database says."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access.unixctl import RefusedError, ask

# lib/odp-util.c, format_odp_tnl_push_header: "srv6(segments_left=1,segs(fc00:e1::1,fc00:e2::1))"
_SEGMENTS: Final = re.compile(r"srv6\(segments_left=\d+,segs\(([0-9a-f:.,]+)\)\)")
_IPV6: Final = "dl_type=0x86dd"


def sent_segments(control: str, bridge: str, ofport: int, *, send: bool = False) -> tuple[str, ...] | None:
    """The segments, first one first, of a packet that would leave by this port now.

    Open vSwitch is asked to trace one (ofproto/trace-packet-out): nothing is sent and no flow is made, unless `send`,
    which makes it look for the Ethernet address of the next hop. None where it cannot say: it knows no way to the
    first segment, or not that address. DaemonError as of `ask`.
    """
    generate = ("-generate",) if send else ()
    try:
        text = ask(control, "ofproto/trace-packet-out", bridge, f"in_port=LOCAL,{_IPV6}", *generate, f"output:{ofport}")
    except RefusedError:
        return None
    found = _SEGMENTS.search(text)
    return None if found is None else tuple(found[1].split(","))
