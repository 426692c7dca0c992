"""Packages of Fedora, RHEL and CentOS Stream: what rpm has, what dnf would do, and making it so.

Fedora has both builds of ovs-vswitchd, one to be chosen (openvswitch.spec, post of the package dpdk). RHEL and the NFV
SIG of CentOS have one package a release, `openvswitch3.3`, whose only build has DPDK and its drivers in it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from typing import Final

from nfvhost.access.command import CommandError
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.errors import ApplyError
from nfvhost.resources.packages.inventory import Departure, Inventory, Need, Package
from nfvhost.resources.packages.needs import Needs
from nfvhost.resources.packages.state import Build, Forecast, Wanted, forecast_problems

_RELEASES: Final = tuple(f"openvswitch3.{number}" for number in range(9, 0, -1))
SWITCHES: Final = ("openvswitch-dpdk", "openvswitch", *_RELEASES)
SERVICE: Final = "openvswitch.service"
# alternatives(8) of chkconfig
ALTERNATIVES: Final = "/var/lib/alternatives"
KIN: Final = ()
SOURCES_HINT: Final = "on CentOS Stream, the package centos-release-nfv-openvswitch names the repository"
_VDPA_TOOL: Final = "iproute"
_RPM: Final = ("/usr/bin/rpm", "/bin/rpm")
_DATABASES: Final = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
_FEDORA: Final = re.compile(r"(?m)^ID=[\"']?fedora[\"']?$")
# Of the table that dnf shows: a heading, then a line for each package, indented by one blank.
_HEADING: Final = re.compile(r"^(\S[\w ]*):$")
_UPGRADES: Final = frozenset({"Upgrading", "Downgrading", "Reinstalling"})
_REMOVALS: Final = frozenset({"Removing", "Removing dependent packages", "Removing unused dependencies"})
_NETWORK: Final = ("Cannot download", "Failed to download", "Status code: 404")
_ASK_S: Final = 120.0
_INSTALL_S: Final = 1800.0
_INSTALL: Final = ("dnf", "install", "-y", "--setopt=install_weak_deps=False")


def is_here(root: Root) -> bool:
    """Whether rpm keeps the packages of this machine; Debian's rpm is a tool without packages of its own."""
    return any(root.exists(path) for path in _RPM) and any(root.list_dir(path) for path in _DATABASES)


def build_with_dpdk(root: Root) -> Build:
    """The program that has DPDK."""
    # Fedora 42 made /usr/sbin a link.
    folder = "/usr/bin" if root.read_link("/usr/sbin") is not None else "/usr/sbin"
    if _is_fedora(root):
        return Build(program=f"{folder}/ovs-vswitchd.dpdk", chosen=True)
    return Build(program=f"{folder}/ovs-vswitchd", chosen=False)


def read_inventory(machine: Machine, *, whole: bool = False) -> Inventory:
    """What rpm has; what each package needs and provides only where it is asked for as a `whole`."""
    names = machine.check(("rpm", "-qa", "--qf", r"%{NAME}\n"), timeout_s=_ASK_S).stdout.split()
    needs, offers = (_tags(machine, tag) if whole else {} for tag in ("REQUIRENAME", "PROVIDENAME"))
    return Inventory(
        {
            name: Package(name, "installed", ",".join(needs.get(name, ())), tuple(offers.get(name, ())))
            for name in names
            if name != "gpg-pubkey"
        },
        interrupted=False,
    )


def needs_by_name(root: Root, needs: Needs) -> tuple[Need, ...]:
    """The same in Fedora's or RHEL's words; the drivers of DPDK are in one package with it, or in the switch."""
    switch: tuple[tuple[str, ...], ...] = (("openvswitch",), ("openvswitch-dpdk",))
    if not _is_fedora(root):
        switch = (("openvswitch", *_RELEASES),)
    found = [Need(bases, needs.open_vswitch) for bases in switch if needs.open_vswitch is not None]
    return (*found, *([Need((_VDPA_TOOL,), needs.vdpa_tool)] if needs.vdpa_tool is not None else []))


