"""Frames by size, and what a rate of them is on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost.errors import UsageError

# RFC 2544, 9.1, for Ethernet; sizes with the frame check sequence.
STANDARD_SIZES: Final = (64, 128, 256, 512, 1024, 1280, 1518)
SMALLEST: Final = 64
LARGEST: Final = 1518
IMIX: Final = "imix"
# IEEE 802.3: preamble and start of frame, and the gap between frames.
_AROUND_BYTES: Final = 8 + 12
# "Simple IMIX", 7:4:1 (RFC 6985, 4), with the sizes on Ethernet that FD.io CSIT uses (IMIX_v4_1, there 28:16:4).
_IMIX: Final = ((64, 7), (570, 4), (1518, 1))
_BITS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Frames of one size, or a mix in a fixed order."""

    name: str  # "64", "imix"
    parts: tuple[tuple[int, int], ...]  # size with FCS in bytes, and how many of each round

    @property
    def argument(self) -> str:
        """As generators that are programs of ours take it: "64:7,570:4,1518:1"."""
        return ",".join(f"{size}:{count}" for size, count in self.parts)

    @property
    def mean_bytes(self) -> float:
        """The length of a frame on average, with its check sequence."""
        return sum(size * count for size, count in self.parts) / sum(count for _, count in self.parts)

    def layer2_gbps(self, pps: float) -> float:
        """Gb/s of frames with their check sequence."""
        return pps * self.mean_bytes * _BITS / 1e9

    def layer1_gbps(self, pps: float) -> float:
        """Gb/s on the wire: preamble and gap as well."""
        return pps * (self.mean_bytes + _AROUND_BYTES) * _BITS / 1e9

    def line_rate_pps(self, speed_mbps: int) -> float:
        """The frames a second that fill a link of that speed."""
        return speed_mbps * 1e6 / ((self.mean_bytes + _AROUND_BYTES) * _BITS)


def parse_frames(text: str) -> tuple[Frames, ...]:
    """The frames of "64,512,imix", each once; UsageError for what is no size."""
    return tuple(_one(word) for word in dict.fromkeys(filter(None, (word.strip() for word in text.lower().split(",")))))


def _one(word: str) -> Frames:
    if word == IMIX:
        return Frames(name=IMIX, parts=_IMIX)
    if not word.isdecimal() or not SMALLEST <= int(word) <= LARGEST:
        raise UsageError(
            f"{word!r} is no size of a frame", where="--frames", hint=f"{SMALLEST} to {LARGEST} bytes with FCS, or imix"
        )
    return Frames(name=str(int(word)), parts=((int(word), 1),))
