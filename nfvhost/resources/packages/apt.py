"""Debian's and Ubuntu's packages: what dpkg has, what apt would do, and making it so.

What is installed is read from dpkg's own file, without a command; apt is asked only where something is missing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from nfvhost.access.clock import sleep
from nfvhost.access.command import CommandError
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.errors import ApplyError, Problem
from nfvhost.resources.packages.needs import Needs
from nfvhost.resources.packages.state import Forecast, Wanted

OPEN_VSWITCH: Final = "openvswitch-switch-dpdk"
# openvswitch-switch-dpdk.postinst
BINARY: Final = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
ALTERNATIVES: Final = "/var/lib/dpkg/alternatives"
SERVICE: Final = "openvswitch-switch.service"
VDPA_TOOL: Final = "iproute2"
STATUS: Final = "/var/lib/dpkg/status"
_UPDATES: Final = "/var/lib/dpkg/updates"
_LISTS: Final = "/var/lib/apt/lists"
_MARKS: Final = "/var/lib/apt/extended_states"
# Dependencies of Open vSwitch that leave settings behind when they are removed and not purged.
_KIN: Final = frozenset({"openvswitch-switch", "openvswitch-common", "dpdk"})
_EAL: Final = re.compile(r"\blibrte-eal(\d+)\b")
# dpkg(1), PACKAGE STATES: what a run that was cut off leaves.
_HALF: Final = frozenset({"unpacked", "half-configured", "half-installed", "triggers-awaited", "triggers-pending"})
_GONE: Final = frozenset({"not-installed", "config-files"})
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
_TRIES: Final = 10
_INTERVAL_S: Final = 3.0
# Ubuntu's needrestart would restart services of others behind our back.
_ENVIRONMENT: Final = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
_LOCK: Final = f"-oDPkg::Lock::Timeout={_LOCK_S}"
_KEEP_SETTINGS: Final = ("-oDpkg::Options::=--force-confold", "-oDpkg::Options::=--force-confdef")
_INSTALL: Final = ("install", "--no-install-recommends", "--no-upgrade", "--no-remove")


@dataclass(frozen=True, slots=True)
class Package:
    """One package that dpkg knows."""

    name: str
    state: str  # installed, config-files, half-configured…
    depends: str  # "librte-eal23 (>= 22.11), libc6"
    provides: tuple[str, ...]

    @property
    def present(self) -> bool:
        """Whether its files are there, configured or not."""
        return self.state not in _GONE


@dataclass(frozen=True, slots=True)
class Dpkg:
    """What dpkg has. Source: /var/lib/dpkg/status."""

    packages: dict[str, Package]
    interrupted: bool

    @property
    def present(self) -> tuple[str, ...]:
        """Names of what is there."""
        return tuple(sorted(name for name, one in self.packages.items() if one.present))

    @property
    def residual(self) -> tuple[str, ...]:
        """Names of what was removed and left its settings."""
        return tuple(sorted(name for name, one in self.packages.items() if one.state == "config-files"))

    def has(self, name: str) -> bool:
        """Whether a package is installed and configured."""
        one = self.packages.get(name)
        return one is not None and one.state == "installed"


def read_dpkg(root: Root) -> Dpkg:
    """What dpkg has; where it was cut off, its journal holds files named by numbers (dpkg, lib/dpkg/dbmodify.c)."""
    packages: dict[str, Package] = {}
    for stanza in (root.read_bytes(STATUS) or b"").split(b"\n\n"):
        fields = {name.decode(): value.decode(errors="replace") for name, value in _FIELD.findall(stanza)}
        name, state = fields.get("Package"), fields.get("Status", "").rpartition(" ")[2]
        # Of one that is there for several architectures, the one whose files are.
        if name and not (name in packages and packages[name].present):
            depends = ", ".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))
            packages[name] = Package(name, state, depends, tuple(_groups(fields.get("Provides", ""), first=True)))
    cut_off = any(name.isdigit() for name in root.list_dir(_UPDATES))
    half = any(one.state in _HALF for one in packages.values())
    return Dpkg(packages, interrupted=cut_off or half)


@dataclass(frozen=True, slots=True)
class Need:
    """One package that is needed: the first of `bases` that there is; a library's is followed by DPDK's ABI."""

    bases: tuple[str, ...]
    reason: str

    @property
    def numbered(self) -> bool:
        """Whether its name ends in that number."""
        return self.bases[0].startswith("librte-")

    def names(self, abi: str | None) -> tuple[str, ...]:
        """Its names by Debian's rule for libraries: a `-` where the number follows a digit (Debian Policy, 8.1)."""
        if not self.numbered:
            return self.bases
        return () if abi is None else tuple(f"{one}{'-' if one[-1].isdigit() else ''}{abi}" for one in self.bases)


