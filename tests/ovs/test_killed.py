"""An apply, its resumption and its rollback, each killed (SIGKILL) at every write; the next run ends whole."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nfvhost import engine
from nfvhost.access.command import run
from nfvhost.engine import Stage
from nfvhost.errors import PreconditionError
from nfvhost.inspect import inspect_host
from nfvhost.planfile import dump_plan
from nfvhost.planner.planned_host import planned_host

if TYPE_CHECKING:
    from ovs_plans import OvsPlans

    from nfvhost.model.plan import OvsPort, Plan
    from tests.ovs.conftest import Bed

PROGRAM = Path(__file__).parent.parent / "support" / "killed_apply.py"


@dataclasses.dataclass(frozen=True)
class Scene:
    """A switch with settings of nfvhost's and of others, and a plan that changes all kinds of things in it."""

    bed: Bed
    plan: Plan
    path: Path
    before: str  # the rows
    made_by: int  # the apply that made them

    def child(self, verb: str, last: int) -> int:
        """How many steps the process took; it was killed before its step `last`, or lived where that is 0."""
        words = [sys.executable, str(PROGRAM), verb, self.bed.switch.sandbox.ovsdb, str(last), str(self.path)]
        done = run(words, timeout_s=60)
        assert done.code == (-signal.SIGKILL if last else 0), done.stderr
        return last or int(done.stdout)

    def resume(self) -> None:
        machine = self.bed.machine
        host = inspect_host(machine.root)
        engine.apply(self.plan, machine, host, resources=(self.bed.resource,), resume=True)
        assert self.bed.drifts(self.plan) == ()

    def roll_back(self) -> None:
        """All is as before, whatever was half done; the apply that made the scene stays."""
        machine = self.bed.machine
        if engine.to_undo(machine)[0].id != self.made_by:
            (undone,) = engine.rollback(machine, resources=(self.bed.resource,))
            assert undone.problems == ()
        assert engine.to_undo(machine)[0].id == self.made_by
        assert self.bed.rows() == self.before
        assert engine.half_done(engine.Store(self.bed.machine)) is None

    def begun(self) -> bool:
        """Whether an apply is half done; where one is, a plain apply says so and writes nothing."""
        past = next(iter(engine.history(self.bed.machine)))
        if past.stage not in {Stage.HALF_APPLIED, Stage.HALF_ROLLED_BACK}:
            return False
        written = self.bed.transactions()
        with pytest.raises(PreconditionError, match="was cut off before its end"):
            self.bed.apply(self.plan)
        assert self.bed.transactions() == written
        return True


@pytest.fixture
def scene(bed: Bed, ovs: OvsPlans, tmp_path: Path) -> Scene:
    def port(name: str, number: int, **columns: int) -> OvsPort:
        return ovs.port(name, "dpdk", dpdk_devargs=f"net_null{number},no-rx=1", **columns)

    machine = bed.machine
    first = ovs.plan(ovs.bridge("br0", port("old", 0), port("kept", 1, n_rxq=1)), **bed.keys, pmd_rxq_assign="cycles")
    bed.apply(first)
    theirs = ["set", "Interface", "old", "other_config:theirs=1", "--", "set", "Port", "old", "tag=9"]
    bed.switch.vsctl(*theirs, "--", "add-br", "br-theirs", "--", "set", "Bridge", "br-theirs", "datapath_type=netdev")
    bed.switch.vsctl("set", "Open_vSwitch", ".", "other_config:pmd-rxq-assign=group", "other_config:max-idle=7000")
    plan = ovs.plan(
        ovs.bridge("br0", port("kept", 1, n_rxq=2), port("new", 2)),
        ovs.bridge("br1", port("more", 3)),
        **bed.keys,
        pmd_rxq_assign="roundrobin",
    )
    plan = dataclasses.replace(plan, host=planned_host(inspect_host(machine.root)))
    path = tmp_path / "plan.yaml"
    path.write_text(dump_plan(plan))
    return Scene(bed=bed, plan=plan, path=path, before=bed.rows(), made_by=engine.history(machine)[0].id)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """Lines to print, whether the test is shown or not."""
    lines: list[str] = []
    yield lines
    with capsys.disabled():
        sys.stdout.write("".join(f"\n{line}" for line in lines))


def test_an_apply_killed_at_any_write_is_rolled_back(scene: Scene, told: list[str]) -> None:
    points = scene.child("apply", 0)
    scene.roll_back()
    half_done = 0
    for point in range(1, points + 1):
        scene.child("apply", point)
        half_done += scene.begun()
        scene.roll_back()
    told.append(f"an apply was killed at {points} points, {half_done} of them half done; each was rolled back")
    assert half_done > 5


def test_an_apply_killed_at_any_write_is_resumed_and_then_rolled_back_to_before_the_first_try(
    scene: Scene, told: list[str]
) -> None:
    points = scene.child("apply", 0)
    scene.roll_back()
    for point in range(1, points + 1):
        scene.child("apply", point)
        scene.resume()
        scene.roll_back()
    told.append(f"an apply was killed at {points} points; each was resumed, then rolled back")
    assert points > 10


def test_a_rollback_killed_at_any_write_is_finished_by_the_next(scene: Scene, told: list[str]) -> None:
    scene.child("apply", 0)
    points = scene.child("rollback", 0)
    assert scene.bed.rows() == scene.before
    for point in range(1, points + 1):
        scene.child("apply", 0)
        scene.child("rollback", point)
        scene.roll_back()
    told.append(f"a rollback was killed at {points} points; each was finished by the next")
    assert points > 8


def test_a_resumption_killed_at_any_write_is_rolled_back_to_before_the_first_try(scene: Scene, told: list[str]) -> None:
    tries = scene.child("apply", 0)
    scene.roll_back()
    killed = 0
    # At its half the first try has written to the journal alone, near its end to Open vSwitch as well.
    for first in (tries // 2, tries - 2):
        scene.child("apply", first)
        points = scene.child("resume", 0)
        scene.roll_back()
        for point in range(1, points + 1):
            scene.child("apply", first)
            scene.child("resume", point)
            scene.roll_back()
        killed += points
    told.append(f"a resumption was killed at {killed} points; each was rolled back to before the first try")
    assert killed > 10
