"""What a plan keeps of the machine that it is for."""

from __future__ import annotations

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.fingerprint import fingerprint
from nfvhost.model.host import Host, NumaNode
from nfvhost.model.plan import PlannedHost, PlannedNode
from nfvhost.planner.layout import layout


def planned_host(host: Host) -> PlannedHost:
    """The machine in a few words, with its fingerprint."""
    name = host.model.name or f"{host.model.architecture} machine"
    cpus, nodes = len(host.online), len(host.nodes)
    shape = f"{cpus} CPU{'s' if cpus != 1 else ''}, {nodes} node{'s' if nodes != 1 else ''}"
    return PlannedHost(name=f"{name}, {shape}", fingerprint=fingerprint(host), nodes=_nodes(host))


def libvirt_kib(node: NumaNode) -> int | None:
    """The node's memory as libvirt counts it; None where nobody knows.

    Source: libvirt's src/util/virhostmem.c, virHostMemGetInfo: by node, and of the machine without NUMA.
    """
    return node.memory_kib if node.stated_kib is None else node.stated_kib


def _nodes(host: Host) -> tuple[PlannedNode, ...]:
    """The usable cores of each node; where the planner deals out threads, they are still siblings."""
    found: dict[int, dict[int, CpuSet]] = {node.id: {} for node in host.nodes}
    for core in layout(host).cores:
        siblings = (host.cpu(core.first).thread_siblings or core.threads) & host.usable
        found.setdefault(core.node, {})[siblings.first] = siblings
    stated = {node.id: libvirt_kib(node) for node in host.nodes}
    return tuple(
        PlannedNode(node=node, cores=tuple(core for _, core in sorted(cores.items())), memory_kib=stated.get(node))
        for node, cores in sorted(found.items())
    )
