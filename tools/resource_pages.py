"""Writes docs/resources/: a page for each resource, from its own docstring.

`python tools/resource_pages.py` writes them; `--check` only says which differ, and exits with 1 then.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from nfvhost import resources
from nfvhost.resources import Resource
from nfvhost.resources.order import ORDER

TOP: Final = Path(__file__).parents[1]
PAGES: Final = TOP / "docs" / "resources"
# What each docstring says of its resource, and how the page calls it.
LABELS: Final = {
    "Configured": "Where it is set",
    "Active": "Where it shows",
    "Keys": "What its changes are called",
    "Effect": "When it takes effect",
    "Refuses": "What it refuses",
    "Rollback": "What a rollback does",
    "Source": "Sources",
}
_LABEL: Final = re.compile(rf"({'|'.join(LABELS)}): *(.*)")
# A path of the machine, which is set as code: `<address>` in it would be taken for HTML.
_MACHINE_PATH: Final = re.compile(r"(?<![\w`<.])/[A-Za-z][^\s,;:()]*[^\s,;:().]")
_FIELD: Final = re.compile(r" {4}(\w+): [^#]*# (.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the docstring of a resource says."""

    name: str
    title: str  # its first line
    text: tuple[str, ...]  # paragraphs
    labels: dict[str, str]
    state: tuple[tuple[str, str], ...]  # fields of its state and their comments
    module: str

    @property
    def missing(self) -> tuple[str, ...]:
        """The labels that the docstring lacks."""
        return tuple(label for label in LABELS if not self.labels.get(label))


def all_resources() -> tuple[Resource[Any], ...]:
    """Every resource of nfvhost, those of the order first and in it."""
    found = {one.name: one for one in ORDER}
    for module in _modules(resources):
        for value in vars(module).values():
            for one in _instances(value, module):
                found.setdefault(one.name, one)
    return tuple(found.values())


def page_of(resource: Resource[Any]) -> Page:
    """The page of a resource: by the text under the constant that it is, else by its class."""
    title, *rest = (_own_text(resource) or inspect.getdoc(type(resource)) or "").split("\n")
    paragraphs: list[str] = []
    labels: dict[str, str] = {}
    current: str | None = None
    for line in map(str.strip, rest):
        if (match := _LABEL.match(line)) is not None:
            current = match[1]
            labels[current] = match[2]
        elif current is not None:
            labels[current] = f"{labels[current]} {line}".strip()
        elif not line:
            paragraphs.append("")
        elif paragraphs:
            paragraphs[-1] = f"{paragraphs[-1]} {line}".strip()
    return Page(
        name=resource.name,
        title=title,
        text=tuple(filter(None, paragraphs)),
        labels=labels,
        state=tuple(_comments(resource.state_type)),
        module=type(resource).__module__ if _constant(resource) is None else _defining(resource).__name__,
    )


def written(page: Page) -> str:
    """The page in Markdown."""
    names = [one.name for one in ORDER]
    lines = [f"<!-- Made by tools/resource_pages.py from {_path(page.module)}. -->", f"# {page.name}", ""]
    for paragraph in (page.title, *page.text):
        lines += [_prose(paragraph), ""]
    said = page.labels
    lines += [f"- **{heading}**: {_prose(said[label])}" for label, heading in LABELS.items() if label in said]
    if page.name in names:
        at = names.index(page.name)
        after = f"after [{names[at - 1]}]({names[at - 1]}.md)" if at else "first of all"
        lines.append(f"- **Its place in an apply**: {after}; a rollback goes the other way round.")
    if page.state:
        lines += [
            "",
            "Of what it looks at:",
            "",
            "| state | what it is |",
            "| --- | --- |",
        ]
        lines += [f"| `{field}` | {_cell(comment)} |" for field, comment in page.state]
    return "\n".join(lines) + "\n"


