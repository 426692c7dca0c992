"""Trees into values and values into plain documents, by the annotations of the values' own classes.

No value is bent into another type: "2" is no number, true is no 1. All problems are noted, not just the first.
"""

# ruff: noqa: ANN401 - what an annotation may be, and what a document may hold, has no narrower type

from __future__ import annotations

import dataclasses
import types
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from nfvhost.errors import Problem
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.pci import PciAddress
from nfvhost.model.units import PageSize
from nfvhost.planfile.names import key_of, nearest
from nfvhost.planfile.texts import Pairs
from nfvhost.planfile.tree import Mapping, Node, Scalar, Sequence, described

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping as Dict

    from nfvhost.planfile.ranges import Ranges
    from nfvhost.planfile.texts import Form, Texts

T = TypeVar("T")

_PAIRS: Final = tuple[tuple[str, str], ...]
_PARSERS: Final[dict[object, tuple[Callable[[str], object], str]]] = {
    CpuSet: (CpuSet.parse, "a list of CPUs such as 0-3,8"),
    PciAddress: (PciAddress.parse, "a PCI address such as 0000:10:00.0"),
    PageSize: (PageSize.parse, "a page size such as 2M or 1G"),
}
_FAILED: Final = object()
# The word for "the planner decides" where a value may be left out.
_AUTO: Final = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    name: str
    hint: Any  # without `| None`
    optional: bool
    default: Any  # dataclasses.MISSING where it has to be given


@cache
def _fields(cls: type) -> Dict[str, _Field]:
    """The fields of a class by their keys."""
    hints = get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        hint, optional = _without_none(hints[field.name])
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is dataclasses.MISSING and optional:
            default = None
        if default is dataclasses.MISSING and get_origin(hint) is tuple and _is_open(hint):
            default = ()
        found[key_of(field.name)] = _Field(name=field.name, hint=hint, optional=optional, default=default)
    return found


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) not in {Union, types.UnionType}:
        return hint, False
    (only,) = [one for one in get_args(hint) if one is not type(None)]
    return only, True


def _is_open(hint: Any) -> bool:
    """Whether a tuple type takes any number of items."""
    return get_args(hint)[-1] is Ellipsis


def structure(node: Node, cls: type[T], *, ranges: Ranges, texts: Texts, problems: list[Problem]) -> T | None:
    """The value of class `cls` that the tree states; None where anything was added to `problems`."""
    before = len(problems)
    value = _Structuring(ranges, texts, problems).value(node, cls, "")
    return cast(T, value) if len(problems) == before else None


