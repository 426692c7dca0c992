"""A boot with resources that are dictionaries, and that forget."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import synthetic
from ovs_plans import OvsPlans

from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.engine import (
    Booted,
    BootStage,
    Stage,
    Store,
    apply,
    boot,
    confirm,
    history,
    plan_digest,
    rollback,
    settle,
    verify,
)
from nfvhost.engine.apply import before_of, begin_of
from nfvhost.engine.journal import Done, End, Ending, Rollback, Started
from nfvhost.engine.undo import Work
from nfvhost.errors import ApplyError, PreconditionError, Problem, StalePlanError
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.report import Drift, Outcome
from nfvhost.planner.planned_host import planned_host
from nfvhost.resources import Unmet

if TYPE_CHECKING:
    from pathlib import Path

    from nfvhost.model.host import Host
    from nfvhost.model.plan import Plan

Pairs = tuple[tuple[str, str], ...]
CARDS = ("0000:01:00.0", "0000:02:00.0")
HOST = synthetic.host(nics=tuple(synthetic.nic(card) for card in CARDS))
PLAN = replace(OvsPlans.plan(), host=planned_host(HOST))


@dataclass
class Rack:
    """A resource that wants each of its places to be `new`."""

    name: str
    places: dict[str, str]
    lasting: bool = False  # whether a boot leaves it as it is
    needs_boot: bool = False  # whether what is written is so after a boot alone
    active: bool = False  # whether that boot has come
    needs: Rack | None = None
    refuses: frozenset[str] = frozenset()
    fails: frozenset[str] = frozenset()
    wrong: tuple[Problem, ...] = ()
    bug: bool = False
    calls: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def state_type(self) -> type[Pairs]:
        return Pairs

    def reboot(self) -> None:
        """What a boot does to it."""
        self.active = self.lasting
        if not self.lasting:
            self.places = dict.fromkeys(self.places, "booted")

    def read(self, machine: Machine, plan: Plan) -> Pairs:
        del machine, plan
        if self.bug:
            raise ZeroDivisionError
        return tuple(self.places.items())

    def diff(self, state: Pairs, plan: Plan) -> tuple[Change, ...]:
        del plan
        return tuple(
            Change(
                resource=self.name,
                key=key,
                before=value,
                after="new",
                activation=Activation.REBOOT if self.needs_boot else Activation.NOW,
                disruption=Disruption.NONE,
                reason="a test asks for it",
            )
            for key, value in state
            if value != "new"
        )

    def check(self, state: Pairs, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del state, plan, host
        if self.needs is not None and self.needs.unmet:
            return (Unmet(what=f"{self.name} stands on {self.needs.name}", met_by=self.needs.name),)
        refusals = (Problem(what="must not", where=f"{self.name}: {key}") for key in sorted(self.refuses))
        return (*refusals, *self.wrong)

    @property
    def unmet(self) -> bool:
        """Whether those that stand on it cannot."""
        return (self.needs_boot and not self.active) or any(value != "new" for value in self.places.values())

    def findings(self, state: Pairs, plan: Plan) -> tuple[Problem, ...]:
        del state, plan
        return ()

    def apply(self, machine: Machine, state: Pairs, changes: tuple[Change, ...]) -> None:
        del machine, state
        self.calls.append(tuple(change.key for change in changes))
        for change in changes:
            if change.key in self.fails:
                raise ApplyError(f"{change.key} does not budge")
            self.places[change.key] = "new"

    def verify(self, machine: Machine, plan: Plan, *, seen: Pairs | None = None) -> tuple[Drift, ...]:
        changes = self.diff(self.read(machine, plan) if seen is None else seen, plan)
        if self.needs_boot and not self.active and not changes:
            return (Drift(resource=self.name, key="all", planned="new", actual=None, pending=Activation.REBOOT),)
        return tuple(
            Drift(resource=self.name, key=change.key, planned=change.after, actual=change.before) for change in changes
        )

    def image(self, state: Pairs, changes: tuple[Change, ...]) -> Pairs:
        keys = {change.key for change in changes}
        return tuple((key, value) for key, value in state if key in keys)

    def foreign(self, machine: Machine, before: Pairs, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        del machine, changes
        return tuple(
            Problem(what="is theirs", where=f"{self.name}: {key}")
            for key, value in before
            if self.places[key] not in {value, "new", "booted"}
        )

    def rollback(
        self, machine: Machine, before: Pairs, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        del machine, changes, force
        self.places.update(before)
        return ()


@dataclass
class Yard:
    """A machine in a folder that can be booted."""

    folder: Path
    boots: int = 0

    @property
    def machine(self) -> Machine:
        return Machine(root=DirectoryRoot(str(self.folder)), ovsdb=f"unix:{self.folder}/db.sock")

    def reboot(self, *racks: Rack) -> None:
        self.boots += 1
        place = self.folder / "proc/sys/kernel/random/boot_id"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"boot-{self.boots}\n")
        for rack in racks:
            rack.reboot()

    def apply(self, *racks: Rack) -> None:
        apply(PLAN, self.machine, HOST, resources=racks)

    def apply_unconfirmed(self, *racks: Rack) -> None:
        """An apply with a time to confirm it in, but without a process that waits for that: it dies with the boot."""
        store = Store(self.machine)
        writer = store.create(lambda number: begin_of(number, plan=PLAN, at=store.now(), confirm_within_s=600))
        for one in racks:
            state = one.read(self.machine, PLAN)
            changes = one.diff(state, PLAN)
            writer.add(before_of(Work(one, state, changes)))
            writer.add(Started(resource=one.name))
            one.apply(self.machine, state, changes)
            writer.add(Done(resource=one.name))
        writer.add(End(at=store.now(), ending=Ending.APPLIED))
        writer.close()

    def boot(self, *racks: Rack, host: Host = HOST, stage: BootStage | None = None) -> Booted:
        return boot(self.machine, lambda: PLAN, stage=stage, inspect=lambda _machine: host, resources=racks)

    def journals(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "nfvhost/journal").iterdir()}


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    made = Yard(tmp_path)
    made.reboot()
    return made


def rack(name: str = "sriov", **facts: object) -> Rack:
    return Rack(name, {CARDS[0]: "old", CARDS[1]: "old"}, **facts)  # type: ignore[arg-type] # fields of Rack


def test_what_a_boot_forgets_is_made_again_and_the_journal_does_not_grow(yard: Yard) -> None:
    one = rack()
    yard.apply(one)
    written = yard.journals()

    for _ in range(3):
        yard.reboot(one)
        booted = yard.boot(one)
        assert [result.outcome for result in booted.results] == [Outcome.APPLIED, Outcome.APPLIED]
        assert (booted.problems, booted.pending) == ((), ())

    assert yard.journals() == written
    (undone,) = rollback(yard.machine, resources=(one,))
    assert undone.problems == ()
    assert set(one.places.values()) == {"old"}


def test_what_waited_is_made_by_the_boot_and_goes_with_the_apply(yard: Yard) -> None:
    kernel = Rack("kernel_cmdline", {"args": "old"}, lasting=True, needs_boot=True)
    binding = rack("driver_binding", needs=kernel)
    conf = Rack("nova_conf", {"file": "old"}, lasting=True)
    racks = (kernel, binding, conf)
    yard.apply(*racks)
    (one,) = history(yard.machine)
    assert (one.stage, one.pending) == (Stage.APPLIED, ("kernel_cmdline", "driver_binding"))

    yard.reboot(*racks)
    assert yard.boot(*racks, stage=BootStage.DEVICES).problems == ()
    assert set(binding.places.values()) == {"new"}
    assert history(yard.machine)[0].pending
    assert yard.boot(*racks, stage=BootStage.SERVICES) == Booted()

    (one,) = history(yard.machine)
    assert (one.id, one.stage, one.pending) == (1, Stage.APPLIED, ())
    written = yard.journals()
    yard.reboot(*racks)
    yard.boot(*racks)
    assert yard.journals() == written
    (undone,) = rollback(yard.machine, resources=racks)
    assert undone.problems == ()
    assert (kernel.places, conf.places) == ({"args": "old"}, {"file": "old"})
    assert set(binding.places.values()) == {"booted"}
    assert rollback(yard.machine, resources=racks) == ()


def test_a_change_that_fails_is_told_and_stops_no_other(yard: Yard) -> None:
    bad, good = rack("sriov", fails=frozenset({CARDS[0]})), rack("vdpa")
    yard.apply(good)

    booted = yard.boot(bad, good)

    assert [(one.change.key, one.outcome) for one in booted.results] == [
        (CARDS[0], Outcome.FAILED),
        (CARDS[1], Outcome.APPLIED),
    ]
    assert [problem.what for problem in booted.problems] == [
        f"{CARDS[0]} does not budge",
        "planned: new; found: old",
    ]
    assert bad.calls == [CARDS, (CARDS[0],), (CARDS[1],)]
    assert set(good.places.values()) == {"new"}


def test_a_bug_in_one_resource_stops_no_other(yard: Yard) -> None:
    bad, good = rack("sriov", bug=True), rack("vdpa")
    booted = yard.boot(bad, good)
    assert [str(problem) for problem in booted.problems] == ["sriov: ZeroDivisionError: "]
    assert set(good.places.values()) == {"new"}


def test_a_change_that_must_not_be_made_is_told_and_the_others_are_made(yard: Yard) -> None:
    one = rack(refuses=frozenset({CARDS[1]}))
    booted = yard.boot(one)
    assert [(result.change.key, result.outcome) for result in booted.results] == [
        (CARDS[1], Outcome.NOT_TRIED),
        (CARDS[0], Outcome.APPLIED),
    ]
    assert [str(problem) for problem in booted.problems] == [f"sriov: {CARDS[1]}: must not"]
    assert one.calls == [(CARDS[0],)]


@pytest.mark.parametrize(
    ("there", "what"),
    [
        ((), "there is no NIC any more (planned: 8086:1572)"),
        (({"vendor": "15b3", "device": "1017"},), "another NIC is there: planned 8086:1572, is 15b3:1017"),
    ],
    ids=["gone", "another one"],
)
def test_a_nic_that_is_not_the_planned_one_is_told_and_left_alone(
    yard: Yard, there: tuple[dict[str, str], ...], what: str
) -> None:
    one = rack()
    cards = (synthetic.nic(CARDS[1]), *(synthetic.nic(CARDS[0], **facts) for facts in there))

    booted = yard.boot(one, host=synthetic.host(nics=cards))

    assert [(problem.where, problem.what) for problem in booted.problems] == [(CARDS[0], what)]
    assert one.calls == [(CARDS[1],)]


def test_a_port_of_the_switch_that_must_not_be_made_keeps_no_other_from_it(yard: Yard) -> None:
    where = "ovs.bridges.br0.ports.p0.options.dpdk-devargs"
    keys = ("bridge br0", "port br0/p0", "port br0/p0 options:n_rxq", "port br0/p00")
    switch = Rack("ovs_dpdk", dict.fromkeys(keys, "old"), wrong=(Problem(what="no NIC is there", where=where),))

    booted = yard.boot(switch)

    assert [str(problem) for problem in booted.problems] == [f"{where}: no NIC is there"]
    assert switch.calls == [("bridge br0", "port br0/p00")]


def test_a_bridge_that_must_not_be_made_keeps_its_ports_from_it(yard: Yard) -> None:
    keys = ("other_config:dpdk-init", "bridge br0", "port br0/p0", "bridge br1")
    wrong = (Problem(what="is there already", where="ovs.bridges.br0"),)
    switch = Rack("ovs_dpdk", dict.fromkeys(keys, "old"), wrong=wrong)
    yard.boot(switch)
    assert switch.calls == [("other_config:dpdk-init", "bridge br1")]


def test_settings_of_the_switch_are_never_made_one_by_one(yard: Yard) -> None:
    switch = Rack("ovs_dpdk", {"a": "old", "b": "old"}, fails=frozenset({"a"}))
    booted = yard.boot(switch)
    assert switch.calls == [("a", "b")]
    assert [result.outcome for result in booted.results] == [Outcome.FAILED, Outcome.FAILED]


def test_a_problem_of_the_whole_resource_holds_all_of_it_back(yard: Yard) -> None:
    one, other = rack(wrong=(Problem(what="read-only"),)), rack("vdpa")
    booted = yard.boot(one, other)
    assert [problem.what for problem in booted.problems] == ["read-only"]
    assert (one.calls, other.calls) == ([], [CARDS])


def test_a_nic_that_came_is_none_of_its_business(yard: Yard) -> None:
    cards = tuple(synthetic.nic(card) for card in (*CARDS, "0000:03:00.0"))
    assert yard.boot(rack(), host=synthetic.host(nics=cards)).problems == ()


def test_other_cpus_or_another_memory_are_refused(yard: Yard) -> None:
    one = rack()
    with pytest.raises(StalePlanError, match=r"host\.fingerprint\.cpus"):
        yard.boot(one, host=synthetic.host(cores=8, nics=HOST.nics))
    assert one.calls == []


def test_what_was_half_applied_is_told_and_nothing_is_made(yard: Yard) -> None:
    one = rack()
    yard.apply(one)
    store = Store(yard.machine)
    journal = store.read(1)
    assert journal is not None
    writer = store.reopen(journal)
    writer.add(Rollback(at=store.now(), reason="a test asks for it"))
    calls = list(one.calls)

    with pytest.raises(PreconditionError, match="was cut off before its end"):
        yard.boot(one)
    writer.add(End(at=store.now(), ending=Ending.ROLLBACK_FAILED, problems=(Problem(what="x is left"),)))
    with pytest.raises(PreconditionError, match="was not wholly rolled back"):
        yard.boot(one)

    writer.close()
    assert one.calls == calls


def test_an_apply_that_nobody_confirmed_before_the_reboot_is_taken_back(yard: Yard) -> None:
    one, conf = rack(), Rack("nova_conf", {"file": "old"}, lasting=True)
    racks = (one, conf)
    yard.apply_unconfirmed(*racks)
    yard.reboot(*racks)

    with pytest.raises(PreconditionError, match="nobody had confirmed it before the reboot"):
        yard.boot(*racks, stage=BootStage.DEVICES)
    assert conf.places == {"file": "new"}
    booted = boot(yard.machine, lambda: None, stage=BootStage.SERVICES, resources=racks)

    assert [undone.apply.id for undone in booted.undone] == [1]
    assert not booted.planned
    assert conf.places == {"file": "old"}
    (past,) = history(yard.machine)
    assert past.last.rollback is not None
    assert past.last.rollback.reason == "not confirmed before the reboot"


def test_an_apply_to_be_confirmed_that_the_power_cut_off_is_taken_back_too(yard: Yard) -> None:
    conf = Rack("nova_conf", {"file": "old"}, lasting=True)
    yard.apply_unconfirmed(conf)
    path = yard.folder / "nfvhost/journal/1.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert [str(one.stage) for one in history(yard.machine)] == ["half-applied"]
    yard.reboot(conf)

    booted = yard.boot(conf)

    assert [undone.apply.id for undone in booted.undone] == [1]
    assert conf.calls == [("file",), ("file",)]  # the plan that is there now is made


def test_an_apply_that_was_confirmed_stays_over_boots_that_add_to_it(yard: Yard) -> None:
    kernel = Rack("kernel_cmdline", {"args": "old"}, lasting=True, needs_boot=True)
    racks = (kernel, rack("driver_binding", needs=kernel))
    yard.apply_unconfirmed(kernel)
    assert confirm(yard.machine) is not None
    for _ in range(2):
        yard.reboot(*racks)
        booted = yard.boot(*racks)
        assert (booted.undone, booted.problems) == ((), ())
    (past,) = history(yard.machine)
    assert len(past.journals) == 2
    assert not past.waits_for_confirmation


def test_what_still_waits_after_a_boot_is_told(yard: Yard) -> None:
    kernel = Rack("kernel_cmdline", {"args": "old"}, needs_boot=True)
    binding = rack("driver_binding", needs=kernel)
    yard.apply(kernel, binding)
    yard.reboot()
    booted = yard.boot(kernel, binding, stage=BootStage.DEVICES)
    assert booted.pending == ("driver_binding", "kernel_cmdline")
    assert {result.detail for result in booted.results} == {"waits for kernel_cmdline, which waits for the reboot"}
    assert binding.calls == []


def test_a_boot_installs_nothing_and_does_not_touch_what_started_it(yard: Yard) -> None:
    racks = (rack("packages"), rack("boot_unit"), rack("vdpa"))
    yard.boot(*racks)
    assert [len(one.calls) for one in racks] == [0, 0, 1]
    assert yard.boot(rack("nova_conf"), stage=BootStage.DEVICES).results == ()


def test_a_verification_that_finds_all_as_planned_closes_what_waited(yard: Yard) -> None:
    kernel = Rack("kernel_cmdline", {"args": "old"}, lasting=True, needs_boot=True)
    yard.apply(kernel)
    store = Store(yard.machine)
    digest = plan_digest(PLAN)
    assert not settle(store, drifts=verify(PLAN, yard.machine, HOST, resources=(kernel,)), plan=digest)
    yard.reboot(kernel)
    assert not settle(store, plan="another")
    assert settle(store, drifts=verify(PLAN, yard.machine, HOST, resources=(kernel,)), plan=digest)
    assert history(yard.machine)[0].pending == ()
    assert not settle(store, plan=digest)
