"""What is installed, what runs, and what asking for more would do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nfvhost.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One package that the plan needs."""

    key: str  # as changes name it: librte-net-i40e
    name: str | None  # as the distribution does: librte-net-i40e23; None where its lists do not tell
    installed: bool
    reason: str
    bases: tuple[str, ...]  # what its name begins with: librte-net-igc, librte-net-e1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What installing what is missing would do, as the package manager says beforehand."""

    upgrades: tuple[str, ...]  # "openvswitch-switch 3.1.0-2 to 3.1.0-2+deb12u1"
    removals: tuple[str, ...]
    error: str | None = None  # why it could not be done at all, in the package manager's words


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Which build /usr/sbin/ovs-vswitchd is."""

    target: str  # /etc/alternatives/ovs-vswitchd
    automatic: bool  # chosen by priority, not by a person


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The ovs-vswitchd that has DPDK."""

    program: str
    chosen: bool  # by the alternatives system, among several


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Packages, the chosen build, and the process."""

    manager: str | None  # apt or dnf; None: neither
    wanted: tuple[Wanted, ...]
    lists: bool = True  # the manager knows what it could install; asked for only where something is missing
    forecast: Forecast | None = None  # where something is missing, and all of it is known
    interrupted: bool = False  # a run of dpkg was cut off and left packages half done
    foreign: str | None = None  # an Open vSwitch that came from no package
    alternative: Alternative | None = None
    build: Build | None = None  # the one with DPDK; None where the plan has no Open vSwitch, or no package brought it
    running: str | None = None  # the program of the running ovs-vswitchd
    service: str | None = None  # the unit of Open vSwitch; None where systemd does not run
    enabled: bool = False  # that unit
    present: tuple[str, ...] = ()  # every installed package, for the way back
    residual: tuple[str, ...] = ()  # removed ones whose settings stayed


def forecast_problems(outlook: Forecast) -> Iterator[Problem]:
    """Why what is missing must not be installed."""
    where = "packages"
    if outlook.error is not None:
        yield Problem(what=f"what is missing cannot be installed: {outlook.error}", where=where)
    for upgrade in outlook.upgrades:
        yield Problem(
            what=f"installing what is missing would upgrade {upgrade}",
            where=where,
            hint=f"nfvhost upgrades nothing; upgrade {upgrade.partition(' ')[0]} yourself, at a time of your choice",
        )
    for removal in outlook.removals:
        yield Problem(what=f"installing what is missing would remove {removal}", where=where)
