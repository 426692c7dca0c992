"""The engine with resources that are dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
import synthetic
from ovs_plans import OvsPlans

from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.engine import (
    Stage,
    Step,
    Store,
    apply,
    boot,
    history,
    revert_unless_confirmed,
    rollback,
    to_undo,
    verify,
)
from nfvhost.engine.apply import begin_of
from nfvhost.engine.lock import lock_path
from nfvhost.errors import ApplyError, PreconditionError, Problem, RollbackError, UsageError
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.report import Drift, Outcome
from nfvhost.planner.planned_host import planned_host
from nfvhost.resources import Unmet
from nfvhost.resources.order import ORDER, resources_at_boot, resources_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nfvhost.model.host import Host
    from nfvhost.model.plan import Plan

HOST = synthetic.host()
PLAN = replace(OvsPlans.plan(), host=planned_host(HOST))


@dataclass
class Shelf:
    """A resource that wants its one key to be `new`; what it does can be told to go wrong."""

    name: str
    activation: Activation = Activation.NOW
    value: str = "old"
    sticks: bool = True  # whether what is written stays written
    refuses: bool = False
    breaks: bool = False
    stuck: bool = False  # whether it cannot be put back
    needs: Shelf | None = None  # one that has to be `new` before
    calls: list[str] = field(default_factory=list)

    @property
    def state_type(self) -> type[str]:
        return str

    @property
    def active(self) -> bool:
        """Whether it is `new`, and no reboot is needed any more."""
        return self.value == "new" and self.activation is not Activation.REBOOT

    def read(self, machine: Machine, plan: Plan) -> str:
        del machine, plan
        return self.value

    def diff(self, state: str, plan: Plan) -> tuple[Change, ...]:
        del plan
        if state == "new":
            return ()
        return (
            Change(
                resource=self.name,
                key="key",
                before=state,
                after="new",
                activation=self.activation,
                disruption=Disruption.NONE,
                reason="a test asks for it",
            ),
        )

    def check(self, state: str, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del state, plan, host
        if self.needs is not None and not self.needs.active:
            return (Unmet(what=f"{self.name} stands on {self.needs.name}", met_by=self.needs.name),)
        return (Problem(what=f"{self.name} must not"),) if self.refuses else ()

    def findings(self, state: str, plan: Plan) -> tuple[Problem, ...]:
        del state, plan
        return (Problem(what=f"{self.name} is dusty"),)

    def apply(self, machine: Machine, state: str, changes: tuple[Change, ...]) -> None:
        del machine, state
        self.calls.append("apply" if changes else "again")
        if self.sticks:
            self.value = "new"
        if self.breaks:
            raise PreconditionError(f"{self.name} broke")

    def verify(self, machine: Machine, plan: Plan, *, seen: str | None = None) -> tuple[Drift, ...]:
        del machine, plan, seen
        drift = Drift(resource=self.name, key="key", planned="new", actual=self.value, pending=None)
        if self.activation is not Activation.NOW:
            return (replace(drift, pending=self.activation),)
        return () if self.value == "new" and self.sticks else (drift,)

    def image(self, state: str, changes: tuple[Change, ...]) -> str:
        del changes
        return state

    def foreign(self, machine: Machine, before: str, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        del machine, changes
        if self.value in {before, "new"}:
            return ()
        return (Problem(what=f"{self.name} is {self.value}", where=f"{self.name}: key"),)

    def rollback(
        self, machine: Machine, before: str, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        if self.foreign(machine, before, changes) and not force:
            return ()
        self.calls.append("rollback")
        if self.stuck:
            return (Problem(what=f"{self.name} is stuck"),)
        self.value = before
        return ()


@pytest.fixture
def bench(tmp_path: Path) -> Machine:
    return Machine(root=DirectoryRoot(str(tmp_path)), ovsdb=f"unix:{tmp_path}/db.sock")


def test_each_change_has_its_outcome_and_findings_are_warnings(bench: Machine) -> None:
    shelves = Shelf("a"), Shelf("b", Activation.RESTART), Shelf("c", Activation.REBOOT), Shelf("d", value="new")

    report = apply(PLAN, bench, HOST, resources=shelves)

    assert [(result.change.resource, result.outcome) for result in report.results] == [
        ("a", Outcome.APPLIED),
        ("b", Outcome.PENDING_RESTART),
        ("c", Outcome.PENDING_REBOOT),
    ]
    assert report.warnings == ("a is dusty", "b is dusty", "c is dusty", "d is dusty")
    assert shelves[3].calls == []


def test_one_refusal_stops_all_before_anything_is_done(bench: Machine) -> None:
    shelves = Shelf("a"), Shelf("b", refuses=True), Shelf("c", refuses=True)

    with pytest.raises(PreconditionError) as caught:
        apply(PLAN, bench, HOST, resources=shelves)

    assert [problem.what for problem in caught.value.problems] == ["b must not", "c must not"]
    assert all(shelf.calls == [] for shelf in shelves)


def test_what_an_earlier_resource_meets_is_looked_at_again_and_done(bench: Machine) -> None:
    first = Shelf("a")
    second = Shelf("b", needs=first)

    report = apply(PLAN, bench, HOST, resources=(first, second))

    assert [result.outcome for result in report.results] == [Outcome.APPLIED, Outcome.APPLIED]
    assert report.pending == ()
    assert (first.value, second.value) == ("new", "new")


def test_what_is_not_met_although_an_earlier_resource_acted_takes_all_back(bench: Machine) -> None:
    first = Shelf("a")
    second = Shelf("b", needs=Shelf("a"))

    with pytest.raises(ApplyError, match="everything was put back") as caught:
        apply(PLAN, bench, HOST, resources=(first, second))

    assert caught.value.problems[1].what == "b stands on a"
    assert (first.value, second.calls) == ("old", [])


def test_what_needs_the_reboot_waits_and_a_second_apply_writes_nothing(bench: Machine) -> None:
    kernel = Shelf("kernel", Activation.REBOOT)
    binding = Shelf("binding", needs=kernel)
    switch = Shelf("switch", needs=binding)
    other = Shelf("other")
    shelves = (kernel, binding, switch, other)

    report = apply(PLAN, bench, HOST, resources=shelves)

    assert [(one.change.resource, one.outcome, one.detail) for one in report.results] == [
        ("kernel", Outcome.PENDING_REBOOT, None),
        ("binding", Outcome.PENDING_REBOOT, "waits for kernel, which waits for the reboot"),
        ("switch", Outcome.PENDING_REBOOT, "waits for binding, which waits for kernel, which waits for the reboot"),
        ("other", Outcome.APPLIED, None),
    ]
    assert report.pending == ("kernel", "binding", "switch")
    assert [shelf.calls for shelf in shelves] == [["apply"], [], [], ["apply"]]
    assert {drift.resource for drift in verify(PLAN, bench, HOST, resources=shelves)} == set(report.pending)
    assert all(drift.pending is Activation.REBOOT for drift in verify(PLAN, bench, HOST, resources=shelves))

    again = apply(PLAN, bench, HOST, resources=shelves)

    assert [one.change.resource for one in again.results] == ["binding", "switch"]
    assert again.pending == report.pending
    assert [shelf.calls for shelf in shelves] == [["apply"], [], [], ["apply"]]
    assert len(history(bench)) == 1


def test_what_one_that_is_skipped_would_meet_is_refused(bench: Machine) -> None:
    first = Shelf("a")
    shelves = (first, Shelf("b", needs=first))
    for only, skip in (((), ("a",)), (("b",), ())):
        with pytest.raises(PreconditionError, match="b stands on a; a would see to it, and is left out"):
            apply(PLAN, bench, HOST, resources=shelves, only=only, skip=skip)
    assert shelves[1].calls == []


def test_a_refusal_at_its_turn_before_anything_is_changed_is_a_refusal(bench: Machine) -> None:
    other, shelf = Shelf("b", value="new"), Shelf("a")

    def refuse(step: Step, _change: Change | None) -> None:
        shelf.refuses = step is Step.VERIFY  # of the one before it

    with pytest.raises(PreconditionError, match="a must not"):
        apply(PLAN, bench, HOST, resources=(other, shelf), progress=refuse)
    assert (shelf.value, history(bench)) == ("old", ())


@pytest.mark.parametrize("fault", ["breaks", "does not stick"])
def test_a_failure_takes_back_what_was_started_last_first(bench: Machine, fault: str) -> None:
    bad = Shelf("b", breaks=True) if fault == "breaks" else Shelf("b", sticks=False)
    shelves = Shelf("a"), bad, Shelf("c")
    told: list[tuple[Step, str | None]] = []

    with pytest.raises(ApplyError) as caught:
        apply(
            PLAN,
            bench,
            HOST,
            resources=shelves,
            progress=lambda step, change: told.append((step, change.resource if change else None)),
        )

    assert "everything was put back as it was" in caught.value.problems[0].what
    assert [shelf.value for shelf in shelves] == ["old", "old", "old"]
    assert [shelf.calls for shelf in shelves] == [["apply", "rollback"], ["apply", "rollback"], []]
    assert told[-2:] == [(Step.ROLL_BACK, "b"), (Step.ROLL_BACK, "a")]


def test_what_cannot_be_put_back_is_named_with_the_cause_and_the_rest_is_put_back(bench: Machine) -> None:
    shelves = Shelf("a"), Shelf("b", stuck=True), Shelf("c", breaks=True)

    with pytest.raises(RollbackError) as caught:
        apply(PLAN, bench, HOST, resources=shelves)

    assert [problem.what for problem in caught.value.problems] == [
        "failed, and 1 of its changes could not be put back:",
        "b is stuck",
        "the cause was:",
        "c broke",
    ]
    assert [shelf.value for shelf in shelves] == ["old", "new", "old"]


def test_what_is_written_and_not_so_is_tried_once_more_and_then_an_error(bench: Machine) -> None:
    shelf = Shelf("a", value="new", sticks=False)

    with pytest.raises(ApplyError) as caught:
        apply(PLAN, bench, HOST, resources=(shelf,))

    assert shelf.calls == ["again"]
    assert "nothing had been changed" in caught.value.problems[0].what


def test_the_system_database_has_one_lock_by_any_of_its_names() -> None:
    root = DirectoryRoot("/nowhere")
    named = [None, "unix:/run/openvswitch/db.sock", "/run/openvswitch/../openvswitch/db.sock"]
    assert {lock_path(Machine(root=root, ovsdb=name)) for name in named} == {"/run/nfvhost/apply.lock"}
    assert lock_path(Machine(root=root, ovsdb="unix:/srv/x/db.sock")) == "/srv/x/nfvhost.lock"


def test_a_later_rollback_puts_all_back_last_first_and_the_next_one_finds_nothing(bench: Machine) -> None:
    shelves = Shelf("a"), Shelf("b")
    apply(PLAN, bench, HOST, resources=shelves)

    (undone,) = rollback(bench, resources=shelves)

    assert undone.problems == ()
    assert [shelf.value for shelf in shelves] == ["old", "old"]
    assert rollback(bench, resources=shelves) == ()


def test_a_resource_that_this_version_does_not_know_stops_a_rollback_before_it_begins(bench: Machine) -> None:
    shelves = Shelf("a"), Shelf("b")
    apply(PLAN, bench, HOST, resources=shelves)

    with pytest.raises(PreconditionError, match="does not know this resource"):
        rollback(bench, resources=shelves[:1])

    assert [shelf.value for shelf in shelves] == ["new", "new"]
    assert [one.stage for one in history(bench)] == [Stage.APPLIED]


def test_a_before_image_that_does_not_fit_stops_a_rollback_before_it_begins(bench: Machine) -> None:
    class Numbered(Shelf):
        @property
        def state_type(self) -> Any:  # noqa: ANN401 - another type than its base's
            return int

    apply(PLAN, bench, HOST, resources=(Shelf("a"), Shelf("b")))
    other = Shelf("a"), Numbered("b")

    with pytest.raises(PreconditionError, match="is of another version of nfvhost: 'old' where int is expected"):
        rollback(bench, resources=other)

    assert [shelf.calls for shelf in other] == [[], []]


def test_what_is_stuck_is_left_and_a_second_rollback_tries_it_alone(bench: Machine) -> None:
    shelves = Shelf("a"), Shelf("b"), Shelf("c")
    apply(PLAN, bench, HOST, resources=shelves)
    shelves[1].stuck = True

    (undone,) = rollback(bench, resources=shelves)
    assert [problem.what for problem in undone.problems] == ["b is stuck"]
    assert [shelf.value for shelf in shelves] == ["old", "new", "old"]
    assert [one.stage for one in history(bench)] == [Stage.ROLLBACK_FAILED]

    shelves[1].stuck = False
    (undone,) = rollback(bench, resources=shelves)
    assert undone.problems == ()
    assert [shelf.calls.count("rollback") for shelf in shelves] == [1, 2, 1]
    assert [one.stage for one in history(bench)] == [Stage.ROLLED_BACK]


def test_what_others_made_of_it_since_stays_and_is_named_unless_forced(bench: Machine) -> None:
    shelf = Shelf("a")
    apply(PLAN, bench, HOST, resources=(shelf,))
    shelf.value = "theirs"

    (undone,) = rollback(bench, resources=(shelf,))
    assert [problem.what for problem in undone.problems] == ["a is theirs"]
    assert shelf.value == "theirs"

    (undone,) = rollback(bench, resources=(shelf,), force=True)
    assert undone.problems == ()
    assert shelf.value == "old"


def test_a_rollback_does_no_more_than_was_shown(bench: Machine) -> None:
    shelf = Shelf("a")
    apply(PLAN, bench, HOST, resources=(shelf,))
    shown = [one.id for one in to_undo(bench)]
    shelf.value = "old"
    apply(PLAN, bench, HOST, resources=(shelf,))

    with pytest.raises(PreconditionError, match="applied or rolled back meanwhile"):
        rollback(bench, resources=(shelf,), shown=shown)

    assert shelf.value == "new"


@pytest.mark.parametrize("verb", ["apply", "rollback", "boot"])
def test_only_root_changes_the_machine_and_is_told_before_anything_is_looked_at(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    machine = Machine(root=DirectoryRoot("/"))
    works: dict[str, Callable[[], object]] = {
        "apply": lambda: apply(PLAN, machine, HOST),
        "rollback": lambda: rollback(machine),
        "boot": lambda: boot(machine, lambda: PLAN),
    }
    with pytest.raises(PreconditionError, match="which root alone may do") as caught:
        works[verb]()
    assert caught.value.problems[0].hint == f"sudo nfvhost {verb} …"


def test_a_private_database_is_asked_for_open_vswitch_alone_unless_others_are_named(bench: Machine) -> None:
    assert [one.name for one in resources_for(bench)] == ["ovs_dpdk"]
    assert [one.name for one in resources_for(bench, only=("nova_conf", "modules"))] == ["modules", "nova_conf"]
    assert [one.name for one in resources_for(bench, skip=("nova_conf",))] == ["ovs_dpdk"]
    assert resources_for(replace(bench, ovsdb=None)) == ORDER
    with pytest.raises(UsageError, match="there is no resource nova"):
        resources_for(bench, only=("nova",))


def test_devices_come_before_the_services_of_a_boot_and_packages_never() -> None:
    devices = [one.name for one in resources_at_boot(ORDER, devices_alone=True)]
    services = [one.name for one in resources_at_boot(ORDER, devices_alone=False)]
    assert devices == [
        *("modules", "iommu", "hugepages", "driver_binding", "sriov", "vf_driver_binding", "vdpa"),
    ]
    assert {one.name for one in ORDER} - set(services) == {"packages", "boot_unit"}


def test_whoever_waits_to_take_back_an_apply_that_died_before_its_first_change_goes(bench: Machine) -> None:
    store = Store(bench)
    store.create(lambda number: begin_of(number, plan=PLAN, at=store.now(), confirm_within_s=600)).close()
    assert revert_unless_confirmed(bench, 1, resources=()) == ()
