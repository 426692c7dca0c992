"""Who may change this machine."""

from __future__ import annotations

import os

from nfvhost.access.machine import Machine
from nfvhost.errors import PreconditionError


def demand_root(machine: Machine, *, verb: str) -> None:
    """Nothing where this user may change the machine; PreconditionError where only root may.

    A private database belongs to whoever can open it.
    """
    if machine.root.live and not machine.private and os.geteuid() != 0:
        raise PreconditionError(
            "changes this machine, which root alone may do", where=f"nfvhost {verb}", hint=f"sudo nfvhost {verb} …"
        )
