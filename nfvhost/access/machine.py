"""The doors that a resource gets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nfvhost.access import command
from nfvhost.access.command import Completed
from nfvhost.access.kernel_links import KernelLinks, Netlink
from nfvhost.access.root import Root
from nfvhost.errors import PreconditionError

if TYPE_CHECKING:
    # The library of Open vSwitch comes with it, which most verbs do without.
    from nfvhost.access.switch_flows import FlowTables
    from nfvhost.access.switch_network import SwitchNetwork

# Where distributions put it (ovs-ctl --help, OVS_RUNDIR).
SYSTEM_OVSDB: Final = "unix:/run/openvswitch/db.sock"
# FHS 3.0, 5.8: state of one program, which outlives a reboot.
SYSTEM_STATE: Final = "/var/lib/nfvhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine to be changed: its files, its commands, and the Open vSwitch database that stands for it."""

    root: Root
    ovsdb: str | None = None  # "unix:/path/db.sock"; None: the system's
    programs: str | None = None  # the only folder that commands are taken from; None: the system's own
    state_dir: str | None = None  # where journals are kept; None: the system's, or next to a private database
    kernel_links: KernelLinks | None = None  # VFs, links, vDPA; None: the running kernel's, where the tree is its own
    switch_network: SwitchNetwork | None = None  # around ovs-vswitchd; None: around the one that runs on this machine
    flow_tables: FlowTables | None = None  # of ovs-vswitchd; None: of the one that runs on this machine

    @property
    def links(self) -> KernelLinks:
        """The door to the kernel's network devices; PreconditionError on a tree that has no kernel."""
        if self.kernel_links is not None:
            return self.kernel_links
        if not self.root.live:
            raise PreconditionError("netlink is this machine's kernel, and the tree is not this machine's")
        return Netlink()

    @property
    def ovsdb_address(self) -> str:
        """The address of the database, the system's own where nobody named another."""
        return self.ovsdb or SYSTEM_OVSDB

    @property
    def private(self) -> bool:
        """Whether the database is another than the system's: a sandbox, which goes with its folder."""
        # /var/run/openvswitch/db.sock is the system's as well.
        return _place(self.ovsdb_address) != _place(SYSTEM_OVSDB)

    @property
    def state_folder(self) -> str:
        """The folder of what nfvhost has to remember of this machine."""
        if self.state_dir is not None:
            return self.state_dir
        if self.private:
            return f"{os.path.dirname(_place(self.ovsdb_address))}/nfvhost"
        return SYSTEM_STATE

    def find(self, program: str) -> str | None:
        """The path of a command of this machine; None where it has none."""
        if self.programs is None and not self.root.live:
            return None
        return command.find(program, folder=self.programs)

    def check(self, argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None) -> Completed:
        """What the command said; CommandError where it is missing, late, or ends with anything but 0.

        `env` is added to the environment of this process.
        PreconditionError on a tree without commands of its own: those of the system would change the running machine.
        """
        if self.programs is None and not self.root.live:
            raise PreconditionError(f"{argv[0]} would run on this machine, and the tree is not this machine's")
        return command.check(argv, timeout_s=timeout_s, env=env, folder=self.programs)


def _place(address: str) -> str:
    return os.path.realpath(address.removeprefix("unix:"))
