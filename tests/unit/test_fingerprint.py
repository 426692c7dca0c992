"""Which machine a plan is for."""

from __future__ import annotations

import dataclasses

from synthetic import host as make_host
from synthetic import nic as make_nic

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.fingerprint import fingerprint, stale_facts
from nfvhost.model.pci import PciAddress
from nfvhost.planner.planned_host import planned_host

CARD = make_nic("0000:01:00.0")
MACHINE = make_host(packages=2, cores=2, threads=2, nics=[CARD])


def test_a_fingerprint_can_be_read() -> None:
    facts = dict(fingerprint(MACHINE))
    assert facts["cpus"] == "0-7"
    assert facts["threadSiblings"].startswith("4 cores, ")
    assert facts["nodes.1.cpus"] == "2-3,6-7"
    assert facts["nodes.0.memoryMiB"] == "32768"
    assert facts["nics.0000:01:00.0"] == "8086:1572"
    assert list(facts) == sorted(facts)
    assert planned_host(MACHINE).name == "Test CPU, 8 CPUs, 2 nodes"


def test_what_a_plan_changes_does_not_make_it_stale() -> None:
    vf = make_nic("0000:01:02.0", physfn=CARD.pci, device="154c", total_vfs=None)
    bound = dataclasses.replace(
        CARD, driver="vfio-pci", netdevs=(), num_vfs=1, vfs=(vf.pci,), speed_mbps=None, iommu_group=99
    )
    applied = dataclasses.replace(
        MACHINE, nics=(bound, vf), isolated=CpuSet([1]), allowed=CpuSet([0]), kernel_args=("isolcpus=1",), hugepages=()
    )
    assert stale_facts(fingerprint(MACHINE), applied) == ()


def test_memory_may_wobble_by_two_percent_and_no_more() -> None:
    def less(percent: int) -> int:
        return 32_768 * (100 - percent) // 100

    planned = fingerprint(MACHINE)
    assert stale_facts(planned, make_host(packages=2, cores=2, threads=2, nics=[CARD], node_mib=less(1))) == ()
    stale = stale_facts(planned, make_host(packages=2, cores=2, threads=2, nics=[CARD], node_mib=less(5)))
    assert {fact for fact, _, _ in stale} == {"memoryMiB", "nodes.0.memoryMiB", "nodes.1.memoryMiB"}


def test_a_card_that_moved_is_named_at_both_places() -> None:
    moved = dataclasses.replace(CARD, pci=PciAddress.parse("0000:02:00.0"))
    assert stale_facts(fingerprint(MACHINE), dataclasses.replace(MACHINE, nics=(moved,))) == (
        ("nics.0000:01:00.0", "8086:1572", "absent"),
        ("nics.0000:02:00.0", "absent", "8086:1572"),
    )


def test_smt_turned_off_or_numbered_otherwise_is_another_machine() -> None:
    other = make_host(packages=2, cores=4, nics=[CARD])
    stale = {fact for fact, _, _ in stale_facts(fingerprint(MACHINE), other)}
    assert {"threadSiblings", "nodes.0.cpus"} <= stale
