"""The folder of vhost-user sockets."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from cases import CASES, DEBIAN_ACCOUNTS, Case
from contract import differences, drifts, refusals, remarks, run
from scratch import ScratchMachine

from nfvhost.engine import rollback
from nfvhost.errors import PreconditionError

Bench = Callable[[str], tuple[Case, ScratchMachine]]
FOLDER: Final = "var/lib/vhost_sockets"
QEMU, KVM, SWITCH, HUGETLBFS = 64055, 992, 64056, 993
FEDORA: Final = {
    "/etc/passwd": f"root:x:0:0::/root:/bin/sh\nqemu:x:{QEMU}:{KVM}::/:/sbin/nologin\n"
    f"openvswitch:x:{SWITCH}:{SWITCH}::/:/sbin/nologin\n",
    "/etc/group": f"root:x:0:\nqemu:x:{KVM}:\nopenvswitch:x:{SWITCH}:\nhugetlbfs:x:{HUGETLBFS}:openvswitch\n",
    "/etc/openvswitch/default.conf": 'OVS_USER_ID="openvswitch:hugetlbfs"\n',
}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")


def owner(scratch: ScratchMachine, path: str = FOLDER) -> tuple[int, int, int]:
    there = (scratch.tree / path).stat()
    return there.st_uid, there.st_gid, there.st_mode & 0o7777


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users may pass, unlike pytest's."""
    top = Path(tempfile.mkdtemp(prefix="nfvhost-vhost-"))
    top.chmod(0o755)
    yield top
    shutil.rmtree(top)


@as_root
@pytest.mark.field_failure(31)
@pytest.mark.parametrize(
    ("files", "group", "switch"),
    [
        pytest.param(DEBIAN_ACCOUNTS, KVM, (0, 0), id="switch of root"),
        pytest.param(FEDORA, HUGETLBFS, (SWITCH, HUGETLBFS), id="switch of its own user"),
    ],
)
def test_open_vswitch_connects_to_what_qemu_makes_there_and_nobody_else_does(
    reachable: Path, files: dict[str, str], group: int, switch: tuple[int, int]
) -> None:
    case = replace(case_of("vhost_sockets-there"), files=files)
    scratch = case.machine(reachable / "machine")
    for folder in (scratch.top, scratch.tree, *scratch.tree.glob("var/**/")):
        folder.chmod(0o755)
    run(case, scratch)
    assert owner(scratch) == (QEMU, group, 0o2770)

    path = str(scratch.tree / FOLDER / "vhu1")
    # As libvirt starts QEMU: virCommandSetUmask(cmd, 0x002).
    with listening(path, user=QEMU, group=KVM, umask=0o002):
        assert Path(path).stat().st_gid == group
        assert not connects(path, user=65534, group=65534)
        assert connects(path, user=switch[0], group=switch[1])


def become(user: int, group: int) -> None:
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)


