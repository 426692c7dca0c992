"""VNFs: what documents say, what holds where they say nothing, and where they contradict themselves."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path

import pytest

from nfvhost.errors import DocumentError
from nfvhost.model.profile import EmulatorThreads, GuestPortWish, GuestShape, PortType
from nfvhost.model.vnf import DEFAULT_REASONS, CloudInit, GuestPages, ServerGroup, Vnf, VnfImage, VnfPort
from nfvhost.planfile import load_vnf, load_vnf_text, vnf_decisions

EXAMPLES = Path(__file__).parents[2] / "examples" / "vnfs"
HEAD = "apiVersion: nfvhost/v1\nkind: Vnf\nname: router\nvcpus: 4\nmemoryMiB: 4096\n"


def read(more: str = "") -> Vnf:
    return load_vnf_text(HEAD + textwrap.dedent(more), "mine.yaml")


def problems(more: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read(more)
    return [str(problem) for problem in caught.value.problems]


def test_the_least_document_is_a_pinned_guest_on_hugepages_of_one_node() -> None:
    vnf = read()
    assert (str(vnf.pinned), vnf.emulator, vnf.page_size, vnf.numa_nodes) == ("0-3", "share", GuestPages.LARGE, 1)
    assert vnf.names == ("router",)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_read(path: Path) -> None:
    assert load_vnf(str(path)).description


def test_there_is_an_example_of_each_kind() -> None:
    vnfs = [load_vnf(str(path)) for path in EXAMPLES.glob("*.yaml")]
    assert {vnf.cpu_policy for vnf in vnfs} == {"dedicated", "mixed", "shared"}
    assert {port.type for vnf in vnfs for port in vnf.ports} >= {PortType.VHOSTUSER, PortType.SRIOV, PortType.NORMAL}
    assert any(vnf.multiqueue for vnf in vnfs)
    assert any(vnf.server_group for vnf in vnfs)


def test_the_last_vcpus_of_a_mixed_guest_are_pinned_unless_it_names_them() -> None:
    assert str(read("cpuPolicy: mixed\ndedicatedVcpus: 3\n").pinned) == "1-3"
    assert str(read('cpuPolicy: mixed\npinnedVcpus: "0,2"\n').pinned) == "0,2"


def test_a_floating_guest_has_no_choice_of_emulator_threads() -> None:
    assert read("cpuPolicy: shared\n").emulator is EmulatorThreads.NONE


def test_all_servers_of_a_vnf_have_names() -> None:
    assert read("count: 3\n").names == ("router-1", "router-2", "router-3")


def test_only_a_normal_port_is_filtered_by_default() -> None:
    secured = {kind: VnfPort(type=kind).secured for kind in PortType}
    assert [kind for kind, is_secured in secured.items() if is_secured] == [PortType.NORMAL]
    assert VnfPort(type=PortType.VHOSTUSER, port_security=True).secured


def test_all_mistakes_are_told_at_once_with_lines_and_the_nearest_key() -> None:
    body = """\
    cpuPolcy: mixed
    pageSize: 4M
    ports:
      - {network: a, vlan: 5000}
      - {type: vhost-user, network: b}
    """
    assert problems(body) == [
        "mine.yaml:6: cpuPolcy: is not a key of this document\n  hint: did you mean cpuPolicy?",
        "mine.yaml:7: pageSize: is '4M' where one of large, 1G, 2M, small, any is expected",
        "mine.yaml:9: ports[0].vlan: is 5000, outside of 1 to 4094",
        (
            "mine.yaml:10: ports[1].type: is 'vhost-user' where one of vhostuser, sriov, sriov-physical, vdpa, normal "
            "is expected\n  hint: did you mean vhostuser?"
        ),
    ]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("cpuPolicy: mixed", "cpuPolicy: a mixed guest of 4 vCPUs pins some of them, not 0"),
        ("cpuPolicy: mixed\ndedicatedVcpus: 4", "cpuPolicy: a mixed guest of 4 vCPUs pins some of them, not 4"),
        ('cpuPolicy: mixed\npinnedVcpus: "2-4"', "pinnedVcpus: names 2-4, and there are vCPUs 0 to 3"),
        (
            'cpuPolicy: mixed\npinnedVcpus: "2-3"\ndedicatedVcpus: 3',
            "dedicatedVcpus: is 3, and pinnedVcpus names 2",
        ),
        ("dedicatedVcpus: 2", "dedicatedVcpus: is for a mixed guest; this one is dedicated"),
        ("cpuPolicy: shared\nthreads: require", "threads: require is for pinned vCPUs, and none is"),
        ("cpuPolicy: shared\nemulatorThreads: isolate", "emulatorThreads: isolate is for pinned guests"),
        ("numaNodes: 3", "numaNodes: 4 vCPUs and 4096 MiB do not divide evenly over 3 nodes"),
        (
            'nodes: [{vcpus: "0-1", memoryMiB: 4096}]',
            "nodes: do not hold each of the 4 vCPUs once",
        ),
        (
            'nodes: [{vcpus: "0-1", memoryMiB: 96}, {vcpus: "2-3", memoryMiB: 2000}]',
            "nodes: hold 2096 MiB together, the guest has 4096",
        ),
        (
            'numaNodes: 3\nnodes: [{vcpus: "0", memoryMiB: 96}, {vcpus: "1-3", memoryMiB: 4000}]',
            "numaNodes: is 3, and nodes has 2",
        ),
        ("count: 0", "count: is 0, outside of 1 to 65536"),
        ("cloudInit: {userData: a, userDataFile: b}", "cloudInit.userDataFile: is there beside userData"),
        (
            "serverGroup: {policy: affinity, maxServersPerHost: 2}",
            "serverGroup.maxServersPerHost: is a rule of anti-affinity alone",
        ),
        ("ports: [{queues: 2}]", "ports[0]: names neither a network nor a physnet"),
        ("ports: [{network: a, physnet: b}]", "ports[0]: names a network and a physnet"),
        ("ports: [{network: a, vlan: 5}]", "ports[0].vlan: is of the network that is made for a physnet"),
        ("count: 2\nports: [{network: a, address: 192.0.2.1}]", "ports[0].address: cannot be that of 2 servers"),
        (
            "pageSize: small\nports: [{network: a}]",
            "ports[0].type: vhost-user shares the guest's memory, which has to be hugepages, not small",
        ),
        (
            "ports: [{network: a, type: sriov, queues: 2}]",
            "ports[0].queues: a sriov port has the queues of its card",
        ),
        ("ports: [{network: a, trusted: true}]", "ports[0].trusted: is a setting of VFs, and this port is vhostuser"),
        ("ports: [{network: a, minMbps: 9, maxMbps: 8}]", "ports[0].minMbps: is above maxMbps (8)"),
        (
            "ports: [{network: a, name: x}, {network: b, name: x}]",
            "ports[1].name: x is the name of another port as well",
        ),
    ],
)
def test_what_no_cloud_can_give_is_refused_at_its_line(more: str, told: str) -> None:
    (only,) = problems(f"{more}\n")
    text, _, hint = only.partition("\n  hint: ")
    assert re.sub(r"^mine.yaml:\d+: ", "", text) == told
    assert hint or "outside of" in text


def test_every_default_has_a_reason() -> None:
    classes = (GuestShape, GuestPortWish, Vnf, VnfPort, VnfImage, CloudInit, ServerGroup)
    own = {one: {field.name for base in one.__mro__[1:] if dataclasses.is_dataclass(base)
                 for field in dataclasses.fields(base)} for one in classes}  # fmt: skip
    wanted = {
        (one, field.name)
        for one in classes
        for field in dataclasses.fields(one)
        if field.name not in own[one] and field.default is not dataclasses.MISSING
    }
    assert set(DEFAULT_REASONS) == wanted
    assert all(DEFAULT_REASONS.values())


def test_defaults_are_explained_and_what_was_said_is_not() -> None:
    vnf = read("cpuPolicy: shared\ncloudInit: {userData: secret}\nports: [{network: a}]\n")
    told = {one.subject: one.choice for one in vnf_decisions(vnf)}
    assert told["vnfs.router.emulatorThreads"] == "none"
    assert told["vnfs.router.pageSize"] == "large"
    assert told["vnfs.router.ports[0].portSecurity"] == "false"
    assert told["vnfs.router.cloudInit.configDrive"] == "true"
    assert "vnfs.router.cpuPolicy" not in told
    assert "vnfs.router.ports[0].network" not in told
    assert all(one.reason for one in vnf_decisions(vnf))
    assert "secret" not in str(vnf_decisions(vnf))
