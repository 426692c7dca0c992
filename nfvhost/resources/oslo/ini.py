"""Files of oslo.config, read as its own parser reads them.

Source: oslo.config, oslo_config/iniparser.py and cfg.py (ConfigParser, _normalize_group_name).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_QUOTES: Final = ("'", '"')
_DEFAULT: Final = "DEFAULT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One assignment; an option may be assigned several times in one file."""

    section: str  # lower case but for DEFAULT, as oslo compares them
    name: str
    value: str
    where: str  # the file


def parse(text: str, where: str) -> tuple[tuple[Option, ...], str | None]:
    """The assignments in order, and what oslo would refuse the file for; None where it takes it."""
    found: list[Option] = []
    section, name, value = _DEFAULT, "", list[str]()

    def flush() -> None:
        nonlocal name
        if name:
            found.append(Option(section=section, name=name, value="\n".join(value), where=where))
        name = ""

    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip()
        if not line or line.startswith(("#", ";")):
            flush()
        elif line.startswith((" ", "\t")):
            if not name:
                return tuple(found), f"line {number} continues nothing: {line!r}"
            value.append(line.lstrip())
        elif line.startswith("["):
            flush()
            if not line.endswith("]") or len(line) < len("[x]"):
                return tuple(found), f"line {number} is no section: {line!r}"
            section = _normal(line[1:-1])
        else:
            flush()
            parts = _assignment(line)
            if parts is None or not parts[0]:
                return tuple(found), f"line {number} is no assignment: {line!r}"
            name, value = parts[0], [parts[1]]
    flush()
    return tuple(found), None


def _normal(section: str) -> str:
    return section if section == _DEFAULT else section.lower()


def _assignment(line: str) -> tuple[str, str] | None:
    """Name and value at the first `=` or `:`; quotes around the whole value are taken off."""
    places = [at for at in (line.find("="), line.find(":")) if at >= 0]
    if not places:
        return None
    name, value = line[: min(places)].strip(), line[min(places) + 1 :].strip()
    if value and value[0] == value[-1] and value[0] in _QUOTES:
        value = value[1:-1]
    return name, value
