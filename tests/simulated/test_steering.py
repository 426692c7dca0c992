"""Flows that steer packets into tunnels: nfvhost's own come and go, those of others stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import flow_kernel
import pytest
from cases import FLOWS, STEERED, steered
from contract import differences, drifts, refusals, run
from flow_kernel import FlowKernel, flow
from scratch import ScratchRoot

from nfvhost.engine.lock import locked
from nfvhost.engine.watch import steer_again
from nfvhost.errors import PreconditionError
from nfvhost.model.report import Outcome
from nfvhost.resources import Unmet
from nfvhost.resources.steering import RESOURCE, Steering

if TYPE_CHECKING:
    from cases import Case
    from scratch import ScratchMachine

    from nfvhost.access.switch_flows import SwitchFlow

Bench = Callable[[str], tuple["Case", "ScratchMachine"]]
INTO = "flow br-int priority=20024,in_port=vhu0,ip,nw_dst=10.2.0.0/24"


def kernel_of(scratch: ScratchMachine) -> FlowKernel:
    return FlowKernel(ScratchRoot(scratch.tree, scratch.kernel))


def flows_of(scratch: ScratchMachine) -> tuple[SwitchFlow, ...]:
    now = kernel_of(scratch).load()
    assert now is not None
    return now.flows


def put(scratch: ScratchMachine, *new: SwitchFlow) -> None:
    """Somebody writes these flows."""
    kernel = kernel_of(scratch)
    now = kernel.load()
    assert now is not None
    places = {(one.bridge, one.priority, one.match) for one in new}
    kept = tuple(one for one in now.flows if (one.bridge, one.priority, one.match) not in places)
    kernel.save(replace(now, flows=(*kept, *new)))


def forget(scratch: ScratchMachine, *, ours: bool = True) -> None:
    """A restart of ovs-vswitchd, or with `ours` Neutron's agent that starts."""
    kernel = kernel_of(scratch)
    now = kernel.load()
    assert now is not None
    kernel.save(replace(now, flows=tuple(one for one in now.flows if ours and not one.ours)))


def test_what_an_earlier_plan_made_goes_and_the_flows_of_others_stay(bench: Bench) -> None:
    case, scratch = bench("steering")
    theirs = {one for one in FLOWS.flows if not one.ours}

    run(case, scratch)

    now = flows_of(scratch)
    assert {one for one in now if not one.ours} == theirs
    assert sorted(
        (one.bridge, one.priority, ",".join(one.match), one.actions.replace("set_field", "")) for one in now if one.ours
    )[:4] == [
        ("br-int", 20000, "in_port=vhu0,ip", "dec_ttl,output:sr4"),
        ("br-int", 20024, "in_port=vhu0,ip,nw_dst=10.2.0.0/24", "dec_ttl,output:sr4"),
        ("br-int", 20064, "in_port=vhu0,ipv6,ipv6_dst=fd02::/64", "dec_ttl,output:sr6"),
        (
            "br-int",
            20200,
            "in_port=in0",
            ":02:6e:66:76:ff:01->eth_src,:02:00:00:00:01:02->eth_dst,output:vhu0",
        ),
    ]
    assert not any("10.0.0.0/8" in ",".join(one.match) for one in now)
    assert not any("output:old" in one.actions for one in now)


def test_a_plan_without_steered_tunnels_leaves_no_flow_of_an_earlier_one(bench: Bench) -> None:
    case, scratch = bench("steering")
    run(case, scratch)

    run(case, scratch, plan=replace(STEERED, tunnels=()))

    assert {one for one in flows_of(scratch) if one.ours} == set()
    assert differences(case, scratch, plan=replace(STEERED, tunnels=(), ovs=None)) == ()


def test_a_flow_of_someone_else_with_the_same_match_is_refused_and_stays(bench: Bench) -> None:
    case, scratch = bench("steering")
    put(scratch, flow("br-int", 20024, "in_port=vhu0,ip,nw_dst=10.2.0.0/24", "drop"))

    before = scratch.snapshot()

    assert [one for one in refusals(case, scratch) if "someone else has a flow with this match: drop" in one]
    with pytest.raises(PreconditionError, match="someone else has a flow"):
        run(case, scratch)

    assert scratch.snapshot() == before


def test_a_port_that_the_plan_makes_is_waited_for_and_one_that_nobody_makes_is_refused(bench: Bench) -> None:
    case, scratch = bench("steering")
    kernel_of(scratch).save(flow_kernel.switch(ports=(("br-int", "vhu0"),)))
    state = case.resource.read(scratch.machine(), STEERED)

    waited = case.resource.check(state, STEERED, case.host)

    assert {one.met_by for one in waited if isinstance(one, Unmet)} == {"ovs_dpdk"}
    assert len(waited) == len(differences(case, scratch))
    stranger = replace(STEERED, tunnels=(steered("sr4", "tap7", "10.2.0.0/24"),))
    refused = case.resource.check(state, stranger, case.host)
    assert "br-int has no port tap7, and the plan makes none" in {one.what for one in refused}


def test_a_rollback_leaves_what_someone_else_made_of_a_flow_unless_it_is_forced(bench: Bench) -> None:
    case, scratch = bench("steering")
    before = scratch.snapshot()
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    put(scratch, flow("br-int", 20024, "in_port=vhu0,ip,nw_dst=10.2.0.0/24", "drop"))

    told = case.resource.foreign(scratch.machine(), state, changes)
    left = case.resource.rollback(scratch.machine(), state, changes)

    assert [one.where for one in told] == [one.where for one in left] == [f"{RESOURCE}: {INTO}"]
    assert "drop" in {one.actions for one in flows_of(scratch)}
    assert case.resource.rollback(scratch.machine(), state, changes, force=True) == ()
    assert scratch.snapshot() == before


def test_a_rollback_after_a_restart_puts_back_only_what_was_there_before(bench: Bench) -> None:
    case, scratch = bench("steering")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    forget(scratch, ours=False)

    assert case.resource.rollback(scratch.machine(), state, changes) == ()

    assert set(flows_of(scratch)) == {one for one in FLOWS.flows if one.ours}


def test_verify_tells_each_flow_that_is_gone_and_watching_brings_it_back(bench: Bench) -> None:
    case, scratch = bench("steering")
    run(case, scratch)
    complete = set(flows_of(scratch))
    forget(scratch)

    told = [one.key for one in drifts(case, scratch)]
    brought_back = steer_again(scratch.machine(), STEERED)

    assert sorted(brought_back) == sorted(told)
    assert len(told) == len([one for one in complete if one.ours])
    assert set(flows_of(scratch)) == complete
    assert drifts(case, scratch) == ()
    assert steer_again(scratch.machine(), STEERED) == ()


def test_watching_leaves_alone_what_it_must_not_or_cannot_steer(bench: Bench) -> None:
    case, scratch = bench("steering")
    assert run(case, scratch)[0] is Outcome.APPLIED
    forget(scratch)
    put(scratch, flow("br-int", 20024, "in_port=vhu0,ip,nw_dst=10.2.0.0/24", "drop"))
    now = kernel_of(scratch).load()
    assert now is not None
    kernel_of(scratch).save(replace(now, ports=tuple(one for one in now.ports if one != ("br-other", "vhu1"))))

    with locked(scratch.machine()):
        assert steer_again(scratch.machine(), STEERED) == ()
    brought_back = steer_again(scratch.machine(), STEERED)

    assert INTO not in brought_back
    assert brought_back
    assert {one.split()[1] for one in brought_back} == {"br-int"}
    assert Steering().read(scratch.machine(), replace(STEERED, ovs=None)).switch is None
