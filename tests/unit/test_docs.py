"""What the documents describe is what there is."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from pathlib import Path

from nfvhost.errors import ExitCode
from nfvhost.model.profile import Profile
from nfvhost.planfile.names import key_of

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
