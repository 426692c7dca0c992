"""Runtime pools of hugepages, where the kernel gives less and where somebody holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cases import Case, node_memory, pools
from contract import differences, drifts, refusals, remarks, run
from scratch import ScratchMachine

from nfvhost.errors import ApplyError
from nfvhost.model.change import Activation
from nfvhost.model.plan import MemoryPlan, Pages

Bench = Callable[[str], tuple[Case, ScratchMachine]]
POOL = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB"
AT_BOOT = Pages(size_mib=1024, count=2, at_boot=True)


def total(scratch: ScratchMachine, node: int) -> int:
    return int(scratch.read(f"{POOL.format(node)}/nr_hugepages"))


def occupy(scratch: ScratchMachine, node: int, *, used: int) -> None:
    """A guest, process 4711, holds so many pages of the node."""
    scratch.put(f"{POOL.format(node)}/free_hugepages", f"{total(scratch, node) - used}\n")
    scratch.put("/proc/4711/comm", "qemu-system-x86\n")
    line = f"7f00 bind:1 file=/dev/hugepages/qemu huge dirty={used} N{node}={used} kernelpagesize_kB=2048\n"
    scratch.put(
        "/proc/4711/numa_maps", f"5600 default file=/usr/bin/qemu mapped=9 N{node}=9 kernelpagesize_kB=4\n{line}"
    )


def boot_pages(case: Case, *, count: int = 2) -> Case:
    """The case with pages of 1 GiB at boot instead."""
    memory = MemoryPlan(nodes=tuple(node_memory(node, replace(AT_BOOT, count=count)) for node in (0, 1)))
    return replace(
        case,
        plan=replace(
            case.plan, memory=memory, kernel_args=("default_hugepagesz=1G", "hugepagesz=1G", "hugepages=0:2,1:2")
        ),
    )


@pytest.mark.field_failure(9)
def test_row_9_fewer_pages_granted_than_asked_fails_with_the_numbers_and_is_taken_back(bench: Bench) -> None:
    case, scratch = bench("hugepages")
    before = scratch.snapshot()
    scratch.kernel.grants = {f"{POOL.format(0)}/nr_hugepages": 100}

    with pytest.raises(ApplyError) as caught:
        run(case, scratch)

    assert any(
        "asked for 512 pages of 2M, the kernel has 100 now (before: 16)" in one.what for one in caught.value.problems
    )
    assert scratch.snapshot() == before


@pytest.mark.field_failure(9)
def test_row_9_memory_in_pieces_is_compacted_and_the_rest_asked_for_again(bench: Bench) -> None:
    case, scratch = bench("hugepages")
    path = f"{POOL.format(0)}/nr_hugepages"
    scratch.kernel.grants, scratch.kernel.compacted = {path: 100}, {path: 512}

    run(case, scratch)

    assert total(scratch, 0) == 512


@pytest.mark.field_failure(11)
def test_row_11_one_node_is_asked_for_its_own_although_the_total_would_fit(bench: Bench) -> None:
    case, scratch = bench("hugepages")

    run(case, scratch)

    assert (total(scratch, 0), total(scratch, 1)) == (512, 256)


@pytest.mark.field_failure(13)
def test_row_13_a_pool_does_not_shrink_below_what_is_in_use_and_the_holders_are_named(bench: Bench) -> None:
    case, scratch = bench("hugepages")
    occupy(scratch, 1, used=400)
    scratch.put("/dev/hugepages/rtemap_0", "")

    (refusal,) = refusals(case, scratch)

    assert "node1 2M: 400 of its 600 pages are in use, planned are 256" in refusal
    assert "held by qemu-system-x86 (pid 4711): 400, /dev/hugepages/rtemap_0 (file)" in refusal


def test_a_pool_shrinks_as_far_as_its_free_pages_go(bench: Bench) -> None:
    case, scratch = bench("hugepages")
    occupy(scratch, 1, used=256)

    run(case, scratch)

    assert total(scratch, 1) == 256


def test_what_is_given_back_comes_before_what_is_taken(bench: Bench) -> None:
    case, scratch = bench("hugepages")

    assert [(change.key, change.before, change.after) for change in differences(case, scratch)] == [
        ("node1 2M", "600", "256"),
        ("node0 2M", "16", "512"),
    ]


@pytest.mark.field_failure(10)
def test_row_10_pages_that_would_starve_the_host_are_refused(bench: Bench) -> None:
    case, scratch = bench("hugepages")
    for path, text in pools(0, kb2048=16, kb1048576=6).items():
        scratch.put(path, text)

    (refusal,) = refusals(case, scratch)

    assert "pools of 7168 MiB would leave 1024 of its 8192 MiB to the host, which is to keep 2048" in refusal


@pytest.mark.field_failure(10)
def test_row_10_memory_that_is_taken_now_is_no_memory(bench: Bench) -> None:
    case, scratch = bench("hugepages")
    scratch.put("/sys/devices/system/node/node0/meminfo", "Node 0 MemFree: 102400 kB\n")

    assert any("992 MiB more are wanted in pages, and 100 MiB are available" in one for one in refusals(case, scratch))


def test_a_size_that_the_kernel_lacks_is_refused(bench: Bench) -> None:
    case, scratch = bench("hugepages")
    for name in ("nr", "free", "surplus"):
        (scratch.tree / f"{POOL.format(0)}/{name}_hugepages".strip("/")).unlink()

    assert any("no pages of 2M" in one for one in refusals(case, scratch))


def test_pages_of_the_boot_wait_for_it_and_nothing_is_written(bench: Bench) -> None:
    one, scratch = bench("hugepages")
    case = boot_pages(one)

    assert differences(case, scratch) == ()
    assert [(drift.key, drift.pending) for drift in drifts(case, scratch)] == [
        ("node0 1G", Activation.REBOOT),
        ("node1 1G", Activation.REBOOT),
    ]


@pytest.mark.field_failure(9, 11)
def test_rows_9_and_11_a_boot_that_reserved_fewer_pages_on_one_node_is_drift_of_that_node(bench: Bench) -> None:
    one, scratch = bench("hugepages")
    case = boot_pages(one)
    scratch.put("/proc/cmdline", f"ro {' '.join(case.plan.kernel_args)}\n")
    for path, text in {**pools(0, kb1048576=2), **pools(1, kb1048576=1)}.items():
        scratch.put(path, text)

    (drift,) = drifts(case, scratch)

    assert (drift.key, drift.planned, drift.actual, drift.pending) == ("node1 1G", "2", "1", None)
    assert "hugepages=0:2,1:2" in (drift.hint or "")


def test_it_is_said_that_a_reboot_forgets_runtime_pages(bench: Bench) -> None:
    case, scratch = bench("hugepages")

    assert ["a reboot forgets" in remark for remark in remarks(case, scratch)] == [True]
    assert remarks(boot_pages(case), scratch) == []


def test_a_pool_that_someone_else_resized_since_stays_unless_forced(bench: Bench) -> None:
    case, scratch = bench("hugepages")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    machine.root.write_attribute(f"{POOL.format(0)}/nr_hugepages", "700")

    assert [problem.where for problem in case.resource.foreign(machine, state, changes)] == ["hugepages: node0 2M"]
    assert [problem.where for problem in case.resource.rollback(machine, state, changes)] == ["hugepages: node0 2M"]
    assert (total(scratch, 0), total(scratch, 1)) == (700, 600)
    assert case.resource.rollback(machine, state, changes, force=True) == ()
    assert total(scratch, 0) == 16


def test_pages_in_use_by_now_are_surplus_after_a_rollback_and_go_with_their_holder(bench: Bench) -> None:
    case, scratch = bench("hugepages")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    occupy(scratch, 0, used=300)

    assert case.resource.rollback(machine, state, changes) == ()
    assert total(scratch, 0) == 300
    assert scratch.read(f"{POOL.format(0)}/surplus_hugepages") == "284\n"


def test_a_kernel_without_nodes_has_one_pool(bench: Bench) -> None:
    one, scratch = bench("hugepages")
    nodes = (node_memory(0, Pages(size_mib=2, count=64, at_boot=False)),)
    case = replace(one, plan=replace(one.plan, memory=MemoryPlan(nodes=nodes)))
    (scratch.tree / "sys").rename(scratch.tree / "gone")
    for name in ("nr", "free", "surplus"):
        scratch.put(f"/sys/kernel/mm/hugepages/hugepages-2048kB/{name}_hugepages", "0\n")

    run(case, scratch)

    assert scratch.read("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages") == "64\n"
