"""Documents as text: YAML for people, JSON for programs. The same document gives the same bytes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# What every YAML reader, of version 1.1 too, takes for this very text: it begins with a letter or a slash, and a
# colon or a hash in it cannot end it. All else is quoted: CPU lists (`3` is a number), addresses (`10:00` was one).
_PLAIN: Final = re.compile(r"[A-Za-z/](?:[A-Za-z0-9 _./+=,;()'%@-]|:(?=[^\s])|#(?<=[^\s]#))*(?<! )")
_RESERVED: Final = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "auto"})


def to_json(document: dict[str, Any]) -> str:
    """One JSON document, keys sorted, ASCII, with a newline at its end."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def to_line(document: dict[str, Any]) -> str:
    """The same on one line, which costs a fifth."""
    return json.dumps(document, sort_keys=True) + "\n"


def to_yaml(document: dict[str, Any]) -> str:
    """The document in YAML, keys in its own order; what is null or has nothing in it is left out."""
    return "\n".join(_mapping_lines(_without_absent(document), "")) + "\n"


def _without_absent(value: Any) -> Any:  # noqa: ANN401 - any part of a document
    if isinstance(value, dict):
        # A section that is there and has nothing to say stays: `memory: {}` is not the lack of memory.
        return {
            key: _without_absent(below) for key, below in value.items() if below is not None and below not in ({}, [])
        }
    if isinstance(value, list):
        return [_without_absent(item) for item in value]
    return value


def _mapping_lines(mapping: dict[str, Any], indent: str) -> Iterator[str]:
    for key, value in mapping.items():
        name = f"{indent}{_scalar(key)}:"
        if isinstance(value, dict) and value:
            yield name
            yield from _mapping_lines(value, f"{indent}  ")
        elif isinstance(value, list) and any(not isinstance(item, int) for item in value):
            yield name
            yield from _list_lines(value, f"{indent}  ")
        else:
            yield f"{name} {_scalar(value)}"


def _list_lines(items: list[Any], indent: str) -> Iterator[str]:
    for item in items:
        if not isinstance(item, (dict, list)) or not item:
            yield f"{indent}- {_scalar(item)}"
            continue
        below = f"{indent}  "
        lines = _mapping_lines(item, below) if isinstance(item, dict) else _list_lines(item, below)
        yield f"{indent}- {next(lines)[len(below) :]}"
        yield from lines


def _scalar(value: object) -> str:
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
            return value
        return f'"{"".join(map(_escaped, value))}"'
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    return json.dumps(value)


def _escaped(character: str) -> str:
    if character in {'"', "\\"}:
        return f"\\{character}"
    if character == "\n":
        return r"\n"
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004 - widths of YAML 1.2's escapes
