"""A document as it was written: values with the place of each, so that a problem can point at its line."""

# ruff: noqa: ANN401 - nodes of ruamel.yaml have no types

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nfvhost.errors import DocumentError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping as Dict

# Far above what people write and nfvhost prints, and soon enough read.
MAX_BYTES: Final = 4 * 1024 * 1024
_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset({"map", "seq", "str", "int", "float", "bool", "null", "timestamp"})
_SHOWN: Final = 60
# Far above the depth of any document; below what Python's stack allows to whoever walks the tree later.
_DEPTH: Final = 50
_BASES: Final = {"0x": 16, "0o": 8, "0b": 2}
_MOST_DIGITS: Final = 4300


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One value. None is a null, whole numbers are int, and other YAML types keep their text."""

    place: str  # "home.yaml:7", "--set pmd.cores=2"
    value: str | int | bool | None
    text: str  # as it was written
    kind: str  # "text", "number", "boolean", "null", "date"
    quotable: bool = True  # False on a command line: its words have no quotes, so a number may be meant as text


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A list."""

    place: str
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Keys and values, in the order of the document."""

    place: str
    entries: Dict[str, Node]


Node = Scalar | Sequence | Mapping


def described(node: Node) -> str:
    """What a person wrote, for "… where X is expected"."""
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(kind="null"):
            return "nothing"
        case Scalar():
            text = node.text if len(node.text) <= _SHOWN else f"{node.text[:_SHOWN]}..."
            return {"text": repr(text), "boolean": text}.get(node.kind, f"the {node.kind} {text}")


def parse(text: str, where: str) -> tuple[Node | None, list[Problem]]:
    """The tree of a YAML or JSON text, None where there is nothing in it, and what is wrong inside.

    Raises DocumentError where the text is not YAML at all.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415 - costs 20 ms, and many commands read no document
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415 - the same

    try:
        top = YAML(typ="safe", pure=True).compose(text)
        if top is None:
            return None, []
        reader = _Reader(where)
        return reader.node(top, ""), reader.problems
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = where if mark is None else f"{where}:{mark.line + 1}"
        if error.context == "expected a single document in the stream":
            raise DocumentError("holds more than one document", where=place, hint="keep one, without `---`") from error
        what = ", ".join(filter(None, (error.context, error.problem)))
        raise DocumentError(f"is not YAML: {what}", where=place) from error
    except YAMLError as error:
        position = getattr(error, "position", None)
        line = "" if position is None else f":{text.count(chr(10), 0, position) + 1}"
        what = str(error).partition("\n")[0]
        raise DocumentError(f"is not YAML: {what}", where=f"{where}{line}") from error
    except RecursionError:
        raise DocumentError("is nested too deeply", where=where) from None


def parse_json(text: str, where: str) -> tuple[Node | None, list[Problem]]:
    """The same of a JSON text, a hundred times as fast; all places are the text itself."""
    import json  # noqa: PLC0415 - few commands read what programs wrote

    try:
        return _of_json(json.loads(text, parse_float=_Number, parse_int=_Number), where), []
    except ValueError as error:
        raise DocumentError(f"is not JSON: {error}", where=where) from error
    except RecursionError:
        raise DocumentError("is nested too deeply", where=where) from None


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _of_json(value: Any, place: str) -> Node:
    match value:
        case dict():
            return Mapping(place=place, entries={key: _of_json(below, place) for key, below in value.items()})
        case list():
            return Sequence(place=place, items=tuple(_of_json(item, place) for item in value))
        case None:
            return Scalar(place=place, value=None, text="", kind="null")
        case bool():
            return Scalar(place=place, value=value, text=str(value).lower(), kind="boolean")
        case _Number():
            return Scalar(place=place, value=_whole(value), text=str(value), kind="number")
        case _:
            return Scalar(place=place, value=value, text=value, kind="text")


class _Reader:
    """Turns ruamel.yaml's nodes into ours and notes what no document of nfvhost may hold."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._seen: set[int] = set()
        self._depth = 0
        self.problems: list[Problem] = []

    def node(self, node: Any, path: str, *, line: int | None = None) -> Node:
        place = f"{self._where}:{line or node.start_mark.line + 1}"
        # A node that comes by twice is an alias; a chain of them could grow without bound, or bite its own tail.
        if id(node) in self._seen:
            self._refuse(place, path, "is an alias (`*name`)", "write the value out")
            return Scalar(place=place, value=None, text="", kind="null")
        self._seen.add(id(node))
        tag = str(node.tag or "").removeprefix(_TAG)
        if tag not in _TAGS:
            self._refuse(place, path, f"carries the tag {tag}", "leave the tag out")
        if isinstance(node.value, str):
            return _scalar(place, tag, node)
        self._depth += 1
        if self._depth > _DEPTH:
            raise RecursionError
        below = self._sequence(node, place, path) if node.id == "sequence" else self._mapping(node, place, path)
        self._depth -= 1
        return below

    def _sequence(self, node: Any, place: str, path: str) -> Sequence:
        items = tuple(self.node(item, f"{path}[{at}]") for at, item in enumerate(node.value))
        return Sequence(place=place, items=items)

    def _mapping(self, node: Any, place: str, path: str) -> Mapping:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            here = f"{self._where}:{line}"
            if not isinstance(key_node.value, str):
                self._refuse(here, path, "has a key that is no text", "write `key: value`")
                continue
            key = _joined(key_node.value)
            below = f"{path}.{key}" if path else key
            if key in entries:
                self._refuse(
                    here, below, f"is there twice: on line {lines[key]} and on line {line}", "keep one of them"
                )
                continue
            lines[key] = line
            entries[key] = self.node(value_node, below, line=line)
        return Mapping(place=place, entries=entries)

    def _refuse(self, place: str, path: str, what: str, hint: str) -> None:
        self.problems.append(Problem(what=what, where=f"{place}: {path}" if path else place, hint=hint))


def _scalar(place: str, tag: str, node: Any) -> Scalar:
    text = _joined(node.value)
    match tag:
        case "null":
            return Scalar(place=place, value=None, text=text, kind="null")
        case "bool":
            return Scalar(place=place, value=text.lower() in {"true", "yes", "on"}, text=text, kind="boolean")
        case "int":
            number = _whole(text)
            return Scalar(place=place, value=number, text=text, kind="number")
        case "float":
            return Scalar(place=place, value=None, text=text, kind="number")
        case "timestamp":
            return Scalar(place=place, value=None, text=text, kind="date")
        case _:
            return Scalar(place=place, value=text, text=text, kind="text")


def _joined(text: str) -> str:
    """The text with the halves of characters put together: JSON escapes those beyond U+FFFF as two (RFC 8259, 7)."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _whole(text: str) -> int | None:
    """The number; None for what only other YAML versions take for one (`1:20`), or what no machine has."""
    digits = text.replace("_", "").lower()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    base = _BASES.get(digits[:2], 10)
    # Python's own limit came with 3.11.0's last candidate (sys.set_int_max_str_digits), and is 4300.
    if len(digits) > _MOST_DIGITS:
        return None
    try:
        return sign * int(digits[2:] if base != 10 else digits, base)  # noqa: PLR2004 - decimal has no prefix
    except ValueError:
        return None
