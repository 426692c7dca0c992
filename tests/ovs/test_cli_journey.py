"""The whole journey by the command alone: a sandbox, a plan, its differences, its changes, packets, drift."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nfvhost.access.command import check

COMMAND = (sys.executable, "-c", "from nfvhost.cli.app import main; main()")
NAME = f"journey-{os.getpid()}"


class Journey:
    """Commands in one folder, with a sandbox of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ovsdb = ""

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What a command wrote to stdout and stderr; it ended with `code`."""
        done = subprocess.run(  # noqa: PLW1510 - the exit code is what is tested
            [*COMMAND, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout, done.stderr

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """The document of a command."""
        document: dict[str, Any] = json.loads(self.run(*arguments, "--json", code=code)[0])
        assert document["apiVersion"] == "nfvhost/v1"
        return document

    def vsctl(self, *words: str) -> None:
        """Meddle behind the plan's back."""
        check(["ovs-vsctl", f"--db={self.ovsdb}", "--timeout=20", *words], timeout_s=30)


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    """A folder with a plan for the sandbox that is up."""
    made = Journey(tmp_path)
    document = made.json("sandbox", "up", "--name", NAME)
    try:
        assert document["kind"] == "Sandbox"
        made.ovsdb = document["ovsdb"]
        made.run("plan", "--profile", "sandbox", "-o", "plan.yaml")
        yield made
    finally:
        made.run("sandbox", "down", "--name", NAME)
    assert made.run("sandbox", "status", "--name", NAME) == ("", f"there is no sandbox {NAME}\n")


def test_a_plan_is_shown_applied_proven_and_found_drifted(journey: Journey) -> None:
    at = ("--ovsdb", journey.ovsdb)
    difference = journey.json("diff", "plan.yaml", *at, code=10)
    assert difference["kind"] == "Diff"
    lines, said = journey.run("diff", "plan.yaml", *at, code=10)
    assert len(lines.splitlines()) == len(difference["changes"])
    assert all(line[:2] in {"+ ", "- ", "~ "} for line in lines.splitlines())
    assert said == f"{len(difference['changes'])} to change\n"

    # Nobody is there to be asked: nothing happens.
    report = journey.json("apply", "plan.yaml", *at, code=10)
    assert {result["outcome"] for result in report["results"]} == {"not-tried"}
    assert journey.json("diff", "plan.yaml", *at, code=10) == difference

    report = journey.json("apply", "plan.yaml", "--yes", *at)
    assert report["kind"] == "Report"
    assert [result["change"]["key"] for result in report["results"]] == [one["key"] for one in difference["changes"]]
    assert {result["outcome"] for result in report["results"]} <= {"applied", "pending-restart"}

    # A second time, there is nothing to do.
    assert journey.json("apply", "plan.yaml", "--yes", *at)["results"] == []
    assert journey.run("apply", "plan.yaml", *at)[1].endswith("nothing to change; all as planned\n")
    assert journey.run("diff", "plan.yaml", *at) == ("", "nothing to change\n")
    assert journey.run("verify", "plan.yaml", *at)[1].endswith("all as planned\n")
    assert journey.json("verify", "plan.yaml", *at)["drift"] == []

    probe = journey.json("sandbox", "probe", "--name", NAME, "--count", "50")
    assert probe["passed"]
    assert probe["sent"] == probe["answered"] == 50

    journey.vsctl("remove", "Open_vSwitch", ".", "other_config", "pmd-rxq-assign")
    journey.vsctl("set", "Open_vSwitch", ".", "other_config:pmd-cpu-mask=0x1")
    drift = journey.json("verify", "plan.yaml", *at, code=10)
    assert "other_config:pmd-cpu-mask" in " ".join(one["key"] for one in drift["drift"])
    lines, said = journey.run("verify", "plan.yaml", *at, code=10)
    assert "pmd-cpu-mask: planned " in lines
    assert said.endswith("not as planned\n")
    assert "~ ovs_dpdk: other_config:pmd-cpu-mask" in journey.run("diff", "plan.yaml", *at, code=10)[0]


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 10), ("", 10)])
def test_a_person_at_a_terminal_is_asked_and_heard(journey: Journey, answer: str, code: int) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "apply", "plan.yaml", "--ovsdb", journey.ovsdb]
    with subprocess.Popen(command, cwd=journey.folder, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        heard = b""
        # Linux answers EIO once the other side of a terminal is closed.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 4096):
                heard += piece
        assert process.wait(timeout=60) == code
    os.close(ours)
    assert b" changes? [y/N] " in heard
    journey.run("diff", "plan.yaml", "--ovsdb", journey.ovsdb, code=code)


def test_a_sandbox_that_is_up_says_so_again(journey: Journey) -> None:
    document = journey.json("sandbox", "up", "--name", NAME)
    assert (document["made"], document["ovsdb"]) == (False, journey.ovsdb)
    (only,) = journey.json("sandbox", "status", "--name", NAME)["sandboxes"]
    assert (only["name"], only["missing"]) == (NAME, [])
    assert journey.ovsdb in journey.run("sandbox", "status", "--name", NAME)[0]


def test_an_apply_tells_a_person_what_it_did(journey: Journey) -> None:
    at = ("--ovsdb", journey.ovsdb)
    out, said = journey.run("apply", "plan.yaml", *at, code=10)
    assert out == ""
    assert "+ ovs_dpdk: bridge br-phy: netdev\n" in said
    assert said.endswith("\nnothing was changed; --yes applies it\n")
    out, _ = journey.run("apply", "plan.yaml", "--yes", *at)
    assert out == f"{said.count(chr(10)) - 1} applied; all as planned\n"
