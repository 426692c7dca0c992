from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nfvhost import sandbox
from nfvhost.access.clock import sleep, wait_for
from nfvhost.access.command import check
from nfvhost.access.namespace import call_inside, packet_socket
from nfvhost.access.process import read_process
from nfvhost.access.root import DirectoryRoot
from nfvhost.errors import PreconditionError, UsageError
from nfvhost.sandbox.daemons import find_programs
from nfvhost.sandbox.record import BASE

if TYPE_CHECKING:
    from tests.ovs.conftest import NewSwitch

MEMORY_MIB = 32
NAME = f"t{os.getpid()}-s"
Pages = Callable[[], tuple[int, ...]]


@pytest.fixture(autouse=True)
def nothing_is_left(pages: Pages) -> Iterator[None]:
    """Each test here ends with the machine as it was: this is what the sandbox promises."""
    before = pages()
    yield
    sandbox.down(NAME)
    assert traces() == []
    assert pages() == before


def traces(name: str = NAME) -> list[str]:
    """All that a sandbox of this name has on this machine, pages apart."""
    machine = DirectoryRoot("/")
    found = [f"/run/netns/{one}" for one in machine.list_dir("/run/netns") if one.startswith(f"nfvhost-{name}")]
    found += [f"{BASE}/{one}" for one in machine.list_dir(BASE) if one.startswith(name)]
    found += [line for line in Path("/proc/mounts").read_text("utf-8").splitlines() if name in line]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        process = read_process(int(pid))
        if process is not None and any(f"{BASE}/{name}/" in word for word in process.argv):
            found.append(" ".join(process.argv))
    return found


def up() -> sandbox.Sandbox:
    return sandbox.up(name=NAME, memory_mib=MEMORY_MIB)


def test_up_and_down_leave_nothing_the_first_time_and_the_second(pages: Pages) -> None:
    before = pages()
    for _ in range(2):
        made = up()
        assert made.made
        assert sum(pages()) - sum(before) == len(before) * MEMORY_MIB // 2
        assert len(traces()) >= 6
        assert sandbox.down(NAME)
        assert traces() == []
        assert pages() == before
    assert not sandbox.down(NAME)


def test_up_when_up_gives_the_same_sandbox(pages: Pages) -> None:
    first = up()
    reserved = pages()

    second = sandbox.up(name=NAME)

    assert not second.made
    assert second.switch_pid == first.switch_pid
    assert pages() == reserved


def test_up_with_more_memory_than_it_has_is_refused_while_it_runs() -> None:
    first = up()

    with pytest.raises(PreconditionError, match="is up with another memory: 32, not 64") as refusal:
        sandbox.up(name=NAME, memory_mib=64)

    assert "take it down first" in str(refusal.value)
    assert sandbox.status(NAME)[0].sandbox == sandbox.up(name=NAME)
    assert first.switch_pid == sandbox.up(name=NAME).switch_pid


@pytest.mark.parametrize("program", ["ovs-vswitchd", "ovsdb-server"])
def test_a_daemon_that_was_killed_is_named_and_up_heals(program: str) -> None:
    first = up()
    pid = int(Path(f"{first.run_dir}/{program}.pid").read_text("utf-8"))
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: read_process(pid) is None, timeout_s=5)

    (status,) = sandbox.status(NAME)
    second = up()

    assert status.sandbox is None
    assert status.missing[0].startswith(f"{program} (pid {pid}) has ended")
    assert second.made
    assert sandbox.status(NAME)[0].missing == ()


def test_down_after_the_switch_was_killed_leaves_nothing() -> None:
    made = up()
    os.kill(made.switch_pid, signal.SIGKILL)

    assert sandbox.down(NAME)

    assert traces() == []


@pytest.mark.parametrize("delay_ms", [0, 3, 6, 10, 15, 22, 30, 40, 55, 75])
@pytest.mark.parametrize("heal", ["up", "down"])
def test_a_start_that_is_killed_at_any_moment_is_healed(delay_ms: int, heal: str, pages: Pages) -> None:
    before = pages()
    code = f"from nfvhost import sandbox; sandbox.up(name={NAME!r}, memory_mib={MEMORY_MIB})"
    with subprocess.Popen([sys.executable, "-c", code]) as starting:
        assert wait_for(lambda: os.path.exists(f"{BASE}/{NAME}.json"), timeout_s=20, interval_s=0.001)
        sleep(delay_ms / 1000)
        starting.kill()

    if heal == "up":
        healed = up()
        assert read_process(healed.switch_pid) is not None
        assert sum(pages()) - sum(before) == len(before) * MEMORY_MIB // 2
        assert sandbox.status(NAME)[0].missing == ()
    else:
        assert sandbox.down(NAME)
        assert traces() == []
        assert pages() == before


