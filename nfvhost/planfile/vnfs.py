"""VNFs, in: what a document says, and where it contradicts itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from nfvhost.errors import DocumentError, Problem
from nfvhost.model.cpuset import CpuSet, union
from nfvhost.model.plan import Decision
from nfvhost.model.profile import CpuPolicy, EmulatorThreads, PortType, ThreadPolicy
from nfvhost.model.vnf import DEFAULT_REASONS, CloudInit, GroupPolicy, GuestPages, ServerGroup, Vnf, VnfImage, VnfPort
from nfvhost.planfile import v1
from nfvhost.planfile.file import read_text
from nfvhost.planfile.names import key_of
from nfvhost.planfile.tree import Mapping, Node, Sequence
from nfvhost.planfile.versions import open_document

# (path in the document, what, hint)
Contradiction = tuple[tuple[str | int, ...], str, str]

_PAGED: Final = frozenset({GuestPages.LARGE, GuestPages.GIB_1, GuestPages.MIB_2})


def load_vnf(path: str) -> Vnf:
    """The VNF in a YAML or JSON file; DocumentError with all its problems."""
    return load_vnf_text(read_text(path), path)


def load_vnf_text(text: str, where: str) -> Vnf:
    """The VNF in a text; `where` names the text in problems."""
    body, problems = open_document(text, where=where, kind="Vnf")
    vnf = v1.read_vnf(body, problems)
    if vnf is not None:
        problems += [_problem(body, *one) for one in contradictions(vnf)]
    if problems or vnf is None:
        raise DocumentError.of(tuple(problems))
    return vnf


def vnf_decisions(vnf: Vnf) -> tuple[Decision, ...]:
    """What holds for each field that the document does not say, and why; subjects are `vnfs.router.pageSize`."""
    return tuple(_decisions(vnf, f"vnfs.{vnf.name}"))


def _decisions(value: Vnf | VnfPort | VnfImage | CloudInit | ServerGroup, path: str) -> Iterator[Decision]:
    for field in fields(value):
        here = f"{path}.{key_of(field.name)}"
        match said := getattr(value, field.name):
            case VnfImage() | CloudInit() | ServerGroup():
                yield from _decisions(said, here)
            case (VnfPort(), *_):
                for at, port in enumerate(said):
                    yield from _decisions(port, f"{here}[{at}]")
            case field.default:
                yield Decision(subject=here, choice=_choice(value, field.name), reason=_reason(value, field.name))


def _choice(value: object, field: str) -> str:
    """What is done where the field is not said."""
    if isinstance(value, VnfPort) and field == "port_security":
        return str(value.secured).lower()
    if isinstance(value, Vnf) and field == "emulator_threads":
        return value.emulator
    if isinstance(value, Vnf) and field == "pinned_vcpus":
        return str(value.pinned) or "none"
    said = getattr(value, field)
    if isinstance(said, bool):
        return str(said).lower()
    return "none" if said is None or said in {"", ()} else str(said)


def _reason(value: object, field: str) -> str:
    return next(DEFAULT_REASONS[one, field] for one in type(value).__mro__ if (one, field) in DEFAULT_REASONS)


def contradictions(vnf: Vnf) -> Iterator[Contradiction]:
    """Where a VNF asks for what no host and no network can give, in the order of its keys."""
    yield from _cpu_contradictions(vnf)
    yield from _node_contradictions(vnf)
    yield from _other_contradictions(vnf)
    for at, port in enumerate(vnf.ports):
        yield from _port_contradictions(vnf, at, port)


def _cpu_contradictions(vnf: Vnf) -> Iterator[Contradiction]:
    mask, number = vnf.pinned_vcpus, vnf.dedicated_vcpus
    mixed = vnf.cpu_policy is CpuPolicy.MIXED
    for key, said in (("pinnedVcpus", mask), ("dedicatedVcpus", number)):
        if said is not None and not mixed:
            yield (key,), f"is for a mixed guest; this one is {vnf.cpu_policy}", "leave it out, or cpuPolicy: mixed"
    if mixed and mask is not None and number not in {None, len(mask)}:
        yield ("dedicatedVcpus",), f"is {number}, and pinnedVcpus names {len(mask)}", "keep one of the two"
    if mixed and mask is not None and mask - CpuSet(range(vnf.vcpus)):
        yield ("pinnedVcpus",), f"names {mask}, and there are vCPUs 0 to {vnf.vcpus - 1}", "name those that there are"
    elif mixed and not 0 < len(vnf.pinned) < vnf.vcpus:
        what = f"a mixed guest of {vnf.vcpus} vCPUs pins some of them, not {len(vnf.pinned)}"
        yield ("cpuPolicy",), what, f"say dedicatedVcpus: 1 to {vnf.vcpus - 1}, or pinnedVcpus, or another policy"
    if vnf.pinned:
        return
    if vnf.threads in {ThreadPolicy.ISOLATE, ThreadPolicy.REQUIRE}:
        yield ("threads",), f"{vnf.threads} is for pinned vCPUs, and none is", "leave it out, or cpuPolicy: dedicated"
    if vnf.emulator_threads is EmulatorThreads.ISOLATE:
        yield ("emulatorThreads",), "isolate is for pinned guests", "leave it out, or cpuPolicy: dedicated"


def _node_contradictions(vnf: Vnf) -> Iterator[Contradiction]:
    if vnf.nodes:
        together = [cpu for node in vnf.nodes for cpu in node.vcpus]
        if len(together) != vnf.vcpus or union(node.vcpus for node in vnf.nodes) != CpuSet(range(vnf.vcpus)):
            yield ("nodes",), f"do not hold each of the {vnf.vcpus} vCPUs once", f"share out 0-{vnf.vcpus - 1}"
        memory = sum(node.memory_mib for node in vnf.nodes)
        if memory != vnf.memory_mib:
            yield ("nodes",), f"hold {memory} MiB together, the guest has {vnf.memory_mib}", "make them equal"
        if vnf.numa_nodes not in {1, len(vnf.nodes)}:
            yield ("numaNodes",), f"is {vnf.numa_nodes}, and nodes has {len(vnf.nodes)}", "leave numaNodes out"
    elif vnf.vcpus % vnf.numa_nodes or vnf.memory_mib % vnf.numa_nodes:
        what = f"{vnf.vcpus} vCPUs and {vnf.memory_mib} MiB do not divide evenly over {vnf.numa_nodes} nodes"
        yield ("numaNodes",), what, "choose multiples of it, or say what each has with nodes"


def _other_contradictions(vnf: Vnf) -> Iterator[Contradiction]:
    boot = vnf.cloud_init
    if boot is not None and boot.user_data is not None and boot.user_data_file is not None:
        yield ("cloudInit", "userDataFile"), "is there beside userData", "keep one of the two"
    if vnf.count < 1:
        yield ("count",), "is 0: there would be no server", "1 or more"
    group = vnf.server_group
    if group is not None and group.max_servers_per_host is not None and group.policy is not GroupPolicy.ANTI_AFFINITY:
        # nova/api/openstack/compute/schemas/server_groups.py, from microversion 2.64 on.
        what = "is a rule of anti-affinity alone"
        yield ("serverGroup", "maxServersPerHost"), what, "leave it out, or policy: anti-affinity"
    seen: set[str] = set()
    for at, port in enumerate(vnf.ports):
        if port.name in seen:
            yield ("ports", at, "name"), f"{port.name} is the name of another port as well", "give each its own"
        seen |= {port.name} if port.name is not None else set()


def _port_contradictions(vnf: Vnf, at: int, port: VnfPort) -> Iterator[Contradiction]:
    here: tuple[str | int, ...] = ("ports", at)
    if (port.network is None) == (port.physnet is None):
        both = port.network is not None
        what = "names a network and a physnet" if both else "names neither a network nor a physnet"
        yield here, what, "keep one of the two" if both else "say network: NAME, or physnet: NAME and vlan: NUMBER"
    for key, said in (("vlan", port.vlan), ("subnet", port.subnet)):
        if said is not None and port.physnet is None:
            yield (*here, key), "is of the network that is made for a physnet", "leave it out, or say physnet"
    for key, value in (("address", port.address), ("mac", port.mac)):
        if value is not None and vnf.count > 1:
            yield (*here, key), f"cannot be that of {vnf.count} servers", "leave it out, or write one document for each"
    if port.type is PortType.VHOSTUSER and vnf.page_size not in _PAGED:
        what = f"vhost-user shares the guest's memory, which has to be hugepages, not {vnf.page_size}"
        yield (*here, "type"), what, "pageSize: large"
    virtio = port.type in {PortType.VHOSTUSER, PortType.NORMAL}
    if (port.queues or 1) > 1 and not virtio:
        yield (*here, "queues"), f"a {port.type} port has the queues of its card", "leave it out"
    if port.trusted and port.type is not PortType.SRIOV:
        yield (*here, "trusted"), f"is a setting of VFs, and this port is {port.type}", "leave it out"
    if port.min_mbps is not None and port.max_mbps is not None and port.min_mbps > port.max_mbps:
        yield (*here, "minMbps"), f"is above maxMbps ({port.max_mbps})", "at most that"


def _problem(body: Mapping, path: tuple[str | int, ...], what: str, hint: str) -> Problem:
    """The contradiction at the line of its key, or of what the key is missing in."""
    node: Node = body
    for step in path:
        if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
            node = node.entries[step]
        elif isinstance(node, Sequence) and isinstance(step, int):
            node = node.items[step]
    key = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    return Problem(what=what, where=f"{node.place}: {key}", hint=hint)
