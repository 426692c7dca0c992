"""SRv6 tunnels on an Open vSwitch that has them, through three nodes of Linux and back."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from srv6_site import MACHINE_MAC, PATHS, Srv6Site, path_tunnel

from nfvhost import engine, sandbox
from nfvhost.access.clock import now_s, wait_for
from nfvhost.doctor import diagnose, survey
from nfvhost.planfile import save_plan
from nfvhost.resources.ovs_dpdk import OvsDpdk
from nfvhost.resources.steering import Steering
from nfvhost.resources.tunnels import Tunnels, read_segments
from nfvhost.resources.underlay import Underlay

if TYPE_CHECKING:
    from ovs_plans import OvsPlans

    from tests.ovs.conftest import Bed

TUNNELS = (path_tunnel(4), path_tunnel(6))
STEERED = tuple(path_tunnel(version, guest_port="dpdk1", guest_mac=MACHINE_MAC) for version in (4, 6))


@pytest.fixture
def site(bed: Bed) -> Iterator[Srv6Site]:
    made = Srv6Site(bed)
    try:
        made.lay()
        yield made
    finally:
        made.clear()


def reconfigure(site: Srv6Site) -> None:
    """As any port that comes, any interface that is up or down, any setting of anybody would."""
    site.bed.switch.vsctl("set", "Interface", "br-int", f"external_ids:anybody={now_s()}")


def whole_list(version: int) -> str:
    """What a flow of the data path says of all segments."""
    return f"srv6(segments_left=2,segs({','.join(PATHS[version])}))"


def sent(site: Srv6Site) -> dict[str, int]:
    """How many segments each tunnel sends."""
    return {one.port: len(one.sent or ()) for one in read_segments(site.bed.machine)}


def test_plain_open_vswitch_forgets_all_segments_but_the_first_and_its_database_does_not_show_it(
    site: Srv6Site, ovs: OvsPlans
) -> None:
    site.apply(site.plan(ovs, *TUNNELS), (site.bed.resource, Underlay()))
    site.steer(*TUNNELS)

    for _ in range(2):
        reconfigure(site)

    assert sent(site) == {"sr4": 1, "sr6": 1}
    for version, tunnel in ((4, "sr4"), (6, "sr6")):
        assert not site.reaches(version)
        assert whole_list(version) not in site.flows()
        switch = site.bed.switch
        assert switch.vsctl("get", "Interface", tunnel, "error") == "[]"
        assert switch.vsctl("get", "Interface", tunnel, "options:srv6_segs").strip('"') == ",".join(PATHS[version])


def test_an_applied_tunnel_has_all_its_segments_and_carries_both_versions_of_ip(site: Srv6Site, ovs: OvsPlans) -> None:
    plan = site.plan(ovs, *TUNNELS)
    resources = (site.bed.resource, Underlay(), Tunnels())

    site.apply(plan, resources)

    assert sent(site) == {"sr4": 3, "sr6": 3}
    site.steer(*TUNNELS)
    for version in (4, 6):
        assert site.reaches(version)
        assert site.ping(version)
        assert whole_list(version) in site.flows()
    assert site.apply(plan, resources).results == ()


def test_watch_brings_back_what_was_forgotten_within_seconds_and_counts_how_often(
    site: Srv6Site, ovs: OvsPlans
) -> None:
    site.apply(site.plan(ovs, *TUNNELS), (site.bed.resource, Underlay(), Tunnels()))
    site.steer(*TUNNELS)
    counts = Path(site.bed.switch.sandbox.run_dir, "watch.json")
    words = [sys.executable, "-m", "nfvhost.cli", "watch", "--ovsdb", site.bed.switch.sandbox.ovsdb]
    with subprocess.Popen([*words, "--interval", "0.5", "--json"], stdout=subprocess.PIPE, text=True) as watch:
        try:
            assert wait_for(counts.exists, timeout_s=20)

            def brought_back() -> bool:
                reconfigure(site)
                return bool(json.loads(counts.read_text())["rearms"])

            assert wait_for(brought_back, timeout_s=20, interval_s=0.1)
            assert wait_for(lambda: set(sent(site).values()) == {3}, timeout_s=10)
            assert site.reaches(4)
            assert site.reaches(6)
            rearms = json.loads(counts.read_text())["rearms"]
        finally:
            watch.send_signal(signal.SIGINT)
        told, _ = watch.communicate(timeout=20)
    assert watch.returncode == 0
    lines = [json.loads(line)["tunnels"] for line in told.splitlines()]
    assert rearms == {tunnel: sum(tunnel in line for line in lines) for tunnel in {*lines[0], *lines[-1]}}


def test_what_was_forgotten_is_told_by_verify_and_comes_back_by_an_apply(
    site: Srv6Site, ovs: OvsPlans, tmp_path: Path
) -> None:
    plan = site.plan(ovs, *TUNNELS)
    resources = (site.bed.resource, Underlay(), Tunnels())
    site.apply(plan, resources)
    site.steer(*TUNNELS)
    for _ in range(2):
        reconfigure(site)

    drifts = Tunnels().verify(site.bed.machine, plan)
    findings = diagnose(survey(site.bed.machine.root, ovsdb=site.bed.machine.ovsdb_address)).findings

    assert [(one.key, one.planned, one.actual) for one in drifts] == [
        ("segments br-int/sr4", ",".join(PATHS[4]), PATHS[4][0]),
        ("segments br-int/sr6", ",".join(PATHS[6]), PATHS[6][0]),
    ]
    path = tmp_path / "plan.yaml"
    save_plan(str(path), plan)
    words = [sys.executable, "-m", "nfvhost.cli", "tunnel", "check", str(path), "--json"]
    checked = subprocess.run(
        [*words, "--ovsdb", site.bed.machine.ovsdb_address], check=False, stdout=subprocess.PIPE, text=True
    )
    assert checked.returncode == 10
    assert [one["key"] for one in json.loads(checked.stdout)["drift"]] == [one.key for one in drifts]
    finding = next(one for one in findings if one.rule == "srv6-port")
    assert "3 segments, and packets leave with 1" in finding.evidence
    site.apply(plan, resources)
    assert Tunnels().verify(site.bed.machine, plan) == ()
    assert site.reaches(4)
    assert site.reaches(6)


def test_a_next_hop_that_nobody_wrote_down_is_found_so_that_the_segments_can_be_seen(
    site: Srv6Site, ovs: OvsPlans
) -> None:
    tunnel = path_tunnel(4, gateway_mac=None)
    plan = site.plan(ovs, tunnel)

    site.apply(plan, (site.bed.resource, Underlay(), Tunnels()))

    assert sent(site) == {"sr4": 3}


def test_flows_of_a_plan_steer_both_versions_of_ip_both_ways_and_go_with_a_rollback(
    site: Srv6Site, ovs: OvsPlans
) -> None:
    plan = site.plan(ovs, *STEERED)
    resources = (site.bed.resource, Underlay(), Tunnels(), Steering())
    site.apply(dataclasses.replace(plan, tunnels=()), (site.bed.resource,))
    for bridge, match in (("br-int", "priority=7,tcp"), ("br-phy", "priority=7,udp")):
        site.ofctl("add-flow", bridge, f"cookie=0x77,{match},actions=drop")
    before = site.tables()

    site.apply(plan, resources)

    for version in (4, 6):
        assert site.reaches(version)
        assert site.ping(version)
        assert whole_list(version) in site.flows()
    assert site.apply(plan, resources).results == ()
    assert set(before) < set(site.tables())

    # Only the match is someone else's: a flow of nfvhost's that is gone is told, and back with the next apply.
    site.ofctl("del-flows", "br-int", "ipv6,ipv6_dst=fd02::/64")
    assert [one.planned for one in Steering().verify(site.bed.machine, plan)] == ["dec_ttl,output:sr6"]
    site.apply(plan, resources)
    assert site.reaches(6)

    undone = engine.rollback(site.bed.machine, to=2, resources=(OvsDpdk(), Underlay(), Tunnels(), Steering()))
    assert [one.problems for one in undone] == [(), ()]
    assert site.tables() == before


def test_flows_are_back_within_seconds_after_a_restart_of_the_switch(
    site: Srv6Site, ovs: OvsPlans, tmp_path: Path
) -> None:
    plan = site.plan(ovs, *STEERED)
    site.apply(plan, (site.bed.resource, Underlay(), Tunnels(), Steering()))
    path = tmp_path / "plan.json"
    save_plan(str(path), plan)
    ovsdb = site.bed.machine.ovsdb_address
    nfvhost = [sys.executable, "-m", "nfvhost.cli"]
    sandbox.restart_switch(site.bed.switch.sandbox.name)
    checked = subprocess.run(
        [*nfvhost, "tunnel", "check", str(path), "--json", "--ovsdb", ovsdb],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    gone = {one["key"] for one in json.loads(checked.stdout)["drift"] if one["resource"] == "steering"}
    assert len(gone) == 5

    words = [*nfvhost, "watch", str(path), "--ovsdb", ovsdb, "--interval", "0.5", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watch:
        try:
            assert wait_for(lambda: not Steering().verify(site.bed.machine, plan), timeout_s=20)
            site.apply(plan, (Underlay(),))
            assert site.reaches(4)
            assert site.reaches(6)
        finally:
            watch.send_signal(signal.SIGINT)
        told, _ = watch.communicate(timeout=20)
    assert {flow for line in told.splitlines() for flow in json.loads(line)["flows"]} == gone