def index(pages: tuple[Page, ...]) -> str:
    """The page that lists the others."""
    return "\n".join(
        [
            "<!-- Made by tools/resource_pages.py. -->",
            "# Resources",
            "",
            "What `nfvhost apply` can change, in the order in which it does; a rollback goes the other way round.",
            "`--only NAME…` and `--skip NAME…` choose among them.",
            "",
            "| resource | what it is |",
            "| --- | --- |",
            *(f"| [{page.name}]({page.name}.md) | {_cell(page.title)} |" for page in pages),
            "",
        ]
    )


def documents() -> dict[str, str]:
    """The name of each file of docs/resources/, and what it is to hold."""
    pages = tuple(map(page_of, all_resources()))
    return {"README.md": index(pages), **{f"{page.name}.md": written(page) for page in pages}}


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def _instances(value: object, module: ModuleType) -> Iterator[Resource[Any]]:
    """The resources that a name of a module stands for: one that is there, or a class that makes one by itself."""
    verbs = ("state_type", "read", "diff", "check", "apply", "verify", "rollback")
    if not all(hasattr(value, verb) for verb in verbs) or value is Resource:
        return
    if not isinstance(value, type):
        yield value  # type: ignore[misc]  # it has all the verbs
    elif value.__module__ == module.__name__ and not _needs_arguments(value):
        yield value()


def _needs_arguments(kind: type) -> bool:
    parameters = inspect.signature(kind).parameters.values()
    return any(one.default is inspect.Parameter.empty for one in parameters)


def _defining(resource: Resource[Any]) -> ModuleType:
    """The module that has the constant of this resource, else that of its class."""
    for module in _modules(resources):
        if module.__name__ != f"{resources.__name__}.order" and _constant_in(module, resource) is not None:
            return module
    return sys.modules[type(resource).__module__]


def _constant(resource: Resource[Any]) -> str | None:
    return _constant_in(_defining(resource), resource)


def _constant_in(module: ModuleType, resource: Resource[Any]) -> str | None:
    """The name by which a module makes this very resource."""
    names = {name for node in ast.parse(inspect.getsource(module)).body for name in _assigned(node)}
    return next((name for name in sorted(names) if vars(module).get(name) is resource), None)


def _own_text(resource: Resource[Any]) -> str | None:
    """The text right below the constant of this resource; None where there is none."""
    name = _constant(resource)
    for node, below in itertools.pairwise(ast.parse(inspect.getsource(_defining(resource))).body):
        if name in _assigned(node) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            return inspect.cleandoc(str(below.value.value))
    return None


def _assigned(node: ast.stmt) -> tuple[str, ...]:
    """The names that a statement gives a value."""
    targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
    return tuple(target.id for target in targets if isinstance(target, ast.Name))


def _comments(kind: type) -> Iterator[tuple[str, str]]:
    """The fields of a state with the comment behind each."""
    for line in inspect.getsource(kind).splitlines():
        if (match := _FIELD.fullmatch(line)) is not None:
            yield match[1], match[2]


def _path(module: str) -> str:
    found = sys.modules[module].__file__
    return str(Path(found or "").relative_to(TOP))


def _prose(text: str) -> str:
    """The text in Markdown: what stands in backticks stays, paths join it, and nothing is HTML."""
    parts = text.split("`")
    for at in range(0, len(parts), 2):
        pieces = _MACHINE_PATH.split(parts[at])
        paths = _MACHINE_PATH.findall(parts[at])
        plain = [piece.replace("<", "&lt;") for piece in pieces]
        parts[at] = plain[0] + "".join(f"`{path}`{piece}" for path, piece in zip(paths, plain[1:], strict=True))
    return "`".join(parts)


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def main() -> int:
    """Exit code: 1 where `--check` finds a difference, or a docstring lacks a label."""
    check = "--check" in sys.argv[1:]
    wrong = [f"{page.name} lacks {', '.join(page.missing)}" for page in map(page_of, all_resources()) if page.missing]
    made = documents()
    PAGES.mkdir(exist_ok=True)
    there = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    for name in sorted({*made, *there}):
        if made.get(name) == there.get(name):
            continue
        if check:
            wrong.append(f"docs/resources/{name} is not what the docstrings say")
        elif name in made:
            (PAGES / name).write_text(made[name], encoding="utf-8")
        else:
            (PAGES / name).unlink()
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
