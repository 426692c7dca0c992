"""Sizes of pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

_SIZE: Final = re.compile(r"(\d+)\s*([KMG])i?B?", re.IGNORECASE)
_KIB: Final = {"K": 1, "M": 1024, "G": 1024 * 1024}


@dataclass(frozen=True, slots=True, order=True)
class PageSize:
    """The size of one page; `str()` gives the kernel's command-line form: `2M`, `1G`, `64K`."""

    kib: int

    MIB_2: ClassVar[PageSize]
    GIB_1: ClassVar[PageSize]

    @classmethod
    def parse(cls, text: str) -> PageSize:
        """The size that `2M`, `1G`, `2MiB` or `2048kB` names; ValueError for anything else."""
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a page size such as 2M or 1G")
        return cls(int(match[1]) * _KIB[match[2].upper()])

    @property
    def mib(self) -> int:
        """Whole MiB; 0 for pages below 1 MiB."""
        return self.kib // 1024

    def __str__(self) -> str:
        for unit in "GM":
            if self.kib % _KIB[unit] == 0:
                return f"{self.kib // _KIB[unit]}{unit}"
        return f"{self.kib}K"


PageSize.MIB_2 = PageSize(2048)
PageSize.GIB_1 = PageSize(1024 * 1024)
