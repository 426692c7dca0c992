"""Keys of Open_vSwitch.other_config, in the words of the version that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost.model.ovs_keys import KEYS, OvsKey, release

_BY_NAME: Final = {key.name: key for key in KEYS}
KNOWN_KEYS: Final = frozenset(_BY_NAME)
# NEWS, v3.3.0: pmd-sleep-max takes `50,3:0`, a time for each core.
_SLEEP_PER_CORE: Final = (3, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A key and its value as a version takes them, or why it cannot have them."""

    key: str
    value: str
    refusal: str | None = None


def translate(key: str, value: str, version: str) -> Translation:
    """The key that means the same in that version: itself, its successor or its predecessor; or a refusal.

    A key that no version knows, and any key for a version that says nothing, is handed through.
    """
    known, running = _BY_NAME.get(key), release(version)
    if known is None or running is None:
        return Translation(key=key, value=value)
    name = key if known.known_to(running) else _relative(known, running)
    if name is None:
        when = f"came with {_text(known.first)}" if known.first and running < known.first else _gone(known)
        return Translation(key=key, value=value, refusal=f"Open vSwitch {version} runs, and {key} {when}")
    if name in {"pmd-sleep-max", "pmd-maxsleep"} and running < _SLEEP_PER_CORE and not value.isdecimal():
        refusal = f"Open vSwitch {version} runs, and takes one time for all cores; a time per core came with 3.3"
        return Translation(key=key, value=value, refusal=refusal)
    return Translation(key=name, value=value)


def read_at_start(key: str) -> bool:
    """Whether OVS reads the key only when it starts, or starts DPDK."""
    known = _BY_NAME.get(key)
    return known is not None and known.restart


def _relative(key: OvsKey, running: tuple[int, int]) -> str | None:
    """The key that took over from this one, or that this one took over from, where that version knows it."""
    names = [key.successor, *(other.name for other in KEYS if other.successor == key.name)]
    return next((name for name in names if name in _BY_NAME and _BY_NAME[name].known_to(running)), None)


def _gone(key: OvsKey) -> str:
    return f"went after {_text(key.last)}"


def _text(version: tuple[int, int] | None) -> str:
    return "another release" if version is None else f"{version[0]}.{version[1]}"
