"""Rates measured with real packets: through poll-mode threads, a guest, a switch without DPDK, the kernel's bridge."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiers import demand
from typer.testing import CliRunner

from nfvhost import sandbox
from nfvhost.access.clock import wait_for
from nfvhost.access.command import check, find
from nfvhost.access.namespace import packet_socket
from nfvhost.access.root import DirectoryRoot
from nfvhost.access.switch_counters import port_traffic
from nfvhost.bench.builtin import BuiltIn
from nfvhost.bench.document import load_result
from nfvhost.bench.frames import parse_frames
from nfvhost.bench.generator import Generator, Load, flat_out, through
from nfvhost.bench.packet_sockets import PacketSockets
from nfvhost.bench.paths import Path as BenchPath
from nfvhost.bench.paths import PathKind, opened
from nfvhost.bench.program import missing
from nfvhost.bench.run import Bench, Setup, Wish, generator_cpus, private_sandbox
from nfvhost.bench.testpmd import PmdProgram
from nfvhost.bench.trex import VARIABLE, Trex, trex_folder
from nfvhost.bench.trial import Measurer, Trial
from nfvhost.cli.app import app
from nfvhost.inspect import inspect_host
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.planfile import load_profile
from nfvhost.planner import make_plan
from nfvhost.sandbox import Sandbox

(SMALL,) = parse_frames("64")
(IMIX,) = parse_frames("imix")
GENTLE_PPS = 10_000.0
# include/uapi/asm-generic/socket.h
_SO_RCVBUFFORCE = 33
# On a busy machine a poll-mode thread may be without its CPU for longer than a ring has room: that trial is made again.
TRIES = 10


@pytest.fixture(scope="module", autouse=True)
def the_generator_can_be_compiled() -> None:
    demand("it needs root" if os.geteuid() != 0 else missing(), "the bench")


@pytest.fixture(scope="module")
def host() -> Host:
    return inspect_host(DirectoryRoot("/"))


@pytest.fixture(scope="module")
def plan(host: Host) -> Plan:
    return make_plan(host, load_profile("sandbox"))


@pytest.fixture(scope="module")
def place() -> Iterator[Sandbox]:
    with private_sandbox(f"tb{os.getpid()}") as made:
        yield made


def whole(measurer: Measurer, *, load_pps: float) -> Trial:
    """A gentle trial of which nothing was lost; the last one where each lost something."""
    for _ in range(TRIES):
        trial = measurer.measure(duration_s=0.5, load_pps=load_pps)
        assert trial.intended == trial.sent + trial.refused + trial.behind
        assert trial.received <= trial.sent
        if trial.loss_ratio == 0 and trial.kept_up:
            break
    return trial


def counted(place: Sandbox, port: str) -> tuple[int, int]:
    """Received and sent, as the switch itself has counted them."""
    (found,) = (one for one in port_traffic(place.unixctl, timeout_s=10) if one.port == port)
    return found.received, found.sent


@pytest.mark.parametrize(
    ("kind", "generator"),
    [
        (PathKind.PORT, BuiltIn()),
        (PathKind.PVP, BuiltIn()),
        (PathKind.SRV6_ENCAP, BuiltIn()),
        (PathKind.SRV6_DECAP, BuiltIn()),
        (PathKind.NETDEV, BuiltIn()),
        (PathKind.KERNEL, BuiltIn()),
        (PathKind.KERNEL, PacketSockets()),
        (PathKind.NETDEV, Trex()),
        (PathKind.KERNEL, Trex()),
    ],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_a_gentle_rate_crosses_each_path_whole(
    place: Sandbox, plan: Plan, host: Host, kind: PathKind, generator: Generator
) -> None:
    if isinstance(generator, Trex) and trex_folder() is None:
        pytest.skip(f"TRex is no package: {VARIABLE} names the folder of one")
    # Without a thread of its own, the switch takes turns with the generator: sockets have to hold what comes meanwhile.
    load_pps = GENTLE_PPS if kind.polled else GENTLE_PPS / 10
    with opened(kind, place, plan) as path:
        assert generator.refusal(path.ends) is None
        with through(generator, path.ends, Load(frames=IMIX, flows=10), generator_cpus(plan, host)) as measurer:
            trial = whole(measurer, load_pps=load_pps)
    assert trial.received == trial.sent
    # Never faster than asked; on a busy machine slower, and then it says so.
    assert 0 < trial.sent <= load_pps * trial.duration_s * 1.01
    assert trial.behind == trial.intended - trial.sent


def test_the_switch_itself_counts_what_the_generator_says(place: Sandbox, plan: Plan, host: Host) -> None:
    with (
        opened(PathKind.PVP, place, plan) as path,
        through(BuiltIn(), path.ends, Load(frames=SMALL, flows=1), generator_cpus(plan, host)) as measurer,
    ):
        before = {port: counted(place, port) for port in path.ports}
        trial = measurer.measure(duration_s=0.3, load_pps=GENTLE_PPS)
        # A poll-mode thread that is without its CPU finds the last frames in the ring when it is back.
        wait_for(lambda: counted(place, "bench-tx")[0] - before["bench-tx"][0] >= trial.sent, timeout_s=10)
        after = {port: counted(place, port) for port in path.ports}
    grown = {port: tuple(b - a for a, b in zip(before[port], after[port], strict=True)) for port in path.ports}
    assert grown["bench-tx"][0] == trial.sent
    # Through the guest: out of one of its ports and in by the other.
    assert grown["bench-guest0"][1] >= trial.received
    assert grown["bench-guest1"][0] >= trial.received
    assert grown["bench-rx"][1] >= trial.received


def test_what_the_ring_refused_at_full_speed_is_counted_apart_from_loss(place: Sandbox, plan: Plan, host: Host) -> None:
    with (
        opened(PathKind.PORT, place, plan) as path,
        through(BuiltIn(), path.ends, Load(frames=SMALL, flows=1), generator_cpus(plan, host)) as measurer,
    ):
        before = counted(place, "bench-tx")
        trial = flat_out(measurer, duration_s=0.3)
        taken = counted(place, "bench-tx")[0] - before[0]
    assert trial.refused > 0
    # What was refused never reached the switch; what was sent did, the last ring of it perhaps after the trial.
    assert trial.received <= taken <= trial.sent
    assert trial.intended == trial.sent + trial.refused


def frames_heard(far: socket.socket) -> list[bytes]:
    heard = []
    far.settimeout(0.2)
    try:
        while True:
            heard.append(far.recv(2048))
    except TimeoutError:
        return heard


@pytest.mark.parametrize("generator", [BuiltIn(), PacketSockets()], ids=lambda one: str(one.name))
def test_the_mix_of_sizes_and_the_flows_are_as_asked(
    place: Sandbox, plan: Plan, host: Host, generator: Generator
) -> None:
    flows = 100
    with opened(PathKind.KERNEL, place, plan) as path:
        netdev = loop_end(path)
        with packet_socket(place.netns, netdev) as far:
            far.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 * 1024 * 1024)
            with generator.attached(path.loop, Load(frames=IMIX, flows=flows), generator_cpus(plan, host)) as measurer:
                trial = measurer.measure(duration_s=0.3, load_pps=4_000.0)
            heard = [one for one in frames_heard(far) if one[42:46] in {b"hvfn", b"nfvh"}]
    assert len(heard) >= trial.received * 0.99
    sizes = Counter(len(one) + 4 for one in heard)
    assert set(sizes) == {64, 570, 1518}
    assert sizes[64] / len(heard) == pytest.approx(7 / 12, abs=0.02)
    assert sizes[1518] / len(heard) == pytest.approx(1 / 12, abs=0.02)
    assert len({one[26:30] + one[34:36] for one in heard}) == flows
    assert {internet_checksum(one[14:34]) for one in heard} == {0}
    assert {struct.unpack_from("!H", one, 16)[0] - len(one) for one in heard} == {-14}


def loop_end(path: BenchPath) -> str:
    assert path.loop.netdevs is not None
    return path.loop.netdevs[1]


def internet_checksum(header: bytes) -> int:
    total: int = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_testpmd_says_what_comes_through_at_full_speed_and_no_rate_without_loss(
    place: Sandbox, plan: Plan, host: Host
) -> None:
    if find("dpdk-testpmd") is None:
        pytest.skip("dpdk-testpmd is not installed: apt-get install dpdk-dev")
    setup = Setup(name="plan", plan=plan, path=PathKind.PORT, generator_cpus=generator_cpus(plan, host))
    wish = Wish(frames=(SMALL,), trial_s=0.5)
    (result,) = Bench(sandbox=place, generator=PmdProgram(), host=host).run((setup,), wish)
    (made,) = result.points[0].rounds
    assert result.generator.name == "dpdk-testpmd"
    assert result.points[0].ndr.pps is None
    assert made.maximum_pps > GENTLE_PPS


@pytest.mark.parametrize("path", ["port", "kernel"])
def test_a_run_writes_all_that_a_colleague_asks_for_and_leaves_nothing(tmp_path: Path, path: str) -> None:
    document, table, picture = tmp_path / "result.json", tmp_path / "result.csv", tmp_path / "result.svg"
    words = ["bench", "run", "--path", path, "--frames", "64", "--trial", "0.05", "--line-rate", "10000"]
    files = ["-o", str(document), "--csv", str(table), "--plot", str(picture)]
    done = CliRunner().invoke(app, [*words, *files, "--json"])
    assert done.exit_code == 0, done.output
    result = load_result(str(document))
    assert json.loads(done.stdout) == json.loads(document.read_text(encoding="utf-8"))
    (point,) = result.points
    (made,) = point.rounds
    assert result.generator.name == "built-in"
    # Named where it is in the way.
    switch = dict(result.versions).get("openvswitch")
    assert (switch is not None and switch[0].isdigit()) == (path == "port")
    assert len(result.plan) == 64
    # No path is faster than the generator.
    assert point.ceiling_pps > 0
    assert max(trial.load_pps for trial in made.trials) <= point.ceiling_pps * 1.001
    assert made.trials
    assert (made.pmd_waited_ms is None) == (path == "kernel")
    if made.ndr_pps is not None and path == "port":
        assert made.cycles_per_packet is not None
        assert made.cycles_per_packet > 50
        assert made.latency is not None
        assert 0 < made.latency.minimum_us <= made.latency.median_us <= made.latency.maximum_us * 1.1
    assert len(table.read_text(encoding="utf-8").splitlines()) == 2
    assert "<svg" in picture.read_text(encoding="utf-8")
    assert not [one for one in sandbox.status() if one.name == f"bench{os.getpid()}"]
    assert f"nfvhost-bench{os.getpid()}" not in check(["ip", "netns", "list"], timeout_s=10).stdout


def test_a_path_that_is_closed_leaves_the_sandbox_as_it_was(place: Sandbox, plan: Plan) -> None:
    def traces() -> tuple[str, list[str], list[str]]:
        links = check(["ip", "-n", place.netns, "-brief", "link"], timeout_s=10).stdout.split("\n")
        bridges = check(["ovs-vsctl", f"--db={place.ovsdb}", "list-br"], timeout_s=10).stdout
        netdevs = sorted(line.split()[0] for line in links if line)
        # DPDK's and the data path's own devices stay until the switch ends.
        return bridges, [one for one in netdevs if "bench" in one], sorted(os.listdir(place.run_dir))

    with opened(PathKind.PORT, place, plan):
        pass
    before = traces()
    for kind in set(PathKind) - {PathKind.SRIOV}:
        with opened(kind, place, plan):
            assert traces() != before
    bridges, links, files = traces()
    assert (bridges, links) == ("", [])
    assert [one for one in files if one.startswith("bench-")] == []
