"""Rollback, history and confirmation by the command line, against a real Open vSwitch."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nfvhost import engine
from nfvhost.access.clock import now_s, sleep, wait_for
from nfvhost.access.command import Completed, check, run
from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.engine import Stage
from nfvhost.errors import PreconditionError
from nfvhost.inspect import inspect_host
from nfvhost.planfile import dump_plan
from nfvhost.planner.planned_host import planned_host

if TYPE_CHECKING:
    from ovs_plans import OvsPlans

    from nfvhost.model.plan import Plan
    from tests.ovs.conftest import Bed

WITHIN_S = 4


@dataclasses.dataclass(frozen=True)
class Desk:
    """A switch, and the command line for it."""

    bed: Bed
    ovs: OvsPlans
    folder: Path

    def plan(self, name: str, **keys: str) -> str:
        """The path of a plan with these keys and the bed's own."""
        made: Plan = self.ovs.plan(**{**self.bed.keys, **keys})
        path = self.folder / f"{name}.yaml"
        path.write_text(dump_plan(dataclasses.replace(made, host=planned_host(inspect_host(DirectoryRoot("/"))))))
        return str(path)

    def nfvhost(self, *words: str, code: int = 0) -> Completed:
        """What `nfvhost` said, with this database; it ended with `code`."""
        done = run(
            [sys.executable, "-m", "nfvhost.cli", *words, "--ovsdb", self.bed.switch.sandbox.ovsdb], timeout_s=60
        )
        assert done.code == code, (done.stdout, done.stderr)
        return done

    def apply(self, plan: str, *words: str, code: int = 0) -> Completed:
        return self.nfvhost("apply", plan, "--yes", *words, code=code)

    def history(self) -> list[dict[str, Any]]:
        applies: list[dict[str, Any]] = json.loads(self.nfvhost("history", "--json").stdout)["applies"]
        return applies

    def key(self, name: str) -> str:
        return self.bed.switch.vsctl("--if-exists", "get", "Open_vSwitch", ".", f"other_config:{name}").strip('"')


@pytest.fixture
def desk(bed: Bed, ovs: OvsPlans, tmp_path: Path) -> Desk:
    return Desk(bed=bed, ovs=ovs, folder=tmp_path)


def test_rollback_goes_back_apply_by_apply_and_history_tells_it(desk: Desk) -> None:
    states = [desk.bed.rows()]
    for rxq in ("cycles", "roundrobin", "group"):
        desk.apply(desk.plan(rxq, pmd_rxq_assign=rxq))
        states.append(desk.bed.rows())

    assert "apply 3 of" in desk.nfvhost("rollback", "--yes").stdout
    assert desk.bed.rows() == states[2]
    desk.nfvhost("rollback", "--yes")
    assert desk.bed.rows() == states[1]
    assert [(one["id"], one["outcome"]) for one in desk.history()] == [
        (3, "rolled-back"),
        (2, "rolled-back"),
        (1, "applied"),
    ]
    desk.nfvhost("rollback", "--yes")
    assert desk.bed.rows() == states[0]
    assert "there is nothing to roll back" in desk.nfvhost("rollback", "--yes").stderr


def test_rollback_to_an_apply_takes_all_after_it_back_as_well(desk: Desk) -> None:
    before = desk.bed.rows()
    for rxq in ("cycles", "roundrobin"):
        desk.apply(desk.plan(rxq, pmd_rxq_assign=rxq))

    document = json.loads(desk.nfvhost("rollback", "--to", "1", "--yes", "--json").stdout)

    assert [(one["id"], one["outcome"]) for one in document["applies"]] == [(2, "rolled-back"), (1, "rolled-back")]
    assert desk.bed.rows() == before
    assert "there is no apply 9" in desk.nfvhost("rollback", "--to", "9", "--yes", code=2).stderr


def test_what_someone_else_changed_since_is_named_and_stays_unless_forced(desk: Desk) -> None:
    before = desk.bed.rows()
    desk.apply(desk.plan("cycles", pmd_rxq_assign="cycles", max_idle="9000"))
    desk.bed.switch.vsctl("set", "Open_vSwitch", ".", "other_config:pmd-rxq-assign=group")

    said = desk.nfvhost("rollback", "--yes", code=7)

    assert "ovs_dpdk: other_config:pmd-rxq-assign" in said.stderr
    assert "since then someone else made it 'group'" in said.stderr
    assert (desk.key("pmd-rxq-assign"), desk.key("max-idle")) == ("group", "")
    assert desk.history()[0]["outcome"] == "rollback-failed"
    desk.nfvhost("rollback", "--yes", "--force")
    assert desk.bed.rows() == before


def test_rollback_without_a_terminal_and_without_yes_shows_and_changes_nothing(desk: Desk) -> None:
    desk.apply(desk.plan("cycles", pmd_rxq_assign="cycles"))
    rows = desk.bed.rows()
    said = desk.nfvhost("rollback", code=10)
    assert "- ovs_dpdk: other_config:pmd-rxq-assign: cycles" in said.stderr
    assert desk.bed.rows() == rows


