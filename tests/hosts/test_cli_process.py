"""The command as a process of its own: streams, signals, what it loads, and one message for each bad input."""

from __future__ import annotations

import io
import json
import lzma
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HOME_SERVER = Path(__file__).resolve().parents[2] / "examples" / "home-server" / "host"
COMMAND = (sys.executable, "-c", "from nfvhost.cli.app import main; main()")
PROFILE = "apiVersion: nfvhost/v1\nkind: Profile\nname: mine\n"
MANAGEMENT = "0000:05:00.0"
SIX_AND_ONE = ",".join(f"fd00::{number}" for number in range(1, 8))


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One process that has ended."""

    code: int
    out: str
    err: str


def run(*arguments: str, cwd: Path, **environment: str) -> Ran:
    """The end of one command; nothing is on its standard input."""
    done = subprocess.run(  # noqa: PLW1510 - the exit code is what is tested
        [*COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


def plan(*arguments: str) -> list[str]:
    """Arguments that plan the home server."""
    return ["plan", "--host", str(HOME_SERVER), *arguments]


def profile(body: str) -> Callable[[Path], None]:
    """Writes a profile, whose body begins on line 4."""
    return content("mine.yaml", (PROFILE + body).encode())


def content(name: str, written: bytes) -> Callable[[Path], None]:
    """Writes a file."""

    def write(folder: Path) -> None:
        (folder / name).write_bytes(written)

    return write


def archive(*members: tarfile.TarInfo) -> Callable[[Path], None]:
    """Writes a capture with these members, and an empty /proc/cpuinfo."""

    def write(folder: Path) -> None:
        with tarfile.open(folder / "host.tar.xz", "w:xz") as tar:
            tar.addfile(tarfile.TarInfo("proc/cpuinfo"), io.BytesIO())
            for member in members:
                tar.addfile(member, io.BytesIO())

    return write


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """One member of an archive."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def truncated(folder: Path) -> None:
    """Writes the first half of a capture."""
    whole = lzma.compress(os.urandom(4096))
    (folder / "host.tar.xz").write_bytes(whole[: len(whole) // 2])


def here(*edits: tuple[str, str]) -> Callable[[Path], None]:
    """Writes a plan of the machine that runs the tests, with one text replaced by another; the first one wins."""

    def write(folder: Path) -> None:
        ran = run("plan", "--profile", "sandbox", "-o", "-", cwd=folder)
        assert ran.code == 0, ran.err
        text = ran.out
        for pattern, replacement in edits:
            text, done = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
            assert done, pattern
        (folder / "plan.yaml").write_text(text)

    return write


@dataclass(frozen=True, kw_only=True)
class Bad:
    """One bad input: the command, its exit code and what its one message says, in order."""

    name: str
    arguments: list[str]
    code: int
    says: list[str]
    given: Callable[[Path], None] = field(default=lambda _folder: None)


BAD = [
    Bad(
        name="profile with an unknown key",
        given=profile("pmd: {coers: 2}\n"),
        arguments=plan("--profile", "mine.yaml"),
        code=3,
        says=["error: mine.yaml:4: pmd.coers: is not a key of this document", "hint: did you mean cores?"],
    ),
    Bad(
        name="plan with an unknown key",
        given=here((r"^isolation:", "isolatoin:")),
        arguments=["verify", "plan.yaml"],
        code=3,
        says=["error: plan.yaml:", "isolatoin: is not a key of this document", "hint: did you mean isolation?"],
    ),
    Bad(
        name="wrong type",
        given=profile("pmd: {cores: '2'}\nhost: [1]\n"),
        arguments=plan("--profile", "mine.yaml"),
        code=3,
        says=["mine.yaml:4: pmd.cores: is '2' where a whole number is expected", "mine.yaml:5: host: is a list"],
    ),
    Bad(
        name="duplicate key",
        given=profile("pmd: {cores: 1}\nnova: {}\npmd: {cores: 2}\n"),
        arguments=plan("--profile", "mine.yaml"),
        code=3,
        says=["error: mine.yaml:6: pmd: is there twice: on line 4 and on line 6", "hint: keep one of them"],
    ),
    Bad(
        name="CPU that is not there",
        given=here((r"^  pmd: .*", '  pmd: "9999"')),
        arguments=["verify", "plan.yaml"],
        code=3,
        says=["error: plan.yaml: cpus.pmd: names CPU 9999, which is not there", "hint: the machine has"],
    ),
    Bad(
        name="pool larger than the machine",
        arguments=plan("--set", "pmd.cores=7"),
        code=3,
        says=["error: pmd.cores: ", "the machine has 6 cores", "hint: "],
    ),
    Bad(
        name="unquoted address in YAML 1.1",
        given=content("mine.yaml", f"%YAML 1.1\n---\n{PROFILE}nics:\n  - pci: 0000:10:00.0\n".encode()),
        arguments=plan("--profile", "mine.yaml"),
        code=3,
        says=["error: mine.yaml:7: nics[0].pci: is the number 0000:10:00.0", 'hint: put it in quotes: "0000:10:00.0"'],
    ),
    Bad(
        name="address without a device",
        arguments=plan("--set", "nics=[{pci: 0000:ff:00.0}]"),
        code=3,
        says=["error: nics[0].pci: there is no NIC at 0000:ff:00.0", "hint: ", "0000:10:00.0"],
    ),
    Bad(
        name="text that is no address",
        arguments=plan("--set", "nics=[{pci: 10:00.0}]"),
        code=3,
        says=["nics[0].pci: '10:00.0' is not a PCI address such as 0000:10:00.0"],
    ),
    Bad(
        name="management NIC for DPDK",
        arguments=plan("--set", f"nics=[{{pci: {MANAGEMENT}, role: dpdk}}]"),
        code=5,
        says=["error: nics[0].pci: ", "carries management", "hint: "],
    ),
    Bad(
        name="hugepages beyond the floor",
        arguments=plan("--set", "memory.guestMiB=1000000"),
        code=3,
        says=["error: memory.guestMiB: 1000000 MiB", "hint: "],
    ),
    Bad(
        name="seven segments",
        arguments=plan("--profile", "srv6-edge", "--set", f"tunnels[0].segments=[{SIX_AND_ONE}]"),
        code=3,
        says=["error: tunnels[0].segments: 7 segments", "1 to 6", "hint: "],
    ),
    Bad(
        name="plan of another machine",
        given=here((r"^    cpuModel: .*", "    cpuModel: Another")),
        arguments=["apply", "plan.yaml", "--yes"],
        code=4,
        says=[
            "error: plan.yaml: is for another machine",
            "hint: make a new one with `nfvhost plan`",
            "plan.yaml: host.fingerprint.cpuModel: planned Another, is ",
        ],
    ),
    Bad(
        name="plan of a future version",
        given=here(("nfvhost/v1", "nfvhost/v2")),
        arguments=["diff", "plan.yaml"],
        code=3,
        says=["error: plan.yaml:2: apiVersion: nfvhost/v2 is a later format", "hint: take a later nfvhost"],
    ),
    Bad(
        name="profile where a plan is wanted",
        given=profile(""),
        arguments=["apply", "mine.yaml"],
        code=3,
        says=["error: mine.yaml:2: kind: this is a Profile; a Plan is wanted here", "hint: `nfvhost plan --profile`"],
    ),
    Bad(
        name="plan that is not there",
        arguments=["verify", "plan.yaml"],
        code=3,
        says=["error: plan.yaml: there is no such file"],
    ),
    Bad(
        name="empty capture",
        given=content("host.tar.xz", b""),
        arguments=["plan", "--host", "host.tar.xz"],
        code=3,
        says=["error: host.tar.xz: is empty", "hint: make a capture"],
    ),
    Bad(
        name="truncated capture",
        given=truncated,
        arguments=["plan", "--host", "host.tar.xz"],
        code=3,
        says=["error: host.tar.xz: is cut off", "hint: make a capture"],
    ),
    Bad(
        name="capture that leads out",
        given=archive(member("../sys/x")),
        arguments=["inspect", "--host", "host.tar.xz"],
        code=3,
        says=["error: host.tar.xz: ../sys/x: leads out of the archive", "hint: "],
    ),
    Bad(
        name="capture with an absolute name",
        given=archive(member("/etc/passwd")),
        arguments=["inspect", "--host", "host.tar.xz"],
        code=3,
        says=["error: host.tar.xz: /etc/passwd: has an absolute name", "hint: "],
    ),
    Bad(
        name="capture with a device node",
        given=archive(member("sys/null", tarfile.CHRTYPE)),
        arguments=["inspect", "--host", "host.tar.xz"],
        code=3,
        says=["error: host.tar.xz: sys/null: ", "device", "hint: "],
    ),
    Bad(
        name="capture with a link that leaves it",
        given=archive(member("sys/class/net/eth0", tarfile.SYMTYPE, "../../../../etc/passwd")),
        arguments=["inspect", "--host", "host.tar.xz"],
        code=3,
        says=["error: host.tar.xz: /sys/class/net/eth0: is a link that leaves the tree", "hint: "],
    ),
    Bad(
        name="folder that is no machine",
        arguments=["plan", "--host", "."],
        code=3,
        says=["error: .: holds neither sys/ nor proc/", "hint: "],
    ),
    Bad(
        name="Open vSwitch that does not run",
        given=here(),
        arguments=["diff", "plan.yaml", "--ovsdb", "unix:/nowhere/db.sock"],
        code=5,
        says=["error: /nowhere/db.sock: Open vSwitch is not ", "hint: "],
    ),
    Bad(
        name="folder that is not there for the plan",
        arguments=plan("-o", "no/plan.yaml"),
        code=5,
        says=["error: no/plan.yaml: cannot be written: No such file or directory", "hint: "],
    ),
    Bad(
        name="profile that does not come along",
        arguments=plan("--profile", "througput"),
        code=3,
        says=["error: --profile througput: there is no profile of that name", "hint: did you mean throughput?"],
    ),
    Bad(
        name="several at once",
        given=profile("pmd: {coers: 1}\nnics: [{role: fast}]\n"),
        arguments=plan("--profile", "mine.yaml", "--set", "memory.hostMiB=lots", "--set", "ovs.mtu=1"),
        code=3,
        says=["pmd.coers", "nics[0].role: is 'fast'", "--set memory.hostMiB=lots", "outside of 68 to 65535"],
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input_gets_one_message_its_exit_code_and_leaves_nothing(bad: Bad, tmp_path: Path) -> None:
    bad.given(tmp_path)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    ran = run(*bad.arguments, cwd=tmp_path)
    assert ran.code == bad.code, ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert ran.err.startswith("error: ")
    at = 0
    for words in bad.says:
        at = ran.err.find(words, at)
        assert at >= 0, f"{words!r} is not (in this order) in:\n{ran.err}"
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_the_same_machine_and_profile_give_the_same_bytes(tmp_path: Path) -> None:
    plans = {run(*plan("-o", "-"), cwd=tmp_path, PYTHONHASHSEED=seed).out for seed in ("1", "2", "3")}
    assert len(plans) == 1
    documents = {run(*plan("--json"), cwd=tmp_path, PYTHONHASHSEED=seed).out for seed in ("1", "2")}
    assert len(documents) == 1
    (document,) = documents
    assert json.loads(document)["kind"] == "Plan"


def test_every_shipped_profile_is_found_by_its_name(tmp_path: Path) -> None:
    ran = run(*plan("--profile", "nonesuch"), cwd=tmp_path)
    names = re.search(r"there are: (.*); or", ran.err)
    assert names
    assert {"home", "throughput", "density", "sriov", "vdpa", "srv6-edge", "sandbox"} <= set(names[1].split(", "))


def loaded(*arguments: str, cwd: Path) -> set[str]:
    """The modules that a command imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:], *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_a_plan_loads_neither_openstack_nor_what_other_verbs_need(tmp_path: Path) -> None:
    modules = loaded(*plan("-o", "-"), cwd=tmp_path)
    heavy = {"openstack", "ovs", "psutil", "pyudev", "rich", "pydantic", "asyncio", "nfvhost.engine", "nfvhost.sandbox"}
    assert modules & heavy == set()
    assert "nfvhost.planner" in modules


def test_the_version_loads_no_inspection_and_no_yaml(tmp_path: Path) -> None:
    modules = loaded("--version", cwd=tmp_path)
    assert modules & {"nfvhost.inspect", "nfvhost.planner", "nfvhost.planfile", "ruamel.yaml", "rich"} == set()


def test_debug_is_heard_at_the_end_of_the_line_too(tmp_path: Path) -> None:
    for arguments in (["--debug", "plan", "--host", "."], ["plan", "--host", ".", "--debug"]):
        ran = run(*arguments, cwd=tmp_path)
        assert ran.code == 3
        assert "Traceback (most recent call last)" in ran.err
        assert "error: .: holds neither sys/ nor proc/" in ran.err


@pytest.mark.parametrize("arguments", [plan("-o", "-"), plan(), ["--version"], ["--help"]], ids=" ".join)
def test_a_reader_that_leaves_early_hears_no_complaint(tmp_path: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(  # noqa: PLW1510 - the exit code is what is tested
        [*COMMAND, *arguments], cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize("arguments", [plan("-o", "-"), plan(), ["--version"]], ids=" ".join)
def test_a_full_disk_is_an_error_and_no_silent_half_result(tmp_path: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(  # noqa: PLW1510 - the exit code is what is tested
            [*COMMAND, *arguments], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 5
    assert done.stderr == "error: standard output: cannot be written: No space left on device\n"


def test_a_stdout_that_the_parent_closed_is_no_bug(tmp_path: Path) -> None:
    closed = ("/bin/sh", "-c", 'exec "$@" >&-', "sh")
    done = subprocess.run(  # noqa: PLW1510 - the exit code is what is tested
        [*closed, *COMMAND, *plan()], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "written to plan.yaml\n")


def test_ctrl_c_ends_it_by_its_signal_and_without_a_traceback(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.yaml")
    arguments = [*COMMAND, *plan("--profile", "mine.yaml")]
    with subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        # Opening a pipe for writing waits for its reader, so the command is inside the verb from here on.
        writing = os.open(tmp_path / "mine.yaml", os.O_WRONLY)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        said = process.stderr.read()
        os.close(writing)
        assert (process.wait(timeout=60), said) == (-signal.SIGINT, "")


def test_a_terminal_without_unicode_gets_a_screen_and_a_whole_document(tmp_path: Path) -> None:
    for arguments in (plan(), ["inspect", "--host", str(HOME_SERVER)]):
        ran = run(*arguments, cwd=tmp_path, PYTHONIOENCODING="ascii")
        assert ran.code == 0, ran.err
        assert ran.out.isascii()
    assert run(*plan("--json"), cwd=tmp_path, PYTHONIOENCODING="ascii") == run(*plan("--json"), cwd=tmp_path)
    ran = run(*plan("-o", "-"), cwd=tmp_path, PYTHONIOENCODING="ascii")
    (tmp_path / "ascii.yaml").write_text(ran.out)
    ran = run("diff", "ascii.yaml", cwd=tmp_path)
    assert ran.code == 4, ran.err


def test_there_is_no_colour_off_the_terminal(tmp_path: Path) -> None:
    for arguments in (plan(), ["inspect", "--host", str(HOME_SERVER)]):
        assert "\x1b" not in run(*arguments, cwd=tmp_path).out
