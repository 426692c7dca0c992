"""`nfvhost flavor` without a cloud: what fits, what does not, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic import host as make_host
from typer.testing import CliRunner

from nfvhost.cli.app import app
from nfvhost.errors import ExitCode
from nfvhost.model.profile import Profile
from nfvhost.planfile import save_plan
from nfvhost.planner import make_plan

VNF = "apiVersion: nfvhost/v1\nkind: Vnf\nname: router\nvcpus: {}\nmemoryMiB: 4096\ncount: 5\n"


@pytest.fixture(autouse=True)
def _no_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OS_CLOUD", "OS_AUTH_URL", "OS_AUTH_TYPE"):
        monkeypatch.delenv(name, raising=False)
    for name, cores in (("a", 8), ("b", 8), ("c", 16)):
        machine = make_host(cores=cores, threads=2)
        save_plan(f"{name}.yaml", make_plan(machine, Profile(name="large" if name == "c" else "small")))
    for vcpus in (4, 14, 99):
        Path(f"{vcpus}.vnf").write_text(VNF.format(vcpus), encoding="utf-8")


def run(*words: str, code: ExitCode = ExitCode.OK) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["flavor", *words])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_useful_flavors_of_a_plan_are_shown_with_how_often_they_fit() -> None:
    told, _ = run("create", "a.yaml", "--dry-run")
    assert "nfvhost.pinned.2c." in told
    assert "fits 6 times" in told


def test_a_vnf_that_does_not_fit_is_refused_with_what_would() -> None:
    told, errors = run("create", "a.yaml", "--vnf", "99.vnf", code=ExitCode.BAD_DOCUMENT)
    assert told == ""
    assert "flavor nfvhost.router: does not fit a: PCPU: 99 needed, 12 there, 87 short" in errors
    assert "hint: vcpus: 12 would fit" in errors


def test_too_many_servers_of_a_vnf_are_noted() -> None:
    assert (
        "note: router counts 5 servers, and 3 fit the planned host"
        in run("create", "a.yaml", "--vnf", "4.vnf", "--dry-run")[1]
    )


def test_the_document_names_the_hosts_of_a_group() -> None:
    told, _ = run(
        "create", "n1=a.yaml", "n2=b.yaml", "n3=c.yaml", "--vnf", "14.vnf", "--dry-run", "--json", "--explain"
    )
    document = json.loads(told)
    (flavor,) = document["flavors"]
    assert document["kind"] == "Flavors"
    assert flavor["extraSpecs"]["trait:CUSTOM_NFVHOST_LARGE"] == "required"
    assert flavor["hosts"] == [{"host": "n3", "group": "large", "count": 1}]
    assert all(one["reason"] for one in document["decisions"])


def test_two_plans_of_one_host_are_refused() -> None:
    assert "two plans are of the host n1" in run("create", "n1=a.yaml", "n1=b.yaml", code=ExitCode.USAGE)[1]


@pytest.mark.outside("urllib3 asks whether there is IPv6 when it is loaded")
def test_without_a_cloud_only_a_dry_run_is_possible() -> None:
    assert "no cloud is named" in run("create", "a.yaml", code=ExitCode.UNSAFE)[1]


def test_deleting_wants_names_or_the_word_for_all() -> None:
    assert "name flavors, or say --all" in run("delete", code=ExitCode.USAGE)[1]
