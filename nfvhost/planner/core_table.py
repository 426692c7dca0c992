"""The cores while they are dealt: what is asked, what is free, who sits in which cache group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nfvhost.model.host import Host
from nfvhost.planner.layout import Core, Layout, threads
from nfvhost.planner.notebook import Notebook, counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Cores asked for, cut down to what the machine has; None where the planner decides."""

    host: int | None
    pmd: int | None
    shared: int
    tight: bool  # not even one core for each pool


@dataclass(slots=True, kw_only=True)
class Table:
    """The cores that are still free, and who sits in which cache group."""

    host: Host
    layout: Layout
    notes: Notebook
    taken: set[int] = field(default_factory=set)  # first CPUs of dealt cores
    opened: set[int] = field(default_factory=set)  # cache groups with a dealt core

    def free(self, node: int | None = None) -> tuple[Core, ...]:
        """Free cores of a node, or of the machine."""
        return tuple(
            core for core in self.layout.cores if core.first not in self.taken and (node is None or core.node == node)
        )

    def take(self, cores: Iterable[Core]) -> tuple[Core, ...]:
        """Deal these cores."""
        dealt = tuple(cores)
        self.taken.update(core.first for core in dealt)
        self.opened.update(core.group for core in dealt)
        return dealt


def home_core(machine: Layout) -> Core:
    """The host's first core; the caller has made sure that there is one."""
    if machine.home is None:
        raise ValueError("a machine without usable CPUs has no host core")
    return machine.home


def group_names(machine: Layout, groups: Sequence[int]) -> str:
    """The CPUs of these cache groups; where they are many, their number."""
    if len(groups) > 4:  # noqa: PLR2004 - what a line holds
        return counted(len(groups), "group")
    return " and ".join(str(threads(core for core in machine.cores if core.group == group)) for group in groups)


def cpu_list(cores: Sequence[Core]) -> str:
    """The CPUs of these cores; `none` where there are none."""
    return str(threads(cores)) or "none"
