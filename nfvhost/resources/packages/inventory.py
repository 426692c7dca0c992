"""Installed packages, what each cannot do without, and what may go again."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from nfvhost.resources.packages.state import Wanted

# dpkg(1), PACKAGE STATES.
_GONE: Final = frozenset({"not-installed", "config-files"})


@dataclass(frozen=True, slots=True)
class Package:
    """One package that the manager knows."""

    name: str
    state: str  # installed, config-files, half-configured…
    depends: str  # "librte-eal23 (>= 22.11), libc6"
    provides: tuple[str, ...]

    @property
    def present(self) -> bool:
        """Whether its files are there, configured or not."""
        return self.state not in _GONE


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the package manager has."""

    packages: Mapping[str, Package]
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


@dataclass(frozen=True, slots=True)
class Departure:
    """What is to go again, and what has to stay although it came with it."""

    purge: tuple[str, ...]
    remove: tuple[str, ...]  # its settings were there before
    stays: tuple[tuple[str, str], ...]  # a package, and who needs it


def departure(
    inventory: Inventory,
    *,
    asked: Collection[str],
    kin: Collection[str],
    present: Collection[str],
    residual: Collection[str],
    manual: Collection[str],
) -> Departure:
    """What came with the packages that were `asked` for, and is needed by nobody else.

    `kin` are those of their dependencies whose settings may be left; `present` and `residual` are what was there
    before, `manual` is what a person asked for since.
    """
    old = frozenset(present)
    mine = {name for name in _closure(inventory, asked) if name not in old}
    stays = dict.fromkeys((mine & set(manual)) - set(asked), "somebody asked for it since")
    going = mine - set(stays)
    changed = True
    while changed:
        changed = False
        for name, one in inventory.packages.items():
            if name in going or not one.present:
                continue
            for needed in _held_by(one, inventory, going):
                stays[needed] = f"{name} needs it"
                going.discard(needed)
                changed = True
    left = {name for name in (*asked, *kin) if name in inventory.packages and not inventory.packages[name].present}
    rest = {name for name in left if name not in residual and name not in old}
    return Departure(
        purge=tuple(sorted({*going, *rest} - set(residual))),
        remove=tuple(sorted(going & set(residual))),
        stays=tuple(sorted(stays.items())),
    )


def asked_for(inventory: Inventory, wanted: Iterable[Wanted]) -> frozenset[str]:
    """What is known of these packages, whatever the number of the ABI that they got."""
    patterns = [re.compile(rf"{re.escape(base)}(-?\d+)?") for one in wanted for base in one.bases]
    return frozenset(name for name in inventory.packages if any(pattern.fullmatch(name) for pattern in patterns))


def _closure(inventory: Inventory, names: Iterable[str]) -> set[str]:
    """These, and all that they depend on, as far as it is there."""
    pending = [name for name in names if name in inventory.packages]
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name in found or not inventory.packages[name].present:
            continue
        found.add(name)
        for group in groups(inventory.packages[name].depends):
            pending += [provider for one in group.split("|") for provider in _providers(inventory, one)]
    return found


def _held_by(package: Package, inventory: Inventory, going: Collection[str]) -> Iterator[str]:
    """Those that would go and that this one cannot do without."""
    for group in groups(package.depends):
        providers = [provider for one in group.split("|") for provider in _providers(inventory, one)]
        if providers and all(provider in going for provider in providers):
            yield from providers


def _providers(inventory: Inventory, name: str) -> tuple[str, ...]:
    own = (name,) if name in inventory.packages and inventory.packages[name].present else ()
    return own or tuple(one.name for one in inventory.packages.values() if one.present and name in one.provides)


def groups(relations: str) -> Iterator[str]:
    """The parts of a list of relations, without versions and architectures: "a|b" (deb-control(5))."""
    plain = re.sub(r"\([^)]*\)|\[[^\]]*\]|:[a-z0-9]+", "", relations)
    for group in plain.split(","):
        names = [name.strip() for name in group.split("|")]
        if names[0]:
            yield "|".join(names)
