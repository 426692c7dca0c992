"""Metrics of a real switch: scraped by a real Prometheus, written for node_exporter, shown on a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nfvhost import sandbox
from nfvhost.access.command import check, find, run
from nfvhost.access.root import DirectoryRoot
from nfvhost.metrics import METRICS, Exporter, exposition

if TYPE_CHECKING:
    from tests.ovs.conftest import NewSwitch, Switch

MONITORING = Path(__file__).parents[2] / "examples" / "monitoring"
NFVHOST = (sys.executable, "-c", "from nfvhost.cli.app import main; main()")
WAIT_S = 30.0
T = TypeVar("T")
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(url: str) -> Series:
    """What the exporter answers now."""
    with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - our own
        return parsed(reply.read().decode())


def parsed(text: str) -> Series:
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((name, frozenset(labels.items())))


def until(look: Callable[[], T], *, wait_s: float = WAIT_S) -> T:
    """The first answer that counts as true; a failure where there is none."""
    end = time.monotonic() + wait_s
    while not (answer := look()):
        assert time.monotonic() < end, f"still {answer!r} after {wait_s:g} s"
        time.sleep(0.2)
    return answer


@contextmanager
def exporter(*arguments: str) -> Iterator[str]:
    """The URL of an exporter that serves at a free port."""
    argv = [*NFVHOST, "metrics", "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("serving http://127.0.0.1:"), line
            yield line.split()[-1]
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0


@pytest.fixture
def switch(new_switch: NewSwitch, pmd_cpu: int) -> Switch:
    """Two ports that packets cross, and one without any."""
    made = new_switch()
    made.start_dpdk(pmd_cpu)
    made.add_bridge("br0")
    for number in (0, 1):
        devargs = f"options:dpdk-devargs=net_af_packet{number},iface=port{number}"
        made.add_port("br0", f"p{number}", "type=dpdk", devargs)
    made.add_port("br0", "null", "type=dpdk", "options:dpdk-devargs=net_null0,no-rx=1")
    return made


def test_what_is_served_is_what_crossed_the_switch(switch: Switch, pmd_cpu: int) -> None:
    with exporter("--ovsdb", switch.sandbox.ovsdb) as url:
        before = scrape(url)
        result = sandbox.probe(switch.sandbox, count=500)
        assert result.passed
        thread = {"core": str(pmd_cpu), "node": str(result.pmds[0].node)}

        def grown(name: str, **labels: str) -> float:
            return (value(scrape(url), name, **labels) or 0) - (value(before, name, **labels) or 0)

        until(lambda: grown("nfvhost_pmd_received_packets_total", **thread) >= 2 * result.sent)
        assert grown("nfvhost_pmd_used_cycles_total", **thread) > 0
        assert grown("nfvhost_pmd_hits_total", **thread, cache="emc") > 0
        # ovs-vswitchd writes those of ports every 5 s.
        for port in ("p0", "p1"):
            packets = partial(grown, "nfvhost_port_packets_total", port=port, direction="receive")
            until(lambda: packets() >= result.sent)  # noqa: B023 - called at once
            assert grown("nfvhost_port_bytes_total", port=port, direction="transmit") >= 98 * result.sent
        now = scrape(url)
        assert value(now, "nfvhost_up") == value(now, "nfvhost_ovsdb_up") == 1
        assert value(now, "nfvhost_port_info", port="null", bridge="br0", type="dpdk") == 1
        assert value(now, "nfvhost_port_drops_total", port="null", direction="receive", cause="missed") == 0
        assert value(now, "nfvhost_rx_queue_enabled", port="p0", queue="0", core=str(pmd_cpu)) == 1
        assert (value(now, "nfvhost_flows_limit", datapath="netdev@ovs-netdev") or 0) > 0


def test_busy_time_and_the_share_of_each_queue_are_told_once_they_are_measured(switch: Switch, pmd_cpu: int) -> None:
    switch.add_port("br0", "flood", "type=dpdk", "options:dpdk-devargs=net_null1")
    with exporter("--ovsdb", switch.sandbox.ovsdb) as url:

        def share() -> float | None:
            return value(scrape(url), "nfvhost_rx_queue_usage_ratio", port="flood", queue="0", core=str(pmd_cpu))

        # A port that always has packets takes all that there is.
        until(lambda: (share() or 0) > 0.2)
        now = scrape(url)
        (busy,) = (number for (name, _), number in now.items() if name == "nfvhost_pmd_busy_ratio")
        assert 0.2 < busy <= 1


def test_drops_are_told_by_their_cause(switch: Switch) -> None:
    check(["ovs-ofctl", "add-flow", f"unix:{switch.sandbox.run_dir}/br0.mgmt", "priority=9,actions=drop"], timeout_s=10)
    root = DirectoryRoot("/")
    all_of_it = Exporter(root, ovsdb=switch.sandbox.ovsdb)

    def dropped() -> float:
        return (
            value(parsed(exposition(all_of_it)), "nfvhost_datapath_drops_total", family="pipeline", cause="of_pipeline")
            or 0
        )

    assert dropped() == 0
    assert sandbox.probe(switch.sandbox, count=1, timeout_s=1.0).sent == 0
    assert until(dropped) >= 1


def test_a_scrape_starts_no_process(switch: Switch) -> None:
    started: list[str] = []
    watching = True

    def hook(event: str, _arguments: object) -> None:
        if watching and event in {
            "subprocess.Popen",
            "os.fork",
            "os.forkpty",
            "os.posix_spawn",
            "os.exec",
            "os.system",
        }:
            started.append(event)

    # It stays for the life of this process.
    sys.addaudithook(hook)
    assert "nfvhost_up 1.0" in exposition(Exporter(DirectoryRoot("/"), ovsdb=switch.sandbox.ovsdb))
    watching = False
    assert started == []


def test_ports_beyond_the_bound_have_no_series_and_are_counted(switch: Switch) -> None:
    for number in range(8):
        switch.vsctl("add-port", "br0", f"tap{number}", "--", "set", "interface", f"tap{number}", "type=internal")
    text = exposition(Exporter(DirectoryRoot("/"), ovsdb=switch.sandbox.ovsdb, most_ports=4))
    ports = set(re.findall(r'port="([^"]+)"', text))
    assert ports == {"p0", "p1", "null", "br0"}
    assert "nfvhost_ports_left_out 8.0" in text


def test_a_switch_that_ends_and_comes_back_or_hangs_does_not_end_the_exporter(switch: Switch) -> None:
    with exporter("--ovsdb", switch.sandbox.ovsdb) as url:
        assert value(scrape(url), "nfvhost_up") == 1
        os.kill(switch.sandbox.switch_pid, signal.SIGKILL)
        until(lambda: value(scrape(url), "nfvhost_up") == 0)
        gone = scrape(url)
        assert value(gone, "nfvhost_ovsdb_up") == 1
        assert not [name for name, _ in gone if name.startswith("nfvhost_pmd_")]

        back = sandbox.restart_switch(switch.sandbox.name)
        until(lambda: value(scrape(url), "nfvhost_up") == 1)

        os.kill(back.switch_pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert value(scrape(url), "nfvhost_up") == 0
            assert time.monotonic() - began < 10
        finally:
            os.kill(back.switch_pid, signal.SIGCONT)
        until(lambda: value(scrape(url), "nfvhost_up") == 1)


def test_a_database_that_hangs_is_told_apart_from_the_switch(switch: Switch) -> None:
    pid = DirectoryRoot("/").read_int(f"{switch.sandbox.run_dir}/ovsdb-server.pid")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        now = parsed(exposition(Exporter(DirectoryRoot("/"), ovsdb=switch.sandbox.ovsdb)))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (value(now, "nfvhost_up"), value(now, "nfvhost_ovsdb_up")) == (1, 0)
    assert not [name for name, _ in now if name.startswith(("nfvhost_port_", "nfvhost_rx_queue"))]


def test_the_file_for_node_exporter_is_whole_readable_by_others_and_written_again(
    switch: Switch, tmp_path: Path
) -> None:
    path = tmp_path / "nfvhost.prom"
    argv = [*NFVHOST, "metrics", "--ovsdb", switch.sandbox.ovsdb, "--textfile", str(path), "--interval", "1"]
    with subprocess.Popen(argv) as process:
        until(path.exists)
        first = path.stat()
        until(lambda: path.exists() and path.stat().st_ino != first.st_ino)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert path.stat().st_mode & 0o777 == 0o644
    assert value(parsed(path.read_text()), "nfvhost_up") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["nfvhost.prom"]


def test_without_the_library_the_error_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError\n")
    done = run([*NFVHOST, "metrics", "--once"], timeout_s=30, env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 5
    assert "pip install 'nfvhost[metrics]'" in done.stderr


def test_an_address_that_somebody_has_is_an_error_with_a_hint() -> None:
    with exporter("--ovsdb", "unix:/nowhere/db.sock") as url:
        taken = url.removeprefix("http://").removesuffix("/metrics")
        done = run([*NFVHOST, "metrics", "--listen", taken], timeout_s=30)
    assert done.code == 5
    assert "Address already in use" in done.stderr


def test_json_has_the_same_metrics_by_name(switch: Switch) -> None:
    done = check([*NFVHOST, "metrics", "--json", "--ovsdb", switch.sandbox.ovsdb], timeout_s=30)
    document = json.loads(done.stdout)
    assert document["kind"] == "Metrics"
    assert document["metrics"]["nfvhost_up"] == [{"labels": {}, "value": 1.0}]
    assert set(document["metrics"]) <= {one.name for one in METRICS}


def test_the_drift_is_counted_where_a_plan_is_given(bed_plan: tuple[Switch, Path]) -> None:
    switch, plan = bed_plan
    before = parsed(check(once(switch, plan), timeout_s=60).stdout)
    assert value(before, "nfvhost_drift_check_up") == 1
    items = value(before, "nfvhost_drift_items")
    assert items is not None
    switch.vsctl("remove", "Open_vSwitch", ".", "other_config", "pmd-cpu-mask")
    after = parsed(check(once(switch, plan), timeout_s=60).stdout)
    assert (value(after, "nfvhost_drift_items") or 0) > items
    assert (value(after, "nfvhost_drift_checked_timestamp_seconds") or 0) > time.time() - 60


def once(switch: Switch, plan: Path) -> list[str]:
    return [*NFVHOST, "metrics", str(plan), "--once", "--ovsdb", switch.sandbox.ovsdb]


@pytest.fixture
def bed_plan(new_switch: NewSwitch, tmp_path: Path) -> tuple[Switch, Path]:
    """A switch that a plan was applied to, and the plan."""
    made = new_switch(memory_mib=1024)
    path = tmp_path / "plan.yaml"
    check([*NFVHOST, "plan", "--profile", "sandbox", "-o", str(path)], timeout_s=60)
    check([*NFVHOST, "apply", str(path), "--yes", "--ovsdb", made.sandbox.ovsdb], timeout_s=120)
    return made, path


def demand(program: str) -> str:
    found = find(program)
    if found is None and os.environ.get("NFVHOST_REQUIRE_TIERS") != "1":
        pytest.skip(f"{program} is not installed")
    assert found is not None, f"{program} is not installed"
    return found


def test_promtool_accepts_the_rules_their_tests_and_the_configuration() -> None:
    promtool = demand("promtool")
    for arguments in (
        ["check", "rules", "nfvhost-rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "nfvhost-rules-test.yml"],
    ):
        done = subprocess.run(  # noqa: PLW1510 - the exit code is what is tested
            [promtool, *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


def test_promtool_has_nothing_to_say_against_the_names_and_the_text(switch: Switch) -> None:
    text = exposition(Exporter(DirectoryRoot("/"), ovsdb=switch.sandbox.ovsdb))
    done = run([demand("promtool"), "check", "metrics"], timeout_s=30, input_text=text)
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Callable[[str, Mapping[str, str]], Any]]:
    """Asks the API of a Prometheus that scrapes `target` every second, by the shipped rules."""
    configuration = (MONITORING / "prometheus.yml").read_text()
    configuration = configuration.replace("127.0.0.1:19100", target).replace("15s", "1s")
    configuration = configuration.replace("nfvhost-rules.yml", str(MONITORING / "nfvhost-rules.yml"))
    (folder / "prometheus.yml").write_text(configuration)
    # It cannot be told to take a free port and say which.
    port = 19000 + os.getpid() % 10000
    argv = [
        demand("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]

    def ask(path: str, query: Mapping[str, str]) -> Any:  # noqa: ANN401 - JSON
        url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]

    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield ask
        finally:
            process.terminate()


def test_a_real_prometheus_scrapes_it_and_answers_every_question_of_the_dashboard(
    switch: Switch, tmp_path: Path
) -> None:
    demand("prometheus")
    assert sandbox.probe(switch.sandbox, count=100).passed
    with exporter("--ovsdb", switch.sandbox.ovsdb) as url:
        target = url.removeprefix("http://").removesuffix("/metrics")
        with prometheus(target, tmp_path) as ask:

            def up() -> bool:
                try:
                    return [one["value"][1] for one in ask("query", {"query": "nfvhost_up"})["result"]] == ["1"]
                except OSError:
                    return False

            until(up)
            (found,) = ask("targets", {"state": "active"})["activeTargets"]
            assert (found["health"], found["lastError"]) == ("up", "")
            groups = ask("rules", {})["groups"]
            assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}

            # A rate needs two scrapes, a share of a queue 5 s of packets.
            until(lambda: ask("query", {"query": "nfvhost_pmd_busy_ratio"})["result"])
            silent = []
            for question in questions():
                result = ask("query", {"query": question})["result"]
                if not result:
                    silent.append(question)
            # No plan, no VF, no tunnel, no isolated CPU here, and no packet was lost.
            spoken = [one for one in silent if not re.search("drift|_vf_|tunnel|isolated|drop|errors|hugepages", one)]
            assert spoken == []
            scraped = {one["metric"]["__name__"] for one in ask("query", {"query": '{job="nfvhost"}'})["result"]}
    expected = {one.name for one in METRICS if not re.search("drift|_vf_|tunnel|isolated", one.name)}
    assert expected - scraped == set()


def questions() -> list[str]:
    """Those of the dashboard, as Grafana asks them."""
    text = (MONITORING / "grafana-dashboard.json").read_text()
    found = [
        target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")
        for panel in json.loads(text)["panels"]
        for target in panel.get("targets", ())
    ]
    assert len(found) > 25
    return found


def test_top_once_shows_threads_queues_ports_and_drops(switch: Switch) -> None:
    switch.add_port("br0", "flood", "type=dpdk", "options:dpdk-devargs=net_null1")
    done = check([*NFVHOST, "top", "--once", "--ovsdb", switch.sandbox.ovsdb], timeout_s=30)
    for said in ("PMD threads", "Receive queues", "Ports", "flood", "null"):
        assert said in done.stdout
    assert "\x1b" not in done.stdout


def test_top_as_json_has_rates_of_what_crosses(switch: Switch, pmd_cpu: int) -> None:
    switch.add_port("br0", "flood", "type=dpdk", "options:dpdk-devargs=net_null1")
    done = check([*NFVHOST, "top", "--json", "--interval", "1", "--ovsdb", switch.sandbox.ovsdb], timeout_s=30)
    document = json.loads(done.stdout)
    assert document["kind"] == "Top"
    (thread,) = document["pmds"]
    assert thread["core"] == pmd_cpu
    assert thread["receivedPps"] > 1000
    rates = {one["port"]: one["receivedPps"] for one in document["ports"]}
    assert rates["flood"] > 1000
    assert rates["null"] == 0


def test_top_on_a_terminal_is_live_outlives_a_restart_and_ends_by_ctrl_c(switch: Switch) -> None:
    switch.add_port("br0", "flood", "type=dpdk", "options:dpdk-devargs=net_null1")
    keyboard, terminal = pty.openpty()
    # rows, columns (ioctl_tty(2), TIOCSWINSZ)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 50, 160, 0, 0))
    argv = [*NFVHOST, "top", "--interval", "0.5", "--ovsdb", switch.sandbox.ovsdb]
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(
        argv, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
    ) as process:
        os.close(terminal)
        seen = ""

        def shows(what: str) -> bool:
            nonlocal seen
            # EIO: all is read, and nobody has the terminal open any more.
            with contextlib.suppress(OSError):
                while select.select([keyboard], [], [], 0.1)[0]:
                    seen += os.read(keyboard, 65536).decode(errors="replace")
            return what in seen

        try:
            until(lambda: shows("PMD threads"))
            # An alternate screen, which leaves no trace behind.
            assert "\x1b[?1049h" in seen
            until(lambda: shows("flood") and re.search(r"\d[MGk]\b", seen))
            seen = ""
            until(lambda: shows("PMD threads"))
            os.kill(switch.sandbox.switch_pid, signal.SIGKILL)
            until(lambda: shows("not running"))
            sandbox.restart_switch(switch.sandbox.name)
            seen = ""
            until(lambda: shows("PMD threads"))
            process.send_signal(signal.SIGINT)
            until(lambda: shows("\x1b[?1049l"))
            assert process.wait(timeout=10) == 0
        finally:
            # Where a step failed, it may wait for somebody who reads.
            process.kill()
            os.close(keyboard)
