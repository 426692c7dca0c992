"""Packages that go, and the database of a real ovsdb-server."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cases import CASES
from contract import run
from package_programs import STATUS
from scratch import ScratchMachine

from nfvhost.access.command import check
from nfvhost.errors import Problem

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
Rollback = Callable[..., tuple[Problem, ...]]


@pytest.fixture
def applied(tmp_path: Path) -> tuple[ScratchMachine, Rollback]:
    """A machine whose Open vSwitch came with an apply, and the way back."""
    case = next(one for one in CASES if one.name == "packages")
    scratch = case.machine(tmp_path / "m")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    kept = case.resource.image(state, changes)
    run(case, scratch)

    def roll_back(*, force: bool = False) -> tuple[Problem, ...]:
        return case.resource.rollback(scratch.machine(), kept, changes, force=force)

    return scratch, roll_back


@pytest.fixture
def database(applied: tuple[ScratchMachine, Rollback]) -> Iterator[str]:
    """The address of its database."""
    folder = applied[0].top
    check(["ovsdb-tool", "create", str(folder / "conf.db"), _SCHEMA], timeout_s=10)
    argv = ["ovsdb-server", str(folder / "conf.db"), f"--remote=punix:{folder}/db.sock", f"--unixctl={folder}/db.ctl"]
    with subprocess.Popen([*argv, "--log-file=/dev/null"], stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 10
            while not (folder / "db.sock").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            check(["ovs-vsctl", f"--db=unix:{folder}/db.sock", "--no-wait", "init"], timeout_s=10)
            yield f"unix:{folder}/db.sock"
        finally:
            server.kill()


def test_a_switch_with_a_bridge_of_someone_else_is_not_taken_away(
    applied: tuple[ScratchMachine, Rollback], database: str
) -> None:
    scratch, roll_back = applied
    check(["ovs-vsctl", f"--db={database}", "--no-wait", "add-br", "br-theirs"], timeout_s=10)

    before, commands = scratch.snapshot(), scratch.commands()

    left = roll_back()

    assert {"packages: openvswitch-switch-dpdk", "packages: librte-net-i40e"} <= {one.where for one in left}
    assert all("br-theirs" in one.what for one in left)
    assert (scratch.snapshot(), scratch.commands()) == (before, commands)
    assert roll_back(force=True) == ()
    assert "Package: openvswitch-switch-dpdk\n" not in scratch.read(STATUS)


@pytest.mark.usefixtures("database")
def test_a_switch_without_bridges_is_taken_away(applied: tuple[ScratchMachine, Rollback]) -> None:
    scratch, roll_back = applied

    assert roll_back() == ()

    assert "Package: openvswitch-switch-dpdk\n" not in scratch.read(STATUS)
