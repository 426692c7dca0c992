"""The doctor on a running Open vSwitch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nfvhost.access.root import DirectoryRoot
from nfvhost.access.vswitchd import find_vswitchd, pmd_threads
from nfvhost.doctor import diagnose, survey

if TYPE_CHECKING:
    from tests.ovs.conftest import NewSwitch, Switch

ROOT = DirectoryRoot("/")


def found(switch: Switch) -> dict[str, str]:
    """Each rule that found something of the switch, and the first that it found."""
    findings = diagnose(survey(ROOT, ovsdb=switch.sandbox.ovsdb)).findings
    return {one.rule: one.evidence for one in reversed(findings)}


def test_a_switch_that_works_has_no_failure_and_one_that_does_not_has_each(new_switch: NewSwitch, pmd_cpu: int) -> None:
    switch = new_switch()
    switch.start_dpdk(pmd_cpu)
    switch.add_bridge("br0")
    switch.add_port("br0", "p0", "type=dpdk", "options:dpdk-devargs=net_null0")
    ours = {
        "port-error",
        "mixed-data-path",
        "pmd-repinned",
        "ovs-key-misspelt",
        "dpdk-not-started",
        "vhost-server-mode",
    }
    assert set(found(switch)) & ours == set()

    switch.vsctl(
        "add-port", "br0", "p1", "--", "set", "interface", "p1", "type=dpdk", "options:dpdk-devargs=net_nothing0"
    )
    switch.add_port("br0", "port0", "type=system")
    switch.add_port("br0", "vhu0", "type=dpdkvhostuser")
    switch.vsctl("set", "Open_vSwitch", ".", "other_config:pmd-rxq-asign=cycles")
    told = found(switch)

    assert "port br0/p1 (dpdk): " in told["port-error"]
    assert told["mixed-data-path"] == "bridge br0 of the userspace data path: port0"
    assert told["vhost-server-mode"].startswith("port br0/vhu0 is of type dpdkvhostuser")
    assert told["ovs-key-misspelt"].startswith("Open_vSwitch other_config:pmd-rxq-asign")


def test_a_pmd_thread_that_was_moved_is_found(new_switch: NewSwitch, pmd_cpu: int) -> None:
    switch = new_switch()
    switch.start_dpdk(pmd_cpu)
    switch.add_bridge("br0")
    switch.add_port("br0", "p0", "type=dpdk", "options:dpdk-devargs=net_null0")
    daemon = find_vswitchd(ROOT, switch.sandbox.run_dir)
    assert daemon is not None
    ((core, thread),) = pmd_threads(daemon)
    assert core == pmd_cpu

    os.sched_setaffinity(thread.tid, {0})

    assert found(switch)["pmd-repinned"] == f"the PMD thread of CPU {core} (tid {thread.tid}) may run on CPU 0"


def test_dpdk_that_could_not_start_is_found(new_switch: NewSwitch) -> None:
    switch = new_switch()
    switch.vsctl(
        *("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=try"),
        *('other_config:dpdk-extra="--no-pci"', "other_config:dpdk-socket-mem=64M"),
    )
    switch.vsctl("add-br", "br0")

    told = found(switch)

    assert told["dpdk-not-started"] == "dpdk-init=try, and dpdk_initialized is false"
    assert told["socket-mem"] == "dpdk-socket-mem=64M: '64M' is no number of MiB"
