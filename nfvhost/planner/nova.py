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
from nfvhost.planner.layout import layout
from nfvhost.planner.notebook import Notebook, counted, node_names
from nfvhost.planner.planned_host import libvirt_kib

_KIB: Final = 1024


def plan_nova(
    host: Host,
    profile: Profile,
    pools: CpuPools,
    memory: MemoryPlan,
    nics: tuple[NicPlan, ...],
    notes: Notebook,
) -> NovaPlan | None:
    """Settings of nova-compute; None where the profile leaves Nova out."""
    if not profile.nova.enabled:
        notes.decide("nova", "none", "the profile leaves Nova out")
        return None
    dedicated, shared = _cpu_sets(pools, notes)
    _warn_of_far_emulators(host, profile, memory, dedicated, shared, notes)
    reserved = _reserved_mib(host, memory, notes)
    return NovaPlan(
        cpu_dedicated_set=dedicated,
        cpu_shared_set=shared,
        reserved_host_memory_mib=reserved,
        reserved_huge_pages=tuple(pages for node in memory.nodes if (pages := _reserved_pages(node)) is not None),
        pci_device_specs=_device_specs(profile, nics, notes),
    )


def memory_mib(host: Host) -> int | None:
    """The host's memory as Nova reports it to Placement; None where nobody knows.

    Source: nova/virt/libvirt/host.py, get_memory_mb_total: what libvirt counts, in whole MiB.
    """
    known = [kib for node in host.nodes if (kib := libvirt_kib(node)) is not None]
    return sum(known) // _KIB if known else None


def _reserved_mib(host: Host, memory: MemoryPlan, notes: Notebook) -> int | None:
    """reserved_host_memory_mb; None, which leaves Nova's own default, where the memory is not known.

    Placement takes no inventory at all of a host that reserves more than it has.
    """
    subject = "nova.reservedHostMemoryMiB"
    total = memory_mib(host)
    if total is None:
        kept = "the memory of this machine is not known: Nova keeps its own default of 512 MiB"
        notes.decide(subject, "none", kept)
        return None
    guests = sum(node.guest_mib for node in memory.nodes)
    whose = "of the guests' pages"
    if not guests:
        guests = sum(node.total_mib - node.host_mib - node.ovs_mib for node in memory.nodes)
        whose = "beside the host's share and OVS's, since no pages are planned for guests"
    reserved = max(total - guests, 0)
    reason = f"the {total} MiB that libvirt counts and Nova reports less the {guests} MiB {whose}"
    if (planned := sum(node.total_mib for node in memory.nodes)) > total + len(memory.nodes):
        reason += f"; the kernel has {planned} MiB in all, of which its nodes state {planned - total} less"
    if guests > total:
        notes.warn(
            f"libvirt counts {total} MiB on this machine, of which the plan gives {guests} MiB to guests: Nova gives "
            f"no more than {total}"
        )
    if reserved == total:
        notes.warn("Nova gets no memory for guests: the host and OVS take all of it")
    notes.decide(subject, str(reserved), reason)
    return reserved


def guest_cpus(pools: CpuPools) -> tuple[CpuSet, CpuSet]:
    """cpu_dedicated_set and cpu_shared_set; nova-compute does not start where they overlap (nova/virt/hardware.py)."""
    dedicated, shared = pools.dedicated, pools.shared
    if dedicated.isdisjoint(shared):
        return dedicated, shared
    if shared - dedicated:
        return dedicated, shared - dedicated
    return dedicated - shared, shared


def _cpu_sets(pools: CpuPools, notes: Notebook) -> tuple[CpuSet, CpuSet]:
    """The same, with the reasons; an empty set is one that Nova is not told."""
    dedicated, shared = guest_cpus(pools)
    pinned, floating = "pinned guest CPUs", "floating guests and emulator threads of pinned ones"
    if not dedicated:
        # nova/virt/libvirt/driver.py, _get_pcpu_available: an empty value is as good as none.
        pinned = "no CPU is there for pinned vCPUs alone"
        floating = "floating guests alone"
        size = counted(len(shared), "vCPU")
        notes.warn(
            f"Nova gets no CPU for pinned vCPUs (cpu_dedicated_set is not set, the host has no PCPU): guests with "
            f"hw:cpu_policy dedicated or mixed are refused here, and those that can be had float over "
            f"{shared.named}, {size} at most each"
        )
    if (dedicated, shared) != (pools.dedicated, pools.shared):
        small = "the pools overlap on so small a machine, and nova-compute starts only where its two sets do not"
        pinned, floating = f"{small}: {pinned}", f"{small}: {floating}"
    elif dedicated:
        pinned, floating = f"the dedicated pool: {pinned}", f"the shared pool: {floating}"
    notes.decide("nova.cpuDedicatedSet", str(dedicated) or "not set", pinned)
    notes.decide("nova.cpuSharedSet", str(shared) or "not set", floating)
    return dedicated, shared


def _warn_of_far_emulators(
    host: Host, profile: Profile, memory: MemoryPlan, dedicated: CpuSet, shared: CpuSet, notes: Notebook
) -> None:
    """Warn of nodes whose pinned guests have no shared CPU near them for QEMU's own threads.

    Source: libvirt's commit "qemuBuildThreadContextProps: Prune .node-affinity wrt <emulatorpin/>", which 9.0 lacks.
    """
    machine = layout(host)
    of_emulators = machine.nodes_of(shared)
    with_pages = {node.node for node in memory.nodes if node.guest_mib}
    far = (machine.nodes_of(dedicated) & with_pages) - of_emulators
    if far and of_emulators:
        cores = f" with {len(machine.nodes)} or more shared.cores" if profile.shared.cores else ""
        notes.warn(
            f"shared CPUs ({shared}) are on {node_names(of_emulators)} alone: emulator threads of guests on "
            f"{node_names(far)} work across the interconnect, and libvirt 9.0 (Debian 12) starts no guest with "
            f"hugepages there; host.everyNode{cores} gives each node a core for them"
        )


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


def plan_neutron(
    profile: Profile, ovs: OvsPlan | None, nics: tuple[NicPlan, ...], notes: Notebook
) -> NeutronPlan | None:
    """Settings of the Open vSwitch agent; None where there is no OVS, or where the profile leaves OpenStack out."""
    if ovs is None or not profile.nova.enabled:
        return None
    if vdpa := [str(nic.pci) for nic in nics if nic.role is Role.VDPA]:
        # Neutron's mech_openvswitch.py, get_vif_type, and OVN's mech_driver.py, bind_port (2026.2).
        notes.warn(
            f"the vDPA devices of {', '.join(vdpa)} are for guests that Neutron has no part in: on a host whose Open "
            "vSwitch has the userspace data path it binds a port of vDPA as vhost-user, and libvirt refuses the guest"
        )
    mappings = tuple(sorted((bridge.physnet, bridge.name) for bridge in ovs.bridges if bridge.physnet is not None))
    notes.decide(
        "neutron.bridgeMappings",
        ", ".join(f"{physnet}:{bridge}" for physnet, bridge in mappings) or "none",
        "each physnet and the bridge with its ports"
        if mappings
        else "no port here has a physnet: guests reach each other, not the outside",
    )
    return NeutronPlan(datapath_type="netdev", vhostuser_socket_dir=ovs.socket_dir, bridge_mappings=mappings)
