"""Which resources of an apply act, which wait for a reboot, and which are refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.errors import Problem
from nfvhost.model.change import Activation, Change
from nfvhost.model.report import Drift
from nfvhost.resources import Unmet

_REBOOT: Final = "the reboot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """One resource, read and compared with the plan."""

    name: str
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...] = ()
    pending: bool = False  # whether something that it has made before waits for a reboot


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a resource means to those that come after it."""

    acts: bool  # it is going to make changes that need no reboot
    waits_for: tuple[str, ...] | None  # what it waits for, the nearest first; () the reboot alone; None: nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What becomes of one resource."""

    refusals: tuple[Problem, ...] = ()
    waits_for: tuple[str, ...] = ()  # the resources between it and the reboot, the nearest first; (): it need not wait

    @property
    def detail(self) -> str:
        """`waits for driver_binding, which waits for the reboot`."""
        return f"waits for {', which waits for '.join((*self.waits_for, _REBOOT))}"


def course_of(problems: Iterable[Problem], standings: Mapping[str, Standing], *, left_out: Collection[str]) -> Course:
    """What becomes of a resource with these problems, after those of `standings`; `left_out` take no part."""
    refusals: list[Problem] = []
    waits_for: tuple[str, ...] = ()
    for problem in problems:
        standing = standings.get(problem.met_by) if isinstance(problem, Unmet) else None
        if standing is None:
            refusals.append(_refusal(problem, left_out))
        elif standing.acts:
            continue
        elif standing.waits_for is None or not isinstance(problem, Unmet):
            refusals.append(problem)
        else:
            waits_for = waits_for or (problem.met_by, *standing.waits_for)
    return Course(refusals=tuple(refusals), waits_for=() if refusals else waits_for)


def standing_of(changes: Iterable[Change], course: Course, *, pending: bool) -> Standing:
    """What a resource on that course means to those after it, before it has made these changes."""
    if course.waits_for:
        return Standing(acts=False, waits_for=course.waits_for)
    needs = {change.activation for change in changes}
    waits = pending or Activation.REBOOT in needs
    return Standing(acts=bool(needs - {Activation.REBOOT}), waits_for=() if waits else None)


def outlook(prospects: Iterable[Prospect], *, left_out: Collection[str]) -> tuple[Course, ...]:
    """The course of each, seen before any of them has acted; they are in the order of an apply."""
    standings: dict[str, Standing] = {}
    courses = []
    for one in prospects:
        course = course_of(one.problems, standings, left_out=left_out)
        standings[one.name] = standing_of(one.changes, course, pending=one.pending)
        courses.append(course)
    return tuple(courses)


def needed(problems: Iterable[Problem]) -> frozenset[str]:
    """The resources that would meet what is not met."""
    return frozenset(problem.met_by for problem in problems if isinstance(problem, Unmet))


def awaits_reboot(drifts: Iterable[Drift]) -> bool:
    """Whether any of these goes away by a reboot alone."""
    return any(drift.pending is Activation.REBOOT for drift in drifts)


def waiting_drifts(changes: Iterable[Change], course: Course) -> tuple[Drift, ...]:
    """The differences of a resource that waits, as what a reboot mends."""
    return tuple(Drift.of(change, hint=course.detail, pending=Activation.REBOOT) for change in changes)


def _refusal(problem: Problem, left_out: Collection[str]) -> Problem:
    if not isinstance(problem, Unmet) or problem.met_by not in left_out:
        return problem
    return replace(problem, what=f"{problem.what}; {problem.met_by} would see to it, and is left out")
