"""Profiles are read strictly, all their problems at once, each with its place and a way out."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from nfvhost.errors import DocumentError, UsageError
from nfvhost.model.pci import PciAddress
from nfvhost.model.profile import Isolation, PageChoice, PatchPair, Profile, Role
from nfvhost.planfile import load_profile, load_profile_text

HEAD = "apiVersion: nfvhost/v1\nkind: Profile\nname: mine\n"


def read(body: str, *sets: str) -> Profile:
    """The profile of a text whose body begins on line 4."""
    return load_profile_text(HEAD + textwrap.dedent(body), "mine.yaml", sets=sets)


def problems(text: str, *sets: str) -> list[str]:
    """What is said about a text."""
    with pytest.raises(DocumentError) as refused:
        load_profile_text(text, "mine.yaml", sets=sets)
    return [str(problem) for problem in refused.value.problems]


def test_a_profile_of_a_name_alone_leaves_all_to_the_planner() -> None:
    assert read("") == Profile(name="mine")


def test_auto_null_and_an_empty_section_all_say_nothing() -> None:
    body = """
        host: {cores: auto, everyNode: auto}
        pmd: auto
        memory:
        ovs:
          version: ~
          virtualPorts: []
        isolation: auto
        nics:
    """
    assert read(body) == Profile(name="mine")


def test_every_kind_of_value_arrives_as_what_it_is() -> None:
    profile = read("""
        pmd: {cores: 2, oneThreadPerCore: true}
        memory: {pageSize: 2M, hostMiB: 4096}
        isolation: partition
        nics:
          - pci: "0001:10:00.1"
            role: dpdk
            minSpeedMbps: 10000
        ovs:
          patches:
            - bridges: [br-int, br-phy]
    """)
    assert profile.pmd.cores == 2
    assert profile.pmd.one_thread_per_core
    assert profile.memory.page_size is PageChoice.MIB_2
    assert profile.memory.host_mib == 4096
    assert profile.isolation is Isolation.PARTITION
    assert profile.nics[0].pci == PciAddress(1, 0x10, 0, 1)
    assert profile.nics[0].role is Role.DPDK
    assert profile.nics[0].min_speed_mbps == 10000
    assert profile.ovs.patches == (PatchPair(bridges=("br-int", "br-phy")),)


def test_an_unquoted_pci_address_stays_that_address() -> None:
    profile = read("nics:\n  - pci: 0000:10:00.0\n  - {pci: 0000:59:10.1}\n")
    assert [str(nic.pci) for nic in profile.nics] == ["0000:10:00.0", "0000:59:10.1"]


def test_an_unquoted_pci_address_in_the_old_yaml_is_refused_with_its_cure() -> None:
    text = f"%YAML 1.1\n---\n{HEAD}nics:\n  - pci: 0000:10:00.0\n"
    assert problems(text) == [
        (
            "mine.yaml:7: nics[0].pci: is the number 0000:10:00.0 where a PCI address such as 0000:10:00.0 "
            'is expected\n  hint: put it in quotes: "0000:10:00.0"'
        )
    ]


def test_all_problems_of_a_profile_are_told_at_once_with_line_path_and_hint() -> None:
    body = """\
        host: [1]
        pmd:
          coers: 2
          cores: "2"
        nics:
          - pci: eth0
          - role: dpkd
            vfs: true
            vendor: 8086
          - mtu: 40
            vlan: 4095
        memory:
          host_mib: 2048
        ovs:
          version: 3.1
          patches:
            - bridges: [br-int]
        isolation: [boot]
        vnfs:
          - name: fw
            vcpus: 0
    """
    assert problems(HEAD + textwrap.dedent(body)) == [
        "mine.yaml:4: host: is a list where a mapping is expected",
        "mine.yaml:6: pmd.coers: is not a key of this document\n  hint: did you mean cores?",
        "mine.yaml:7: pmd.cores: is '2' where a whole number is expected",
        "mine.yaml:9: nics[0].pci: 'eth0' is not a PCI address such as 0000:10:00.0",
        (
            "mine.yaml:10: nics[1].role: is 'dpkd' where one of management, dpdk, sriov, vdpa, afxdp, kernel, "
            "unused is expected\n  hint: did you mean dpdk?"
        ),
        "mine.yaml:11: nics[1].vfs: is true where a whole number is expected",
        'mine.yaml:12: nics[1].vendor: is the number 8086 where text is expected\n  hint: put it in quotes: "8086"',
        "mine.yaml:13: nics[2].mtu: is 40, outside of 68 to 65535",
        "mine.yaml:14: nics[2].vlan: is 4095, outside of 1 to 4094",
        "mine.yaml:16: memory.host_mib: is not a key of this document\n  hint: did you mean hostMiB?",
        'mine.yaml:18: ovs.version: is the number 3.1 where text is expected\n  hint: put it in quotes: "3.1"',
        "mine.yaml:20: ovs.patches[0].bridges: is a list where a list of 2 is expected\n  hint: it has 1 entries",
        "mine.yaml:21: isolation: is a list where one of boot, partition, none is expected",
        "mine.yaml:24: vnfs[0].vcpus: is 0, outside of 1 to 65536",
        "mine.yaml:23: vnfs[0].memoryMiB: is missing\n  hint: say a whole number",
    ]


def test_a_key_that_resembles_none_gets_the_list_of_those_known() -> None:
    (only,) = problems(HEAD + "pmd: {zzz: 1}\n")
    assert only == (
        "mine.yaml:4: pmd.zzz: is not a key of this document\n  hint: known here: cores, oneThreadPerCore, everyNode"
    )


def test_a_key_that_is_there_twice_is_told_with_both_lines() -> None:
    assert problems(HEAD + "pmd:\n  cores: 1\nname: other\npmd:\n  cores: 2\n") == [
        "mine.yaml:6: name: is there twice: on line 3 and on line 6\n  hint: keep one of them",
        "mine.yaml:7: pmd: is there twice: on line 4 and on line 7\n  hint: keep one of them",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "mine.yaml: is empty\n  hint: begin with `apiVersion: nfvhost/v1` and `kind: Profile`"),
        ("# nothing\n", "mine.yaml: is empty\n  hint: begin with `apiVersion: nfvhost/v1` and `kind: Profile`"),
        (
            "\n- a\n",
            (
                "mine.yaml:2: holds a list where a mapping is expected\n"
                "  hint: begin with `apiVersion: nfvhost/v1` and `kind: Profile`"
            ),
        ),
        (
            "just words",
            (
                "mine.yaml:1: holds 'just words' where a mapping is expected\n"
                "  hint: begin with `apiVersion: nfvhost/v1` and `kind: Profile`"
            ),
        ),
        (
            "name: x\nkind: Profile\n",
            "mine.yaml:1: apiVersion is missing\n  hint: write `apiVersion: nfvhost/v1` as its first line",
        ),
        (
            "apiVersion: nfvhost/v1\nname: x\n",
            "mine.yaml:1: kind is missing\n  hint: write `kind: Profile` below apiVersion",
        ),
        (
            "apiVersion: nfvhost/v2\nkind: Profile\n",
            (
                "mine.yaml:1: apiVersion: nfvhost/v2 is a later format than this nfvhost knows (nfvhost/v1)\n"
                "  hint: take a later nfvhost"
            ),
        ),
        (
            "apiVersion: v1\nkind: Profile\n",
            "mine.yaml:1: apiVersion: is 'v1', no format of nfvhost\n  hint: write nfvhost/v1",
        ),
        (
            "apiVersion: nfvhost/v1\nkind: Plan\n",
            "mine.yaml:2: kind: this is a Plan; a Profile is wanted here\n  hint: `nfvhost apply` takes it",
        ),
        (
            "apiVersion: nfvhost/v1\nkind: Deployment\n",
            "mine.yaml:2: kind: is 'Deployment' where Profile is expected\n  hint: write `kind: Profile`",
        ),
        (
            HEAD + "pmd: [1\n",
            "mine.yaml:5: is not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
        ),
        (
            HEAD + "pmd:\n\tcores: 1\n",
            (
                "mine.yaml:5: is not YAML: while scanning for the next token, "
                "found character '\\t' that cannot start any token"
            ),
        ),
        (
            HEAD + "a: \x01",
            "mine.yaml:4: is not YAML: unacceptable character #x0001: special characters are not allowed",
        ),
        (HEAD + "---\nname: y\n", "mine.yaml:4: holds more than one document\n  hint: keep one, without `---`"),
        ("[" * 3000, "mine.yaml: is nested too deeply"),
        (HEAD + "ovs: " + "[" * 60 + "]" * 60, "mine.yaml: is nested too deeply"),
        (
            f"apiVersion: nfvhost/v{'9' * 5000}\nkind: Profile\n",
            f"mine.yaml:1: apiVersion: is 'nfvhost/v{'9' * 51}...', no format of nfvhost\n  hint: write nfvhost/v1",
        ),
    ],
)
def test_what_is_no_profile_at_all_gets_one_message(text: str, said: str) -> None:
    assert problems(text) == [said]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pmd: &x {}\nhost: *x\n", "mine.yaml:5: host: is an alias (`*name`)\n  hint: write the value out"),
        ("nics: &x [*x]\n", "mine.yaml:4: nics[0]: is an alias (`*name`)\n  hint: write the value out"),
        ("pmd: !!python/x {}\n", "mine.yaml:4: pmd: carries the tag python/x\n  hint: leave the tag out"),
        ("description: !secret x\n", "mine.yaml:4: description: carries the tag !secret\n  hint: leave the tag out"),
        ("? [a]\n: 1\n", "mine.yaml:4: has a key that is no text\n  hint: write `key: value`"),
    ],
)
def test_yaml_that_no_document_needs_is_refused(body: str, said: str) -> None:
    assert said in problems(HEAD + body)


def test_numbers_beyond_any_machine_are_refused_before_they_are_planned_with() -> None:
    huge = "9" * 5000
    assert problems(HEAD + "pmd: {cores: -1}\n") == ["mine.yaml:4: pmd.cores: is -1, outside of 0 to 2147483647"]
    assert problems(HEAD + "pmd: {cores: 2147483648}\n")
    assert problems(HEAD + f"pmd: {{cores: {huge}}}\n") == [
        f"mine.yaml:4: pmd.cores: is the number {huge[:60]}... where a whole number is expected"
    ]
    assert problems(HEAD + "pmd: {cores: 1.5}\n") == [
        "mine.yaml:4: pmd.cores: is the number 1.5 where a whole number is expected"
    ]


def test_single_values_are_set_in_order_and_replace_the_files() -> None:
    profile = read(
        "pmd: {cores: 1}\nhost: auto\n",
        "pmd.cores=2",
        "pmd.cores=3",
        "host.cores=1",
        "nics[0].pci=0000:10:00.0",
        "nics[0].vendor=8086",
        "nics[1]={role: kernel}",
        "ovs.version=3.1",
        "memory.pageSize=auto",
        "ovs.virtualPorts=[{name: p0, devargs: 'net_null0,size=64'}]",
    )
    assert profile.pmd.cores == 3
    assert profile.host.cores == 1
    assert str(profile.nics[0].pci) == "0000:10:00.0"
    assert profile.nics[0].vendor == "8086"
    assert profile.nics[1].role is Role.KERNEL
    assert profile.ovs.version == "3.1"
    assert profile.ovs.virtual_ports[0].devargs == "net_null0,size=64"


def test_wrong_sets_are_told_together_with_the_file_and_by_their_words() -> None:
    said = problems(
        HEAD + "pmd: {coers: 1}\n", "pmd.cores=two", "nics[1].pci=x", "name.x=1", "ovs.version=[", "pdm.cores=1"
    )
    assert said == [
        "--set nics[1].pci=x: there is no nics[1]: the list has 0\n  hint: the next is [0]",
        "--set name.x=1: name is 'mine', so there is no name.x",
        "--set ovs.version=[: '[' is not YAML\n  hint: quote it: 'ovs.version=\"...\"'",
        "mine.yaml:4: pmd.coers: is not a key of this document\n  hint: did you mean cores?",
        "--set pmd.cores=two: pmd.cores: is 'two' where a whole number is expected",
        "--set pdm.cores=1: pdm: is not a key of this document\n  hint: did you mean pmd?",
    ]


@pytest.mark.parametrize("words", ["", "pmd", "=2", "[0]=x", "pmd..cores=1", ".pmd=1", "nics[x].pci=1", "pmdcores[=1"])
def test_a_set_without_a_path_is_a_mistake_of_usage(words: str) -> None:
    with pytest.raises(UsageError, match="is not KEY=VALUE"):
        read("", words)


def test_files_that_cannot_be_read_are_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(HEAD)
    (tmp_path / "latin.yaml").write_bytes(HEAD.encode() + "description: Bücher\n".encode("latin-1"))
    (tmp_path / "huge.yaml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    said = {}
    top = str(tmp_path)
    for name in ("mein.yaml", ".", "latin.yaml", "huge.yaml", "mine.yaml/x", "no/such.yaml"):
        with pytest.raises(DocumentError) as refused:
            load_profile(f"{top}/{name}")
        said[name] = str(refused.value).replace(top, "")
    assert said == {
        "mein.yaml": "/mein.yaml: there is no such file\n  hint: did you mean /mine.yaml?",
        ".": "/.: is a directory, not a document",
        "latin.yaml": "/latin.yaml:4: is not UTF-8 text\n  hint: save it as UTF-8",
        "huge.yaml": "/huge.yaml: is longer than 4 MiB, so it is no document of nfvhost",
        "mine.yaml/x": "/mine.yaml/x: there is no such file\n  hint: there is no folder /mine.yaml either",
        "no/such.yaml": "/no/such.yaml: there is no such file\n  hint: there is no folder /no either",
    }


def test_a_file_of_windows_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode())
    assert load_profile(str(path)) == Profile(name="mine")


def test_a_profile_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"apiVersion": "nfvhost/v1", "kind": "Profile", "name": "mine",\n\t"pmd": {"cores": 2}}')
    assert load_profile(str(path)).pmd.cores == 2


def test_a_profile_that_does_not_come_along_is_told_with_those_that_do() -> None:
    with pytest.raises(DocumentError) as refused:
        load_profile("hoem")
    assert str(refused.value).startswith(
        "--profile hoem: there is no profile of that name\n  hint: did you mean home? there are:"
    )