def needs_by_name(needs: Needs) -> tuple[Need, ...]:
    """The same in Debian's words."""
    plain = ((OPEN_VSWITCH, needs.open_vswitch), (VDPA_TOOL, needs.vdpa_tool))
    return (
        *(Need((name,), reason) for name, reason in plain if reason is not None),
        *(Need(tuple(f"librte-{name}" for name in one.names), one.reason) for one in needs.libraries),
    )


def find_wanted(machine: Machine, dpkg: Dpkg, needs: tuple[Need, ...]) -> tuple[tuple[Wanted, ...], bool]:
    """Each package that is needed, by the name that this release has for it, and whether apt knows the release.

    The number of DPDK's ABI is what the switch depends on: the installed one, else the one that apt would install.
    """
    switch = dpkg.packages.get(OPEN_VSWITCH)
    eal = _EAL.search(switch.depends) if switch is not None and switch.present else None
    found = tuple(_wanted(need, dpkg, abi=eal[1] if eal is not None else None, known=None) for need in needs)
    if all(one.installed for one in found):
        return found, True
    if not any("_Packages" in name for name in machine.root.list_dir(_LISTS)):
        return found, False
    if eal is None and any(need.numbered for need in needs):
        eal = _EAL.search(_said(machine, ("apt-cache", "depends", OPEN_VSWITCH)))
    prefixes = {"librte-" if need.numbered else need.bases[0] for need in needs}
    known = {name for prefix in sorted(prefixes) for name in _said(machine, ("apt-cache", "pkgnames", prefix)).split()}
    abi = eal[1] if eal is not None else None
    found = tuple(_wanted(need, dpkg, abi=abi, known=known) for need in needs)
    # Whoever knows the switch knows all of its DPDK: a driver that is not there is built by nobody.
    known_ones = all(one.name is not None for one, need in zip(found, needs, strict=True) if not need.numbered)
    return found, known_ones and (abi is not None or not any(need.numbered for need in needs))


def _wanted(need: Need, dpkg: Dpkg, *, abi: str | None, known: set[str] | None) -> Wanted:
    names = need.names(abi)
    there = next((name for name in names if dpkg.has(name)), None)
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
    """What apt could not fetch of its lists, empty where it has all; waits where another run of apt holds them."""
    last = ""
    for _ in range(_TRIES):
        try:
            done = machine.check(("apt-get", "update", "-q"), timeout_s=_UPDATE_S, env=_ENVIRONMENT)
        except CommandError as error:
            last = error.problems[0].what
            if "Could not get lock" not in last:
                return last
            sleep(_INTERVAL_S)
            continue
        # Without a network it only warns and ends with 0.
        return "\n".join(f"  | {line}" for line in done.stderr.splitlines() if line.startswith(("W:", "E:")))
    return last


def finish_interrupted(machine: Machine) -> None:
    """Nothing, once what a cut-off run left half done is configured."""
    argv = ("dpkg", "--force-confold", "--force-confdef", "--configure", "-a")
    machine.check(argv, timeout_s=_INSTALL_S, env=_ENVIRONMENT)


def install(machine: Machine, names: Collection[str]) -> None:
    """Nothing, once these are installed; ApplyError where that would upgrade or remove anything."""
    outlook = forecast(machine, names)
    problems = tuple(forecast_problems(outlook, "packages"))
    if problems:
        raise ApplyError.of(problems)
    argv = ("apt-get", *_INSTALL, "-y", "-q", _LOCK, *_KEEP_SETTINGS, *sorted(names))
    machine.check(argv, timeout_s=_INSTALL_S, env=_ENVIRONMENT)


def is_stale(error: CommandError) -> bool:
    """Whether a failure says that the lists name files which are gone, or that there is no network."""
    return any(word in problem.what for problem in error.problems for word in _NETWORK)


