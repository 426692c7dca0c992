"""Plans and profiles survive the way through a file, and their documents keep the keys that others read."""

from __future__ import annotations

import dataclasses
import json
import os
import types
from enum import StrEnum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from nfvhost.errors import DocumentError, PreconditionError
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Profile
from nfvhost.planfile import (
    dump_plan,
    load_plan,
    load_plan_text,
    load_profile_text,
    plan_document,
    profile_document,
    save_plan,
    texts,
    to_json,
    to_yaml,
    write_text,
)
from nfvhost.planfile.ranges import V1

GOLDEN = Path(__file__).parent / "golden"
# What some version of YAML takes for something else than text.
AMBIGUOUS = ("3", "0-3,8", "yes", "null", "~", "0x10", "1:20", "1e3", "2026-01-01", "a: b", "a #b", "- a", "a ", "=")
# Texts that name something of a machine, some of each form.
FORMED = (
    *("br-phy", "a", "_x.9-", "physnet1", "null", "3", "1e3", "yes", "0x10", "2026-01-01", "flow", "copy", "compute"),
    *("secure", "standalone", "netdev", "system", "dpdk", "patch", "srv6", "vfio-pci", "8139too", "3.5", "3.10"),
    *("02:00:00:00:00:01", "0000:10:00.0", "net_null0", "/run/x", "/var/lib/vhost_sockets", "isolcpus=1-3", "iommu=pt"),
    *(
        "192.0.2.1",
        "2001:db8::1",
        "192.0.2.0/24",
        "2001:db8::/32",
        "nohz_full",
        "Myri 10GE",
        "-a 0000:10:00.0",
        "a: b",
        "",
    ),
)


def values(hint: Any, place: tuple[type, str] | None = None) -> st.SearchStrategy[Any]:  # noqa: ANN401, PLR0911 - an annotation; one line a kind
    """Any value of an annotated type; `place` is the field that it is for."""
    if get_origin(hint) in {Union, types.UnionType}:
        (only,) = [one for one in get_args(hint) if one is not type(None)]
        # The word for nothing is no text where nothing is possible.
        return st.none() | values(only, place).filter(lambda value: value != "auto")
    if hint == tuple[tuple[str, str], ...]:
        form = texts.V1.get(place) if place else None
        key, value = (form.key, form.value) if isinstance(form, texts.Pairs) else (None, None)
        # Keys whose values have forms of their own are in the tests of these.
        special = form.values if isinstance(form, texts.Pairs) else {}
        pairs = st.dictionaries(words(key).filter(lambda one: one not in special), words(value), max_size=3)
        return pairs.map(lambda one: tuple(sorted(one.items())))
    if get_origin(hint) is tuple:
        first, *rest = get_args(hint)
        if rest == [Ellipsis]:
            return st.lists(values(first, place), max_size=2).map(tuple)
        return st.tuples(*(values(one) for one in get_args(hint)))
    if hint is CpuSet:
        return st.sets(st.integers(0, 300), max_size=8).map(CpuSet)
    if hint is PciAddress:
        numbers = [st.integers(0, top) for top in (0xFFFFFFFF, 0xFF, 0x1F, 7)]
        return st.builds(PciAddress, *numbers)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        hints = get_type_hints(hint)
        fields = {
            field.name: values(hints[field.name], declared(hint, field.name)) for field in dataclasses.fields(hint)
        }
        return st.builds(hint, **fields)
    if hint is int:
        low, high = V1.get(place, (0, 2**31 - 1)) if place else (0, 2**31 - 1)
        return st.integers(low, high)
    form = texts.V1.get(place) if place else None
    return st.booleans() if hint is bool else words(form if isinstance(form, texts.Form) else None)


def declared(cls: type, field: str) -> tuple[type, str]:
    """Where the field's range and form are: the class, or the one that it inherits from."""
    places = [(one, field) for one in cls.__mro__]
    return next((place for place in places if place in V1 or place in texts.V1), places[0])


def words(form: texts.Form | None) -> st.SearchStrategy[str]:
    """Texts of that form, or any."""
    anything = st.text(max_size=30) | st.sampled_from(AMBIGUOUS)
    return anything if form is None else st.sampled_from([one for one in FORMED if form.fits(one)])


# Ten plans a second are drawn, not thousands: a plan has two hundred values.
often = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@often
@given(values(Plan))
def test_a_plan_survives_yaml_and_json(plan: Plan) -> None:
    assert load_plan_text(dump_plan(plan), "plan.yaml") == plan
    assert load_plan_text(to_json(plan_document(plan)), "plan.json") == plan


@often
@given(values(Profile))
def test_a_profile_survives_yaml_and_json(profile: Profile) -> None:
    assert load_profile_text(to_yaml(profile_document(profile)), "profile.yaml") == profile
    assert load_profile_text(to_json(profile_document(profile)), "profile.json") == profile


def told(document: Any) -> Any:  # noqa: ANN401 - any part of a document
    """The document without what YAML leaves out."""
    if isinstance(document, dict):
        kept = {key: told(value) for key, value in document.items()}
        return {key: value for key, value in kept.items() if value is not None and value not in ({}, [])}
    return [told(one) for one in document] if isinstance(document, list) else document


@often
@given(values(Plan), st.sampled_from(["1.1", "1.2"]))
def test_readers_of_old_and_new_yaml_read_the_same_plan(plan: Plan, version: str) -> None:
    reader = YAML(typ="safe", pure=True)
    read = reader.load(f"%YAML {version}\n---\n{dump_plan(plan)}")
    assert told(read) == told(plan_document(plan))


