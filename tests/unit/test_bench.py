"""Benches on paper: rates on the wire, documents, comparisons, alternatives, pictures."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ovs_plans import OvsPlans
from synthetic import host as machine_of
from typer.testing import CliRunner

from nfvhost.bench.choice import chosen
from nfvhost.bench.choice import generator as named_generator
from nfvhost.bench.compare import compare, differences
from nfvhost.bench.counters import Drops, since
from nfvhost.bench.document import load_result, result_csv, result_document
from nfvhost.bench.frames import Frames, parse_frames
from nfvhost.bench.generator import Ends, Load, through
from nfvhost.bench.packet_sockets import PacketSockets
from nfvhost.bench.paths import PathKind, benched
from nfvhost.bench.plot import drawn, plot_format
from nfvhost.bench.result import BenchResult, Conditions, GeneratorUsed, Point, Round, limited_by, summary
from nfvhost.bench.run import Setup, generator_cpus
from nfvhost.bench.search import Found, Rate
from nfvhost.bench.text import comparison_text, table, tuning_text
from nfvhost.bench.trial import Latency, Trial
from nfvhost.bench.tune import AS_PLANNED, alternatives, judged
from nfvhost.cli.app import app
from nfvhost.errors import DocumentError, ExitCode, PreconditionError, UsageError
from nfvhost.model.cpuset import CpuSet
from nfvhost.planfile import to_json

(SMALL,) = parse_frames("64")
TRIAL = Trial(
    duration_s=1.0,
    load_pps=2e6,
    intended=2_000_000,
    sent=1_999_000,
    refused=600,
    behind=400,
    received=1_998_000,
    latency=Latency(samples=10, minimum_us=1.0, median_us=2.0, p99_us=3.0, maximum_us=40.5),
)


def one_round(ndr_pps: float | None, pdr_pps: float | None = None) -> Round:
    return Round(
        ndr_pps=ndr_pps,
        pdr_pps=ndr_pps if pdr_pps is None else pdr_pps,
        finished=True,
        limited_by="path",
        maximum_pps=3e6,
        cycles_per_packet=292.0,
        latency=TRIAL.latency,
        drops=(Drops(cause="bench-rx: sent, no room", packets=12),),
        pmd_waited_ms=1.5,
        generator_absent_ms=0.0,
        traffic_s=9.5,
        trials=(TRIAL,),
    )


def result(*rates_mpps: float | None, name: str = "plan", frames: tuple[Frames, ...] = (SMALL,)) -> BenchResult:
    """A result with these NDRs, one a round, for each size."""
    rounds = tuple(one_round(None if rate is None else rate * 1e6) for rate in rates_mpps)
    return BenchResult(
        name=name,
        plan="ab" * 32,
        profile="sandbox",
        path="port",
        versions=(("generator", "DPDK 22.11.11"), ("openvswitch", "3.1.0")),
        cpu_model="Small CPU",
        cpus=2,
        pmd_cpus=CpuSet([1]),
        settings=(("pmd-cpu-mask", "0x2"),),
        queue_size=1024,
        generator=GeneratorUsed(name="built-in", version="DPDK 22.11.11", cpus=CpuSet([0]), shares_pmd_cpu=False),
        trial_s=1.0,
        pdr_loss_ratio=0.005,
        conditions=Conditions(
            began="2026-01-31T12:00:00Z",
            load_average_before=0.1,
            load_average_after=1.9,
            steal_percent=0.0,
            pmd_isolated=False,
        ),
        points=tuple(
            Point(
                frames=one.name,
                mean_bytes=one.mean_bytes,
                flows=1,
                ceiling_pps=16e6,
                line_rate_pps=one.line_rate_pps(10_000),
                ndr=summary(tuple(made.ndr_pps for made in rounds), one),
                pdr=summary(tuple(made.pdr_pps for made in rounds), one),
                rounds=rounds,
            )
            for one in frames
        ),
    )


class OpensLater:
    """A generator on a path that loses all of the first trials."""

    name, version, searches = "on paper", "1", True

    def __init__(self, lost: int) -> None:
        self.lost = lost
        self.trials = 0

    def refusal(self, ends: Ends) -> str | None:
        del ends
        return None

    @contextmanager
    def attached(self, ends: Ends, load: Load, cpus: CpuSet) -> Iterator[OpensLater]:
        del ends, load, cpus
        yield self

    def measure(self, *, duration_s: float, load_pps: float) -> Trial:
        self.trials += 1
        received = 0 if self.trials <= self.lost else TRIAL.received
        return dataclasses.replace(TRIAL, duration_s=duration_s, load_pps=load_pps, received=received)


def test_a_path_is_measured_from_when_the_first_frame_comes_through() -> None:
    generator = OpensLater(lost=2)
    with through(generator, Ends(tx="a", rx="b"), Load(frames=SMALL, flows=1), CpuSet([0])) as measurer:
        assert generator.trials == 3
        assert measurer.measure(duration_s=1.0, load_pps=1e6).received == TRIAL.received


def test_ten_gigabits_are_fourteen_point_eight_eight_million_small_frames() -> None:
    assert SMALL.line_rate_pps(10_000) == pytest.approx(14.880952e6)
    assert SMALL.layer1_gbps(14.880952e6) == pytest.approx(10.0)
    assert SMALL.layer2_gbps(14.880952e6) == pytest.approx(7.619, abs=1e-3)


def test_imix_is_seven_small_four_medium_and_one_large() -> None:
    (imix,) = parse_frames("imix")
    assert imix.mean_bytes == pytest.approx((7 * 64 + 4 * 570 + 1518) / 12)


@pytest.mark.parametrize("text", ["63", "1519", "small", "-64", "64.5"])
def test_what_is_no_size_of_a_frame_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size of a frame"):
        parse_frames(text)


def test_a_size_that_is_named_twice_is_measured_once() -> None:
    assert [one.name for one in parse_frames("64, imix,64")] == ["64", "imix"]


def test_a_result_that_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    made = result(1.5, None, 1.7)
    path = tmp_path / "result.json"
    path.write_text(to_json(result_document(made)), encoding="utf-8")

    assert load_result(str(path)) == made


@pytest.mark.field_failure(35)
def test_a_document_says_what_it_is_and_both_layers() -> None:
    document = result_document(result(1.0))
    assert (document["apiVersion"], document["kind"]) == ("nfvhost/v1", "BenchResult")
    ndr = document["points"][0]["ndr"]
    assert ndr["mpps"] == 1.0
    assert ndr["layer1Gbps"] == pytest.approx(0.672)
    assert ndr["layer2Gbps"] == pytest.approx(0.512)
    assert document["points"][0]["rounds"][0]["drops"] == [{"cause": "bench-rx: sent, no room", "packets": 12}]


def test_a_document_of_another_kind_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"apiVersion": "nfvhost/v1", "kind": "Plan"}', encoding="utf-8")
    with pytest.raises(DocumentError, match="this is a Plan; a BenchResult is wanted here"):
        load_result(str(path))


def test_all_that_is_wrong_in_a_result_is_told_at_once(tmp_path: Path) -> None:
    document = {**result_document(result(1.0)), "cpus": "two", "trialS": None, "ndr": 1}
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DocumentError) as refusal:
        load_result(str(path))
    text = str(refusal.value)
    assert "cpus: is 'two' where a whole number is expected" in text
    assert "trialS: is nothing where a number is expected" in text
    assert "ndr: is not a key of this document" in text


def test_a_text_that_is_no_json_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"apiVersion": ', encoding="utf-8")
    with pytest.raises(DocumentError, match="is not JSON"):
        load_result(str(path))


def test_csv_has_a_line_for_each_point_and_nothing_where_there_is_no_number() -> None:
    rows = list(csv.DictReader(io.StringIO(result_csv((result(None, frames=parse_frames("64,imix")),)))))
    assert [row["frames"] for row in rows] == ["64", "imix"]
    assert rows[0]["ndr_mpps"] == ""
    assert rows[0]["generator_ceiling_mpps"] == "16"


def test_the_median_of_rounds_counts_a_round_without_a_rate_as_the_lowest() -> None:
    assert summary((3.0, None, 2.0), SMALL).pps == 2.0
    assert summary((None, None, 2.0), SMALL).pps is None
    assert summary((3.0, None, 2.0), SMALL).least_pps is None


def test_rates_whose_rounds_lie_apart_differ_by_more_than_the_noise() -> None:
    ndr, pdr = compare(result(1.0, 1.1, 1.05), result(1.3, 1.2, 1.25))
    assert (ndr.rate, pdr.rate) == ("NDR", "PDR")
    assert ndr.more_than_noise is True
    assert ndr.ratio == pytest.approx(1.25 / 1.05)


def test_rates_whose_rounds_overlap_are_within_the_noise() -> None:
    ndr, _ = compare(result(1.0, 1.3, 1.05), result(1.3, 1.2, 1.25))
    assert ndr.more_than_noise is False


def test_rounds_nearer_than_the_width_of_the_search_are_within_the_noise() -> None:
    ndr, _ = compare(result(1.0, 1.0, 1.0), result(1.004, 1.004, 1.004))
    assert ndr.more_than_noise is False


def test_of_one_round_no_noise_is_known() -> None:
    ndr, _ = compare(result(1.0), result(2.0))
    assert ndr.more_than_noise is None
    assert "--rounds 3" in ndr.reason


def test_results_without_a_point_in_common_cannot_be_compared() -> None:
    with pytest.raises(DocumentError, match="no frames and flows in common"):
        compare(result(1.0), result(1.0, frames=parse_frames("128")))


def test_a_comparison_names_what_else_is_not_the_same() -> None:
    other = dataclasses.replace(result(1.0), cpu_model="Large CPU", versions=(("generator", "DPDK 24.11"),))
    told = differences(result(1.0), other)
    assert "the CPU: Small CPU, then Large CPU" in told
    assert "the version of generator: DPDK 22.11.11, then DPDK 24.11" in told
    assert "the version of openvswitch: 3.1.0, then none" in told
    assert differences(result(1.0), result(1.0)) == ()


def test_compare_ends_with_10_where_a_rate_differs(tmp_path: Path) -> None:
    for name, made in (("a", result(1.0, 1.0, 1.0)), ("b", result(2.0, 2.0, 2.0))):
        (tmp_path / name).write_text(to_json(result_document(made)), encoding="utf-8")
    runner = CliRunner()
    same = runner.invoke(app, ["bench", "compare", str(tmp_path / "a"), str(tmp_path / "a")])
    other = runner.invoke(app, ["bench", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"])
    assert same.exit_code == ExitCode.OK
    assert "ratio 1.000, within the noise" in same.stdout
    assert other.exit_code == ExitCode.DIFFERENCES
    assert [one["moreThanNoise"] for one in json.loads(other.stdout)["comparisons"]] == [True, True]


def test_the_limit_is_the_generators_where_it_owed_packets_just_above() -> None:
    slow = dataclasses.replace(TRIAL, load_pps=2.01e6, sent=1_000_000, refused=0, behind=1_010_000, received=1_000_000)
    lossy = dataclasses.replace(TRIAL, load_pps=2.01e6, received=1_000_000, behind=0)

    def found(trial: Trial, bad_pps: float | None) -> Found:
        rate = Rate(pps=2e6, bad_pps=bad_pps)
        return Found(ndr=rate, pdr=rate, finished=True, trials=(TRIAL, trial))

    assert limited_by(found(slow, 2.01e6)) == "generator"
    assert limited_by(found(lossy, 2.01e6)) == "path"
    assert limited_by(found(lossy, None)) == "generator"


def test_only_causes_that_have_counted_meanwhile_are_told() -> None:
    assert since({"a": 3, "b": 1}, {"a": 3, "b": 5, "c": 2}) == (
        Drops(cause="b", packets=4),
        Drops(cause="c", packets=2),
    )


@pytest.mark.parametrize(("kind", "head"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_the_picture_is_of_the_kind_that_was_asked_for(kind: str, head: bytes) -> None:
    assert drawn((result(1.0, 1.2, 1.1, frames=parse_frames("64,512,imix")),), kind).startswith(head)


@pytest.mark.field_failure(35)
def test_the_picture_says_on_what_it_was_taken_and_shows_all_four_lines() -> None:
    text = drawn((result(10.0, 11.0, 12.0, frames=parse_frames("64,imix")),), "svg").decode()
    for word in ("Small CPU", "3.1.0", "built-in", "NDR, plan", "PDR, plan", "line rate", "generator's ceiling"):
        assert word in text.replace("&apos;", "'")


def test_the_same_result_gives_the_same_picture() -> None:
    made = (result(1.0, frames=parse_frames("64,imix")),)
    assert drawn(made, "svg") == drawn(made, "svg")


def test_a_picture_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="neither PNG nor SVG"):
        plot_format("plot.pdf")


def test_the_table_names_generator_ceiling_and_noise() -> None:
    text = table(result(1.0))
    for word in ("built-in", "DPDK 22.11.11", "16.00", "292", "load average 0.10 before", "PMD threads 2 ms"):
        assert word in text


def test_a_path_without_poll_mode_threads_tells_nothing_of_them() -> None:
    polled = result(1.0)
    (point,) = polled.points
    rounds = tuple(dataclasses.replace(one, pmd_waited_ms=None) for one in point.rounds)
    text = table(dataclasses.replace(polled, pmd_cpus=CpuSet(), points=(dataclasses.replace(point, rounds=rounds),)))
    assert "no PMD threads" in text
    assert "PMD threads 2 ms" not in text


def test_an_alternative_wins_only_where_each_point_is_better_by_more_than_the_noise() -> None:
    planned = result(1.0, 1.1, 1.05, name=AS_PLANNED)
    better, noisy = result(1.3, 1.2, 1.25, name="better"), result(1.0, 2.0, 1.9, name="noisy")
    tuning = judged((planned, noisy, better))
    assert tuning.winner == "better"
    assert tuning.gain == pytest.approx(1.25 / 1.05)
    assert [one.name for one in tuning.candidates] == ["noisy", "better"]
    assert tuning_text(tuning).endswith("better wins by 19.0 %\n")
    assert judged((planned, noisy)).winner == AS_PLANNED


def test_alternatives_differ_from_the_plan_and_fit_the_machine(ovs: OvsPlans) -> None:
    host = machine_of(cores=2, threads=2)
    plan = ovs.plan(version="3.1", emc_insert_inv_prob="0", pmd_cpu_mask="0x4")
    plan = dataclasses.replace(plan, cpus=dataclasses.replace(plan.cpus, pmd=CpuSet([2])))
    setup = Setup(name="x", plan=plan, path=PathKind.PORT, generator_cpus=CpuSet([0]))
    first, *others = alternatives(setup, host)
    assert first.name == AS_PLANNED
    names = [one.name for one in others]
    assert "no exact match cache" not in names
    assert "every flow into the exact match cache" in names
    assert "sleeping up to 50 us" in names
    assert {"256 descriptors", "512 descriptors"} <= set(names)
    assert not any(name.startswith("queues placed") for name in names)
    changed = [(one.plan, one.queue_size) for one in others]
    assert all(one != (plan, setup.queue_size) for one in changed)
    siblings = next(one for one in others if one.name.endswith("poll too"))
    assert siblings.plan.cpus.pmd == next(cpu.thread_siblings for cpu in host.cpus if cpu.id == 2)
    assert siblings.plan.ovs is not None
    assert (
        dict(siblings.plan.ovs.other_config)["pmd-cpu-mask"] == f"{sum(1 << one for one in siblings.plan.cpus.pmd):#x}"
    )


def test_a_key_that_the_release_lacks_is_no_alternative(ovs: OvsPlans) -> None:
    plan = ovs.plan(version="2.17")
    setup = Setup(name="x", plan=plan, path=PathKind.PORT, generator_cpus=CpuSet([0]))
    names = [one.name for one in alternatives(setup, machine_of(cores=2))]
    assert not any(name.startswith("sleeping") for name in names)


def test_the_generator_stays_off_poll_mode_cpus_while_there_are_others(ovs: OvsPlans) -> None:
    host = machine_of(cores=2)
    plan = ovs.plan()

    def placed(pmd: CpuSet) -> CpuSet:
        return generator_cpus(dataclasses.replace(plan, cpus=dataclasses.replace(plan.cpus, pmd=pmd)), host)

    assert placed(CpuSet([1])) == CpuSet([0])
    assert placed(CpuSet([0, 1])) == CpuSet([0, 1])


def test_a_bench_takes_the_plans_settings_and_none_of_its_ports(ovs: OvsPlans) -> None:
    plan = ovs.plan(
        ovs.bridge("br-phy", ovs.port("dpdk0", "dpdk", dpdk_devargs="0000:05:00.0")),
        emc_insert_inv_prob="0",
        dpdk_extra="-a 0000:05:00.0",
    )
    made = benched(plan, ()).ovs
    assert made is not None
    assert [bridge.name for bridge in made.bridges] == ["br-bench"]
    assert dict(made.other_config)["emc-insert-inv-prob"] == "0"
    assert dict(made.other_config)["dpdk-extra"] == "--no-pci --iova-mode=va"


def test_a_generator_that_cannot_serve_says_why() -> None:
    vhost = Ends(tx="net_virtio_user0,path=/x", rx="net_virtio_user1,path=/y")
    with pytest.raises(PreconditionError, match="interfaces of the kernel alone"):
        chosen(PacketSockets(), vhost)
    with pytest.raises(UsageError, match="there is no generator 'iperf'"):
        named_generator("iperf")
    assert named_generator("auto") is None


def test_comparisons_read_as_lines() -> None:
    assert "64 bytes      1 flows NDR: 1.000 -> 2.000 Mpps, ratio 2.000" in comparison_text(
        compare(result(1.0), result(2.0))
    )
