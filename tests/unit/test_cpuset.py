"""Sets of CPUs against Python's own sets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfvhost.model.cpuset import EMPTY, MAX_CPUS, CpuSet, union

CPUS = st.frozensets(st.integers(0, 700), max_size=80)


@given(CPUS)
def test_what_is_written_is_read_back(cpus: frozenset[int]) -> None:
    made = CpuSet(cpus)
    assert CpuSet.parse(str(made)) == made
    assert CpuSet.parse_mask(made.mask) == made
    assert list(made) == sorted(cpus)
    assert len(made) == len(cpus)
    assert bool(made) == bool(cpus)


@given(CPUS)
def test_a_list_has_ascending_ranges_that_do_not_touch(cpus: frozenset[int]) -> None:
    ranges = [[int(end) for end in part.split("-")] for part in str(CpuSet(cpus)).split(",") if part]
    assert all(first[-1] + 1 < second[0] for first, second in pairwise(ranges))
    assert all(len(one) == 1 or one[0] < one[1] for one in ranges)


@given(CPUS, CPUS)
def test_the_operators_are_those_of_sets(one: frozenset[int], other: frozenset[int]) -> None:
    first, second = CpuSet(one), CpuSet(other)
    assert set(first | second) == one | other == set(union((first, second)))
    assert set(first & second) == one & other
    assert set(first - second) == one - other
    assert (first <= second) == (one <= other)
    assert first.isdisjoint(second) == one.isdisjoint(other)
    assert (first == second) == (one == other)
    assert (first != second) or hash(first) == hash(second)
    assert all(cpu in first for cpu in one)
    assert not any(cpu in first for cpu in other - one)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n", []),
        ("3", [3]),
        ("0-3,8\n", [0, 1, 2, 3, 8]),
        ("8,0-1", [0, 1, 8]),
        ("0-6:2", [0, 2, 4, 6]),
        ("0-7:2/4", [0, 1, 4, 5]),
        ("0-1\0\n", [0, 1]),
    ],
)
def test_every_form_of_the_kernels_lists_is_read(text: str, expected: list[int]) -> None:
    assert list(CpuSet.parse(text)) == expected


@pytest.mark.parametrize("text", ["a", "-1", "3-1", "1-", "1,,2", "0-7:0", "0-7:5/4", str(MAX_CPUS), "0x3", "1 2"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        CpuSet.parse(text)


def test_masks_of_sysfs_and_of_ovs_are_read() -> None:
    assert list(CpuSet.parse_mask("00000001,80000001\n")) == [0, 31, 32]
    assert list(CpuSet.parse_mask("0x404")) == [2, 10]
    assert EMPTY.mask == "0x0"


def test_the_lowest_cpu_is_the_first_and_nothing_has_none() -> None:
    assert CpuSet([9, 4]).first == 4
    with pytest.raises(ValueError, match="no first CPU"):
        _ = EMPTY.first


def test_in_a_sentence_one_cpu_stands_in_the_singular() -> None:
    assert CpuSet([3]).named == "CPU 3"
    assert CpuSet.parse("2-3,18").named == "CPUs 2-3,18"
