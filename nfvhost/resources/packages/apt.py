"""Debian's and Ubuntu's packages: what dpkg has, what apt would do, and making it so.

What is installed is read from dpkg's own file, without a command; apt is asked only where something is missing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from nfvhost.access.clock import now_s, sleep
from nfvhost.access.command import CommandError, Completed
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.errors import ApplyError
from nfvhost.resources.packages.inventory import Departure, Inventory, Need, Package, groups
from nfvhost.resources.packages.needs import Needs
from nfvhost.resources.packages.state import Build, Forecast, Wanted, forecast_problems

SWITCHES: Final = ("openvswitch-switch-dpdk", "openvswitch-switch")
SERVICE: Final = "openvswitch-switch.service"
ALTERNATIVES: Final = "/var/lib/dpkg/alternatives"
# Dependencies of Open vSwitch that leave settings behind when they are removed and not purged.
KIN: Final = ("openvswitch-switch", "openvswitch-common", "dpdk")
SOURCES_HINT: Final = "do apt's sources name the release (on Ubuntu with universe)?"
_OPEN_VSWITCH: Final = SWITCHES[0]
_VDPA_TOOL: Final = "iproute2"
# openvswitch-switch-dpdk.postinst
_BINARY: Final = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
_STATUS: Final = "/var/lib/dpkg/status"
_UPDATES: Final = "/var/lib/dpkg/updates"
_LISTS: Final = "/var/lib/apt/lists"
_MARKS: Final = "/var/lib/apt/extended_states"
_EAL: Final = re.compile(r"\blibrte-eal(\d+)\b")
# dpkg(1), PACKAGE STATES: what a run that was cut off leaves.
_HALF: Final = frozenset({"unpacked", "half-configured", "half-installed", "triggers-awaited", "triggers-pending"})
_FIELD: Final = re.compile(rb"(?m)^(Package|Status|Depends|Pre-Depends|Provides): *(.*)$")
# apt-get(8): -s tells what it would do, a line for each package.
_UPGRADE: Final = re.compile(r"(?m)^Inst (\S+) \[([^\]]+)\] \((\S+)")
_REMOVAL: Final = re.compile(r"(?m)^(?:Remv|Purg) (\S+)")
_NETWORK: Final = ("Failed to fetch", "Unable to fetch", "Could not resolve", "404  Not Found")
_ASK_S: Final = 60.0
# As long as another run of apt may take: apt.conf(5), DPkg::Lock::Timeout.
_LOCK_S: Final = 300
_UPDATE_S: Final = 300.0
_INSTALL_S: Final = 1800.0
_INTERVAL_S: Final = 1.0
_LOCKED: Final = ("Could not get lock", "lock was locked by another process")
# Ubuntu's needrestart would restart services of others behind our back.
_ENVIRONMENT: Final = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
_LOCK: Final = f"-oDPkg::Lock::Timeout={_LOCK_S}"
_KEEP_SETTINGS: Final = ("-oDpkg::Options::=--force-confold", "-oDpkg::Options::=--force-confdef")
_INSTALL: Final = ("install", "--no-install-recommends", "--no-upgrade", "--no-remove")


def is_here(root: Root) -> bool:
    """Whether dpkg keeps the packages of this machine."""
    return root.exists(_STATUS)


def build_with_dpdk(root: Root) -> Build:
    """The program that has DPDK, beside the plain one."""
    del root
    return Build(program=_BINARY, chosen=True)


def read_inventory(machine: Machine, *, whole: bool = False) -> Inventory:
    """What dpkg has.

    Where a run was cut off, its journal holds files that are named by numbers (dpkg, lib/dpkg/dbmodify.c).
    """
    del whole
    packages = _packages(machine.root.read_bytes(_STATUS) or b"")
    cut_off = any(name.isdigit() for name in machine.root.list_dir(_UPDATES))
    half = any(one.state in _HALF for one in packages.values())
    return Inventory(packages, interrupted=cut_off or half)


@lru_cache(maxsize=1)
def _packages(status: bytes) -> Mapping[str, Package]:
    packages: dict[str, Package] = {}
    for stanza in status.split(b"\n\n"):
        fields = {name.decode(): value.decode(errors="replace") for name, value in _FIELD.findall(stanza)}
        name, state = fields.get("Package"), fields.get("Status", "").rpartition(" ")[2]
        # Of one that is there for several architectures, the one whose files are.
        if name and not (name in packages and packages[name].present):
            depends = ", ".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))
            packages[name] = Package(name, state, depends, tuple(groups(fields.get("Provides", ""))))
    return MappingProxyType(packages)


def needs_by_name(root: Root, needs: Needs) -> tuple[Need, ...]:
    """The same in Debian's words."""
    del root
    plain = ((_OPEN_VSWITCH, needs.open_vswitch), (_VDPA_TOOL, needs.vdpa_tool))
    return (
        *(Need((name,), reason) for name, reason in plain if reason is not None),
        *(Need(tuple(f"librte-{name}" for name in one.names), one.reason) for one in needs.libraries),
    )