@contextmanager
def listening(path: str, *, user: int, group: int, umask: int) -> Iterator[None]:
    """A process of that user has made the socket and waits at it."""
    ready, done = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            become(user, group)
            os.umask(umask)
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path)
                made.listen()
                os.write(done, b"1")
                time.sleep(30)
        finally:
            os._exit(1)
    os.close(done)
    try:
        assert os.read(ready, 1) == b"1"
        yield
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def connects(path: str, *, user: int, group: int) -> bool:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            become(user, group)
            socket.socket(socket.AF_UNIX).connect(path)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def case_of(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@as_root
def test_a_boot_makes_the_same_folder_that_an_apply_makes(bench: Bench) -> None:
    program = shutil.which("systemd-tmpfiles")
    if program is None:
        pytest.skip("systemd-tmpfiles is not here")
    case, scratch = bench("vhost_sockets-volatile")
    run(case, scratch)
    applied = owner(scratch, "run/vhost")

    shutil.rmtree(scratch.tree / "run")
    (scratch.tree / "run").mkdir()
    assert {one.key for one in drifts(case, scratch)} == {"/run/vhost"}
    subprocess.run([program, f"--root={scratch.tree}", "--create", "nfvhost.conf"], check=True)

    assert owner(scratch, "run/vhost") == applied == (QEMU, KVM, 0o2770)
    assert drifts(case, scratch) == ()


@as_root
@pytest.mark.field_failure(31)
def test_a_folder_of_another_group_or_mode_is_seen_and_mended(bench: Bench) -> None:
    case, scratch = bench("vhost_sockets-there")
    run(case, scratch)
    os.chown(scratch.tree / FOLDER, 0, 0)
    (scratch.tree / FOLDER).chmod(0o755)

    (drift,) = drifts(case, scratch)
    assert (drift.planned, drift.actual) == ("libvirt-qemu:kvm 2770", "root:root 0755")
    run(case, scratch)
    assert owner(scratch) == (QEMU, KVM, 0o2770)


@as_root
def test_a_rollback_gives_the_folder_back_to_whose_it_was(bench: Bench) -> None:
    case, scratch = bench("vhost_sockets-there")
    os.chown(scratch.tree / FOLDER, 107, 108)
    (scratch.tree / FOLDER).chmod(0o2775)
    before = owner(scratch)
    run(case, scratch)
    assert owner(scratch) != before

    rollback(scratch.machine(), resources=(case.resource,))

    assert owner(scratch) == before


def test_a_folder_with_the_socket_of_a_guest_in_it_stays_at_a_rollback_and_it_is_told(bench: Bench) -> None:
    case, scratch = bench("vhost_sockets-kept")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    case.resource.apply(scratch.machine(), state, changes)
    (scratch.tree / "var/lib/openstack/vhost_sockets/vhu1").touch()

    (problem,) = case.resource.rollback(scratch.machine(), state, changes)

    assert "stays: vhu1 is in it" in str(problem)


def test_a_folder_that_holds_other_things_is_left_alone(bench: Bench) -> None:
    case, scratch = bench("vhost_sockets-there")
    scratch.put(f"/{FOLDER}/conf.db", "")

    assert differences(case, scratch) == ()
    (remark,) = remarks(case, scratch)
    assert "it holds conf.db, which is no socket" in remark
    assert f"install -d -o libvirt-qemu -g kvm -m 2770 /{FOLDER}" in remark


@pytest.mark.parametrize("folder", ["/etc/vhost", "/root/vhost", "/var/lib/mysql", "/run/openvswitch", "/vhost"])
def test_no_folder_is_made_where_services_have_none_or_by_a_name_that_says_nothing(bench: Bench, folder: str) -> None:
    case, scratch = bench("vhost_sockets-there")
    assert case.plan.ovs is not None
    plan = replace(case.plan, ovs=replace(case.plan.ovs, socket_dir=folder))
    scratch.put(folder + "/", "")

    assert differences(case, scratch, plan=plan) == ()


def test_without_libvirt_the_folder_is_roots_and_it_is_told(bench: Bench) -> None:
    case, scratch = bench("vhost_sockets-volatile")
    scratch.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")

    assert [change.after for change in differences(case, scratch)] == [
        "d /run/vhost 0755 root root -",
        "root:root 0755",
    ]
    (remark,) = remarks(case, scratch)
    assert "libvirt's user of QEMU is not here" in remark


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        ('user = "tss"\ngroup = "tss"\n', "tss:tss 2770"),
        ('#user = "tss"\n group = "tss"\n', "libvirt-qemu:tss 2770"),
        ('user = "+4711"\n', "+4711:kvm 2770"),
    ],
)
def test_the_user_of_qemu_is_whom_libvirt_is_told(bench: Bench, conf: str, told: str) -> None:
    case, scratch = bench("vhost_sockets-there")
    scratch.put("/etc/passwd", scratch.read("/etc/passwd") + "tss:x:108:108::/:/bin/false\n")
    scratch.put("/etc/group", scratch.read("/etc/group") + "tss:x:108:\n")
    scratch.put("/etc/libvirt/qemu.conf", conf)

    (change,) = differences(case, scratch)
    assert change.after == told


def test_a_closed_folder_on_the_way_is_refused(bench: Bench) -> None:
    case, scratch = bench("vhost_sockets-kept")
    scratch.put("/var/lib/openstack/", "")
    (scratch.tree / "var/lib/openstack").chmod(0o700)
    scratch.put("/etc/passwd", "libvirt-qemu:x:4711:4711::/:/bin/false\n")

    (refusal,) = refusals(case, scratch)
    assert "libvirt-qemu may not pass /var/lib/openstack" in refusal
    with pytest.raises(PreconditionError):
        run(case, scratch)


def test_a_link_is_not_followed(bench: Bench) -> None:
    case, scratch = bench("vhost_sockets-there")
    (scratch.tree / FOLDER).rmdir()
    (scratch.tree / FOLDER).symlink_to("/etc")

    (refusal,) = refusals(case, scratch)
    assert "is a symbolic link" in refusal
