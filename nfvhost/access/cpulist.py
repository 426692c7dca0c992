"""CPU lists and CPU masks in files of the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from nfvhost.access.root import Root
from nfvhost.model.cpuset import MAX_CPUS, CpuSet

_FOLDER: Final = re.compile(r"cpu([0-9]{1,5})")


@lru_cache(maxsize=1024)  # hundreds of CPUs state the same list
def parse_cpu_list(text: str) -> CpuSet | None:
    """The set of a list such as `0-3,8`; None for what is no list: nohz_full prints `(null)`."""
    try:
        return CpuSet.parse(text)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def parse_cpu_mask(text: str) -> CpuSet | None:
    """The set of a mask such as `ffffffff,00000001`; None for what is no mask."""
    try:
        return CpuSet.parse_mask(text)
    except ValueError:
        return None


def cpu_list(root: Root, path: str) -> CpuSet | None:
    """The set in a list file, empty where the file is; None where there is no file or no list in it."""
    text = root.read_text(path)
    return None if text is None else parse_cpu_list(text)


def cpu_mask(root: Root, path: str) -> CpuSet | None:
    """The set in a mask file; None where there is no file or no mask in it."""
    text = root.read_text(path)
    return None if text is None else parse_cpu_mask(text)


def stated_cpus(root: Root, *, lists: tuple[str, ...], masks: tuple[str, ...]) -> CpuSet | None:
    """The set in the first of these files that holds one which is not empty; None where none does.

    Lists before masks: both are the kernel's same bits, and kernels before 2.6.25 have the masks alone.
    """
    for path in lists:
        if cpus := cpu_list(root, path):
            return cpus
    for path in masks:
        if cpus := cpu_mask(root, path):
            return cpus
    return None


def folder_cpus(names: Iterable[str]) -> CpuSet:
    """The CPUs of folders or links named `cpu<N>`; other names, and numbers that no CPU can have, are left out."""
    numbers = (int(match[1]) for name in names if (match := _FOLDER.fullmatch(name)))
    return CpuSet(number for number in numbers if number < MAX_CPUS)


def grouped_mask(cpus: CpuSet) -> str:
    """The set as the kernel and irqbalance take masks: hexadecimal, a comma between each 32 bits.

    Source: lib/bitmap-str.c, bitmap_parse; kernels before 5.8 refuse longer groups (EOVERFLOW).
    """
    digits = cpus.mask.removeprefix("0x")
    groups = [digits[max(0, end - 8) : end] for end in range(len(digits), 0, -8)]
    return ",".join(reversed(groups))