def forecast_problems(outlook: Forecast, where: str) -> Iterator[Problem]:
    """Why what is missing must not be installed."""
    if outlook.error is not None:
        yield Problem(what=f"apt cannot install what is missing: {outlook.error}", where=where)
    for upgrade in outlook.upgrades:
        yield Problem(
            what=f"installing what is missing would upgrade {upgrade}",
            where=where,
            hint=f"nfvhost upgrades nothing; apt-get install --only-upgrade {upgrade.partition(' ')[0]} does, "
            "at a time of your choice",
        )
    for removal in outlook.removals:
        yield Problem(what=f"installing what is missing would remove {removal}", where=where)


@dataclass(frozen=True, slots=True)
class Departure:
    """What is to go again, and what has to stay although it came with it."""

    purge: tuple[str, ...]
    remove: tuple[str, ...]  # its settings were there before
    stays: tuple[tuple[str, str], ...]  # a package, and who needs it


def departure(
    dpkg: Dpkg, *, asked: Collection[str], present: Collection[str], residual: Collection[str], manual: Collection[str]
) -> Departure:
    """What came with the packages that were `asked` for, and is needed by nobody else.

    `present` and `residual` are what was there before; `manual` is what a person asked for since.
    """
    old = frozenset(present)
    mine = {name for name in _closure(dpkg, asked) if name not in old}
    stays = dict.fromkeys((mine & set(manual)) - set(asked), "somebody asked for it since")
    going = mine - set(stays)
    changed = True
    while changed:
        changed = False
        for name, one in dpkg.packages.items():
            if name in going or not one.present:
                continue
            for needed in _held_by(one, dpkg, going):
                stays[needed] = f"{name} needs it"
                going.discard(needed)
                changed = True
    left = {name for name in (*asked, *_KIN) if name in dpkg.packages and not dpkg.packages[name].present}
    rest = {name for name in left if name not in residual and name not in old}
    return Departure(
        purge=tuple(sorted({*going, *rest} - set(residual))),
        remove=tuple(sorted(going & set(residual))),
        stays=tuple(sorted(stays.items())),
    )


def asked_for(dpkg: Dpkg, wanted: Iterable[Wanted]) -> frozenset[str]:
    """What dpkg knows of these packages, whatever the number of the ABI that they got."""
    patterns = [re.compile(rf"{re.escape(base)}(-?\d+)?") for one in wanted for base in one.bases]
    return frozenset(name for name in dpkg.packages if any(pattern.fullmatch(name) for pattern in patterns))


def manual_marks(root: Root, dpkg: Dpkg) -> frozenset[str]:
    """Packages that a person asked for: all that apt has not marked as taken along. Source: extended_states of apt."""
    stanzas = (root.read_text(_MARKS) or "").split("\n\n")
    automatic = {
        found[1]
        for one in stanzas
        if "Auto-Installed: 1" in one and (found := re.search(r"(?m)^Package: *(\S+)", one)) is not None
    }
    return frozenset(dpkg.present) - automatic


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


def _closure(dpkg: Dpkg, names: Iterable[str]) -> set[str]:
    """These, and all that they depend on, as far as it is there."""
    pending = [name for name in names if name in dpkg.packages]
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name in found or not dpkg.packages[name].present:
            continue
        found.add(name)
        for group in _groups(dpkg.packages[name].depends):
            pending += [provider for one in group.split("|") for provider in _providers(dpkg, one)]
    return found


def _held_by(package: Package, dpkg: Dpkg, going: Collection[str]) -> Iterator[str]:
    """Those that would go and that this one cannot do without."""
    for group in _groups(package.depends):
        providers = [provider for one in group.split("|") for provider in _providers(dpkg, one)]
        if providers and all(provider in going for provider in providers):
            yield from providers


def _providers(dpkg: Dpkg, name: str) -> tuple[str, ...]:
    own = (name,) if name in dpkg.packages and dpkg.packages[name].present else ()
    return own or tuple(one.name for one in dpkg.packages.values() if one.present and name in one.provides)


def _groups(relations: str, *, first: bool = False) -> Iterator[str]:
    """The parts of a list of relations, without versions and architectures: "a|b" (deb-control(5))."""
    plain = re.sub(r"\([^)]*\)|\[[^\]]*\]|:[a-z0-9]+", "", relations)
    for group in plain.split(","):
        names = [name.strip() for name in group.split("|")]
        if names[0]:
            yield names[0] if first else "|".join(names)


def _said(machine: Machine, argv: tuple[str, ...]) -> str:
    """What apt-cache says; nothing where it knows no such package."""
    try:
        return machine.check(argv, timeout_s=_ASK_S).stdout
    except CommandError as error:
        if any("No packages found" in problem.what for problem in error.problems):
            return ""
        raise
