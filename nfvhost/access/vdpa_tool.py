"""iproute2's `vdpa`."""

from __future__ import annotations

import json
from typing import Final

from nfvhost.access.command import CommandError, run

_TIMEOUT_S: Final = 5.0


def management_devices() -> tuple[str, ...] | None:
    """Names of the devices that can make vDPA devices, such as `pci/0000:10:00.0`; None where nobody could ask.

    Source: `vdpa -j mgmtdev show`, vdpa-mgmtdev(8).
    """
    try:
        done = run(["vdpa", "-j", "mgmtdev", "show"], timeout_s=_TIMEOUT_S)
        shown = json.loads(done.stdout)["mgmtdev"] if done.code == 0 else None
    except (CommandError, ValueError, KeyError, TypeError):
        return None
    return tuple(sorted(shown)) if isinstance(shown, dict) else None
