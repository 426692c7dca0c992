"""Arguments of the kernel: which of a plan's are still to be written, and which contradict others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# The arguments that a plan may hold (planner/kernel_args.py). A plan from elsewhere could name others: `init=` would
# run a program of its choice at the next boot.
_KNOWN: Final = frozenset(
    {
        "default_hugepagesz",
        "hugepages",
        "hugepagesz",
        "intel_iommu",
        "iommu",
        "iommu.passthrough",
        "irqaffinity",
        "isolcpus",
        "nohz_full",
        "rcu_nocbs",
    }
)
# Nothing that sh, grub-mkconfig or GRUB itself would expand or split.
_VALUE: Final = re.compile(r"[A-Za-z0-9_.,:+-]*")
# Their order tells the kernel which size a count is of (mm/hugetlb.c, hugepages_setup).
_PAGES: Final = frozenset({"default_hugepagesz", "hugepages", "hugepagesz"})
# Documentation/admin-guide/kernel-parameters.rst: lists of options; more of them do no harm.
_LISTS: Final = frozenset({"iommu", "intel_iommu"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One argument, and the file that it is from."""

    text: str
    where: str


def name_of(argument: str) -> str:
    """What stands before `=`."""
    return argument.partition("=")[0]


def is_harmless(argument: str) -> bool:
    """Whether it is one of those that plans hold, in letters that no shell or boot loader takes for its own."""
    name, _, value = argument.partition("=")
    return name in _KNOWN and _VALUE.fullmatch(value) is not None


def missing(planned: tuple[str, ...], there: tuple[str, ...]) -> tuple[str, ...]:
    """Those planned that `there` does not hold, in order; those of hugepages all or none."""
    pages = tuple(argument for argument in planned if name_of(argument) in _PAGES)
    have_pages = pages == tuple(argument for argument in there if name_of(argument) in _PAGES)
    return tuple(
        argument
        for argument in planned
        if (not have_pages if name_of(argument) in _PAGES else not any(_covers(one, argument) for one in there))
    )


def contradictions(wanted: tuple[str, ...], foreign: tuple[Word, ...]) -> tuple[Word, ...]:
    """Foreign arguments of the names that are to be written."""
    names = {name_of(argument) for argument in wanted}
    names |= _PAGES if names & _PAGES else frozenset()
    return tuple(word for word in foreign if name_of(word.text) in names)


def _covers(there: str, planned: str) -> bool:
    if name_of(there) != name_of(planned):
        return False
    if name_of(planned) in _LISTS:
        return set(planned.partition("=")[2].split(",")) <= set(there.partition("=")[2].split(","))
    return there == planned
