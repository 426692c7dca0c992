"""The command line: what goes to which stream, what a file is left as, and how a command ends."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nfvhost import __version__
from nfvhost.access.root import DirectoryRoot
from nfvhost.cli.app import app
from nfvhost.cli.changes import change_line, drift_line
from nfvhost.cli.ending import DEBUG, ending
from nfvhost.errors import ApplyError, ExitCode, NfvhostError, Problem, RollbackError, StalePlanError
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.report import Drift
from nfvhost.planfile import load_plan, shipped_profiles

GOLDEN = Path(__file__).parent / "golden"
CPU = "/sys/devices/system/cpu"
NODE = "/sys/devices/system/node/node0"
NIC = "/sys/bus/pci/devices/0000:10:00.0"
SMALL: Mapping[str, str] = {
    "/proc/cmdline": "quiet\n",
    "/proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 8000000 kB\n",
    "/proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Small CPU\nflags\t\t: fpu pdpe1gb\n",
    "/proc/sys/kernel/osrelease": "6.1.0\n",
    f"{CPU}/online": "0-3\n",
    f"{CPU}/offline": "4\n",
    f"{CPU}/possible": "0-4\n",
    f"{CPU}/present": "0-4\n",
    f"{CPU}/cpu4/online": "0\n",
    **{
        f"{CPU}/cpu{cpu}/topology/{name}": value
        for cpu in range(4)
        for name, value in {
            "physical_package_id": "0\n",
            "core_id": f"{cpu // 2}\n",
            "thread_siblings_list": f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}\n",
        }.items()
    },
    "/sys/devices/system/node/online": "0\n",
    f"{NODE}/cpulist": "0-3\n",
    f"{NODE}/distance": "10\n",
    f"{NODE}/meminfo": "Node 0 MemTotal: 8388608 kB\nNode 0 MemFree: 7340032 kB\n",
    f"{NODE}/hugepages/hugepages-2048kB/nr_hugepages": "0\n",
    f"{NODE}/hugepages/hugepages-2048kB/free_hugepages": "0\n",
    f"{NIC}/class": "0x020000\n",
    # No pci.ids has a name for it.
    f"{NIC}/vendor": "0xfd00\n",
    f"{NIC}/device": "0x1572\n",
    f"{NIC}/numa_node": "0\n",
    f"{NIC}/sriov_totalvfs": "64\n",
    f"{NIC}/sriov_numvfs": "0\n",
}
runner = CliRunner()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    token = DEBUG.set(False)
    yield
    DEBUG.reset(token)


@pytest.fixture
def small(make_tree: Callable[[Mapping[str, str]], DirectoryRoot], tmp_path: Path) -> str:
    """The folder of a machine with two cores, four threads and one NIC."""
    make_tree(SMALL)
    return str(tmp_path / "tree")


def run(*arguments: str, code: int = 0) -> tuple[str, str]:
    """What a command wrote to stdout and stderr; it ended with `code`."""
    result = runner.invoke(app, arguments)
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout, result.stderr


def test_the_version_is_told() -> None:
    assert run("--version") == (f"nfvhost {__version__}\n", "")


def test_the_command_alone_shows_its_help() -> None:
    out, err = run()
    assert "nfvhost apply plan.yaml" in out
    assert "Exit codes: 0 done or nothing to do" in out
    assert err == ""


@pytest.mark.parametrize(
    "verb",
    [
        *(["inspect"], ["capture"], ["plan"], ["diff"], ["apply"], ["verify"], ["rollback"], ["history"], ["confirm"]),
        *(["sandbox"], ["sandbox", "up"], ["sandbox", "down"], ["sandbox", "status"], ["sandbox", "restart"]),
        ["sandbox", "probe"],
        *(["tunnel"], ["tunnel", "list"], ["tunnel", "add"], ["tunnel", "remove"], ["tunnel", "check"]),
        ["watch"],
        *(["flavor"], ["flavor", "create"], ["flavor", "list"], ["flavor", "delete"]),
    ],
    ids=" ".join,
)
def test_the_help_of_every_verb_has_an_example(verb: list[str]) -> None:
    out, _ = run(*verb, "--help")
    assert re.search(rf"Examples?:\n +nfvhost {' '.join(verb)}", out)


def test_every_verb_that_tells_something_can_tell_it_as_json() -> None:
    verbs = ("inspect", "capture", "plan", "diff", "apply", "verify", "watch", "rollback", "history", "confirm")
    tunnels = (f"tunnel {one}" for one in ("list", "add", "remove", "check"))
    flavors = ("flavor create", "flavor list", "flavor delete")
    for verb in (
        *verbs,
        *tunnels,
        *flavors,
        *(f"sandbox {one}" for one in ("up", "down", "status", "restart", "probe")),
    ):
        assert "--json" in run(*verb.split(), "--help")[0], verb


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plna",), "No such command 'plna'"),
        (("plan", "--hots", "x"), "No such option"),
        (("capture",), "Missing argument"),
        (("diff",), "Missing argument"),
        (("sandbox", "up", "--memory", "much"), "much"),
    ],
)
def test_wrong_usage_ends_with_two_and_says_why(arguments: tuple[str, ...], said: str) -> None:
    out, err = run(*arguments, code=2)
    assert said in err
    assert out == ""


def test_the_facts_of_a_small_machine_stay_the_document_that_they_were(small: str) -> None:
    out, err = run("inspect", "--host", small, "--json")
    assert err == ""
    assert out == (GOLDEN / "host-v1.json").read_text()


def test_host_documents_have_the_keys_that_other_programs_read(small: str) -> None:
    document = json.loads(run("inspect", "--host", small, "--json")[0])
    assert document["apiVersion"] == "nfvhost/v1"
    assert document["kind"] == "Host"
    first, offline = document["cpus"][0], document["cpus"][4]
    assert {"id": 0, "online": True, "package": 0, "node": 0}.items() <= first.items()
    assert {"threadSiblings": "0-1", "l3": None}.items() <= first.items()
    assert {"id": 4, "online": False, "threadSiblings": None, "l3": None}.items() <= offline.items()
    (node,) = document["nodes"]
    assert (node["id"], node["cpus"], node["memoryMiB"]) == (0, "0-3", 8192)
    (nic,) = document["nics"]
    assert {"pci": "0000:10:00.0", "vendor": "fd00", "device": "1572", "node": 0}.items() <= nic.items()
    assert {"driver": None, "totalVfs": 64, "iommuGroup": None}.items() <= nic.items()


def test_a_plan_is_written_here_and_told_on_the_screen(small: str) -> None:
    out, err = run("plan", "--host", small)
    assert "Small CPU" in out
    assert err == "written to plan.yaml\n"
    assert load_plan("plan.yaml").profile == "home"


def test_a_plan_on_stdout_is_the_document_alone_and_leaves_no_file(small: str) -> None:
    out, err = run("plan", "--host", small, "-o", "-")
    assert err == ""
    assert list(Path().iterdir()) == []
    run("plan", "--host", small, "-o", "same.yaml")
    assert Path("same.yaml").read_text() == out


def test_a_plan_as_json_is_written_only_where_asked(small: str) -> None:
    out, err = run("plan", "--host", small, "--json")
    document = json.loads(out)
    assert (document["apiVersion"], document["kind"], err) == ("nfvhost/v1", "Plan", "")
    assert list(Path().iterdir()) == []
    again, err = run("plan", "--host", small, "--json", "-o", "p.yaml")
    assert again == out
    assert err == "written to p.yaml\n"
    Path("p.json").write_text(out)
    assert load_plan("p.json") == load_plan("p.yaml")


def test_an_explanation_tells_the_decisions_that_begin_so(small: str) -> None:
    out, err = run("plan", "--host", small, "--explain", "cpus.h")
    assert out.startswith("cpus.host\n")
    assert "cpus.pmd" not in out
    assert (err, list(Path().iterdir())) == ("", [])
    nic = json.loads(run("plan", "--host", small, "--explain", "0000:10:00.0", "--json")[0])
    assert nic["kind"] == "Explanation"
    assert {one["subject"] for one in nic["decisions"]} == {"nics.0000:10:00.0"}


def test_an_unknown_subject_lists_those_that_there_are(small: str) -> None:
    out, err = run("plan", "--host", small, "--explain", "colour", code=2)
    assert out == ""
    assert err.startswith("error: --explain colour: nothing was decided on that\n  hint: decided was: ")
    assert "cpus.host" in err


@pytest.mark.parametrize("other", [("--json",), ("--explain", "cpus")])
def test_two_results_on_stdout_are_refused(small: str, other: tuple[str, ...]) -> None:
    out, err = run("plan", "--host", small, "-o", "-", *other, code=2)
    assert out == ""
    assert err.startswith(f"error: -o - and {other[0]}: both want stdout\n  hint: ")


def test_a_diary_called_plan_yaml_survives(small: str) -> None:
    Path("plan.yaml").write_text("dear diary\n")
    _, err = run("plan", "--host", small, code=5)
    assert "error: plan.yaml: is there and is not a plan of nfvhost, so it stays\n  hint: " in err
    assert Path("plan.yaml").read_text() == "dear diary\n"


def test_pictures_are_written_beside_the_result(small: str) -> None:
    _, err = run("plan", "--host", small, "--svg", "plan.svg", "--json")
    assert err == "drawn into plan.svg\n"
    assert Path("plan.svg").read_text().startswith("<svg")
    run("inspect", "--host", small, "--svg", "host.svg")
    assert Path("host.svg").read_text().startswith("<svg")


def test_a_capture_plans_the_same(small: str) -> None:
    _, err = run("capture", "small.tar.xz", "--host", small)
    assert re.fullmatch(r"small\.tar\.xz: \d+ files, \d+ KiB\n", err)
    assert run("plan", "--host", "small.tar.xz", "-o", "-") == run("plan", "--host", small, "-o", "-")


@pytest.fixture
def nobody() -> Iterator[None]:
    """A user who may read and write nothing of root's; whoever runs the tests, where that is not root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("plan", "--profile", "mine.yaml"), 3, "error: mine.yaml: may not be read\n  hint: "),
        (("verify", "mine.yaml"), 3, "error: mine.yaml: may not be read\n  hint: "),
        (("inspect", "--host", "mine.yaml"), 5, "error: mine.yaml: may not be read by this user\n  hint: "),
    ],
)
def test_what_this_user_may_not_read_is_told_by_its_name(
    arguments: tuple[str, ...], code: int, said: str, request: pytest.FixtureRequest
) -> None:
    # Loads what the verb needs: another user may not read the modules of this one's Python.
    run(*arguments, code=3)
    Path("mine.yaml").write_text("secret")
    Path("mine.yaml").chmod(0)
    request.getfixturevalue("nobody")
    out, err = run(*arguments, code=code)
    assert (out, err[: len(said)]) == ("", said)


