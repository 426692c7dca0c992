"""Which format a document has, and the way from old formats to today's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from nfvhost.errors import DocumentError, Problem
from nfvhost.planfile import v1
from nfvhost.planfile.names import nearest
from nfvhost.planfile.tree import Mapping, Node, Scalar, described, parse

Reader = Callable[[str, str], tuple[Node | None, list[Problem]]]

CURRENT: Final = v1.API_VERSION
# From each older version, the pure step to the next one; a document walks them all. v1 is the first.
_STEPS: Final[dict[str, tuple[str, Callable[[Mapping], Mapping]]]] = {}
_NUMBERED: Final = re.compile(r"nfvhost/v([0-9]{1,9})")
_COMMANDS: Final = {
    "Profile": "`nfvhost plan --profile` takes it",
    "Plan": "`nfvhost apply` takes it",
    "Vnf": "`nfvhost launch` takes it",
}


def open_document(text: str, *, where: str, kind: str, reader: Reader = parse) -> tuple[Mapping, list[Problem]]:
    """The tree of a document of this kind in today's format, and what was wrong with its YAML.

    Raises DocumentError for anything that is no such document.
    """
    top, problems = reader(text, where)
    if top is None:
        raise DocumentError("is empty", where=where, hint=f"begin with `apiVersion: {CURRENT}` and `kind: {kind}`")
    if not isinstance(top, Mapping):
        raise DocumentError(
            f"holds {described(top)} where a mapping is expected",
            where=top.place,
            hint=f"begin with `apiVersion: {CURRENT}` and `kind: {kind}`",
        )
    wrong = [*_version_problems(top), *_kind_problems(top, kind)]
    if wrong:
        raise DocumentError.of((*problems, *wrong))
    while (version := _text(top.entries["apiVersion"])) != CURRENT:
        target, step = _STEPS[version]
        top = step(top)
        top = Mapping(place=top.place, entries={**top.entries, "apiVersion": _written(top.place, target)})
    body = {key: node for key, node in top.entries.items() if key not in {"apiVersion", "kind"}}
    return Mapping(place=top.place, entries=body), problems


def _text(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def _written(place: str, text: str) -> Scalar:
    return Scalar(place=place, value=text, text=text, kind="text")


def _version_problems(top: Mapping) -> list[Problem]:
    node = top.entries.get("apiVersion")
    if node is None:
        close = nearest("apiVersion", tuple(top.entries))
        hint = f"{close} is spelt apiVersion" if close else f"write `apiVersion: {CURRENT}` as its first line"
        return [Problem(what="apiVersion is missing", where=top.place, hint=hint)]
    version = _text(node)
    if version == CURRENT or version in _STEPS:
        return []
    where = f"{node.place}: apiVersion"
    number = _NUMBERED.fullmatch(version)
    if number and int(number[1]) > int(CURRENT.removeprefix("nfvhost/v")):
        what = f"{version} is a later format than this nfvhost knows ({CURRENT})"
        return [Problem(what=what, where=where, hint="take a later nfvhost")]
    return [Problem(what=f"is {described(node)}, no format of nfvhost", where=where, hint=f"write {CURRENT}")]


def _kind_problems(top: Mapping, kind: str) -> list[Problem]:
    node = top.entries.get("kind")
    if node is None:
        return [Problem(what="kind is missing", where=top.place, hint=f"write `kind: {kind}` below apiVersion")]
    found = _text(node)
    if found == kind:
        return []
    where = f"{node.place}: kind"
    if found in v1.KINDS:
        return [Problem(what=f"this is a {found}; a {kind} is wanted here", where=where, hint=_COMMANDS.get(found))]
    return [Problem(what=f"is {described(node)} where {kind} is expected", where=where, hint=f"write `kind: {kind}`")]