def find_wanted(machine: Machine, inventory: Inventory, needs: tuple[Need, ...]) -> tuple[tuple[Wanted, ...], bool]:
    """Each package that is needed, by the name that this release has for it; dnf fetches its lists by itself."""
    missing = [need for need in needs if not any(inventory.has(name) for name in need.bases)]
    known: set[str] = set()
    if missing:
        asked = [name for need in missing for name in need.bases]
        argv = ("dnf", "-q", "repoquery", "--available", "--qf", r"%{name}\n", *asked)
        known = set(machine.check(argv, timeout_s=_ASK_S).stdout.split())
    found = []
    for need in needs:
        there = next((name for name in need.bases if inventory.has(name)), None)
        name = there or next((name for name in need.bases if name in known), None)
        found.append(
            Wanted(key=need.bases[0], name=name, installed=there is not None, reason=need.reason, bases=need.bases)
        )
    return tuple(found), True


def forecast(machine: Machine, names: Collection[str]) -> Forecast | None:
    """None: dnf tells it only with the packages at hand, so `install` asks."""
    del machine, names
    return None


def update(machine: Machine) -> str:
    """What dnf could not fetch of its lists, in its words; empty where it has all."""
    try:
        machine.check(("dnf", "-q", "makecache", "--refresh"), timeout_s=_INSTALL_S)
    except CommandError as error:
        return error.problems[0].what
    return ""


def finish_interrupted(machine: Machine) -> None:
    """Nothing: rpm has no half done packages that could be finished."""
    del machine


def install(machine: Machine, names: Collection[str]) -> None:
    """Nothing, once these are installed; ApplyError where that would upgrade or remove anything."""
    # rpm's test: the packages are fetched and checked, and nothing is installed (dnf.conf(5), tsflags).
    said = machine.check((*_INSTALL, "--setopt=tsflags=test", *sorted(names)), timeout_s=_INSTALL_S).stdout
    problems = tuple(forecast_problems(parse_table(said)))
    if problems:
        raise ApplyError.of(problems)
    machine.check((*_INSTALL, *sorted(names)), timeout_s=_INSTALL_S)


def parse_table(text: str) -> Forecast:
    """What the table of a transaction says of packages that are there."""
    heading = ""
    found: dict[str, list[str]] = defaultdict(list)
    for line in text.splitlines():
        match = _HEADING.match(line)
        if match is not None:
            heading = match[1]
        elif line.startswith(" ") and line[1:2].strip() and heading:
            name, _, version, *_ = [*line.split(), "", "", ""]
            found[heading].append(f"{name} to {version}" if heading in _UPGRADES else name)
        elif not line.strip():
            heading = ""
    return Forecast(
        upgrades=tuple(one for name in sorted(_UPGRADES) for one in found[name]),
        removals=tuple(one for name in sorted(_REMOVALS) for one in found[name]),
    )


def is_stale(error: CommandError) -> bool:
    """Whether a failure says that the lists name files which are gone, or that there is no network."""
    return any(word in problem.what for problem in error.problems for word in _NETWORK)


def manual_marks(machine: Machine, inventory: Inventory) -> frozenset[str]:
    """None: who asked for a package since is not looked up."""
    del machine, inventory
    return frozenset()


def depart(machine: Machine, leaving: Departure) -> None:
    """Nothing, once these very packages are gone; rpm refuses where another needs one."""
    names = (*leaving.purge, *leaving.remove)
    if names:
        machine.check(("rpm", "-e", *names), timeout_s=_INSTALL_S)


def _is_fedora(root: Root) -> bool:
    return _FEDORA.search(root.read_text("/etc/os-release") or root.read_text("/usr/lib/os-release") or "") is not None


def _tags(machine: Machine, tag: str) -> dict[str, list[str]]:
    """The values of a tag that a package has several of, by its name."""
    said = machine.check(("rpm", "-qa", "--qf", rf"[%{{=NAME}}\t%{{{tag}}}\n]"), timeout_s=_ASK_S).stdout
    found: dict[str, list[str]] = defaultdict(list)
    for line in said.splitlines():
        name, _, value = line.partition("\t")
        # Versions and architectures are not compared: `libx.so.1()(64bit)` is `libx.so.1`.
        found[name].append(value.partition("(")[0] or value)
    return found
