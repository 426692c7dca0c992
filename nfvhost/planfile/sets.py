"""Single values of a document, set from the command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nfvhost.errors import DocumentError, Problem, UsageError
from nfvhost.planfile.tree import Mapping, Node, Scalar, Sequence, described, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

_STEP: Final = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_-]*)|\[([0-9]{1,4})\]")


def apply_sets(document: Mapping, sets: Iterable[str]) -> tuple[Mapping, list[Problem]]:
    """The document with each `path=value` of `sets` done in order, and what is wrong with them.

    A path is `pmd.cores` or `nics[0].role`; the index after the last one adds an entry. A value is YAML. UsageError
    for what has no path.
    """
    problems: list[Problem] = []
    for one in sets:
        path, equals, text = one.partition("=")
        steps = _steps(path.strip())
        if not equals or not steps:
            raise UsageError(
                "is not KEY=VALUE",
                where=f"--set {one}",
                hint="for example --set pmd.cores=2 or --set nics[0].role=dpdk",
            )
        place = f"--set {one}"
        try:
            value, inside = parse(text, place)
        except DocumentError:
            problems.append(Problem(what=f"{text!r} is not YAML", where=place, hint=f"quote it: '{path}=\"...\"'"))
            continue
        problems += inside
        value = _placed(value or Scalar(place=place, value=None, text="", kind="null"), place)
        changed = _with(document, steps, value, place=place, path="", problems=problems)
        if isinstance(changed, Mapping):
            document = changed
    return document, problems


def _steps(path: str) -> list[str | int]:
    """The keys and indexes of a path; none where it is not one."""
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or (at == 0 and not match[1]) or (match[1] and (at == 0) == match[0].startswith(".")):
            return []
        steps.append(match[1] or int(match[2]))
        at = match.end()
    return steps


def _with(
    node: Node | None, steps: list[str | int], value: Node, *, place: str, path: str, problems: list[Problem]
) -> Node:
    if not steps:
        return value
    step, *rest = steps
    if node is None or (isinstance(node, Scalar) and node.text in {"", "auto"}):
        node = Mapping(place=place, entries={}) if isinstance(step, str) else Sequence(place=place, items=())
    here = f"{path}[{step}]" if isinstance(step, int) else f"{path}.{step}" if path else step
    if isinstance(step, str) and isinstance(node, Mapping):
        below = _with(node.entries.get(step), rest, value, place=place, path=here, problems=problems)
        return Mapping(place=node.place, entries={**node.entries, step: below})
    if isinstance(step, int) and isinstance(node, Sequence) and step <= len(node.items):
        before = node.items[step] if step < len(node.items) else None
        below = _with(before, rest, value, place=place, path=here, problems=problems)
        return Sequence(place=node.place, items=(*node.items[:step], below, *node.items[step + 1 :]))
    if isinstance(node, Sequence) and isinstance(step, int):
        what, hint = f"there is no {here}: the list has {len(node.items)}", f"the next is [{len(node.items)}]"
    else:
        what, hint = f"{path or 'the top'} is {described(node)}, so there is no {here}", None
    problems.append(Problem(what=what, where=place, hint=hint))
    return node


def _placed(node: Node, place: str) -> Node:
    """The node without the line numbers of the one-line text that it was read from."""
    match node:
        case Scalar():
            return Scalar(place=place, value=node.value, text=node.text, kind=node.kind, quotable=False)
        case Sequence():
            return Sequence(place=place, items=tuple(_placed(item, place) for item in node.items))
        case Mapping():
            entries = {key: _placed(below, place) for key, below in node.entries.items()}
            return Mapping(place=place, entries=entries)
