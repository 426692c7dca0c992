"""Flavors for planned hosts: those of VNFs, or useful sizes of a plan's pools."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nfvhost.errors import Problem
from nfvhost.model.plan import Decision
from nfvhost.model.profile import CpuPolicy, EmulatorThreads
from nfvhost.model.vnf import GuestPages, Vnf
from nfvhost.openstack.extra_specs import wrong_with
from nfvhost.openstack.fit import capacity
from nfvhost.openstack.flavor import MARK, Flavor, guest_of
from nfvhost.openstack.nova_host import HostCell, NovaHost

_PAGES: Final = {GuestPages.GIB_1: "1GB", GuestPages.MIB_2: "2MB"}
_KIB: Final = 1024

FLAVOR_PREFIX: Final = "nfvhost."
_DISK_GIB: Final = 10
_LEAST_MIB: Final = 512
_GIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A flavor with the reason for it."""

    flavor: Flavor
    reasons: tuple[Decision, ...]


def flavor_name(vnf: Vnf) -> str:
    """The name of a VNF's flavor."""
    return f"{FLAVOR_PREFIX}{vnf.name}"


def group_trait(group: str) -> str:
    """The trait of the hosts of a group; Placement's own letters (placement/schemas/trait.py)."""
    return f"CUSTOM_NFVHOST_{re.sub(r'[^A-Z0-9]', '_', group.upper())}"


def vnf_offer(vnf: Vnf, *, group: str | None = None) -> Offer:
    """Exactly the flavor of a VNF; on the hosts of a group alone, where one is named."""
    notes: list[tuple[str, str, str]] = [("hw:cpu_policy", vnf.cpu_policy, "cpuPolicy")]
    if vnf.cpu_policy is CpuPolicy.MIXED:
        notes.append(("hw:cpu_dedicated_mask", str(vnf.pinned), "pinnedVcpus, or the last dedicatedVcpus"))
    if vnf.emulator is not EmulatorThreads.NONE:
        why = {
            EmulatorThreads.SHARE: "QEMU's own threads run on the shared CPUs, not beside a pinned vCPU",
            EmulatorThreads.ISOLATE: "QEMU's own threads get one more dedicated CPU",
        }[vnf.emulator]
        notes.append(("hw:emulator_threads_policy", vnf.emulator, why))
    if vnf.threads is not None:
        notes.append(("hw:cpu_thread_policy", vnf.threads, "threads"))
    notes.append(("hw:mem_page_size", _PAGES.get(vnf.page_size, str(vnf.page_size)), "pageSize"))
    notes += _node_specs(vnf)
    if vnf.has_vf:
        why = "how near the cards of its ports have to be: pciAffinity"
        notes.append(("hw:pci_numa_affinity_policy", vnf.pci_affinity, why))
    if vnf.multiqueue:
        why = "a port asks for queues; Nova gives as many as there are vCPUs"
        notes.append(("hw:vif_multiqueue_enabled", "true", why))
    return _offer(
        flavor_name(vnf),
        vnf.vcpus,
        vnf.memory_mib,
        vnf.disk_gib,
        notes,
        group=group,
        description=vnf.description or f"VNF {vnf.name}",
    )


def useful_offers(host: NovaHost, *, group: str | None = None) -> tuple[Offer, ...]:
    """Flavors in useful sizes, all of which fit the host.

    Pinned ones of one core, two, four… up to a whole node, each with its share of the node's pages; a floating one of a
    CPU where shared CPUs and pages are on one node.
    """
    cells = [cell for cell in host.cells if cell.dedicated and _page_mib(cell)]
    made: dict[str, Offer] = {}
    if cells:
        # The tightest node decides about memory, so that as many guests fit as CPUs allow.
        share = min(_guest_mib(cell) / len(cell.dedicated) for cell in cells)
        page = max(_page_mib(cell) for cell in cells)
        largest = max(len(cell.dedicated) for cell in cells)
        width = max(len(core & cell.dedicated) for cell in cells for core in cell.cores)
        for vcpus in _sizes(width, largest):
            memory = _rounded(share * vcpus, page)
            if memory >= _LEAST_MIB:
                offer = _pinned_offer(vcpus, memory, group)
                made.setdefault(offer.flavor.name, offer)
    floating = next((cell for cell in host.cells if cell.shared and _page_mib(cell)), None)
    if floating is not None:
        memory = max(_page_mib(floating), _GIB)
        offer = _floating_offer(memory, group)
        made.setdefault(offer.flavor.name, offer)
    return tuple(offer for offer in made.values() if capacity(host, guest_of(offer.flavor), most=1))