@pytest.mark.parametrize("delay_ms", [0, 5, 15, 30, 60])
def test_a_start_that_is_interrupted_leaves_all_or_nothing(delay_ms: int, pages: Pages) -> None:
    before = pages()
    code = f"from nfvhost import sandbox; sandbox.up(name={NAME!r}, memory_mib={MEMORY_MIB})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as starting:
        assert wait_for(lambda: os.path.exists(f"{BASE}/{NAME}.json"), timeout_s=20, interval_s=0.001)
        sleep(delay_ms / 1000)
        starting.send_signal(signal.SIGINT)

    recorded = sandbox.status(NAME)
    if recorded:
        assert recorded[0].missing == ()
    else:
        assert traces() == []
        assert pages() == before


@pytest.mark.parametrize("delay_ms", [0, 5, 10, 20, 30, 45, 60, 80])
def test_an_end_that_is_killed_at_any_moment_is_finished_by_the_next(delay_ms: int, pages: Pages) -> None:
    before = pages()
    up()
    code = f"from nfvhost import sandbox; print(flush=True); sandbox.down({NAME!r})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as ending:
        assert ending.stdout is not None
        ending.stdout.readline()
        sleep(delay_ms / 1000)
        ending.kill()

    sandbox.down(NAME)

    assert traces() == []
    assert pages() == before


def test_a_switch_that_gave_up_is_quoted(new_switch: NewSwitch) -> None:
    switch = new_switch().sandbox
    # More than the machine has: DPDK ends the process. The command waits for an answer that does not come.
    words = ("set", "Open_vSwitch", ".", "other_config:dpdk-init=true", "other_config:dpdk-socket-mem=99999999")
    check(["ovs-vsctl", f"--db={switch.ovsdb}", "--no-wait", *words], timeout_s=20)
    assert wait_for(lambda: read_process(switch.switch_pid) is None, timeout_s=20)

    (status,) = sandbox.status(switch.name)

    assert status.sandbox is None
    assert "has ended\n" in status.missing[0]
    assert "EAL: Not enough memory available on socket 0!" in status.missing[0]


def test_files_without_a_record_are_swept_away_by_up() -> None:
    os.makedirs(f"{BASE}/{NAME}/dpdk")
    Path(f"{BASE}/{NAME}/ovs-vswitchd.pid").write_text("1\n", encoding="utf-8")
    Path(f"{BASE}/{NAME}/conf.db").write_text("not a database", encoding="utf-8")

    assert up().made

    assert not os.path.exists(f"{BASE}/{NAME}/dpdk")


def test_a_namespace_of_someone_else_is_not_taken_over() -> None:
    check(["ip", "netns", "add", f"nfvhost-{NAME}-b"], timeout_s=5)
    try:
        with pytest.raises(PreconditionError, match="no sandbox is recorded that made it"):
            up()
        assert os.path.exists(f"/run/netns/nfvhost-{NAME}-b")
        assert not os.path.exists(f"/run/netns/nfvhost-{NAME}")
    finally:
        check(["ip", "netns", "delete", f"nfvhost-{NAME}-b"], timeout_s=5)


