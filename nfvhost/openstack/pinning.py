"""What was promised to a server next to what it got.

Source: Nova's API, GET /servers/{id}/topology from 2.78 on; Neutron's port bindings; libvirt's domain, where it is
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from openstack.compute.v2.server import Server
from openstack.connection import Connection
from openstack.network.v2.port import Port

from nfvhost.model.cpuset import CpuSet, union
from nfvhost.model.plan import Plan
from nfvhost.model.profile import EmulatorThreads, PortType
from nfvhost.model.server import Check
from nfvhost.model.vnf import GuestPages, Vnf
from nfvhost.openstack.connect import asking, document
from nfvhost.openstack.domain import Domain, read_domain

_KIB: Final = 1024
_SMALL_KIB: Final = 4
# neutron_lib/api/definitions/portbindings.py, VIF_TYPE_*: what each kind of port is bound as.
_VIF_TYPES: Final = {
    PortType.VHOSTUSER: ("vhostuser",),
    PortType.NORMAL: ("ovs", "vhostuser"),
    PortType.SRIOV: ("hw_veb", "hostdev", "ovs"),
    PortType.SRIOV_PHYSICAL: ("hostdev_physical",),
    PortType.VDPA: ("vdpa", "ovs"),
}
# nova/virt/libvirt/vif.py, get_base_config: several queues are for virt_type kvm and parallels.
_EMULATED: Final = "qemu"
_PAGES: Final = {GuestPages.GIB_1: 1024 * _KIB, GuestPages.MIB_2: 2 * _KIB}


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNode:
    """One NUMA node of a guest, as Nova tells of it."""

    host_node: int | None
    memory_mib: int
    page_size_kib: int | None
    pinning: tuple[tuple[int, int], ...]  # vCPU -> host CPU


def checks(
    cloud: Connection, server: Server, vnf: Vnf, *, ports: Sequence[Port], plan: Plan | None
) -> tuple[Check, ...]:
    """Each promise of the VNF and what Nova, Neutron and libvirt say of it."""
    nodes = _nodes(cloud, server)
    domain = read_domain(server.id)
    found = [_vcpus(vnf, nodes, domain, plan), *_emulator(vnf, domain, plan), _memory(vnf, nodes, domain, plan)]
    return (*found, *(_port(vnf, at, port, domain) for at, port in enumerate(ports)))


def _nodes(cloud: Connection, server: Server) -> tuple[GuestNode, ...]:
    with asking("Nova", where=f"server {server.name}"):
        answer = document(cloud.compute, f"/servers/{server.id}/topology")
    page = answer.get("pagesize_kb")
    return tuple(
        GuestNode(
            host_node=one.get("host_node"),
            memory_mib=one["memory_mb"],
            page_size_kib=page,
            pinning=tuple(sorted((int(guest), int(host)) for guest, host in (one.get("cpu_pinning") or {}).items())),
        )
        for one in answer.get("nodes", ())
    )


def _vcpus(vnf: Vnf, nodes: tuple[GuestNode, ...], domain: Domain | None, plan: Plan | None) -> Check:
    told = dict(pair for node in nodes for pair in node.pinning)
    dedicated = plan.nova.cpu_dedicated_set if plan is not None and plan.nova is not None else None
    planned = f"{len(vnf.pinned)} of {vnf.vcpus} pinned"
    if dedicated is not None and vnf.pinned:
        planned += f", to CPUs of {dedicated}"
    agrees = CpuSet(told) == vnf.pinned and (dedicated is None or CpuSet(told.values()) <= dedicated)
    real = ", ".join(f"{guest} on CPU {host}" for guest, host in told.items()) or "none pinned"
    if domain is not None and vnf.pinned:
        bound = {guest: cpus for guest, cpus in domain.pinned if guest in vnf.pinned}
        if bound == {guest: CpuSet([host]) for guest, host in told.items()}:
            real += "; libvirt agrees"
        else:
            words = ", ".join(f"{guest} on {cpus}" for guest, cpus in bound.items())
            real, agrees = f"{real}; libvirt has {words or 'none pinned'}", False
    return Check(subject="vCPUs", planned=planned, real=real, agrees=agrees)


def _emulator(vnf: Vnf, domain: Domain | None, plan: Plan | None) -> Iterator[Check]:
    """Where QEMU's own threads run: Nova's API does not tell it."""
    if vnf.emulator is EmulatorThreads.NONE:
        return
    shared = plan.nova.cpu_shared_set if plan is not None and plan.nova is not None else None
    shares = vnf.emulator is EmulatorThreads.SHARE
    planned = "on shared CPUs" if shares else "on a dedicated CPU of their own"
    if shares and shared:
        planned = f"on shared CPUs {shared}"
    if domain is None:
        yield Check(subject="emulator threads", planned=planned, real="the guest is not on this machine", agrees=None)
        return
    threads = domain.emulator
    pinned = union(cpus for guest, cpus in domain.pinned if guest in vnf.pinned)
    agrees = threads is not None and threads.isdisjoint(pinned) and (not shares or not shared or threads <= shared)
    real = "not bound" if threads is None else f"CPU {threads}"
    yield Check(subject="emulator threads", planned=planned, real=real, agrees=agrees)


def _memory(vnf: Vnf, nodes: tuple[GuestNode, ...], domain: Domain | None, plan: Plan | None) -> Check:
    wanted = _PAGES.get(vnf.page_size)
    large = vnf.page_size is GuestPages.LARGE
    if large and plan is not None:
        sizes = {pages.size_mib * _KIB for node in plan.memory.nodes for pages in node.pages if pages.count}
        wanted = max(sizes) if len(sizes) == 1 else None
    kind = f"pages of {_size(wanted)}" if wanted is not None else "hugepages" if large else f"{vnf.page_size} pages"
    planned = f"{vnf.memory_mib} MiB in {kind}"
    if not nodes:
        return Check(subject="memory", planned=planned, real="Nova tells no pages", agrees=None)
    page = nodes[0].page_size_kib
    agrees = sum(node.memory_mib for node in nodes) == vnf.memory_mib and _page_agrees(page, wanted, large=large)
    where = ", ".join(f"{node.memory_mib} MiB on node {node.host_node}" for node in nodes)
    real = f"{where}, pages of {_size(page)}"
    if domain is not None and domain.page_size_kib != (page if page and page > _SMALL_KIB else None):
        real, agrees = f"{real}; libvirt has {_size(domain.page_size_kib)}", False
    return Check(subject="memory", planned=planned, real=real, agrees=agrees)


def _page_agrees(page: int | None, wanted: int | None, *, large: bool) -> bool:
    if wanted is not None:
        return page == wanted
    return not large or (page is not None and page > _SMALL_KIB)


def _size(kib: int | None) -> str:
    if kib is None:
        return "the usual size"
    for unit, size in (("GiB", _KIB * _KIB), ("MiB", _KIB)):
        if kib % size == 0:
            return f"{kib // size} {unit}"
    return f"{kib} KiB"


def _port(vnf: Vnf, at: int, port: Port, domain: Domain | None) -> Check:
    wish = vnf.ports[at]
    bound = str(port.binding_vif_type)
    wanted = _VIF_TYPES[wish.type]
    planned = str(wish.type) + (f", {wish.queues} queues" if wish.queues is not None else "")
    socket = (port.binding_vif_details or {}).get("vhostuser_socket")
    real = f"{bound} on {port.binding_host_id or 'no host'}, {str(port.status).lower()}"
    if bound == "vhostuser" and socket:
        real += f", {socket}"
    agrees = bound in wanted and port.status == "ACTIVE"
    if domain is not None:
        queues = dict(domain.queues).get(str(port.mac_address), 1)
        wished = wish.queues or 1
        if queues > 1 or wished > 1:
            real += f", {queues} queue{'s' if queues > 1 else ''}"
        if queues < wished and domain.kind == _EMULATED:
            real += ": Nova gives several to guests of KVM alone, and this one is emulated"
        agrees = agrees and str(port.mac_address) in dict(domain.interfaces) and queues >= wished
    return Check(subject=f"port {wish.name or at}", planned=planned, real=real, agrees=agrees)
