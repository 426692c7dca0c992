"""Who acts, who waits for a reboot, and who is refused."""

from __future__ import annotations

import pytest

from nfvhost.engine.outlook import Course, Prospect, outlook, waiting_drifts
from nfvhost.errors import Problem
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.resources import Unmet


def change(resource: str, activation: Activation = Activation.NOW) -> Change:
    return Change(
        resource=resource,
        key="key",
        before=None,
        after="new",
        activation=activation,
        disruption=Disruption.NONE,
        reason="a test asks for it",
    )


def one(
    name: str, *activations: Activation, needs: tuple[str, ...] = (), wrong: str | None = None, pending: bool = False
) -> Prospect:
    unmet = tuple(Unmet(what=f"without {other}", met_by=other) for other in needs)
    return Prospect(
        name=name,
        changes=tuple(change(name, activation) for activation in activations),
        problems=(*unmet, *((Problem(what=wrong),) if wrong is not None else ())),
        pending=pending,
    )


def courses(*prospects: Prospect, left_out: frozenset[str] = frozenset()) -> list[Course]:
    return list(outlook(prospects, left_out=left_out))


NOW, REBOOT, RESTART = Activation.NOW, Activation.REBOOT, Activation.RESTART
FREE = Course()


@pytest.mark.parametrize("activation", [NOW, RESTART])
def test_what_another_one_is_about_to_meet_is_no_refusal(activation: Activation) -> None:
    assert courses(one("a", activation), one("b", NOW, needs=("a",))) == [FREE, FREE]


def test_what_only_a_reboot_meets_waits_with_all_that_need_it() -> None:
    found = courses(
        one("kernel", REBOOT), one("binding", NOW, needs=("kernel",)), one("switch", NOW, needs=("binding",))
    )
    assert [course.waits_for for course in found] == [(), ("kernel",), ("binding", "kernel")]
    assert found[2].detail == "waits for binding, which waits for kernel, which waits for the reboot"


def test_what_waits_since_an_earlier_apply_holds_back_as_well() -> None:
    found = courses(one("kernel", pending=True), one("binding", NOW, needs=("kernel",)))
    assert found[1].waits_for == ("kernel",)


def test_a_resource_without_changes_passes_its_waiting_on() -> None:
    found = courses(one("kernel", REBOOT), one("iommu", needs=("kernel",)), one("binding", NOW, needs=("iommu",)))
    assert found[2].waits_for == ("iommu", "kernel")


def test_one_that_acts_and_waits_is_given_its_chance_first() -> None:
    assert courses(one("pages", NOW, REBOOT), one("switch", NOW, needs=("pages",))) == [FREE, FREE]
    assert courses(one("pages", NOW, pending=True), one("switch", NOW, needs=("pages",))) == [FREE, FREE]


def test_what_nobody_is_going_to_meet_is_refused_in_its_own_words() -> None:
    for others in ((one("a"),), ()):
        course = courses(*others, one("b", NOW, needs=("a",)))[-1]
        assert [problem.what for problem in course.refusals] == ["without a"]
        assert course.waits_for == ()


def test_what_one_that_is_left_out_would_meet_is_refused_and_says_so() -> None:
    (course,) = courses(one("b", NOW, needs=("a",)), left_out=frozenset({"a"}))
    assert [problem.what for problem in course.refusals] == ["without a; a would see to it, and is left out"]


def test_one_that_comes_later_meets_nothing() -> None:
    assert courses(one("b", NOW, needs=("a",)), one("a", NOW))[0].refusals


def test_a_refusal_counts_more_than_waiting() -> None:
    course = courses(one("kernel", REBOOT), one("b", NOW, needs=("kernel",), wrong="no"))[1]
    assert [problem.what for problem in course.refusals] == ["no"]
    assert course.waits_for == ()


def test_what_waits_is_shown_as_drifts_that_a_reboot_mends() -> None:
    (drift,) = waiting_drifts((change("switch"),), Course(waits_for=("kernel",)))
    assert (drift.planned, drift.actual, drift.pending) == ("new", None, REBOOT)
    assert drift.hint == "waits for kernel, which waits for the reboot"
