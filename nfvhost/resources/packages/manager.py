"""The package manager of a machine."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

from nfvhost.access.command import CommandError
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.resources.packages import apt, dnf
from nfvhost.resources.packages.inventory import Departure, Inventory, Need
from nfvhost.resources.packages.needs import Needs
from nfvhost.resources.packages.state import Build, Forecast, Wanted


class Manager(Protocol):
    """What the modules apt and dnf have in common; their functions say what they do."""

    @property
    def SWITCHES(self) -> tuple[str, ...]:  # noqa: N802 - a constant of a module
        """Packages that hold an ovs-vswitchd; the first one is the build with DPDK."""
        ...

    @property
    def SERVICE(self) -> str:  # noqa: N802 - as above
        """The unit of Open vSwitch."""
        ...

    @property
    def ALTERNATIVES(self) -> str:  # noqa: N802 - as above
        """The administrative folder of the alternatives system."""
        ...

    @property
    def KIN(self) -> tuple[str, ...]:  # noqa: N802 - as above
        """Dependencies whose settings may be left when they go."""
        ...

    @property
    def SOURCES_HINT(self) -> str:  # noqa: N802 - as above
        """Where a package may come from that nobody knows."""
        ...

    # What each function does is said in the modules.
    def is_here(self, root: Root, /) -> bool: ...
    def build_with_dpdk(self, root: Root, /) -> Build: ...
    def read_inventory(self, machine: Machine, /, *, whole: bool = False) -> Inventory: ...
    def needs_by_name(self, root: Root, needs: Needs, /) -> tuple[Need, ...]: ...
    def find_wanted(
        self, machine: Machine, inventory: Inventory, needs: tuple[Need, ...], /
    ) -> tuple[tuple[Wanted, ...], bool]: ...
    def forecast(self, machine: Machine, names: Collection[str], /) -> Forecast | None: ...
    def update(self, machine: Machine, /) -> str: ...
    def finish_interrupted(self, machine: Machine, /) -> None: ...
    def install(self, machine: Machine, names: Collection[str], /) -> None: ...
    def is_stale(self, error: CommandError, /) -> bool: ...
    def manual_marks(self, machine: Machine, inventory: Inventory, /) -> frozenset[str]: ...
    def depart(self, machine: Machine, leaving: Departure, /) -> None: ...


MANAGERS: Final[dict[str, Manager]] = {"apt": apt, "dnf": dnf}


def manager_of(root: Root) -> str | None:
    """The name of the manager that keeps the packages of this machine; None where neither does."""
    return next((name for name, manager in MANAGERS.items() if manager.is_here(root)), None)