@pytest.fixture
def golden_plan() -> Plan:
    """A plan that says something in each of its fields, as the first release wrote it."""
    return load_plan(str(GOLDEN / "plan-v1.yaml"))


def test_the_first_releases_plan_is_read_and_written_as_it_was(golden_plan: Plan) -> None:
    assert dump_plan(golden_plan) == (GOLDEN / "plan-v1.yaml").read_text()
    assert to_json(plan_document(golden_plan)) == (GOLDEN / "plan-v1.json").read_text()


def test_the_golden_plan_leaves_no_field_out(golden_plan: Plan) -> None:
    def silent(value: Any, path: str) -> list[str]:  # noqa: ANN401 - any part of a document
        if isinstance(value, dict):
            return [at for key, below in value.items() for at in silent(below, f"{path}.{key}")]
        if isinstance(value, list):
            # One entry that says it is enough.
            found = [set(silent(below, path)) for below in value]
            return sorted(set.intersection(*found)) if found else [path]
        return [path] if value is None or value == "" else []

    assert silent(plan_document(golden_plan), "") == []


def test_plan_documents_have_the_keys_that_other_programs_read(golden_plan: Plan) -> None:
    document = json.loads(to_json(plan_document(golden_plan)))
    assert document["apiVersion"] == "nfvhost/v1"
    assert document["kind"] == "Plan"
    assert {"host", "shared", "pmd", "dedicated"} <= set(document["cpus"])
    assert {"node", "hostMiB", "ovsMiB", "guestMiB", "pages"} <= set(document["memory"]["nodes"][0])
    assert {"pci", "role", "reason"} <= set(document["nics"][0])
    assert isinstance(document["kernelArgs"], list)
    assert isinstance(document["ovs"]["otherConfig"], dict)
    assert isinstance(document["ovs"]["bridges"], list)
    assert isinstance(document["nova"], dict)
    assert {"subject", "choice", "reason"} <= set(document["decisions"][0])
    assert isinstance(document["warnings"], list)


def test_sections_that_a_plan_lacks_are_there_and_empty_and_read_as_absent(golden_plan: Plan) -> None:
    bare = dataclasses.replace(golden_plan, ovs=None, nova=None, neutron=None)
    document = plan_document(bare)
    assert document["ovs"] == {"otherConfig": {}, "bridges": []}
    assert document["nova"] == document["neutron"] == {}
    assert load_plan_text(to_json(document), "plan.json") == bare


def test_all_problems_of_a_plan_are_told_at_once(golden_plan: Plan) -> None:
    text = dump_plan(golden_plan)
    for before, after in (
        ('  host: "0,6"', "  host: 0"),
        ('  pmd: "1,7"', '  pmd: "7-1"'),
        ("- node: 0\n      totalMiB", "- nood: 0\n      totalMiB"),
        ("    role: dpdk", "    role: fast"),
    ):
        assert before in text
        text = text.replace(before, after, 1)
    with pytest.raises(DocumentError) as refused:
        load_plan_text(text, "plan.yaml")
    said = [problem.what for problem in refused.value.problems]
    assert said == [
        "is the number 0 where a list of CPUs such as 0-3,8 is expected",
        "the range '7-1' runs backwards",
        "is not a key of this document",
        "is missing",
        "is 'fast' where one of management, dpdk, sriov, vdpa, afxdp, kernel, unused is expected",
    ]


def test_a_plan_is_written_whole_and_with_the_users_own_mode(tmp_path: Path, golden_plan: Plan) -> None:
    path = tmp_path / "plan.yaml"
    mask = os.umask(0o027)
    try:
        save_plan(str(path), golden_plan)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o640
    assert load_plan(str(path)) == golden_plan
    path.chmod(0o600)
    save_plan(str(path), golden_plan)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_link_to_a_plan_stays_a_link(tmp_path: Path, golden_plan: Plan) -> None:
    (tmp_path / "real.yaml").write_text("")
    (tmp_path / "plan.yaml").symlink_to("real.yaml")
    save_plan(str(tmp_path / "plan.yaml"), golden_plan)
    assert (tmp_path / "plan.yaml").is_symlink()
    assert load_plan(str(tmp_path / "real.yaml")) == golden_plan


@pytest.mark.parametrize(
    "content",
    [
        "apiVersion: nfvhost/v1\nkind: Profile\nname: mine\n",
        "kind: Plan\n",
        "apiVersion: apps/v1\nkind: Plan\n",
        "dear diary\n",
        b"\xff\xfe\x00",
    ],
)
def test_a_file_that_is_no_plan_of_ours_is_not_overwritten(
    tmp_path: Path, golden_plan: Plan, content: str | bytes
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    with pytest.raises(PreconditionError, match="is there and is not a plan of nfvhost, so it stays"):
        save_plan(str(path), golden_plan)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        'apiVersion: "nfvhost/v1"\nkind: Plan # old\n',
        '{\n "apiVersion": "nfvhost/v1",\n "kind": "Plan",\n',
    ],
)
def test_an_older_plan_and_an_empty_file_are_overwritten(tmp_path: Path, golden_plan: Plan, content: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(content)
    save_plan(str(path), golden_plan)
    assert load_plan(str(path)) == golden_plan


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path, golden_plan: Plan) -> None:
    for place, said in (
        ("no/plan.yaml", "cannot be written: No such file or directory"),
        (".", "cannot be written: Is a directory"),
        ("x" * 300, "cannot be written: File name too long"),
        ("nul\0", "cannot be written: .*embedded null"),
    ):
        with pytest.raises(PreconditionError, match=said):
            save_plan(f"{tmp_path}/{place}", golden_plan)
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_text(str(path), "words")
    assert os.read(reader, 100) == b"words"
    os.close(reader)
    assert path.is_fifo()
