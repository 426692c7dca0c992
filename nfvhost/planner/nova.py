"""Settings of nova-compute and of Neutron's Open vSwitch agent."""

from __future__ import annotations

from typing import Final

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host
from nfvhost.model.plan import (
    CpuPools,
    MemoryPlan,
    NeutronPlan,
    NicPlan,
    NodeMemory,
    NovaPlan,
    OvsPlan,
    PciDeviceSpec,
    ReservedHugepages,
)
from nfvhost.model.profile import Profile, Role
from nfvhost.planner.notebook import Notebook

_KIB: Final = 1024


def plan_nova(
    host: Host,
    profile: Profile,
    pools: CpuPools,
    memory: MemoryPlan,
    nics: tuple[NicPlan, ...],
    notes: Notebook,
) -> NovaPlan | None:
    """Settings of nova-compute; None where the profile leaves Nova out. `host` is whose pools and memory these are."""
    del host
    if not profile.nova.enabled:
        notes.decide("nova", "none", "the profile leaves Nova out")
        return None
    dedicated, shared = _cpu_sets(pools, notes)
    reserved = _reserved_mib(memory, notes)
    return NovaPlan(
        cpu_dedicated_set=dedicated,
        cpu_shared_set=shared,
        reserved_host_memory_mib=reserved,
        reserved_huge_pages=tuple(pages for node in memory.nodes if (pages := _reserved_pages(node)) is not None),
        pci_device_specs=_device_specs(profile, nics, notes),
    )


def _reserved_mib(memory: MemoryPlan, notes: Notebook) -> int | None:
    """reserved_host_memory_mb; None, which leaves Nova's own default, where the memory is not known."""
    if not any(node.total_mib for node in memory.nodes):
        kept = "the memory of this machine is not known: Nova keeps its own default of 512 MiB"
        notes.decide("nova.reservedHostMemoryMiB", "none", kept)
        return None
    reserved = sum(node.total_mib - node.guest_mib for node in memory.nodes)
    notes.decide(
        "nova.reservedHostMemoryMiB",
        str(reserved),
        "all memory that is not the guests': the host's and OVS's share of each node",
    )
    return reserved


def _cpu_sets(pools: CpuPools, notes: Notebook) -> tuple[CpuSet, CpuSet]:
    """cpu_dedicated_set and cpu_shared_set; nova-compute does not start where they overlap (nova/virt/hardware.py)."""
    dedicated, shared = pools.dedicated, pools.shared
    if dedicated.isdisjoint(shared):
        notes.decide("nova.cpuDedicatedSet", str(dedicated) or "none", "the dedicated pool: pinned guest CPUs")
        notes.decide(
            "nova.cpuSharedSet",
            str(shared) or "none",
            "the shared pool: floating guests and emulator threads of pinned ones",
        )
        return dedicated, shared
    if shared - dedicated:
        shared -= dedicated
    elif dedicated - shared:
        dedicated -= shared
    else:
        dedicated = CpuSet()
    reason = "the pools overlap on so small a machine, and nova-compute starts only where its two sets do not"
    notes.decide("nova.cpuDedicatedSet", str(dedicated) or "none", reason)
    notes.decide("nova.cpuSharedSet", str(shared) or "none", reason)
    return dedicated, shared


def _reserved_pages(node: NodeMemory) -> ReservedHugepages | None:
    """OVS's share of a node's hugepages, of the largest size there, which DPDK takes first."""
    sizes = [pages.size_mib for pages in node.pages if pages.count]
    if not node.ovs_mib or not sizes:
        return None
    size = max(sizes)
    return ReservedHugepages(node=node.node, size_kib=size * _KIB, count=-(-node.ovs_mib // size))


def _device_specs(profile: Profile, nics: tuple[NicPlan, ...], notes: Notebook) -> tuple[PciDeviceSpec, ...]:
    """One spec for each PF whose VFs guests may have: Nova matches VFs by the address of their PF."""
    specs: list[PciDeviceSpec] = []
    for nic in nics:
        if nic.role not in {Role.SRIOV, Role.VDPA}:
            continue
        wish = profile.nics[nic.wish] if nic.wish is not None else None
        specs.append(
            PciDeviceSpec(
                address=nic.pci, physical_network=nic.physnet, trusted=wish.trusted if wish is not None else False
            )
        )
        if nic.physnet is None:
            notes.warn(f"{nic.pci} has VFs and no physnet: Neutron can bind no port to them; give its entry a physnet")
    return tuple(specs)


def plan_neutron(profile: Profile, ovs: OvsPlan | None, notes: Notebook) -> NeutronPlan | None:
    """Settings of the Open vSwitch agent; None where there is no OVS, or where the profile leaves OpenStack out."""
    if ovs is None or not profile.nova.enabled:
        return None
    mappings = tuple(sorted((bridge.physnet, bridge.name) for bridge in ovs.bridges if bridge.physnet is not None))
    notes.decide(
        "neutron.bridgeMappings",
        ", ".join(f"{physnet}:{bridge}" for physnet, bridge in mappings) or "none",
        "each physnet and the bridge with its ports"
        if mappings
        else "no port here has a physnet: guests reach each other, not the outside",
    )
    return NeutronPlan(datapath_type="netdev", vhostuser_socket_dir=ovs.socket_dir, bridge_mappings=mappings)
