"""Sets of logical CPUs, written as the kernel writes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# One element of a kernel list: "3", "0-3", "0-62:2", "0-31:2/8"
# (Documentation/admin-guide/kernel-parameters.rst, "cpu lists").
_RANGE: Final = re.compile(r"(\d+)(?:-(\d+)(?::(\d+)(?:/(\d+))?)?)?")

# Above any NR_CPUS that a kernel was built for; a larger number in a list is a typing error, not a machine.
MAX_CPUS: Final = 65536


@final
class CpuSet:
    """An immutable set of logical CPU numbers; `str()` gives the kernel's list form, such as `0-3,8`."""

    __slots__ = ("_bits",)

    _bits: int

    def __init__(self, cpus: Iterable[int] = ()) -> None:
        bits = 0
        for cpu in cpus:
            bits |= 1 << cpu
        self._bits = bits

    @classmethod
    def parse(cls, text: str) -> CpuSet:
        """The set that a kernel list such as `0-3,8` or `0-62:2` names; an empty text is the empty set.

        Raises ValueError for any other text.
        """
        bits = 0
        stripped = text.strip("\0 \t\n")
        for part in stripped.split(",") if stripped else ():
            match = _RANGE.fullmatch(part.strip())
            if match is None:
                raise ValueError(f"{part.strip()!r} is not a CPU or a range of CPUs")
            first = int(match[1])
            last = int(match[2] or first)
            if last < first:
                raise ValueError(f"the range {part.strip()!r} runs backwards")
            if last >= MAX_CPUS:
                raise ValueError(f"CPU {last} is beyond what Linux can number ({MAX_CPUS})")
            if match[3] is None:
                bits |= ((1 << (last - first + 1)) - 1) << first
                continue
            # "0-31:2/8": of each group of 8, the first 2; "0-62:2" as sysfs prints it: each second CPU.
            used, group = (int(match[3]), int(match[4])) if match[4] else (1, int(match[3]))
            if not 0 < used <= group:
                raise ValueError(f"the stride of {part.strip()!r} is not possible")
            for start in range(first, last + 1, group):
                for cpu in range(start, min(start + used, last + 1)):
                    bits |= 1 << cpu
        return cls._of(bits)

    @classmethod
    def parse_mask(cls, text: str) -> CpuSet:
        """The set of a hexadecimal mask, as in sysfs (`ffffffff,00000001`) or OVS (`0x3`); ValueError for others."""
        digits = text.strip("\0 \t\n").lower().removeprefix("0x").replace(",", "")
        bits = int(digits or "0", 16)
        if bits < 0:
            raise ValueError(f"{text!r} is no mask")
        return cls._of(bits)

    @classmethod
    def _of(cls, bits: int) -> CpuSet:
        made = cls.__new__(cls)
        made._bits = bits  # noqa: SLF001 - its own class
        return made

    @property
    def mask(self) -> str:
        """The set as OVS writes it: `0x…`, `0x0` where it is empty."""
        return hex(self._bits)

    @property
    def first(self) -> int:
        """The lowest CPU; ValueError where the set is empty."""
        if not self._bits:
            raise ValueError("an empty CPU set has no first CPU")
        return (self._bits & -self._bits).bit_length() - 1

    def __iter__(self) -> Iterator[int]:
        bits = self._bits
        while bits:
            low = bits & -bits
            yield low.bit_length() - 1
            bits ^= low

    def __len__(self) -> int:
        return self._bits.bit_count()

    def __bool__(self) -> bool:
        return self._bits != 0

    def __contains__(self, cpu: int) -> bool:
        return cpu >= 0 and bool(self._bits >> cpu & 1)

    def __or__(self, other: CpuSet) -> CpuSet:
        return CpuSet._of(self._bits | other._bits)

    def __and__(self, other: CpuSet) -> CpuSet:
        return CpuSet._of(self._bits & other._bits)

    def __sub__(self, other: CpuSet) -> CpuSet:
        return CpuSet._of(self._bits & ~other._bits)

    def __le__(self, other: CpuSet) -> bool:
        return not self._bits & ~other._bits

    def isdisjoint(self, other: CpuSet) -> bool:
        """Whether no CPU is in both sets."""
        return not self._bits & other._bits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CpuSet) and self._bits == other._bits

    def __hash__(self) -> int:
        # An int hashes modulo 2**61 - 1, so that CPU 0 alone and CPU 61 alone would collide.
        return hash((self._bits, self._bits.bit_length()))

    def __str__(self) -> str:
        parts: list[str] = []
        bits, start = self._bits, 0
        while bits:
            gap = (bits & -bits).bit_length() - 1
            bits >>= gap
            start += gap
            length = (~bits & (bits + 1)).bit_length() - 1
            parts.append(str(start) if length == 1 else f"{start}-{start + length - 1}")
            bits >>= length
            start += length
        return ",".join(parts)

    @property
    def named(self) -> str:
        """For a sentence: `CPU 3`, `CPUs 2-3,18`."""
        return f"CPU {self}" if len(self) == 1 else f"CPUs {self}"

    def __repr__(self) -> str:
        return f"CpuSet.parse({str(self)!r})"


EMPTY: Final = CpuSet()


def union(sets: Iterable[CpuSet]) -> CpuSet:
    """All CPUs that are in at least one of the sets."""
    result = EMPTY
    for one in sets:
        result |= one
    return result