class _Structuring:
    def __init__(self, ranges: Ranges, texts: Texts, problems: list[Problem]) -> None:
        self._ranges = ranges
        self._texts = texts
        self._problems = problems

    def value(self, node: Node, hint: Any, path: str) -> Any:
        if dataclasses.is_dataclass(hint) and hint not in _PARSERS:
            return self._object(node, cast(type, hint), path)
        if hint == _PAIRS:
            return self._pairs(node, path)
        if get_origin(hint) is tuple:
            return self._tuple(node, hint, path)
        if not isinstance(node, Scalar):
            return self._wrong(node, path, _expected(hint))
        return self._scalar(node, hint, path)

    def _object(self, node: Node, cls: type, path: str) -> Any:
        if not isinstance(node, Mapping):
            return self._wrong(node, path, "a mapping")
        known = _fields(cls)
        arguments: dict[str, Any] = {}
        for key, below in node.entries.items():
            here = f"{path}.{key}" if path else key
            field = known.get(key)
            if field is None:
                self._unknown(below, here, key, tuple(known))
            else:
                arguments[field.name] = self._field(below, cls, field, here)
        for key, field in known.items():
            if field.name in arguments:
                continue
            if field.default is dataclasses.MISSING:
                here = f"{path}.{key}" if path else key
                self._refuse(node.place, here, "is missing", f"say {_expected(field.hint)}")
            arguments[field.name] = field.default
        if any(argument is _FAILED or argument is dataclasses.MISSING for argument in arguments.values()):
            return _FAILED
        return cls(**arguments)

    def _field(self, node: Node, cls: type, field: _Field, path: str) -> Any:
        if field.optional and _says_nothing(node):
            return None
        # A section whose lines are all commented out reads as null; `auto` is a word of its own in some choices.
        if field.default is not dataclasses.MISSING and isinstance(node, Scalar) and _says_nothing(node):
            return field.default
        value = self.value(node, field.hint, path)
        if isinstance(value, int) and not isinstance(value, bool):
            low, high = _inherited(self._ranges, cls, field.name) or (0, 2**31 - 1)
            if not low <= value <= high:
                self._refuse(node.place, path, f"is {value}, outside of {low} to {high}", None)
                return _FAILED
        form = _inherited(self._texts, cls, field.name)
        if form is not None and value is not _FAILED and not self._formed(node, form, path):
            return _FAILED
        return value

    def _formed(self, node: Node, form: Form | Pairs, path: str) -> bool:
        """Whether every text of the node has its form; what has not is noted."""
        match node:
            case Scalar():
                return not isinstance(form, Pairs) and self._fits(node, form, path)
            case Sequence():
                items = [self._formed(below, form, f"{path}[{at}]") for at, below in enumerate(node.items)]
                return all(items)
            case Mapping():
                if not isinstance(form, Pairs):
                    return False
                pairs = [self._pair_fits(key, below, form, f"{path}.{key}") for key, below in node.entries.items()]
                return all(pairs)

    def _pair_fits(self, key: str, node: Node, form: Pairs, path: str) -> bool:
        if not form.key.fits(key):
            self._refuse(node.place, path, f"is {key!r} where {form.key.expected} is expected", None)
            return False
        return isinstance(node, Scalar) and self._fits(node, form.values.get(key, form.value), path)

    def _fits(self, node: Scalar, form: Form, path: str) -> bool:
        if form.fits(node.text):
            return True
        self._wrong(node, path, form.expected)
        return False

    def _pairs(self, node: Node, path: str) -> Any:
        if not isinstance(node, Mapping):
            return self._wrong(node, path, "a mapping of text")
        pairs = [(key, self.value(below, str, f"{path}.{key}")) for key, below in node.entries.items()]
        return _FAILED if any(value is _FAILED for _, value in pairs) else tuple(sorted(pairs))

    def _tuple(self, node: Node, hint: Any, path: str) -> Any:
        arguments = get_args(hint)
        if not isinstance(node, Sequence):
            return self._wrong(node, path, "a list", "begin each entry with `- `")
        kinds = [arguments[0]] * len(node.items) if _is_open(hint) else list(arguments)
        if len(kinds) != len(node.items):
            return self._wrong(node, path, f"a list of {len(kinds)}", f"it has {len(node.items)} entries")
        items = [
            self.value(item, kind, f"{path}[{at}]")
            for at, (item, kind) in enumerate(zip(node.items, kinds, strict=True))
        ]
        return _FAILED if any(item is _FAILED for item in items) else tuple(items)

    def _scalar(self, node: Scalar, hint: Any, path: str) -> Any:
        if hint in {int, bool, float}:
            fits = type(node.value) is hint or (hint is float and node.kind == "number")
            value = float(node.text) if fits and hint is float else node.value
            return value if fits else self._wrong(node, path, _expected(hint))
        if node.kind != "text" and (node.quotable or node.kind == "null"):
            quote = f'put it in quotes: "{node.text}"' if node.text else None
            return self._wrong(node, path, _expected(hint), quote)
        if hint is str:
            return node.text
        try:
            return hint(node.text) if hint not in _PARSERS else _PARSERS[hint][0](node.text)
        except ValueError as error:
            if hint in _PARSERS:
                self._refuse(node.place, path, str(error), _PARSERS[hint][1] if hint is CpuSet else None)
                return _FAILED
            close = nearest(node.text, tuple(hint))
            return self._wrong(node, path, _expected(hint), f"did you mean {close}?" if close else None)

    def _unknown(self, node: Node, path: str, key: str, known: tuple[str, ...]) -> None:
        close = nearest(key, known)
        hint = f"did you mean {close}?" if close else f"known here: {', '.join(known)}"
        self._refuse(node.place, path, "is not a key of this document", hint)

    def _wrong(self, node: Node, path: str, expected: str, hint: str | None = None) -> object:
        self._refuse(node.place, path, f"is {described(node)} where {expected} is expected", hint)
        return _FAILED

    def _refuse(self, place: str, path: str, what: str, hint: str | None) -> None:
        self._problems.append(Problem(what=what, where=f"{place}: {path}" if path else place, hint=hint))


def _inherited(table: Dict[tuple[type, str], T], cls: type, field: str) -> T | None:
    """The entry of a field, of the class or of the nearest that it inherits from."""
    return next((table[one, field] for one in cls.__mro__ if (one, field) in table), None)


def _says_nothing(node: Node) -> bool:
    """Whether a value that may be left out is left out: null, `auto`, or a section of nothing but that."""
    match node:
        case Scalar():
            return node.kind == "null" or (node.kind == "text" and node.text == _AUTO)
        case Sequence():
            return not node.items
        case Mapping():
            return all(_says_nothing(below) for below in node.entries.values())


def _expected(hint: Any) -> str:
    if hint in _PARSERS:
        return _PARSERS[hint][1]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return f"one of {', '.join(hint)}"
    if get_origin(hint) is tuple:
        return "a list"
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false"}.get(hint, "a mapping")


def plain(value: Any, hint: Any = None) -> Any:
    """The value as mappings, lists, texts and numbers; absent facts stay None."""
    if isinstance(value, (str, CpuSet, PciAddress, PageSize)):
        return str(value)
    if value is None or isinstance(value, (int, float)):
        return value
    if dataclasses.is_dataclass(value):
        fields = _fields(cast(type, type(value)))
        return {key: plain(getattr(value, field.name), field.hint) for key, field in fields.items()}
    if hint == _PAIRS:
        return dict(value)
    if isinstance(value, frozenset):
        return sorted(plain(item) for item in value)
    return [plain(item) for item in value]