def test_a_folder_that_this_user_may_not_write_to_is_told(small: str, request: pytest.FixtureRequest) -> None:
    run("capture", "first.tar.xz", "--host", small)
    # The profile too may lie in a checkout that is its owner's alone.
    Path("mine.yaml").write_text(Path(shipped_profiles()["home"]).read_text())
    plan = ("plan", "--host", "first.tar.xz", "--profile", "mine.yaml", "--json", "-o")
    run(*plan, "first.yaml")
    # With its screen: the interpreter's own folder may be shut to others, so that nothing may be left to import.
    run("plan", "--host", "first.tar.xz", "-o", "second.yaml")
    Path("first.tar.xz").chmod(0o444)
    Path("shut").mkdir(mode=0o555)
    for folder in (Path.cwd(), Path.cwd().parent):
        folder.chmod(0o755)
    request.getfixturevalue("nobody")
    out, err = run(*plan, "shut/plan.yaml", code=5)
    assert out == ""
    assert err == "error: shut/plan.yaml: cannot be written: Permission denied\n  hint: name another file\n"
    os.chdir("shut")
    shown, err = run("plan", "--host", "../first.tar.xz", "--profile", "../mine.yaml", code=5)
    assert shown.startswith("Plan home for")
    assert err == "error: plan.yaml: cannot be written: Permission denied\n  hint: name another file\n"


