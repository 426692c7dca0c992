"""What the documents describe is what there is."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from pathlib import Path

import resource_pages

from nfvhost.errors import ExitCode
from nfvhost.model.profile import Profile
from nfvhost.planfile.names import key_of
from nfvhost.resources.order import ORDER

DOCS = Path(__file__).parents[2] / "docs"


def value_classes(kind: object) -> set[type]:
    """The dataclasses that an annotation reaches."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return {kind}.union(*(value_classes(one) for one in typing.get_type_hints(kind).values()))
    if isinstance(kind, types.UnionType | types.GenericAlias):
        return set().union(*(value_classes(one) for one in typing.get_args(kind)))
    return set()


def test_every_key_of_a_profile_is_described() -> None:
    described = set(re.findall(r"\w+", (DOCS / "profiles.md").read_text(encoding="utf-8")))
    classes = [one for one in value_classes(Profile) if one.__module__ == Profile.__module__]
    assert len(classes) > 10
    keys = {key_of(field.name) for one in classes for field in dataclasses.fields(one)}
    assert keys - described == set()


def test_every_exit_code_is_described() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", (DOCS / "exit-codes.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [(int(code), name) for code, name in rows] == [(code.value, code.name) for code in ExitCode]


def test_every_resource_says_where_it_writes_when_it_takes_effect_and_what_it_refuses() -> None:
    pages = [resource_pages.page_of(one) for one in resource_pages.all_resources()]
    assert len(pages) > 5
    assert {page.name: page.missing for page in pages if page.missing} == {}
    assert [page.name for page in pages if not page.title.endswith(".")] == []


def test_every_resource_has_its_page_and_the_pages_are_what_the_docstrings_say() -> None:
    made = resource_pages.documents()
    there = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "resources").glob("*.md")}
    assert set(there) == set(made)
    stale = [name for name in made if made[name] != there[name]]
    assert not stale, "write them again: python tools/resource_pages.py"


def test_every_resource_of_the_order_has_a_page() -> None:
    assert {one.name for one in ORDER} <= {one.name for one in resource_pages.all_resources()}