def test_a_second_apply_writes_no_journal(desk: Desk) -> None:
    plan = desk.plan("cycles", pmd_rxq_assign="cycles")
    desk.apply(plan)
    folder = Path(desk.bed.machine.state_folder)
    seen = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    written = desk.bed.transactions()
    desk.apply(plan)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == seen
    assert desk.bed.transactions() == written


def test_only_and_skip_choose_resources_and_refuse_unknown_names(desk: Desk) -> None:
    plan = desk.plan("cycles", pmd_rxq_assign="cycles")
    assert "nothing to change" in desk.apply(plan, "--skip", "ovs_dpdk").stderr
    assert "there is no resource ovs" in desk.apply(plan, "--only", "ovs", code=2).stderr
    desk.apply(plan, "--only", "ovs_dpdk")
    assert desk.key("pmd-rxq-assign") == "cycles"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[str]:
    """A folder on a disk of 16 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    check(["mount", "-t", "tmpfs", "-o", "size=16k,mode=0755", "none", str(folder)], timeout_s=10)
    yield str(folder)
    check(["umount", str(folder)], timeout_s=10)


def test_a_full_disk_is_found_before_the_first_change(bed: Bed, ovs: OvsPlans, full_disk: str) -> None:
    before = bed.rows()
    host = inspect_host(DirectoryRoot("/"))
    plan = dataclasses.replace(ovs.plan(**bed.keys), host=planned_host(host))
    machine = Machine(root=DirectoryRoot("/"), ovsdb=bed.switch.sandbox.ovsdb, state_dir=full_disk)
    with pytest.raises(PreconditionError, match="the journal cannot be written: No space left on device"):
        engine.apply(plan, machine, host, resources=(bed.resource,))
    check(["mount", "-o", "remount,ro", full_disk], timeout_s=10)
    with pytest.raises(PreconditionError, match="the journal cannot be written: Read-only file system"):
        engine.apply(plan, machine, host, resources=(bed.resource,))
    assert bed.rows() == before
    assert engine.history(machine) == ()


def test_an_apply_that_nobody_confirms_is_rolled_back_by_itself(desk: Desk) -> None:
    before = desk.bed.rows()
    begun = now_s()
    desk.apply(desk.plan("cycles", pmd_rxq_assign="cycles"), "--confirm-within", str(WITHIN_S))
    assert desk.key("pmd-rxq-assign") == "cycles"

    assert wait_for(lambda: desk.key("pmd-rxq-assign") == "", timeout_s=60.0, interval_s=0.2)

    assert now_s() - begun >= WITHIN_S
    assert wait_for(lambda: desk.history()[0]["outcome"] == "rolled-back", timeout_s=10.0)
    assert desk.bed.rows() == before
    assert desk.history()[0]["rollback"]["reason"] == f"not confirmed within {WITHIN_S} s"
    assert "is rolled-back since" in desk.nfvhost("confirm", code=5).stderr


def test_an_apply_that_is_confirmed_stays(desk: Desk) -> None:
    desk.apply(desk.plan("cycles", pmd_rxq_assign="cycles"), "--confirm-within", str(3 * WITHIN_S))
    other = desk.plan("group", pmd_rxq_assign="group")
    assert "waits for its confirmation" in desk.apply(other, code=5).stderr

    assert "stays" in desk.nfvhost("confirm").stderr

    sleep(3 * WITHIN_S + 2)
    assert desk.key("pmd-rxq-assign") == "cycles"
    assert [(one["outcome"], one["confirmed"]) for one in desk.history()] == [("applied", True)]
    assert "nothing waits" in desk.nfvhost("confirm").stderr


def test_an_apply_whose_whole_session_is_killed_is_rolled_back_all_the_same(desk: Desk) -> None:
    """As where SSH is lost: the process and all of its group get SIGHUP and SIGKILL."""
    before = desk.bed.rows()
    program = (
        "import os, signal, sys\n"
        # Its group is its own: `run` sees to that.
        "assert os.getpgrp() == os.getpid()\n"
        "from nfvhost import engine\n"
        "from nfvhost.access.machine import Machine\n"
        "from nfvhost.access.root import DirectoryRoot\n"
        "from nfvhost.engine import Step\n"
        "from nfvhost.inspect import inspect_host\n"
        "from nfvhost.planfile import load_plan\n"
        "def killed(step, change):\n"
        "    if step is Step.VERIFY:\n"
        "        os.killpg(0, signal.SIGKILL)\n"
        "machine = Machine(root=DirectoryRoot('/'), ovsdb=sys.argv[1])\n"
        "plan = load_plan(sys.argv[2])\n"
        f"engine.apply(plan, machine, inspect_host(machine.root), progress=killed, confirm_within_s={3 * WITHIN_S})\n"
    )
    plan = desk.plan("cycles", pmd_rxq_assign="cycles")
    done = run([sys.executable, "-c", program, desk.bed.switch.sandbox.ovsdb, plan], timeout_s=60)
    assert done.code == -signal.SIGKILL
    assert desk.history()[0]["outcome"] == Stage.HALF_APPLIED
    assert desk.key("pmd-rxq-assign") == "cycles"

    assert wait_for(lambda: desk.history()[0]["outcome"] == "rolled-back", timeout_s=60.0, interval_s=0.5)

    assert desk.bed.rows() == before


def test_what_was_half_done_is_told_by_diff_and_refused_by_apply_until_it_is_resumed(desk: Desk) -> None:
    plan, other = desk.plan("cycles", pmd_rxq_assign="cycles"), desk.plan("group", pmd_rxq_assign="group")
    killer = Path(__file__).parent.parent / "support" / "killed_apply.py"
    done = run([sys.executable, str(killer), "apply", desk.bed.switch.sandbox.ovsdb, "13", plan], timeout_s=60)
    assert done.code == -signal.SIGKILL
    told = "was cut off before its end"

    assert told in desk.nfvhost("verify", plan).stderr
    assert told in desk.apply(plan, code=5).stderr
    assert "an apply of another plan" in desk.apply(other, "--resume", code=5).stderr
    desk.apply(plan, "--resume")

    assert [(one["tries"], one["outcome"]) for one in desk.history()] == [([1, 2], "applied")]


def test_a_resumption_that_finds_nothing_left_to_write_is_rolled_back_unless_confirmed(desk: Desk) -> None:
    before = desk.bed.rows()
    plan = desk.plan("cycles", pmd_rxq_assign="cycles")
    killer = Path(__file__).parent.parent / "support" / "killed_apply.py"
    done = run([sys.executable, str(killer), "apply", desk.bed.switch.sandbox.ovsdb, "13", plan], timeout_s=60)
    assert done.code == -signal.SIGKILL
    written = desk.bed.transactions()

    desk.apply(plan, "--resume", "--confirm-within", str(WITHIN_S))

    assert desk.bed.transactions() == written
    assert wait_for(lambda: desk.history()[0]["outcome"] == "rolled-back", timeout_s=60.0, interval_s=0.5)
    assert desk.bed.rows() == before


def test_a_watching_verify_tells_what_changes_and_ends_with_what_it_saw_last(desk: Desk) -> None:
    plan = desk.plan("cycles", pmd_rxq_assign="cycles")
    desk.apply(plan)
    words = ["verify", plan, "--watch", "0.2", "--json", "--ovsdb", desk.bed.switch.sandbox.ovsdb]
    with subprocess.Popen([sys.executable, "-m", "nfvhost.cli", *words], stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        first = json.loads(watcher.stdout.readline())
        desk.bed.switch.vsctl("remove", "Open_vSwitch", ".", "other_config", "pmd-rxq-assign")
        second = json.loads(watcher.stdout.readline())
        desk.bed.switch.vsctl("set", "Open_vSwitch", ".", "other_config:pmd-rxq-assign=cycles")
        third = json.loads(watcher.stdout.readline())
        desk.bed.switch.vsctl("remove", "Open_vSwitch", ".", "other_config", "pmd-rxq-assign")
        json.loads(watcher.stdout.readline())
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(timeout=30) == 10
    assert (first["kind"], first["appeared"], first["gone"]) == ("VerificationChange", [], [])
    assert [one["key"] for one in second["appeared"]] == ["other_config:pmd-rxq-assign"]
    assert [one["key"] for one in third["gone"]] == ["other_config:pmd-rxq-assign"]


def test_a_boot_makes_again_what_is_gone_and_belongs_to_the_apply(desk: Desk) -> None:
    before = desk.bed.rows()
    plan = desk.plan("cycles", pmd_rxq_assign="cycles")
    desk.apply(plan)
    applied = desk.bed.rows()
    desk.bed.switch.vsctl("remove", "Open_vSwitch", ".", "other_config", "pmd-rxq-assign")

    made = json.loads(desk.nfvhost("boot", plan, "--json").stdout)

    assert [one["outcome"] for one in made["results"]] == ["applied"]
    assert desk.bed.rows() == applied
    assert "nothing to make; all as planned" in desk.nfvhost("boot", "--stage", "services", plan).stderr
    assert "nothing to make" in desk.nfvhost("boot", "--stage", "devices", plan).stderr
    assert "there is no stage late" in desk.nfvhost("boot", "--stage", "late", plan, code=2).stderr
    assert "there is no plan any more" in desk.nfvhost("boot", f"{plan}.gone").stderr
    assert [one["tries"] for one in desk.history()] == [[1]]
    desk.nfvhost("rollback", "--yes")
    assert desk.bed.rows() == before
