"""The doors that a resource gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost.access.root import Root

# Where distributions put it (ovs-ctl --help, OVS_RUNDIR).
SYSTEM_OVSDB: Final = "unix:/run/openvswitch/db.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine to be changed: its files, and the Open vSwitch database that stands for it."""

    root: Root
    ovsdb: str | None = None  # "unix:/path/db.sock"; None: the system's

    @property
    def ovsdb_address(self) -> str:
        """The address of the database, the system's own where nobody named another."""
        return self.ovsdb or SYSTEM_OVSDB
