from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import pytest

from nfvhost import sandbox
from nfvhost.access.command import check
from nfvhost.access.process import read_threads
from nfvhost.errors import ApplyError, PreconditionError
from nfvhost.model.change import Activation
from nfvhost.model.ovs_keys import SRV6_SINCE
from nfvhost.model.report import Outcome

if TYPE_CHECKING:
    from ovs_plans import OvsPlans

    from nfvhost.model.plan import OvsBridge, Plan
    from tests.ovs.conftest import Bed


def two_bridges(bed: Bed, ovs: OvsPlans) -> Plan:
    """One port of each kind that works without a network card."""
    phy = ovs.bridge(
        "br-phy",
        ovs.port("dpdk0", "dpdk", dpdk_devargs="net_af_packet0,iface=port0", n_rxq=1, mtu=1400, tag=7),
        ovs.port("vhost0", "dpdkvhostuserclient", vhost_server_path=f"{bed.switch.sandbox.run_dir}/vhost0.sock"),
        ovs.port("to-int", "patch", peer="to-phy"),
    )
    integration = ovs.bridge(
        "br-int", ovs.port("to-phy", "patch", peer="to-int"), ovs.port("vx0", "vxlan", remote_ip="192.0.2.1", key=7)
    )
    return ovs.plan(phy, integration, **bed.keys, pmd_rxq_assign="cycles", n_handler_threads="1")


def null_bridge(ovs: OvsPlans, **ports: int) -> OvsBridge:
    """A bridge of net_null ports with so many queues each."""
    return ovs.bridge(
        "br0",
        *(
            ovs.port(name, "dpdk", dpdk_devargs=f"net_null{number},no-rx=1", n_rxq=queues)
            for number, (name, queues) in enumerate(ports.items())
        ),
    )


def test_a_plan_becomes_so_and_the_process_says_it(bed: Bed, ovs: OvsPlans) -> None:
    plan = two_bridges(bed, ovs)

    report = bed.apply(plan)

    assert {result.outcome for result in report.results} == {Outcome.APPLIED}
    assert bed.drifts(plan) == ()
    vsctl = bed.switch.vsctl
    assert vsctl("get", "Open_vSwitch", ".", "dpdk_initialized") == "true"
    assert vsctl("get", "Interface", "dpdk0", "mtu", "error") == "1400\n[]"
    assert vsctl("get", "Port", "dpdk0", "tag") == "7"
    assert sorted(vsctl("list-ports", "br-int").split()) == ["to-phy", "vx0"]
    assert vsctl("get", "Bridge", "br-int", "datapath_type", "fail_mode") == "netdev\nsecure"


def test_a_first_apply_writes_one_transaction_and_a_second_one_nothing(bed: Bed, ovs: OvsPlans) -> None:
    plan = two_bridges(bed, ovs)
    written = bed.transactions()
    bed.apply(plan)
    assert bed.transactions() == written + 1
    before = bed.transactions(), bed.switch.vsctl("get", "Open_vSwitch", ".", "next_cfg"), bed.rows()

    report = bed.apply(plan)

    assert report.results == ()
    assert (bed.transactions(), bed.switch.vsctl("get", "Open_vSwitch", ".", "next_cfg"), bed.rows()) == before