def ended(error: BaseException | None = None, result: ExitCode | None = None) -> tuple[int, str]:
    """How a verb that raises or returns this ends, and what it says."""
    verbs = typer.Typer()

    @verbs.command()
    @ending
    def verb() -> ExitCode | None:
        if error is not None:
            raise error
        return result

    ran = runner.invoke(verbs)
    return ran.exit_code, ran.stderr


@pytest.mark.parametrize(
    "error", [NfvhostError, StalePlanError, ApplyError, RollbackError], ids=lambda error: error.__name__
)
def test_each_error_ends_with_the_code_of_its_class(error: type[NfvhostError]) -> None:
    problem = Problem(what="is gone", where="eth1")
    assert ended(error("broke", where="eth0", hint="mend it", also=(problem,))) == (
        int(error.exit_code),
        "error: eth0: broke\n  hint: mend it\nerror: eth1: is gone\n",
    )


def test_what_nobody_foresaw_is_called_a_bug_and_shows_no_traceback() -> None:
    code, said = ended(KeyError("colour"))
    assert code == 1
    assert said.splitlines() == [
        "error: this is a bug in nfvhost: KeyError: 'colour'",
        "  hint: run it again with --debug and report it",
    ]


def test_debug_shows_the_traceback() -> None:
    DEBUG.set(True)
    code, said = ended(KeyError("colour"))
    assert code == 1
    assert "Traceback (most recent call last)" in said
    assert said.endswith("report it with the traceback above\n")
    code, said = ended(StalePlanError("old"))
    assert code == 4
    assert "Traceback (most recent call last)" in said


