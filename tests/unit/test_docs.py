"""What the documents describe is what there is."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from pathlib import Path

import resource_pages

from nfvhost.doctor import RULES
from nfvhost.errors import ExitCode
from nfvhost.model.profile import Profile
from nfvhost.model.vnf import DEFAULT_REASONS, Vnf
from nfvhost.planfile.names import key_of
from nfvhost.resources.order import ORDER

DOCS = Path(__file__).parents[2] / "docs"
FAILURES = DOCS / "field-failures.md"


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


def test_every_failure_of_the_field_has_a_test_that_names_its_row() -> None:
    rows = {int(one) for one in re.findall(r"^\| (\d+) \|", FAILURES.read_text(encoding="utf-8"), re.MULTILINE)}
    tested = {
        int(row)
        for path in Path(__file__).parents[1].rglob("test_*.py")
        for call in re.findall(r"field_failure\(([\d, ]+)\)", path.read_text(encoding="utf-8"))
        for row in call.split(",")
    }
    assert rows == set(range(1, len(rows) + 1))
    assert tested == rows


def test_the_rules_that_look_for_a_failure_are_the_doctors() -> None:
    lines = [line for line in FAILURES.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d", line)]
    named = {rule.strip() for line in lines for rule in line.split("|")[4].split(",") if rule.strip()}
    assert named <= {rule.name for rule in RULES}


def test_every_key_of_a_vnf_is_described_with_the_reason_for_its_default() -> None:
    text = (DOCS / "vnf.md").read_text(encoding="utf-8")
    described = set(re.findall(r"\w+", text))
    keys = {key_of(field.name) for one in value_classes(Vnf) for field in dataclasses.fields(one)}
    assert len(keys) > 35
    assert keys - described == set()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    untold = [
        (kind.__name__, field)
        for (kind, field), reason in DEFAULT_REASONS.items()
        if not any(line.startswith(f"| `{key_of(field)}` |") and line.endswith(f"| {reason} |") for line in rows)
    ]
    assert untold == []
