"""Frozen values as plain JSON and back, by the annotations of their own classes; what comes back is equal.

For the journal alone. Documents of people have their own way (planfile/structure.py): it drops what says nothing,
renames keys, limits ranges and turns pairs into mappings, so that a value does not come back from it as it was.
"""

# ruff: noqa: ANN401 - what an annotation may be, and what JSON may hold, has no narrower type

from __future__ import annotations

import base64
import binascii
import dataclasses
import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.pci import PciAddress
from nfvhost.model.units import PageSize

_KIND = "kind"
_PLAIN = (str, int, float, bool)
_TEXTS: dict[Any, Any] = {CpuSet: CpuSet.parse, PciAddress: PciAddress.parse, PageSize: PageSize.parse}


def stored(value: Any, hint: Any) -> Any:
    """The value, of the type that the annotation `hint` names, as mappings, lists, texts, numbers and null.

    A dataclass is a mapping by its fields' names; bytes are base64; among several classes (`A | B`) the mapping says
    which by `kind`. TypeError where the type is none that comes back.
    """
    if value is None:
        return None
    members = _members(hint)
    if members is not None:
        chosen = _of_members(value, members)
        document = stored(value, chosen)
        return {_KIND: chosen.__name__.lower(), **document} if _tagged(members) else document
    atom = _atom(hint)
    if atom is not None:
        return atom.store(value)
    if dataclasses.is_dataclass(hint):
        return {name: stored(getattr(value, name), below) for name, below in _hints(cast(type, hint)).items()}
    return _stored_many(value, hint)


def restored(document: Any, hint: Any) -> Any:
    """The value that `stored` made this of; ValueError where it is none of that type.

    A field that is not there has its default: it came with a later version.
    """
    members = _members(hint)
    if members is not None:
        return _restored_member(document, hint, members)
    atom = _atom(hint)
    if atom is not None:
        return atom.restore(document)
    if dataclasses.is_dataclass(hint):
        return _restored_object(document, cast(type, hint))
    return _restored_many(_demand(document, list), hint)


@dataclass(frozen=True, slots=True)
class _Atom:
    """The way of a value that is one text or number in JSON."""

    store: Callable[[Any], Any]
    restore: Callable[[Any], Any]


@cache
def _atom(hint: Any) -> _Atom | None:
    """The way of such values; None for others."""
    if hint is Any:
        return _Atom(lambda value: value, lambda document: document)
    if hint in _TEXTS:
        return _Atom(str, lambda document: _TEXTS[hint](_demand(document, str)))
    if hint is bytes:
        return _Atom(lambda value: base64.b64encode(value).decode(), _bytes)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _Atom(lambda value: value.value, hint)
    if hint in _PLAIN:
        return _Atom(lambda value: value, lambda document: _demand(document, hint))
    return None


def _bytes(document: Any) -> bytes:
    try:
        return base64.b64decode(_demand(document, str), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{document!r:.40} is no base64") from error


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@cache
def _members(hint: Any) -> tuple[Any, ...] | None:
    """The types of a union; None where the hint is none."""
    return get_args(hint) if get_origin(hint) in {Union, types.UnionType} else None


@cache
def _tagged(members: tuple[Any, ...]) -> bool:
    return sum(member is not type(None) for member in members) > 1


def _of_members(value: Any, members: tuple[Any, ...]) -> Any:
    some = [member for member in members if member is not type(None)]
    if len(some) == 1:
        return some[0]
    for member in some:
        if dataclasses.is_dataclass(member) and type(value) is member:
            return member
    raise TypeError(f"{type(value).__name__} is none of the classes {some}")


def _stored_many(value: Any, hint: Any) -> list[Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple and arguments[-1] is Ellipsis:
        return [stored(item, arguments[0]) for item in value]
    if origin is tuple:
        return [stored(item, below) for item, below in zip(value, arguments, strict=True)]
    if origin is frozenset:
        return sorted(stored(item, arguments[0]) for item in value)
    raise TypeError(f"{hint} does not come back from a journal")


def _restored_many(items: list[Any], hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is frozenset:
        return frozenset(restored(item, arguments[0]) for item in items)
    if origin is not tuple:
        raise TypeError(f"{hint} does not come back from a journal")
    if arguments[-1] is Ellipsis:
        return tuple(restored(item, arguments[0]) for item in items)
    if len(items) != len(arguments):
        raise ValueError(f"{len(items)} items where {len(arguments)} are expected")
    return tuple(restored(item, below) for item, below in zip(items, arguments, strict=True))


def _restored_member(document: Any, hint: Any, members: tuple[Any, ...]) -> Any:
    if document is None and type(None) in members:
        return None
    if not _tagged(members):
        return restored(document, next(member for member in members if member is not type(None)))
    fields = dict(_demand(document, dict))
    kind = fields.pop(_KIND, None)
    for member in members:
        if member is not type(None) and member.__name__.lower() == kind:
            return restored(fields, member)
    raise ValueError(f"{kind!r} is not one of {hint}")


def _restored_object(document: Any, cls: type) -> Any:
    hints = _hints(cls)
    given = _demand(document, dict)
    unknown = set(given) - set(hints)
    if unknown:
        raise ValueError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
    try:
        return cls(**{name: restored(below, hints[name]) for name, below in given.items()})
    except TypeError as error:  # a field that has no default is not there
        raise ValueError(str(error)) from error


def _demand(document: Any, kind: type) -> Any:
    # A true is no 1; a whole number is a float's JSON as well.
    if type(document) is not kind and not (kind is float and type(document) is int):
        raise ValueError(f"{document!r:.40} where {kind.__name__} is expected")
    return document