def test_a_directory_with_files_of_someone_else_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")

    with pytest.raises(PreconditionError, match="is not empty"):
        sandbox.up(name=NAME, memory_mib=MEMORY_MIB, run_dir=str(tmp_path))

    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_a_directory_of_ones_own_is_used_and_goes(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    made = sandbox.up(name=NAME, memory_mib=MEMORY_MIB, run_dir=str(directory))

    assert made.ovsdb == f"unix:{directory}/db.sock"
    assert (directory / "db.sock").is_socket()
    sandbox.down(NAME)
    assert not directory.exists()


def test_a_pid_that_has_passed_to_another_process_is_left_alone() -> None:
    made = up()
    os.kill(made.switch_pid, signal.SIGKILL)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        Path(f"{made.run_dir}/ovs-vswitchd.pid").write_text(f"{stranger.pid}\n", encoding="utf-8")
        record = Path(f"{BASE}/{NAME}.json")
        held = json.loads(record.read_text("utf-8"))
        held["daemons"][1]["pid"] = stranger.pid
        record.write_text(json.dumps(held), encoding="utf-8")
        try:
            sandbox.down(NAME)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_record_that_cannot_be_read_says_where_it_is() -> None:
    record = Path(f"{BASE}/{NAME}.json")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("{", encoding="utf-8")
    try:
        with pytest.raises(PreconditionError, match="is not a record of a sandbox") as refusal:
            up()
        assert str(record) in str(refusal.value)
    finally:
        record.unlink()


def test_a_record_of_an_earlier_boot_is_only_files(pages: Pages) -> None:
    before = pages()
    record = Path(f"{BASE}/{NAME}.json")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(
        json.dumps(
            {
                "name": NAME,
                "boot_id": "00000000-0000-0000-0000-000000000000",
                "run_dir": f"{BASE}/{NAME}",
                "memory_mib": 2,
                "complete": True,
                "reservations": [{"node": 0, "before": 0, "wanted": 1, "granted": 1}],
                "daemons": [{"program": "ovs-vswitchd", "pid": os.getpid(), "start_ticks": 1}],
            }
        ),
        encoding="utf-8",
    )

    assert sandbox.status(NAME)[0].missing == ("the machine was booted since",)
    assert sandbox.down(NAME)

    assert pages() == before


def test_two_sandboxes_are_up_at_once_and_one_goes_alone() -> None:
    other = f"{NAME}2"
    first = up()
    second = sandbox.up(name=other, memory_mib=MEMORY_MIB)
    try:
        assert first.switch_pid != second.switch_pid
        sandbox.down(NAME)
        assert sandbox.status(other)[0].missing == ()
    finally:
        sandbox.down(other)
    assert traces(other) == []


def test_memory_that_the_machine_has_not_is_refused_before_anything_is_made(pages: Pages) -> None:
    before = pages()

    with pytest.raises(PreconditionError, match=r"10485760 MiB of hugepages would leave the machine -\d+ MiB"):
        sandbox.up(name=NAME, memory_mib=10 * 1024 * 1024)

    assert pages() == before
    assert traces() == []


def test_a_short_grant_of_pages_is_an_error_with_the_numbers(new_switch: NewSwitch) -> None:
    # An attribute of the kernel that keeps fewer than was written stands in for a pool of scattered memory: of a
    # number written in decimal it keeps nine bits, and shows them in hexadecimal (fs/proc/base.c, coredump_filter).
    pool = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"
    held = Path("/proc/self/coredump_filter").read_text("utf-8")

    def short() -> None:
        check(["mount", "--bind", f"/proc/{os.getpid()}/coredump_filter", pool], timeout_s=5)
        Path("/proc/self/coredump_filter").write_text("0", encoding="utf-8")
        with pytest.raises(PreconditionError, match="asked for 16 hugepages of 2M, the kernel granted 10") as refusal:
            up()
        assert "--memory" in str(refusal.value)

    netns = new_switch("n").sandbox.netns
    try:
        call_inside(netns, short, own_mounts=True)
    finally:
        Path("/proc/self/coredump_filter").write_text(f"0x{held.strip()}", encoding="utf-8")


def test_a_restarted_switch_reads_the_database_again(new_switch: NewSwitch, pmd_cpu: int) -> None:
    switch = new_switch()
    switch.start_dpdk(pmd_cpu)
    switch.add_bridge("br0")

    restarted = sandbox.restart_switch(switch.sandbox.name)

    assert restarted.switch_pid != switch.sandbox.switch_pid
    assert read_process(switch.sandbox.switch_pid) is None
    assert switch.vsctl("list-br") == "br0"
    assert switch.vsctl("get", "Open_vSwitch", ".", "dpdk_initialized") == "true"


def test_a_restart_on_settings_that_dpdk_refuses_gives_its_reason(new_switch: NewSwitch) -> None:
    switch = new_switch()
    switch.vsctl("set", "Open_vSwitch", ".", "other_config:dpdk-lcore-mask=0x8000000000000000")
    words = ("set", "Open_vSwitch", ".", "other_config:dpdk-init=true")
    check(["ovs-vsctl", f"--db={switch.sandbox.ovsdb}", "--no-wait", *words], timeout_s=20)
    assert wait_for(lambda: read_process(switch.sandbox.switch_pid) is None, timeout_s=20)

    with pytest.raises(PreconditionError, match=r"(?s)EAL: .*Cannot init EAL \(Invalid argument\)"):
        sandbox.restart_switch(switch.sandbox.name)


def test_the_switch_sees_no_pci_function_and_stays_within_its_memory(new_switch: NewSwitch, pmd_cpu: int) -> None:
    switch = new_switch(memory_mib=64)
    switch.vsctl("set", "Open_vSwitch", ".", "other_config:dpdk-init=true", f"other_config:pmd-cpu-mask={1 << pmd_cpu}")
    switch.add_bridge("br0")
    switch.add_port("br0", "dpdk0", "type=dpdk", "options:dpdk-devargs=net_af_packet0,iface=port0")

    pid = switch.sandbox.switch_pid
    assert os.listdir(f"/proc/{pid}/root/sys/bus/pci/devices") == []
    assert "port0" in os.listdir(f"/proc/{pid}/root/sys/class/net")
    status = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    used_kib = next(int(line.split()[1]) for line in status if line.startswith("HugetlbPages:"))
    assert 0 < used_kib <= 64 * 1024


def test_without_root_nothing_is_tried() -> None:
    os.seteuid(65534)
    try:
        for tried in (up, lambda: sandbox.down(NAME), lambda: sandbox.restart_switch(NAME)):
            with pytest.raises(PreconditionError, match="network namespaces, hugepages and DPDK need root"):
                tried()
    finally:
        os.seteuid(0)


def test_mounts_of_its_own_stay_so_where_systemd_has_made_all_mounts_shared(
    new_switch: NewSwitch, tmp_path: Path
) -> None:
    netns = new_switch("n").sandbox.netns
    mount = ["mount", "-t", "tmpfs", "none", str(tmp_path)]

    def outside() -> bool:
        check(["mount", "--make-rshared", "/"], timeout_s=5)
        call_inside(netns, lambda: check(mount, timeout_s=5), own_mounts=True)
        return os.path.ismount(tmp_path)

    assert not call_inside(netns, outside, own_mounts=True)


def test_a_machine_without_an_ovs_of_dpdk_is_told_the_package(new_switch: NewSwitch) -> None:
    directory = "/usr/lib/openvswitch-switch-dpdk"
    if not os.path.isdir(directory):
        pytest.skip("only Debian and Ubuntu keep the DPDK build in a directory of its own")

    def hidden() -> None:
        check(["mount", "-t", "tmpfs", "none", directory], timeout_s=5)
        with pytest.raises(PreconditionError, match="apt-get install openvswitch-switch-dpdk"):
            find_programs()

    call_inside(new_switch("n").sandbox.netns, hidden, own_mounts=True)


@pytest.mark.parametrize("name", ["", "x-a", "x-b", "-x", "x-", "X", "a/b", "..", "a" * 33])
def test_a_name_that_cannot_serve_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a sandbox"):
        sandbox.up(name=name)
    with contextlib.suppress(UsageError):
        assert not sandbox.down(name)


@pytest.mark.parametrize("memory_mib", [-2, 0, 1, 33])
def test_memory_that_is_not_whole_pages_is_refused(memory_mib: int) -> None:
    with pytest.raises(UsageError, match="are not whole pages of 2M"):
        sandbox.up(name=NAME, memory_mib=memory_mib)


def test_a_namespace_or_a_netdev_that_is_not_there_is_named(new_switch: NewSwitch) -> None:
    with pytest.raises(PreconditionError, match="/run/netns/nowhere: the network namespace cannot be entered"):
        call_inside("nowhere", lambda: None)
    with pytest.raises(PreconditionError, match="no frames can be had from eth9: No such device"):
        packet_socket(new_switch("n").sandbox.netns, "eth9")


def test_a_probe_of_a_switch_without_a_plan_says_that_none_is_applied() -> None:
    with pytest.raises(PreconditionError, match="no bridge yet") as raised:
        sandbox.probe(up())
    assert "nfvhost apply PLAN --ovsdb unix:" in str(raised.value)


def test_an_interrupted_call_in_a_namespace_is_waited_for() -> None:
    ended = []

    def slow() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        sleep(0.5)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        call_inside("/proc/self/ns/net", slow)

    assert ended
