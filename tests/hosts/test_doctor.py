"""The doctor on captured machines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from nfvhost.access.root import DirectoryRoot
from nfvhost.doctor import RULES, Severity, diagnose, survey

if TYPE_CHECKING:
    from tests.conftest import Captured, Machine


def found(top: Path) -> dict[str, str]:
    """Each rule that found something, and the first that it found."""
    findings = diagnose(survey(DirectoryRoot(str(top)))).findings
    return {one.rule: one.evidence for one in reversed(findings)}


def test_every_rule_looks_at_a_captured_machine_or_says_what_it_lacks(machine: Machine) -> None:
    diagnosis = diagnose(survey(machine.root))

    assert diagnosis.rules + len(diagnosis.unlooked) == len(RULES)
    texts = [one.evidence for one in diagnosis.findings] + [one.lacks for one in diagnosis.unlooked]
    assert [text for text in texts if not text or "None" in text or "CpuSet" in text] == []


@pytest.mark.parametrize(
    "name",
    [
        # A tuned node of OpenShift; one with a pool of pages out of sight; cores of two kinds; nodes without memory;
        # CPUs offline; threads in no order; a guest; Arm; a mainframe.
        *("ocp-worker1", "pao-bare-metal-worker1", "ghw-intel-i7-1270P", "hwloc-fakeheteromemtiers", "ghw-offlineCPUs"),
        *("hwlocold-28em64t-2s2n7c-buggycoresiblings", "ocp-sno", "hwloc-128arm-2pa2n8cluster4co", "ul-s390-lpar"),
    ],
)
def test_a_healthy_machine_is_not_slandered(captured: Captured, name: str) -> None:
    findings = diagnose(survey(captured(name).root)).findings

    assert [one.evidence for one in findings if one.severity is not Severity.NOTE] == []


def test_a_captured_machine_that_falls_ill_is_told_so(captured: Captured, tmp_path: Path) -> None:
    top = tmp_path / "machine"
    shutil.copytree(captured("ocp-worker1").directory, top, symlinks=True)
    assert "core-split" not in found(top)
    (top / "nfvhost").mkdir()
    (top / "nfvhost/live.json").write_text(json.dumps(LIVE))
    (top / "etc/nova").mkdir(parents=True)
    (top / "etc/nova/nova.conf").write_text("[compute]\ncpu_dedicated_set = 0-4\n")

    told = found(top)

    assert told["ovs-key-misspelt"].startswith("Open_vSwitch other_config:dpdk-sockt-mem")
    assert told["core-split"].startswith("CPUs 2 of 2,42 poll")
    assert told["cpu-sets-overlap"] == "CPU 2: in cpu_dedicated_set of /etc/nova/nova.conf, and of PMD threads"


LIVE: Final[dict[str, Any]] = {
    "apiVersion": "nfvhost/v1",
    "kind": "LiveFacts",
    "architecture": "x86_64",
    "container": None,
    "hardwareNames": [],
    "management": [],
    "ovs": {
        "version": "3.1.0",
        "dpdkVersion": "22.11.1",
        "running": True,
        "database": None,
        "bridges": [],
        "otherConfig": {"dpdk-sockt-mem": "1024", "pmd-cpu-mask": "0x4"},
    },
    "vdpaManagementDevices": None,
}
