"""The table of what captured machines say otherwise than an oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from ruamel.yaml import YAML

if TYPE_CHECKING:
    from tests.conftest import Machine

_TABLE: Final = Path(__file__).with_name("disagreements.yaml")


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One fact of which the files of one machine say something else than an oracle."""

    machine: str
    fact: str  # as in NAME.expect.json; of a NIC "nics.<address>.<attribute>"
    ours: Any
    why: str  # what the files say


@pytest.fixture(scope="session")
def all_disagreements() -> tuple[Disagreement, ...]:
    rows = YAML(typ="safe", pure=True).load(_TABLE)
    return tuple(Disagreement(**row) for row in rows)


@pytest.fixture
def disagreements(all_disagreements: tuple[Disagreement, ...], machine: Machine) -> Mapping[str, Any]:
    """Our value of each fact of this machine that is known to differ."""
    return {row.fact: row.ours for row in all_disagreements if row.machine == machine.name}
