"""Metrics: what a reading becomes, how many series there are, and that alerts and pictures name real ones."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from ruamel.yaml import YAML

from nfvhost.access.interrupts import counts_on
from nfvhost.access.port_statistics import PortStatistics
from nfvhost.access.root import DirectoryRoot
from nfvhost.access.switch_counters import (
    DatapathDrops,
    read_datapath_drops,
    read_flow_tables,
    read_pmd_counters,
    read_pmd_usage,
)
from nfvhost.access.vf_settings import VfCounters, vf_counters
from nfvhost.errors import PreconditionError, UsageError
from nfvhost.metrics import METRICS, DriftCount, DriftWatch, Exporter, Look, Reading, exposition, samples, serve, top
from nfvhost.metrics.reading import Switch, first_ports, rearms
from nfvhost.metrics.screen import number
from nfvhost.model.cpuset import CpuSet

CHECKOUT = Path(__file__).parents[2]
MONITORING = CHECKOUT / "examples" / "monitoring"
TEXTS = Path(__file__).parent / "switch_texts" / "3.5"
NAME = re.compile(r"\bnfvhost_[a-z_]+")
MakeTree = Callable[[Mapping[str, str]], DirectoryRoot]


def text(command: str) -> str:
    return (TEXTS / command).read_text(encoding="utf-8")


def port(name: str, kind: str = "dpdk", **counters: int) -> PortStatistics:
    return PortStatistics(name=name, bridge="br0", type=kind, link_up=True, counters=tuple(sorted(counters.items())))


def reading(*, switch: Switch | None = None, ports: tuple[PortStatistics, ...] | None = None) -> Reading:
    return Reading(
        switch=switch, ports=ports, left_out=0, pools=(), interrupts=(), vfs=(), rearms=(), problems=(), took_s=0.01
    )


@pytest.fixture
def switch() -> Switch:
    """A real one, of OVS 3.5."""
    return Switch(
        version="3.5.0",
        pmds=read_pmd_counters(text("dpif-netdev-pmd-perf-show"), text("dpif-netdev-pmd-stats-show")),
        usage=read_pmd_usage(text("dpif-netdev-pmd-rxq-show")),
        drops=read_datapath_drops(text("coverage-show")),
        tables=read_flow_tables(text("upcall-show")),
    )


def value(found: Reading, metric: str, *labels: str) -> float | None:
    return {(name, of): number for name, of, number in samples(found)}.get((metric, labels))


def test_every_sample_has_a_metric_with_as_many_labels(switch: Switch) -> None:
    labels = {one.name: len(one.labels) for one in METRICS}
    vf = VfCounters(
        vf=0,
        received_packets=1,
        sent_packets=2,
        received_bytes=3,
        sent_bytes=4,
        receive_dropped=5,
        transmit_dropped=6,
    )
    full = dataclasses.replace(
        reading(switch=switch, ports=(port("p0", rx_packets=1, ovs_tx_failure_drops=2, rx_dropped=3),)),
        interrupts=((2, 7),),
        vfs=(("eth0", (vf,)),),
        rearms=(("srv6-a", 1),),
    )
    found = list(samples(full, DriftCount(items=1, at_s=5.0, up=True)))
    assert len(found) > 80
    assert [one for one in found if labels[f"nfvhost_{one[0]}"] != len(one[1])] == []
    assert len({one[:2] for one in found}) == len(found)


def test_a_switch_that_does_not_answer_is_down_and_has_no_numbers_that_could_be_taken_for_zeros() -> None:
    assert {name for name, _, _ in samples(reading())} == {"up", "ovsdb_up", "scrape_duration_seconds"}
    assert value(reading(), "up") == 0


def test_a_port_has_the_causes_that_its_driver_counts_and_no_others() -> None:
    found = reading(ports=(port("vhu0", rx_packets=5, ovs_tx_failure_drops=9, tx_dropped=9),))
    assert value(found, "port_drops_total", "vhu0", "transmit", "queue_full") == 9
    assert value(found, "port_dropped_packets_total", "vhu0", "transmit") == 9
    assert value(found, "port_drops_total", "vhu0", "receive", "missed") is None
    assert value(found, "port_packets_total", "vhu0", "transmit") is None


def test_shares_are_ratios_and_not_percents(switch: Switch) -> None:
    found = reading(switch=switch, ports=(port("p0"),))
    busy = value(found, "pmd_busy_ratio", "0", "0")
    assert busy is not None
    assert 0.9 < busy <= 1


def test_queues_of_ports_that_are_left_out_have_no_series(switch: Switch) -> None:
    queues = {of[0] for name, of, _ in samples(reading(switch=switch, ports=(port("p0"),))) if name.startswith("rx_q")}
    assert queues == {"p0"}


def test_ports_are_bounded_and_nics_are_the_last_to_be_left_out() -> None:
    guests = (port(f"a{number:03}", "dpdkvhostuserclient") for number in range(600))
    many = (*guests, port("zz"))
    kept = first_ports(many, 512)
    assert len(kept) == 512
    assert [one.name for one in kept] == sorted(one.name for one in kept)
    assert kept[-1].name == "zz"
    assert "a511" not in {one.name for one in kept}


def test_interrupts_are_counted_on_the_cpus_asked_for_and_rows_of_the_kernel_itself_are_not() -> None:
    lines = (
        "           CPU0       CPU2       CPU3       ",
        "  24:          1          0          0  IR-PCI-MSI 1-edge  eth0",
        "  25:          1         20          3  IR-PCI-MSI 2-edge  eth0-TxRx-0",
        "1026:          0          0         10  IR-PCI-MSI 3-edge  eth0-TxRx-1",
        " LOC:        900        800        700  Local timer interrupts",
        " ERR:          0",
    )
    assert counts_on(lines, CpuSet.parse("2-3")) == {2: 20, 3: 13}
    assert counts_on(lines, CpuSet.parse("1,3")) == {3: 13}
    assert counts_on((), CpuSet.parse("2")) == {}


def test_interrupts_of_a_kernel_that_prints_the_blank_first_are_the_same() -> None:
    lines = ("            CPU0       CPU1", " 24:          5          0  x", " 25:          0         12  y")
    assert counts_on(lines, CpuSet.parse("1")) == {1: 12}
    assert counts_on(lines, CpuSet.parse("0-1")) == {0: 5, 1: 12}


def test_columns_of_another_width_are_read_all_the_same() -> None:
    lines = ("       CPU0 CPU1", " 24:      5    7  x", " 25:      0   12  y")
    assert counts_on(lines, CpuSet.parse("1")) == {1: 19}


def test_rearms_are_those_that_the_watch_has_written(make_tree: MakeTree) -> None:
    root = make_tree({"/run/nfvhost/watch.json": '{"rearms": {"srv6-b": 2, "srv6-a": 7}}'})
    assert rearms(root) == (("srv6-a", 7), ("srv6-b", 2))


def test_rearms_at_a_private_database_are_those_of_the_watch_there(make_tree: MakeTree) -> None:
    files = {"/run/nfvhost/watch.json": '{"rearms": {"a": 1}}', "/run/box/watch.json": '{"rearms": {"b": 2}}'}
    assert rearms(make_tree(files), ovsdb="unix:/run/box/db.sock") == (("b", 2),)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"rearms": 3}', '{"rearms": {"a": "many"}}', '{"rearms": {"a": null}}']
)
def test_a_damaged_or_empty_file_of_the_watch_is_no_rearm(make_tree: MakeTree, content: str) -> None:
    assert rearms(make_tree({"/run/nfvhost/watch.json": content})) == ()


def test_without_a_watch_there_is_no_series(make_tree: MakeTree) -> None:
    assert rearms(make_tree({"/run/": ""})) == ()


def test_the_counters_of_a_vf_are_those_of_the_kernels_message() -> None:
    # As net/core/rtnetlink.c, rtnl_fill_vf, nests it.
    message = ifinfmsg()
    message["attrs"] = [
        (
            "IFLA_VFINFO_LIST",
            {
                "attrs": [
                    (
                        "IFLA_VF_INFO",
                        {
                            "attrs": [
                                ("IFLA_VF_MAC", {"vf": 3, "mac": "02:00:00:00:00:03"}),
                                (
                                    "IFLA_VF_STATS",
                                    {
                                        "attrs": [
                                            ("IFLA_VF_STATS_RX_PACKETS", 10),
                                            ("IFLA_VF_STATS_TX_PACKETS", 2**40),
                                            ("IFLA_VF_STATS_RX_BYTES", 640),
                                            ("IFLA_VF_STATS_TX_BYTES", 2**41),
                                            ("IFLA_VF_STATS_RX_DROPPED", 1),
                                            ("IFLA_VF_STATS_TX_DROPPED", 4),
                                        ]
                                    },
                                ),
                            ]
                        },
                    )
                ]
            },
        )
    ]
    message.encode()
    read_back = ifinfmsg(message.data)
    read_back.decode()
    (vf,) = read_back.get_attr("IFLA_VFINFO_LIST").get_attrs("IFLA_VF_INFO")
    assert vf_counters(vf) == VfCounters(
        vf=3,
        received_packets=10,
        sent_packets=2**40,
        received_bytes=640,
        sent_bytes=2**41,
        receive_dropped=1,
        transmit_dropped=4,
    )


def test_a_count_of_the_drift_that_fails_keeps_the_last_one_and_says_so() -> None:
    outcomes: list[int | PreconditionError] = [2, PreconditionError("gone"), 0]

    def count() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, PreconditionError):
            raise outcome
        return outcome

    watch = DriftWatch(count, interval_s=1)
    assert (watch.last.items, watch.last.up) == (None, False)
    first = watch.look()
    assert (first.items, first.up) == (2, True)
    second = watch.look()
    assert (second.items, second.at_s, second.up) == (2, first.at_s, False)
    assert (watch.look().items, watch.last.up) == (0, True)


def test_a_check_that_never_succeeded_has_no_number_of_items() -> None:
    found = {name for name, _, _ in samples(reading(), DriftCount(items=None, at_s=None, up=False))}
    assert "drift_check_up" in found
    assert "drift_items" not in found


def test_the_exposition_has_each_metric_of_the_catalogue_with_its_kind_and_help(
    make_tree: MakeTree, tmp_path: Path
) -> None:
    exporter = Exporter(make_tree({"/proc/": ""}), ovsdb=f"unix:{tmp_path}/none.sock")
    families = {one.name: one for one in text_string_to_metric_families(exposition(exporter))}
    assert {name: (one.type, one.documentation) for name, one in families.items()} == {
        one.name.removesuffix("_total"): (one.kind.value, one.help) for one in METRICS
    }
    assert [one.value for one in families["nfvhost_up"].samples] == [0.0]


@pytest.mark.parametrize(
    "listen", ["19100", "127.0.0.1", ":19100", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1"]
)
def test_what_is_no_address_and_port_is_refused(make_tree: MakeTree, listen: str) -> None:
    with pytest.raises(UsageError):
        serve(Exporter(make_tree({"/proc/": ""}), ovsdb="/none"), listen)


def test_names_follow_the_conventions() -> None:
    assert len({one.name for one in METRICS}) == len(METRICS)
    for one in METRICS:
        assert re.fullmatch(r"nfvhost_[a-z]+(_[a-z]+)*", one.name), one.name
        assert one.name.endswith("_total") == (one.kind.value == "counter"), one.name
        assert one.help
        assert not one.help.endswith("."), one.name
        # promtool: no abbreviated units
        assert not re.search(r"_(ms|us|kib|mib|percent)(_|$)", one.name), one.name


def look(switch: Switch, *, at_s: float, pid: int = 7) -> Look:
    return Look(
        at_s=at_s,
        version="3.5.0",
        pid=pid,
        pmds=switch.pmds,
        usage=switch.usage,
        drops=switch.drops,
        traffic=(),
        ports=(),
    )


def later(switch: Switch) -> Switch:
    """The same with 1000 more packets on each thread, half of them in the EMC, and 40 more drops."""
    return dataclasses.replace(
        switch,
        pmds=tuple(
            dataclasses.replace(
                one,
                received=one.received + 1000,
                busy_cycles=(one.busy_cycles or 0) + 500_000,
                hits=tuple(
                    (cache, count + 500 if cache in {"emc", "megaflow"} else count) for cache, count in one.hits
                ),
            )
            for one in switch.pmds
        ),
        drops=tuple(
            DatapathDrops(family=one.family, cause=one.cause, packets=one.packets + 40)
            if one.cause == "upcall_error"
            else one
            for one in switch.drops
        ),
    )


def test_rates_are_what_came_between_two_looks(switch: Switch) -> None:
    seen = top(look(switch, at_s=10.0), look(later(switch), at_s=12.0))
    assert seen.seconds == 2
    for pmd in seen.pmds:
        assert (pmd.received_pps, pmd.cycles_per_packet) == (500, 500)
        assert {cache: share for cache, share in pmd.hit_percent if share} == {"emc": 50, "megaflow": 50}
    assert {one.cause: one.drops_ps for one in seen.drops} == {"upcall_error": 20, "of_pipeline": 0}


def test_a_switch_that_was_restarted_in_between_has_no_rates_below_zero_or_out_of_the_blue(switch: Switch) -> None:
    seen = top(look(switch, at_s=10.0, pid=7), look(later(switch), at_s=12.0, pid=8))
    assert [(one.received_pps, one.cycles_per_packet) for one in seen.pmds] == [(0, None), (0, None)]
    cleared = top(look(later(switch), at_s=10.0), look(switch, at_s=12.0))
    assert [one.received_pps for one in cleared.pmds] == [0, 0]


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (0, "0"), (44.4, "44.4"), (812_345, "812k"), (27_285_000, "27.3M"), (1.5e9, "1.5G")],
)
def test_numbers_are_short(value: float | None, said: str) -> None:
    assert number(value) == said


def names_in(document: str) -> set[str]:
    return set(NAME.findall(document))


def rules() -> list[dict[str, Any]]:
    document = YAML(typ="safe", pure=True).load((MONITORING / "nfvhost-rules.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions(dashboard: object) -> list[str]:
    if isinstance(dashboard, dict):
        own = [dashboard["expr"]] if "expr" in dashboard else []
        return own + [one for below in dashboard.values() for one in expressions(below)]
    if isinstance(dashboard, list):
        return [one for below in dashboard for one in expressions(below)]
    return []


def test_alerts_and_the_dashboard_name_metrics_that_there_are() -> None:
    known = {one.name for one in METRICS}
    alerts = names_in(" ".join(rule["expr"] for rule in rules()))
    pictures = names_in(
        " ".join(expressions(json.loads((MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))))
    )
    assert len(alerts) > 10
    assert len(pictures) > 20
    assert (alerts | pictures) - known == set()


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    tests = (MONITORING / "nfvhost-rules-test.yml").read_text(encoding="utf-8")
    alerts = {rule["alert"] for rule in rules()}
    assert set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", tests)) == alerts
    assert set(re.findall(r'alertname="(\w+)".*value: 1', tests)) == alerts


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 40


def test_the_document_has_a_row_for_each_metric_and_no_other() -> None:
    document = (CHECKOUT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(nfvhost_\w+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$", document, re.MULTILINE)
    assert rows == [(one.name, one.kind.value, ", ".join(one.labels), one.help) for one in METRICS]
