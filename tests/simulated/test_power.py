"""Governors and idle states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cpu_kernel
import pytest
from cases import Case
from contract import differences, drifts, refusals, remarks, run
from scratch import ScratchMachine

from nfvhost.errors import ApplyError
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.plan import PowerPlan
from nfvhost.model.profile import CpuGovernor

Bench = Callable[[str], tuple[Case, ScratchMachine]]
POLICY = "/sys/devices/system/cpu/cpufreq/policy"


def asking(case: Case, **wish: object) -> Case:
    """The case with another wish."""
    assert case.plan.power is not None
    return replace(case, plan=replace(case.plan, power=replace(case.plan.power, **wish)))  # type: ignore[arg-type]


def test_planned_cpus_run_by_the_governor_and_others_stay(bench: Bench) -> None:
    case, scratch = bench("power")

    run(case, scratch)

    said = {cpu: scratch.read(f"{POLICY}{cpu}/scaling_governor").strip() for cpu in range(8)}
    assert {cpu for cpu, governor in said.items() if governor == "performance"} == {2, 3, 6, 7}
    assert {said[cpu] for cpu in (0, 1, 4, 5)} == {"powersave"}


def test_idle_states_above_the_latency_are_turned_off_on_planned_cpus_alone(bench: Bench) -> None:
    case, scratch = bench("power")

    run(case, scratch)

    off = [call for call in scratch.kernel.calls if "cpuidle" in call]
    # state2 takes 10 us, as long as planned; someone else has turned off state3 of CPU 6.
    assert off == [f"attribute /sys/devices/system/cpu/cpu{cpu}/cpuidle/state3/disable" for cpu in (2, 3, 7)]


def test_an_idle_state_that_others_turned_off_stays_off_after_a_rollback(bench: Bench) -> None:
    case, scratch = bench("power")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)

    assert case.resource.rollback(scratch.machine(), case.resource.image(state, changes), changes) == ()

    assert scratch.read("/sys/devices/system/cpu/cpu6/cpuidle/state3/disable") == "1\n"
    assert scratch.read("/sys/devices/system/cpu/cpu7/cpuidle/state3/disable") == "0\n"


def test_what_changes_says_what_is_there_by_cpu(bench: Bench) -> None:
    case, scratch = bench("power")

    governor, idle = differences(case, scratch)

    assert (governor.key, governor.before, governor.after) == (
        "governor",
        "powersave on CPUs 2,6-7, schedutil on CPU 3",
        "performance",
    )
    assert (idle.key, idle.before, idle.after) == ("idle states", "C6 (133 us) on CPUs 2-3,7", "none above 10 us")


@pytest.mark.parametrize("key", ["governor", "idle states"])
def test_each_change_can_be_made_by_itself(bench: Bench, key: str) -> None:
    case, scratch = bench("power")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = {change.key: change for change in case.resource.diff(state, case.plan)}

    case.resource.apply(scratch.machine(), state, (changes.pop(key),))

    assert {change.key for change in differences(case, scratch)} == set(changes)


def test_a_machine_without_cpufreq_is_refused_in_clear_words(bench: Bench) -> None:
    case, scratch = bench("power")
    for cpu in range(8):
        (scratch.tree / f"{POLICY}{cpu}/scaling_governor".strip("/")).unlink()

    (refusal,) = refusals(case, scratch, virtualization="kvm")

    assert refusal.startswith("power: governor: this kvm machine offers no cpufreq")
    assert [drift.key for drift in drifts(case, scratch) if drift.planned == "performance"] == ["governor"]


def test_idle_states_alone_need_no_cpufreq(bench: Bench) -> None:
    case, scratch = bench("power")
    case = asking(case, governor=None)
    for cpu in range(8):
        (scratch.tree / f"{POLICY}{cpu}/scaling_governor".strip("/")).unlink()

    assert refusals(case, scratch) == []
    assert [change.key for change in differences(case, scratch)] == ["idle states"]


def test_a_governor_that_intel_pstate_does_not_have_is_refused_with_what_it_has(bench: Bench) -> None:
    case, scratch = bench("power")
    case = asking(case, governor=CpuGovernor.SCHEDUTIL)
    policies = {cpu: str(cpu) for cpu in range(8)}
    for path, text in cpu_kernel.frequency_files(
        policies, driver="intel_pstate", available="performance powersave"
    ).items():
        scratch.put(path, text)

    (refusal,) = refusals(case, scratch)

    assert "intel_pstate offers performance, powersave, and no schedutil" in refusal
    assert "boot with intel_pstate=passive" in refusal


def test_a_cpu_that_cpufreq_does_not_know_is_named(bench: Bench) -> None:
    case, scratch = bench("power")
    scratch.put(f"{POLICY}7/affected_cpus", "\n")

    (refusal,) = refusals(case, scratch)

    assert "does not know CPU 7" in refusal


def test_a_planned_cpu_that_is_offline_is_left_out(bench: Bench) -> None:
    case, scratch = bench("power")
    scratch.put("/sys/devices/system/cpu/offline", "7\n")
    scratch.put(f"{POLICY}7/affected_cpus", "\n")

    assert refusals(case, scratch) == []
    run(case, scratch)

    assert not [call for call in scratch.kernel.calls if "cpu7/" in call]


def test_cpus_that_share_the_clock_of_a_planned_one_are_named(bench: Bench) -> None:
    case, scratch = bench("power")
    scratch.put(f"{POLICY}2/affected_cpus", "1 2\n")

    assert any("planned CPUs have one clock with CPU 1" in one for one in remarks(case, scratch))


def test_a_running_tuned_is_named_and_a_drift_suspects_it(bench: Bench) -> None:
    case, scratch = bench("power")
    run(case, scratch)
    scratch.put("/proc/812/comm", "tuned\n")
    scratch.put("/proc/813/comm", "power-profiles-\n")
    scratch.put(f"{POLICY}2/scaling_governor", "ondemand\n")

    named = remarks(case, scratch)
    (drift,) = drifts(case, scratch)

    assert any(one.startswith("power: tuned (pid 812) runs") for one in named)
    assert any("power-profiles-daemon (pid 813) runs" in one for one in named)
    assert (drift.key, drift.hint) == (
        "governor",
        "set by someone else since: power-profiles-daemon (pid 813), tuned (pid 812)",
    )


def test_a_kernel_without_idle_states_has_nothing_to_turn_off(bench: Bench) -> None:
    case, scratch = bench("power")
    case = asking(case, governor=None, cpus=CpuSet.parse("0-1"), max_idle_latency_us=200)
    scratch.put("/sys/devices/system/cpu/cpuidle/current_driver", "none\n")

    assert differences(case, scratch) == ()
    assert any("offers no idle states" in one for one in remarks(case, scratch))


def test_a_write_that_the_kernel_takes_and_forgets_is_a_failure(bench: Bench) -> None:
    case, scratch = bench("power")
    before = scratch.snapshot()

    def forget(tree: Path, path: str, _text: str, said: str | None) -> None:
        (tree / path.strip("/")).write_text(said or "")

    scratch.kernel.reactions[:] = [forget]

    with pytest.raises(ApplyError) as caught:
        run(case, scratch)

    assert {problem.where for problem in caught.value.problems[1:]} == {"power: governor", "power: idle states"}
    assert scratch.snapshot() == before


def test_a_governor_that_someone_set_since_stays_and_is_named(bench: Bench) -> None:
    case, scratch = bench("power")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    scratch.put(f"{POLICY}2/scaling_governor", "ondemand\n")
    kept = case.resource.image(state, changes)

    (left,) = case.resource.rollback(scratch.machine(), kept, changes)

    assert left.where == "power: governor"
    assert scratch.read(f"{POLICY}2/scaling_governor") == "ondemand\n"
    assert scratch.read(f"{POLICY}3/scaling_governor") == "schedutil\n"
    assert case.resource.rollback(scratch.machine(), kept, changes, force=True) == ()
    assert scratch.read(f"{POLICY}2/scaling_governor") == "powersave\n"


def test_a_plan_without_a_wish_reads_and_changes_nothing(bench: Bench) -> None:
    case, scratch = bench("power")
    case = replace(case, plan=replace(case.plan, power=None))

    assert case.resource.read(scratch.machine(), case.plan) == type(case.resource.read(scratch.machine(), case.plan))()
    assert (differences(case, scratch), drifts(case, scratch), remarks(case, scratch)) == ((), (), [])


def test_power_of_512_cpus_is_stored_in_a_few_lines(bench: Bench) -> None:
    case, scratch = bench("power")
    for path, text in {
        **cpu_kernel.frequency_files({cpu: str(cpu) for cpu in range(512)}),
        **cpu_kernel.idle_files("0-511", (("POLL", 0), ("C6", 133))),
    }.items():
        scratch.put(path, text)
    wish = PowerPlan(cpus=CpuSet(range(8, 512)), governor=CpuGovernor.PERFORMANCE, max_idle_latency_us=10)
    state = case.resource.read(scratch.machine(), replace(case.plan, power=wish))

    assert [(len(one.policies), str(one.policies)) for one in state.clocks] == [(504, "8-511")]
    assert [str(one.enabled) for one in state.idle] == ["8-511"]