def _sizes(width: int, largest: int) -> list[int]:
    """Whole cores: one, two, four…, and all of the node."""
    sizes = []
    size = width
    while size < largest:
        sizes.append(size)
        size *= 2
    return [*sizes, largest]


def _pinned_offer(vcpus: int, memory_mib: int, group: str | None) -> Offer:
    notes = [
        ("hw:cpu_policy", "dedicated", "each vCPU has a host CPU of the dedicated pool"),
        ("hw:emulator_threads_policy", "share", "QEMU's own threads run on the shared CPUs"),
        ("hw:mem_page_size", "large", "vhost-user needs hugepages"),
        ("hw:numa_nodes", "1", "all memory is near"),
    ]
    name = f"{_prefix(group)}.pinned.{vcpus}c.{_amount(memory_mib)}"
    description = f"{vcpus} pinned vCPUs and their share of a node's hugepages"
    return _offer(name, vcpus, memory_mib, _DISK_GIB, notes, group=group, description=description)


def _floating_offer(memory_mib: int, group: str | None) -> Offer:
    notes = [
        ("hw:cpu_policy", "shared", "it floats over the shared CPUs"),
        ("hw:mem_page_size", "large", "vhost-user needs hugepages"),
        ("hw:numa_nodes", "1", "all memory is near"),
    ]
    name = f"{_prefix(group)}.floating.1c.{_amount(memory_mib)}"
    return _offer(name, 1, memory_mib, _DISK_GIB, notes, group=group, description="one floating vCPU, for helpers")


def _node_specs(vnf: Vnf) -> list[tuple[str, str, str]]:
    if not vnf.nodes:
        return [("hw:numa_nodes", str(vnf.numa_nodes), "numaNodes")]
    notes = [("hw:numa_nodes", str(len(vnf.nodes)), "nodes")]
    for at, node in enumerate(vnf.nodes):
        notes.append((f"hw:numa_cpus.{at}", str(node.vcpus), f"nodes[{at}].vcpus"))
        notes.append((f"hw:numa_mem.{at}", str(node.memory_mib), f"nodes[{at}].memoryMiB"))
    return notes


def _offer(
    name: str,
    vcpus: int,
    memory_mib: int,
    disk_gib: int,
    notes: Sequence[tuple[str, str, str]],
    *,
    group: str | None,
    description: str,
) -> Offer:
    specs = {key: value for key, value, _ in notes} | dict([MARK])
    reasons = list(notes)
    if group is not None:
        specs[f"trait:{group_trait(group)}"] = "required"
        reasons.append((f"trait:{group_trait(group)}", "required", f"only hosts of the group {group} are planned so"))
    flavor = Flavor(
        name=name,
        vcpus=vcpus,
        memory_mib=memory_mib,
        disk_gib=disk_gib,
        extra_specs=tuple(sorted(specs.items())),
        description=description,
    )
    return Offer(
        flavor=flavor,
        reasons=tuple(Decision(subject=f"{name}.{key}", choice=str(value), reason=why) for key, value, why in reasons),
    )


def invalid_specs(flavor: Flavor) -> tuple[Problem, ...]:
    """What Nova's validators will not take."""
    found = (wrong_with(key, value) for key, value in flavor.extra_specs)
    return tuple(Problem(what=what, where=flavor.name) for what in found if what is not None)


def _page_mib(cell: HostCell) -> int:
    """The largest hugepages that guests may have on this node; 0 where they may have none."""
    return max((one.size_kib // _KIB for one in cell.pages[1:] if one.free > 0), default=0)


def _guest_mib(cell: HostCell) -> int:
    size = _page_mib(cell)
    return sum(one.free * size for one in cell.pages if one.size_kib == size * _KIB)


def _rounded(memory_mib: float, page_mib: int) -> int:
    """Whole pages, and of small ones whole GiB or at least 512 MiB, which people read more easily."""
    step = page_mib if page_mib >= _GIB else _GIB if memory_mib >= _GIB else _LEAST_MIB
    whole = int(memory_mib // step) * step
    return whole or int(memory_mib // page_mib) * page_mib


def _prefix(group: str | None) -> str:
    """What the names of flavors begin with."""
    return "nfvhost" if group is None else f"nfvhost.{group}"


def _amount(memory_mib: int) -> str:
    return f"{memory_mib // _GIB}g" if memory_mib % _GIB == 0 else f"{memory_mib}m"
