"""Interrupts of devices: where each may come in, and where it did."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from nfvhost.access.cpulist import cpu_list, cpu_mask
from nfvhost.access.root import Root
from nfvhost.model.cpuset import CpuSet

DEFAULT_AFFINITY: Final = "/proc/irq/default_smp_affinity"
COUNTERS: Final = "/proc/interrupts"
_IRQS: Final = "/proc/irq"
# No list of CPUs in any kernel: what can be moved answers EINVAL, and stays where it is.
_NO_LIST: Final = b"x"
# Of an interrupt that only the kernel places: EIO before Linux 6.12, EPERM since (kernel/irq/proc.c).
_UNMOVABLE: Final = frozenset({errno.EIO, errno.EPERM})
_WRITABLE: Final = 0o200
# The width of a CPU's column in /proc/interrupts: "%10u " (kernel/irq/proc.c, show_interrupts), in which any unsigned
# int has room.
_CELL: Final = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """One interrupt that has a handler."""

    number: int  # may differ after each boot
    users: str | None  # /sys/kernel/irq/<N>/actions: "i40e-eth0-TxRx-0"; None: the kernel does not say
    cpus: CpuSet  # /proc/irq/<N>/smp_affinity_list
    effective: CpuSet | None = None  # …/effective_affinity_list: where it does come in; None on some architectures
    node: int | None = None  # …/node: of its device; None where that is not known
    movable: bool = True  # whether its affinity can be set

    def __str__(self) -> str:
        return f"{self.number} {self.users or ''}".strip()


def affinity_path(number: int) -> str:
    """The attribute that says where an interrupt may come in, as a list."""
    return f"{_IRQS}/{number}/smp_affinity_list"


def interrupt_numbers(root: Root) -> tuple[int, ...]:
    """All that have been used since the boot, ascending."""
    return tuple(sorted(int(name) for name in root.list_dir(_IRQS) if name.isdecimal()))


def interrupt_users(root: Root, number: int) -> str | None:
    """Who handles it, joined by commas; empty where nobody does any more, None where the kernel does not say.

    Source: /sys/kernel/irq/<N>/actions (Documentation/ABI/testing/sysfs-kernel-irq).
    """
    text = root.read_text(f"/sys/kernel/irq/{number}/actions")
    return None if text is None else text.strip()


def interrupts_on(root: Root, cpus: CpuSet) -> tuple[Interrupt, ...]:
    """Those with a handler that may come in on some of these CPUs; one that goes meanwhile is left out."""
    return tuple(_interrupts_on(root, cpus))


def _interrupts_on(root: Root, cpus: CpuSet) -> Iterator[Interrupt]:
    for number in interrupt_numbers(root):
        affinity = cpu_list(root, affinity_path(number))
        if affinity is None or affinity.isdisjoint(cpus):
            continue
        users = interrupt_users(root, number)
        if users == "":
            continue
        folder = f"{_IRQS}/{number}"
        yield Interrupt(
            number=number,
            users=users,
            cpus=affinity,
            effective=cpu_list(root, f"{folder}/effective_affinity_list"),
            node=root.read_count(f"{folder}/node"),
            movable=is_movable(root, number),
        )


def is_movable(root: Root, number: int) -> bool:
    """Whether its affinity can be set: not of a managed one, one of each CPU, or one that is wired so.

    Linux 6.12 and later say it by the attribute's mode. Others only answer who writes, and do so before they look at
    what is written (kernel/irq/proc.c, write_irq_affinity): root offers them no list at all, which moves nothing.
    """
    path = affinity_path(number)
    mode = root.file_mode(path)
    if mode is not None and not mode & _WRITABLE:
        return False
    return not root.live or os.geteuid() != 0 or _answer(path) not in _UNMOVABLE


def _answer(path: str) -> int | None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        return error.errno
    try:
        os.write(descriptor, _NO_LIST)
    except OSError as error:
        return error.errno
    finally:
        os.close(descriptor)
    return None


def default_affinity(root: Root) -> CpuSet | None:
    """Where an interrupt that gets its first handler may come in; None where the kernel has one CPU alone."""
    return cpu_mask(root, DEFAULT_AFFINITY)


def counters(root: Root) -> tuple[str, ...]:
    """The lines of /proc/interrupts; with hundreds of CPUs and thousands of interrupts, some 10 MB."""
    return tuple((root.read_text(COUNTERS) or "").splitlines())


def first_counters(root: Root) -> tuple[float, tuple[str, ...]]:
    """The same as this look at the machine saw them first, and when (`now_s`)."""
    look = root.first_look(COUNTERS)
    return look.at_s, tuple((look.text or "").splitlines())


def came_in(before: tuple[str, ...], after: tuple[str, ...], cpus: CpuSet) -> dict[int, CpuSet]:
    """The interrupts of devices that came in on these CPUs between two looks, and on which of them.

    Lines without a number are the kernel's own (LOC, RES, CAL, TLB, NMI…): they come with whatever runs there.
    """
    known = set(before)
    old = {line.partition(":")[0].strip(): line for line in before}
    columns = [int(word.removeprefix("CPU")) for word in (after[0].split() if after else ()) if word[3:].isdecimal()]
    found: dict[int, CpuSet] = {}
    # Only lines that differ are taken apart: a row has a number for each CPU.
    for line in (line for line in after[1:] if line not in known):
        number = line.partition(":")[0].strip()
        if not number.isdecimal() or before[:1] != after[:1]:
            continue
        was, now = (_counts(one, len(columns)) for one in (old.get(number, ""), line))
        hit = CpuSet(cpu for cpu, a, b in zip(columns, was, now, strict=True) if b > a and cpu in cpus)
        if hit:
            found[int(number)] = hit
    return found


def counts_on(lines: tuple[str, ...], cpus: CpuSet) -> dict[int, int]:
    """How often interrupts of devices came in on each of these CPUs since the boot; those left out that are offline.

    A managed one that ends takes its share with it.
    """
    names = lines[0].split() if lines else []
    columns = [int(name.removeprefix("CPU")) for name in names if name[3:].isdecimal()]
    wanted = [(column, cpu) for column, cpu in enumerate(columns) if cpu in cpus]
    totals = dict.fromkeys((cpu for _, cpu in wanted), 0)
    # Most rows have nothing there, and none of their hundreds of numbers is worth a look then.
    aligned = bool(columns) and lines[0].find(names[-1]) - lines[0].find(names[0]) == _CELL * (len(columns) - 1)
    runs = list(_runs([column for column, _ in wanted]))
    spans = [(_CELL * first, _CELL * (last + 1), _zeros(last + 1 - first)) for first, last in runs]
    for line in lines[1:] if wanted else ():
        number, _, cells = line.partition(":")
        if aligned and all(cells[start:end] in zeros for start, end, zeros in spans):
            continue
        words = cells.split(None, len(columns))
        if number.strip().isdecimal() and len(words) >= len(columns):
            for column, cpu in wanted:
                totals[cpu] += int(words[column])
    return totals


def _zeros(columns: int) -> tuple[str, str]:
    """So many columns of nothing, as old and as new kernels print them: blank behind the number, or before it."""
    return f"{0:10} " * columns, f" {0:10}" * columns


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each unbroken run of ascending numbers."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        found = [number for _, number in run]
        yield found[0], found[-1]


def _counts(line: str, columns: int) -> list[int]:
    """The numbers of a row; zeros for one that was not there."""
    words = line.partition(":")[2].split()[:columns]
    return [int(word) for word in words] if len(words) == columns and all(map(str.isdecimal, words)) else [0] * columns