def find_wanted(machine: Machine, inventory: Inventory, needs: tuple[Need, ...]) -> tuple[tuple[Wanted, ...], bool]:
    """Each package that is needed, by the name that this release has for it, and whether apt knows the release.

    The number of DPDK's ABI is what the switch depends on: the installed one, else the one that apt would install.
    """
    switch = inventory.packages.get(_OPEN_VSWITCH)
    eal = _EAL.search(switch.depends) if switch is not None and switch.present else None
    found = tuple(_wanted(need, inventory, abi=eal[1] if eal is not None else None, known=None) for need in needs)
    if all(one.installed for one in found):
        return found, True
    if not any("_Packages" in name for name in machine.root.list_dir(_LISTS)):
        return found, False
    if eal is None and any(need.numbered for need in needs):
        eal = _EAL.search(_said(machine, ("apt-cache", "depends", _OPEN_VSWITCH)))
    prefixes = {"librte-" if need.numbered else need.bases[0] for need in needs}
    known = {name for prefix in sorted(prefixes) for name in _said(machine, ("apt-cache", "pkgnames", prefix)).split()}
    abi = eal[1] if eal is not None else None
    found = tuple(_wanted(need, inventory, abi=abi, known=known) for need in needs)
    # Whoever knows the switch knows all of its DPDK: a driver that is not there is built by nobody.
    known_ones = all(one.name is not None for one, need in zip(found, needs, strict=True) if not need.numbered)
    return found, known_ones and (abi is not None or not any(need.numbered for need in needs))


def _wanted(need: Need, inventory: Inventory, *, abi: str | None, known: set[str] | None) -> Wanted:
    names = need.names(abi)
    there = next((name for name in names if inventory.has(name)), None)
    offered = next((name for name in names if known is None or name in known), None)
    return Wanted(
        key=need.bases[0],
        name=there or offered,
        installed=there is not None,
        reason=need.reason,
        bases=need.bases,
    )


def forecast(machine: Machine, names: Collection[str]) -> Forecast:
    """What installing these would do to what is there; nothing is changed."""
    try:
        text = machine.check(("apt-get", "-s", *_INSTALL[:-1], *sorted(names)), timeout_s=_ASK_S).stdout
    except CommandError as error:
        return Forecast(upgrades=(), removals=(), error=error.problems[0].what)
    upgrades = tuple(f"{name} {before} to {after}" for name, before, after in _UPGRADE.findall(text))
    return Forecast(upgrades=upgrades, removals=tuple(_REMOVAL.findall(text)))


def update(machine: Machine) -> str:
    """What apt could not fetch of its lists, in its words; empty where it has all."""
    try:
        done = _once_free(machine, ("apt-get", "update", "-q"), timeout_s=_UPDATE_S)
    except CommandError as error:
        return error.problems[0].what
    # Without a network it only warns and ends with 0.
    return "".join(f"\n  | {line}" for line in done.stderr.splitlines() if line.startswith(("W:", "E:")))


def finish_interrupted(machine: Machine) -> None:
    """Nothing, once what a cut-off run left half done is configured."""
    argv = ("dpkg", "--force-confold", "--force-confdef", "--configure", "-a")
    _once_free(machine, argv, timeout_s=_INSTALL_S)


def install(machine: Machine, names: Collection[str]) -> None:
    """Nothing, once these are installed; ApplyError where that would upgrade or remove anything."""
    outlook = forecast(machine, names)
    problems = tuple(forecast_problems(outlook))
    if problems:
        raise ApplyError.of(problems)
    argv = ("apt-get", *_INSTALL, "-y", "-q", _LOCK, *_KEEP_SETTINGS, *sorted(names))
    machine.check(argv, timeout_s=_INSTALL_S, env=_ENVIRONMENT)


def is_stale(error: CommandError) -> bool:
    """Whether a failure says that the lists name files which are gone, or that there is no network."""
    return any(word in problem.what for problem in error.problems for word in _NETWORK)


def manual_marks(machine: Machine, inventory: Inventory) -> frozenset[str]:
    """Packages that a person asked for: all that apt has not marked as taken along. Source: extended_states of apt."""
    stanzas = (machine.root.read_text(_MARKS) or "").split("\n\n")
    automatic = {
        found[1]
        for one in stanzas
        if "Auto-Installed: 1" in one and (found := re.search(r"(?m)^Package: *(\S+)", one)) is not None
    }
    return frozenset(inventory.present) - automatic


def depart(machine: Machine, leaving: Departure) -> None:
    """Nothing, once they are gone, and nothing else is; ApplyError where apt would take more."""
    for verb, names in (("purge", leaving.purge), ("remove", leaving.remove)):
        if not names:
            continue
        text = machine.check(("apt-get", "-s", verb, *names), timeout_s=_ASK_S).stdout
        more = sorted(set(_REMOVAL.findall(text)) - {*leaving.purge, *leaving.remove})
        if more:
            raise ApplyError(f"apt would remove {', '.join(more)} as well", where="packages")
        argv = ("apt-get", verb, "-y", "-q", _LOCK, "-oAPT::Get::AutomaticRemove=false", *names)
        machine.check(argv, timeout_s=_INSTALL_S, env=_ENVIRONMENT)


def _once_free(machine: Machine, argv: tuple[str, ...], *, timeout_s: float) -> Completed:
    """What the command said; tried again while another run holds a lock that this one does not wait for by itself.

    Such a run may be our own, of an apply that was killed.
    """
    deadline = now_s() + _LOCK_S
    while True:
        try:
            return machine.check(argv, timeout_s=timeout_s, env=_ENVIRONMENT)
        except CommandError as error:
            locked = any(word in problem.what for problem in error.problems for word in _LOCKED)
            if not locked or now_s() >= deadline:
                raise
        sleep(_INTERVAL_S)


def _said(machine: Machine, argv: tuple[str, ...]) -> str:
    """What apt-cache says; nothing where it knows no such package."""
    try:
        return machine.check(argv, timeout_s=_ASK_S).stdout
    except CommandError as error:
        if any("No packages found" in problem.what for problem in error.problems):
            return ""
        raise
