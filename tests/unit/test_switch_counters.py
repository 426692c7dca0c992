"""What ovs-vswitchd says, by release: real texts of two PMD threads, a flood, a tunnel and a lost guest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nfvhost.access.port_statistics import read_port_statistics
from nfvhost.access.switch_counters import (
    read_datapath_drops,
    read_flow_tables,
    read_pmd_counters,
    read_pmd_usage,
    read_port_traffic,
)

TEXTS = Path(__file__).parent / "switch_texts"
RELEASES = ("3.1", "3.5", "4.0")


def text(release: str, command: str) -> str:
    return (TEXTS / release / command).read_text(encoding="utf-8")


def pmds(release: str) -> tuple[str, str]:
    return text(release, "dpif-netdev-pmd-perf-show"), text(release, "dpif-netdev-pmd-stats-show")


@pytest.mark.parametrize("release", RELEASES)
def test_each_poll_mode_thread_is_read_and_the_main_thread_is_none(release: str) -> None:
    threads = read_pmd_counters(*pmds(release))
    assert [(one.node, one.core) for one in threads] == [(0, 0), (0, 1)]


@pytest.mark.parametrize("release", RELEASES)
def test_hits_upcalls_and_lost_ones_add_up_to_the_packets_of_one_pass_each(release: str) -> None:
    for one in read_pmd_counters(*pmds(release)):
        assert one.received > 10_000_000
        assert sum(count for _, count in one.hits) + one.upcalls + one.lost_upcalls == pytest.approx(
            one.received, rel=1e-3
        )
        assert dict(one.hits)["emc"] > dict(one.hits)["megaflow"] > 0


@pytest.mark.parametrize("release", ["3.1", "3.5"])
def test_busy_cycles_are_exact_where_they_are_told(release: str) -> None:
    for one in read_pmd_counters(*pmds(release)):
        assert one.busy_cycles is not None
        # Asked for a moment earlier.
        assert 0.9 * one.used_cycles < one.busy_cycles <= one.used_cycles


def test_busy_cycles_are_not_made_up_where_4_0_prints_a_rounded_share_alone() -> None:
    assert [one.busy_cycles for one in read_pmd_counters(*pmds("4.0"))] == [None, None]


def test_a_number_that_leaves_no_blank_is_read() -> None:
    performance = (
        "pmd thread numa_id 1 core_id 30:\n\n  Iterations: 7\n  - Simple Match hits:1234567890123  ( 25.5 %)\n"
    )
    (one,) = read_pmd_counters(performance, "")
    assert (one.node, one.core, one.iterations, dict(one.hits)["simple_match"]) == (1, 30, 7, 1234567890123)


def test_a_thread_without_packets_has_zeros() -> None:
    performance = (
        "pmd thread numa_id 0 core_id 2:\n\n  Iterations:  9 (2.0 us/it)\n  Rx packets:   0\n  Tx packets:  0\n\n"
    )
    (one,) = read_pmd_counters(performance, "")
    assert (one.received, one.sent, one.upcalls, one.lost_upcalls) == (0, 0, 0, 0)
    assert {count for _, count in one.hits} == {0}


@pytest.mark.parametrize("release", RELEASES)
def test_each_queue_has_its_share_of_the_thread_that_polls_it(release: str) -> None:
    first, second = read_pmd_usage(text(release, "dpif-netdev-pmd-rxq-show"))
    assert [(one.port, one.queue) for one in (*first.queues, *second.queues)] == [
        ("p0", 0),
        ("port0", 0),
        ("vh0", 0),
        ("p0", 1),
        ("port1", 0),
    ]
    shares = [one.percent or 0 for one in first.queues]
    assert shares[0] > 80
    assert first.busy_percent == sum(shares) + (first.overhead_percent or 0)


def test_usage_that_is_not_measured_yet_is_none_and_a_queue_that_its_guest_has_off_is_told() -> None:
    (one,) = read_pmd_usage(
        "pmd thread numa_id 0 core_id 1:\n  isolated : false\n"
        "  port: vhu-a             queue-id: 10 (disabled)  pmd usage: NOT AVAIL\n  overhead: NOT AVAIL\n"
    )
    assert one.busy_percent is None
    assert [(queue.port, queue.queue, queue.enabled, queue.percent) for queue in one.queues] == [
        ("vhu-a", 10, False, None)
    ]


def test_shares_that_are_rounded_up_never_pass_the_whole() -> None:
    (one,) = read_pmd_usage(
        "pmd thread numa_id 0 core_id 1:\n  port: a  queue-id:  0 (enabled)   pmd usage: 51 %\n"
        "  port: b  queue-id:  0 (enabled)   pmd usage: 50 %\n  overhead:  0 %\n"
    )
    assert one.busy_percent == 100


@pytest.mark.parametrize("release", RELEASES)
def test_drops_have_their_causes_and_those_that_never_came_are_zero(release: str) -> None:
    drops = {(one.family, one.cause): one.packets for one in read_datapath_drops(text(release, "coverage-show"))}
    assert drops["pipeline", "of_pipeline"] > 10_000_000
    assert drops["datapath", "upcall_error"] > 0
    assert drops["datapath", "meter"] == drops["datapath", "rx_invalid_packet"] == 0
    assert len(drops) == 30


def test_a_cause_that_a_later_release_adds_is_told_too() -> None:
    drops = read_datapath_drops("datapath_drop_new_one   0.0/sec   540.300/sec   9.0050/sec   total: 12\n")
    assert [one.packets for one in drops if (one.family, one.cause) == ("datapath", "new_one")] == [12]


@pytest.mark.parametrize("release", RELEASES)
def test_the_flow_table_has_its_limit_and_the_time_of_a_dump(release: str) -> None:
    (table,) = read_flow_tables(text(release, "upcall-show"))
    assert (table.datapath, table.limit, table.dump_ms) == ("netdev@ovs-netdev", 10000, 1)
    assert 0 < table.flows < 10


@pytest.mark.parametrize("release", RELEASES)
def test_ports_are_told_but_for_one_whose_guest_is_away(release: str) -> None:
    traffic = {one.port: one for one in read_port_traffic(text(release, "dpctl-show"))}
    assert set(traffic) == {"ovs-netdev", "br0", "p0", "port0", "port1", "vxlan_sys_4789"}
    assert traffic["p0"].received > 10_000_000
    assert traffic["br0"].transmit_dropped
    assert traffic["vxlan_sys_4789"].receive_dropped is None


@pytest.mark.parametrize("release", RELEASES)
def test_rows_of_the_database_are_ports_with_their_bridge(release: str) -> None:
    bridges, ports, interfaces = (reply["rows"] for reply in json.loads(text(release, "select.json")))
    found = {one.name: one for one in read_port_statistics(bridges, ports, interfaces)}
    assert list(found) == ["br0", "p0", "port0", "port1", "vh0", "vx0"]
    assert {one.bridge for one in found.values()} == {"br0"}
    assert (found["p0"].type, found["p0"].link_up, found["vh0"].link_up) == ("dpdk", True, False)
    counters = dict(found["p0"].counters)
    assert counters["rx_packets"] > 10_000_000
    assert counters["ovs_tx_failure_drops"] == counters["rx_missed_errors"] == 0


def test_an_interface_that_belongs_to_no_bridge_any_more_is_left_out() -> None:
    row = {"_uuid": ["uuid", "1"], "name": "gone", "type": "", "link_state": ["set", []], "statistics": ["map", []]}
    assert read_port_statistics([], [], [row]) == ()