def test_what_a_later_plan_no_longer_names_goes_and_nothing_else(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(two_bridges(bed, ovs))
    later = ovs.plan(
        ovs.bridge("br-phy", ovs.port("dpdk0", "dpdk", dpdk_devargs="net_af_packet0,iface=port0"), fail_mode=None),
        **bed.keys,
    )

    bed.apply(later)

    vsctl = bed.switch.vsctl
    assert vsctl("list-br") == "br-phy"
    assert vsctl("list-ports", "br-phy") == "dpdk0"
    assert vsctl("get", "Port", "dpdk0", "tag") == "[]"
    assert vsctl("get", "Interface", "dpdk0", "mtu_request", "options").endswith(
        '{dpdk-devargs="net_af_packet0,iface=port0"}'
    )
    assert "n-handler-threads" not in vsctl("get", "Open_vSwitch", ".", "other_config")
    assert vsctl("get", "Bridge", "br-phy", "fail_mode") == "[]"
    assert bed.drifts(later) == ()


def test_rows_and_keys_of_others_stay_byte_for_byte(bed: Bed, ovs: OvsPlans) -> None:
    vsctl = bed.switch.vsctl
    vsctl("set", "Open_vSwitch", ".", "other_config:vlan-limit=2", "external_ids:system-id=abc")
    vsctl("add-br", "br-theirs", "--", "set", "Bridge", "br-theirs", "datapath_type=netdev", "external_ids:by=them")
    vsctl("add-port", "br-theirs", "p0", "--", "set", "Interface", "p0", "type=internal", "external_ids:iface-id=q")
    before = bed.rows()
    plan = two_bridges(bed, ovs)

    bed.apply(plan)
    vsctl("add-port", "br-int", "p1", "--", "set", "Interface", "p1", "type=internal", "external_ids:iface-id=r")
    vsctl("set", "Interface", "dpdk0", "external_ids:note=theirs", "options:rx-flow-ctrl=false")
    bed.apply(plan)
    assert vsctl("get", "Interface", "dpdk0", "external_ids:note") == "theirs"
    assert vsctl("get", "Interface", "dpdk0", "options:rx-flow-ctrl") == '"false"'
    bed.apply(ovs.plan())

    # Their port keeps the bridge that nfvhost made; with it goes the note, so that it is theirs from now on.
    assert vsctl("list-ports", "br-int") == "p1"
    assert vsctl("get", "Bridge", "br-int", "external_ids") == "{}"
    vsctl("del-br", "br-int")
    assert bed.rows() == before


def test_a_port_that_others_made_is_adopted_and_left_behind(bed: Bed, ovs: OvsPlans) -> None:
    vsctl = bed.switch.vsctl
    bed.apply(ovs.plan(**bed.keys))
    vsctl("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev")
    vsctl(
        *("add-port", "br0", "a", "--", "set", "Interface", "a", "type=dpdk"),
        "options:dpdk-devargs=net_null0,no-rx=1",
        "options:n_rxq=1",
    )

    report = bed.apply(ovs.plan(null_bridge(ovs, a=2), **bed.keys))

    changed = {result.change.key: (result.change.before, result.change.after) for result in report.results}
    assert changed["port br0/a options:n_rxq"] == ("1", "2")
    assert changed["bridge br0 fail_mode"] == (None, "secure")
    bed.apply(ovs.plan(**bed.keys))
    assert vsctl("list-ports", "br0") == "a"
    assert vsctl("get", "Port", "a", "external_ids") == "{}"


def test_a_port_moves_to_another_bridge_with_its_device(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(ovs.plan(null_bridge(ovs, a=1), **bed.keys))
    moved = ovs.plan(dataclasses.replace(null_bridge(ovs, a=1), name="br1"), **bed.keys)

    bed.apply(moved)

    assert bed.switch.vsctl("list-br") == "br1"
    assert bed.drifts(moved) == ()


def test_a_device_goes_from_a_port_to_another_in_one_apply(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(ovs.plan(null_bridge(ovs, a=1), **bed.keys))

    bed.apply(ovs.plan(null_bridge(ovs, b=1), **bed.keys))

    assert bed.switch.vsctl("list-ports", "br0") == "b"
    assert bed.switch.vsctl("get", "Interface", "b", "error") == "[]"


def test_a_setting_that_dpdk_reads_at_its_start_waits_for_a_restart_and_verify_says_so(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(ovs.plan(null_bridge(ovs, a=1), **bed.keys))
    more = ovs.plan(null_bridge(ovs, a=1), **{**bed.keys, "dpdk_socket_mem": "96"})

    report = bed.apply(more)

    assert [(one.change.key, one.outcome) for one in report.results] == [
        ("other_config:dpdk-socket-mem", Outcome.PENDING_RESTART)
    ]
    (drift,) = bed.drifts(more)
    assert (drift.key, drift.planned, drift.actual) == ("other_config:dpdk-socket-mem", "96", "64")
    assert drift.pending == Activation.RESTART
    assert bed.apply(more).results == ()
    sandbox.restart_switch(bed.switch.sandbox.name)
    assert bed.drifts(more) == ()


def test_dpdk_stays_on_until_the_restart(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(ovs.plan(**bed.keys))
    off = ovs.plan(dpdk_init="false")

    bed.apply(off)

    (drift,) = bed.drifts(off)
    assert (drift.key, drift.planned, drift.actual) == ("other_config:dpdk-init", "false", "true")
    assert drift.pending == Activation.RESTART


@pytest.mark.field_failure(30)
def test_a_key_of_a_later_release_is_written_as_this_one_calls_it(bed: Bed, ovs: OvsPlans) -> None:
    if bed.release < (3, 1):
        pytest.skip("this release can put no PMD thread to sleep")
    plan = ovs.plan(version="3.5", **bed.keys, pmd_sleep_max="50")

    bed.apply(plan)

    config = bed.switch.vsctl("get", "Open_vSwitch", ".", "other_config")
    early = bed.release < (3, 2)
    assert ('pmd-maxsleep="50"' in config, 'pmd-sleep-max="50"' in config) == (early, not early)
    assert bed.apply(plan).results == ()


@pytest.mark.field_failure(29)
def test_planned_srv6_tunnels_are_made_and_verified_or_refused_before_their_release(bed: Bed, ovs: OvsPlans) -> None:
    tunnels = (
        ovs.port("srv6east", "srv6", remote_ip="fc00:e::1", local_ip="fc00:a::1", srv6_flowlabel="compute"),
        ovs.port("srv6west", "srv6", remote_ip="fc00:b::1", srv6_segs="fc00:b::1,fc00:c::1,fc00:d::1"),
        ovs.port("srv6in", "srv6", remote_ip="flow"),
    )
    plan = ovs.plan(ovs.bridge("br0", *tunnels), **bed.keys)

    if bed.release < SRV6_SINCE:
        before = bed.rows()
        with pytest.raises(PreconditionError, match=r"has no port type srv6\n  hint: srv6 came with 3\.2"):
            bed.apply(plan)
        assert bed.rows() == before
        return
    report = bed.apply(plan)

    assert bed.drifts(plan) == ()
    made = "name=srv6west", "type=srv6", "error=[]", 'options:srv6_segs="fc00:b::1,fc00:c::1,fc00:d::1"'
    assert "srv6west" in bed.switch.vsctl("--bare", "--columns=name", "find", "Interface", *made)
    assert any("forgets all segments but the first" in warning for warning in report.warnings)
    assert bed.apply(plan).results == ()


@pytest.mark.field_failure(8)
def test_a_port_that_failed_is_tried_again_by_the_next_apply(bed: Bed, ovs: OvsPlans) -> None:
    plan = ovs.plan(ovs.bridge("br0", ovs.port("a", "dpdk", dpdk_devargs="net_af_packet0,iface=port0")), **bed.keys)
    bed.apply(plan)
    netns = bed.switch.sandbox.netns
    # What a boot does where Open vSwitch starts before the interface is there.
    _ip(netns, "link", "set", "port0", "name", "away")
    sandbox.restart_switch(bed.switch.sandbox.name)
    assert [drift.key for drift in bed.drifts(plan)] == ["port br0/a error"]
    _ip(netns, "link", "set", "away", "name", "port0")

    report = bed.apply(plan)

    assert report.results == ()
    assert bed.drifts(plan) == ()


@pytest.mark.field_failure(19)
def test_a_thread_that_another_program_has_moved_is_found(bed: Bed, ovs: OvsPlans) -> None:
    if bed.cpu == 0:
        pytest.skip("with one CPU a thread cannot be moved")
    plan = ovs.plan(null_bridge(ovs, a=1), **bed.keys)
    bed.apply(plan)
    (tid,) = (one.tid for one in read_threads(bed.switch.sandbox.switch_pid) if one.name.startswith("pmd-c"))

    os.sched_setaffinity(tid, {0, bed.cpu})

    (drift,) = bed.drifts(plan)
    assert drift.key == f"pmd thread of core {bed.cpu}"
    assert drift.actual == f"may run on CPUs 0-{bed.cpu}"


def test_an_address_of_no_database_is_one_clear_error(bed: Bed, ovs: OvsPlans) -> None:
    plan = ovs.plan(**bed.keys)
    for address, what in {
        "unix:/nosuch/db.sock": "not running: its database has no socket here",
        "tcp:127.0.0.1:6640": "not the address of a database on this machine",
        f"unix:{bed.switch.sandbox.unixctl}": "this is no Open vSwitch database",
    }.items():
        with pytest.raises(PreconditionError, match=what):
            bed.resource.read(dataclasses.replace(bed.machine, ovsdb=address), plan)


@pytest.mark.field_failure(28)
def test_a_device_with_fewer_queues_than_planned_is_an_error_with_its_log(bed: Bed, ovs: OvsPlans) -> None:
    # net_af_packet has one queue unless its arguments ask for more.
    port = ovs.port("a", "dpdk", dpdk_devargs="net_af_packet0,iface=port0", n_rxq=2)
    before = bed.rows()

    with pytest.raises(ApplyError) as caught:
        bed.apply(ovs.plan(ovs.bridge("br0", port), **bed.keys))

    assert "port br0/a queue 1" in str(caught.value)
    assert bed.rows() == before


def _ip(netns: str, *words: str) -> None:
    check(["ip", "-n", netns, *words], timeout_s=10)
