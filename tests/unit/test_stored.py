from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ovs_model import bridge, port, rows, state

from nfvhost.engine.stored import restored, stored
from nfvhost.model.change import Activation
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.pci import PciAddress
from nfvhost.model.units import PageSize
from nfvhost.resources.ovs_dpdk.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    radius: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    side: int
    name: str = "square"


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    text: str
    number: int | None
    share: float
    flag: bool
    content: bytes | None
    cpus: CpuSet
    pci: PciAddress | None
    page: PageSize
    when: Activation
    pairs: tuple[tuple[str, str], ...]
    names: frozenset[str]
    shapes: tuple[Circle | Square, ...]
    either: Circle | Square | None


SHAPES = st.builds(Circle, radius=st.integers()) | st.builds(Square, side=st.integers())
EVERYTHING = st.builds(
    Everything,
    text=st.text(st.characters(codec=None)),
    number=st.none() | st.integers(),
    share=st.floats(allow_nan=False),
    flag=st.booleans(),
    content=st.none() | st.binary(),
    cpus=st.builds(CpuSet, st.sets(st.integers(0, 300))),
    pci=st.none() | st.just(PciAddress.parse("0000:10:00.0")),
    page=st.sampled_from([PageSize.MIB_2, PageSize.GIB_1, PageSize(64)]),
    when=st.sampled_from(list(Activation)),
    pairs=st.lists(st.tuples(st.text(), st.text())).map(tuple),
    names=st.frozensets(st.text()),
    shapes=st.lists(SHAPES).map(tuple),
    either=st.none() | SHAPES,
)


@given(EVERYTHING)
def test_whatever_is_stored_comes_back_equal_through_json(value: Everything) -> None:
    text = json.dumps(stored(value, Everything))
    assert restored(json.loads(text), Everything) == value


def test_the_state_of_open_vswitch_comes_back_equal() -> None:
    one = state(rows(bridge("br0", port("p0", "dpdk", options={"n_rxq": "2"}, ofport=-1)), next_cfg=2**40))
    assert restored(json.loads(json.dumps(stored(one, State))), State) == one


def test_a_field_that_came_later_has_its_default() -> None:
    assert restored({"side": 2}, Square) == Square(side=2)


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        ({"side": "2"}, Square),
        ({"side": True}, Square),
        ({"side": None}, Square),
        ({}, Square),
        ({"side": 2, "colour": "red"}, Square),
        ([], Square),
        ({"kind": "triangle"}, Circle | Square),
        ({"radius": 1}, Circle | Square),
        ("%", bytes),
        ("x-y", CpuSet),
        ("tomorrow", Activation),
        (["a"], tuple[str, str]),
        ({}, tuple[str, ...]),
    ],
)
def test_what_is_no_such_value_is_refused(document: Any, hint: Any) -> None:  # noqa: ANN401 - any JSON, any annotation
    with pytest.raises(ValueError, match=r"."):
        restored(document, hint)


@pytest.mark.parametrize(("value", "hint"), [({"a": 1}, dict[str, int]), (1, str | int), ([1], list[int])])
def test_a_type_that_would_not_come_back_is_refused_at_once(value: object, hint: object) -> None:
    with pytest.raises(TypeError):
        stored(value, hint)