def test_a_verb_ends_with_the_code_that_it_returns() -> None:
    assert ended() == (0, "")
    assert ended(result=ExitCode.DIFFERENCES) == (10, "")


def test_no_exit_code_is_where_shells_put_signals() -> None:
    assert all(code <= 125 for code in ExitCode)


def change(before: str | None, after: str | None, activation: Activation = Activation.NOW) -> Change:
    return Change(
        resource="ovs_dpdk",
        key="other_config:pmd-cpu-mask",
        before=before,
        after=after,
        activation=activation,
        disruption=Disruption.NONE,
        reason="",
    )


def test_changes_say_by_their_first_letter_what_they_are() -> None:
    assert change_line(change(None, "0x6")) == "+ ovs_dpdk: other_config:pmd-cpu-mask: 0x6"
    assert change_line(change("0x6", None)) == "- ovs_dpdk: other_config:pmd-cpu-mask: 0x6"
    assert change_line(change("0x2", "0x6", Activation.RESTART)) == (
        "~ ovs_dpdk: other_config:pmd-cpu-mask: 0x2 -> 0x6  (after a restart)"
    )


def test_drifts_say_what_was_planned_and_what_is() -> None:
    def line(planned: str | None, actual: str | None, pending: Activation | None = None) -> str:
        return drift_line(Drift(resource="ovs_dpdk", key="key", planned=planned, actual=actual, pending=pending))

    assert line("0x6", "0x2") == "~ ovs_dpdk: key: planned 0x6, is 0x2"
    assert line("0x6", None) == "- ovs_dpdk: key: planned 0x6, is not there"
    assert line(None, "0x2") == "+ ovs_dpdk: key: 0x2"
    assert line("0x6", "0x2", Activation.REBOOT) == "! ovs_dpdk: key: 0x6, waits for a reboot"
