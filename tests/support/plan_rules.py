"""What holds in every plan of every machine, one function a rule; each yields what is broken.

Written from the kernel's facts in Host and the finished Plan alone, not from the planner's own view of a machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import Cpu, CpuKind, Host
from nfvhost.model.plan import Plan, VfSettings
from nfvhost.model.profile import EmulatorThreads, Isolation, Role

Rule = Callable[[Host, Plan], Iterator[str]]

# Fewer cores than pools: only then may pools overlap.
SMALL = 4
# What the host keeps at the very least where the machine has twice as much.
HOST_LEAST_MIB = 768


def usable_cores(host: Host) -> list[CpuSet]:
    """The usable threads of each physical core."""
    siblings = {cpu.thread_siblings for cpu in host.cpus if cpu.id in host.usable}
    return sorted((core & host.usable for core in siblings), key=lambda core: core.first)


def by_id(host: Host) -> dict[int, Cpu]:
    return {cpu.id: cpu for cpu in host.cpus}


def a_core_is_in_a_pool_with_all_its_threads(host: Host, plan: Plan) -> Iterator[str]:
    cores = usable_cores(host)
    if len(cores) < 2:  # one core is shared out thread by thread
        return
    pools = {"host": plan.cpus.host, "shared": plan.cpus.shared, "dedicated": plan.cpus.dedicated}
    for name, pool in {**pools, "pmd": plan.cpus.pmd | plan.cpus.idle}.items():
        for core in cores:
            if (part := core & pool) and part != core:
                yield f"{name} has {part} of core {core}"


def no_cpu_is_in_two_pools_but_on_small_machines(host: Host, plan: Plan) -> Iterator[str]:
    pools = {"host": plan.cpus.host, "pmd": plan.cpus.pmd, "dedicated": plan.cpus.dedicated, "idle": plan.cpus.idle}
    if plan.cpus.shared != plan.cpus.host:
        pools["shared"] = plan.cpus.shared
    overlaps = [
        f"{one} and {other} share {pools[one] & pools[other]}"
        for one in pools
        for other in pools
        if one < other and not pools[one].isdisjoint(pools[other])
    ]
    if overlaps and len(usable_cores(host)) >= SMALL:
        yield from overlaps
    if overlaps and not any("overlap" in warning for warning in plan.warnings):
        yield "pools overlap without a warning"


def cpu_0_or_the_lowest_usable_one_is_with_the_host(host: Host, plan: Plan) -> Iterator[str]:
    lowest = host.usable.first
    if lowest not in plan.cpus.host:
        yield f"CPU {lowest} is not in the host pool {plan.cpus.host}"


def pools_hold_only_cpus_that_run_and_are_allowed(host: Host, plan: Plan) -> Iterator[str]:
    pools = plan.cpus
    everyone = pools.host | pools.shared | pools.pmd | pools.dedicated | pools.idle | pools.isolated
    if not everyone <= host.usable:
        yield f"{everyone - host.usable} are offline or not allowed"
    if lost := host.usable - everyone:
        yield f"{lost} are in no pool"


def isolated_are_pmd_dedicated_and_idle_and_never_the_host(host: Host, plan: Plan) -> Iterator[str]:
    del host
    pools = plan.cpus
    if not pools.isolated.isdisjoint(pools.host | pools.shared):
        yield f"{pools.isolated & (pools.host | pools.shared)} of the host are isolated"
    if pools.isolated != (pools.pmd | pools.dedicated | pools.idle) - pools.host - pools.shared:
        yield f"isolated {pools.isolated}"


def each_dpdk_nic_is_polled_on_its_node(host: Host, plan: Plan) -> Iterator[str]:
    cpus = by_id(host)
    polled = {cpus[cpu].node for cpu in plan.cpus.pmd & host.online}
    if len(usable_cores(host)) < 2:
        return
    for nic in plan.nics:
        if nic.role in {Role.DPDK, Role.AFXDP} and nic.node is not None and nic.node not in polled:
            spare = CpuSet(cpu for cpu in plan.cpus.dedicated & host.online if cpus[cpu].node == nic.node)
            said = f"node {nic.node} has"
            if not any(said in warning for warning in plan.warnings):
                yield f"{nic.pci} on node {nic.node} has no PMD core there, {spare} are dedicated"


def no_e_core_polls_while_guests_have_p_cores_of_its_node(host: Host, plan: Plan) -> Iterator[str]:
    cpus = by_id(host)
    slow = {cpus[cpu].node for cpu in plan.cpus.pmd & host.online if cpus[cpu].kind is CpuKind.EFFICIENCY}
    fast = {
        cpus[cpu].node
        for cpu in (plan.cpus.dedicated & host.online) - plan.cpus.host
        if cpus[cpu].kind is CpuKind.PERFORMANCE
    }
    for node in sorted(slow & fast, key=str):
        yield f"an E-core polls on node {node}"


def something_polls_where_there_are_ports(host: Host, plan: Plan) -> Iterator[str]:
    del host
    if any(nic.role in {Role.DPDK, Role.AFXDP} for nic in plan.nics) and not plan.cpus.pmd:
        yield "DPDK ports and no PMD"


def no_node_gives_out_more_memory_than_it_has(host: Host, plan: Plan) -> Iterator[str]:
    known = {node.id: node.memory_kib for node in host.nodes}
    if len(host.nodes) == 1 and known[host.nodes[0].id] is None:
        known = {host.nodes[0].id: host.memory_kib}
    for node in plan.memory.nodes:
        if node.host_mib + node.ovs_mib + node.guest_mib > node.total_mib:
            yield f"node {node.node} gives out more than {node.total_mib} MiB"
        if node.total_mib * 1024 > (known[node.node] or 0):
            yield f"node {node.node} has {known[node.node]} KiB, planned are {node.total_mib} MiB"
        if min(node.host_mib, node.ovs_mib, node.guest_mib) < 0:
            yield f"node {node.node} has a negative share"


def the_host_keeps_its_floor(host: Host, plan: Plan) -> Iterator[str]:
    del host
    total = sum(node.total_mib for node in plan.memory.nodes)
    paged = sum(pages.size_mib * pages.count for node in plan.memory.nodes for pages in node.pages)
    if paged and total - paged < HOST_LEAST_MIB:
        yield f"{total - paged} MiB are left to the host"
    for node in plan.memory.nodes:
        here = sum(pages.size_mib * pages.count for pages in node.pages)
        if here > node.total_mib - node.host_mib:
            yield f"pages of node {node.node} cross the host's floor"


def pages_are_what_ovs_and_guests_get_of_a_size_that_the_machine_has(host: Host, plan: Plan) -> Iterator[str]:
    offered = {pool.size.mib for pool in (*host.hugepages, *(pool for node in host.nodes for pool in node.hugepages))}
    for node in plan.memory.nodes:
        if sum(pages.size_mib * pages.count for pages in node.pages) != node.ovs_mib + node.guest_mib:
            yield f"node {node.node}: {node.pages}"
        for pages in node.pages:
            if pages.count < 1:
                yield f"node {node.node}: {pages.count} pages"
            if pages.size_mib == 1024 and "pdpe1gb" not in host.model.flags and 1024 not in offered:
                yield f"node {node.node}: pages of 1 GiB on a machine without"
            if pages.size_mib not in {2, 1024} and pages.size_mib not in offered:
                yield f"node {node.node}: pages of {pages.size_mib} MiB on a machine that offers {offered}"
            if pages.at_boot != (pages.size_mib >= 1024):
                yield f"node {node.node}: {pages.size_mib} MiB at boot: {pages.at_boot}"


def guests_have_memory_only_where_they_have_cpus(host: Host, plan: Plan) -> Iterator[str]:
    cpus = by_id(host)
    nodes = {cpus[cpu].node for cpu in plan.cpus.dedicated & host.online}
    for node in plan.memory.nodes:
        # A CPU that no node lists is given to one by the planner.
        if node.guest_mib and node.node not in nodes and None not in nodes:
            yield f"node {node.node} has {node.guest_mib} MiB for guests and no CPUs for them"


def management_is_never_touched(host: Host, plan: Plan) -> Iterator[str]:
    roles = {nic.pci: nic for nic in plan.nics}
    for nic in host.nics:
        if nic.management is not None and roles[nic.pci].role is not Role.MANAGEMENT:
            yield f"{nic.pci} carries management and is planned as {roles[nic.pci].role}"
    for planned in plan.nics:
        if planned.role is Role.MANAGEMENT and (planned.driver or planned.vfs or planned.vdpa_devices):
            yield f"{planned.pci} is kept for management and is changed"


def every_nic_has_one_role(host: Host, plan: Plan) -> Iterator[str]:
    if [nic.pci for nic in plan.nics] != [nic.pci for nic in host.nics]:
        yield "NICs of the plan are not those of the host"


def vfs_are_never_more_than_the_function_can_have(host: Host, plan: Plan) -> Iterator[str]:
    totals = {nic.pci: nic.total_vfs or 0 for nic in host.nics}
    for nic in plan.nics:
        if (nic.vfs or 0) > totals[nic.pci] or (nic.vdpa_devices or 0) > max(totals[nic.pci], 1):
            yield f"{nic.pci}: {nic.vfs} VFs, {nic.vdpa_devices} vDPA devices of {totals[nic.pci]}"


def settings_of_vfs_are_for_vfs_that_are_made(host: Host, plan: Plan) -> Iterator[str]:
    del host
    for nic in plan.nics:
        if nic.vf_settings != VfSettings() and nic.role not in {Role.SRIOV, Role.VDPA}:
            yield f"{nic.pci} is {nic.role} and has settings of VFs"
        if len(nic.vf_settings.macs) > (nic.vfs or 0):
            yield f"{nic.pci}: {len(nic.vf_settings.macs)} addresses for {nic.vfs} VFs"
    macs = Counter(mac for nic in plan.nics for mac in nic.vf_settings.macs)
    if twice := [mac for mac, count in macs.items() if count > 1]:
        yield f"{twice} are given to several VFs"


def vfio_goes_without_an_iommu_only_where_there_is_none_and_it_is_told(host: Host, plan: Plan) -> Iterator[str]:
    if not plan.unsafe_no_iommu:
        return
    if host.iommu.enabled is True:
        yield "vfio without an IOMMU on a machine that has one"
    if not any(warning.startswith("UNSAFE") for warning in plan.warnings):
        yield "vfio without an IOMMU and without a warning"


def power_is_saved_on_isolated_cpus_alone(host: Host, plan: Plan) -> Iterator[str]:
    del host
    if plan.power is not None and (plan.power.cpus != plan.cpus.isolated or not plan.power.cpus):
        yield f"power of {plan.power.cpus}, isolated are {plan.cpus.isolated}"


def every_decision_has_a_reason(host: Host, plan: Plan) -> Iterator[str]:
    del host
    subjects = Counter(decision.subject for decision in plan.decisions)
    for subject, count in subjects.items():
        if count > 1:
            yield f"{subject} is decided {count} times"
    pools = {"cpus.host", "cpus.shared", "cpus.pmd", "cpus.dedicated", "cpus.isolated", "memory.pageSize"}
    nodes = {f"memory.node{node.node}" for node in plan.memory.nodes}
    guests = {f"guests.{guest.name}" for guest in plan.guests}
    if missing := sorted((pools | nodes | guests) - set(subjects)):
        yield f"no decision says why: {missing}"
    for decision in plan.decisions:
        if not decision.choice or len(decision.reason) < 10:
            yield f"{decision.subject} has no reason"
    for nic in plan.nics:
        if len(nic.reason) < 5:
            yield f"{nic.pci} has no reason"


def guests_are_pinned_to_dedicated_cpus_of_their_nodes(host: Host, plan: Plan) -> Iterator[str]:
    cpus = by_id(host)
    core_of = {cpu: core for core in usable_cores(host) for cpu in core}
    owner: dict[CpuSet, int] = {}
    for number, guest in enumerate(plan.guests):
        own = guest.pinned
        if guest.emulator_threads is EmulatorThreads.ISOLATE and guest.emulator != plan.cpus.shared:
            own |= guest.emulator
        if not own <= plan.cpus.dedicated:
            yield f"{guest.name} is pinned to {own - plan.cpus.dedicated}, outside of the dedicated pool"
        if strangers := [cpu for cpu in own & host.online if cpus[cpu].node not in {*guest.nodes, None}]:
            yield f"{guest.name} is on nodes {guest.nodes} and pinned to {strangers}"
        if len({cpus[cpu].kind for cpu in own & host.online if cpus[cpu].node == guest.nodes[0]}) > 1:
            yield f"{guest.name} mixes P-cores and E-cores"
        if len(usable_cores(host)) < 2:
            continue
        for core in sorted({core_of[cpu] for cpu in own & host.usable}, key=lambda one: one.first):
            if owner.setdefault(core, number) != number:
                yield f"{guest.name} and {plan.guests[owner[core]].name} share core {core}"


def guests_fit_into_the_pages_of_their_nodes(host: Host, plan: Plan) -> Iterator[str]:
    del host
    used: Counter[int] = Counter()
    for guest in plan.guests:
        for node in guest.nodes:
            used[node] += guest.memory_mib // len(guest.nodes) if guest.page_size_mib else 0
    have = {node.node: node.guest_mib for node in plan.memory.nodes}
    for node, mib in used.items():
        if mib > have[node]:
            yield f"guests use {mib} MiB of {have[node]} on node {node}"


def ovs_is_told_the_pmd_cpus_and_no_more_memory_than_planned(host: Host, plan: Plan) -> Iterator[str]:
    del host
    if plan.ovs is None:
        return
    keys = dict(plan.ovs.other_config)
    if CpuSet.parse_mask(keys.get("pmd-cpu-mask", "0")) != plan.cpus.pmd:
        yield f"pmd-cpu-mask {keys.get('pmd-cpu-mask')} is not {plan.cpus.pmd}"
    planned = {node.node: node.ovs_mib for node in plan.memory.nodes}
    for socket, text in enumerate(keys.get("dpdk-socket-mem", "").split(",")):
        if int(text or 0) > planned.get(socket, 0):
            yield f"dpdk-socket-mem {keys['dpdk-socket-mem']} is more than {planned}"


def the_kernel_isolates_what_is_planned(host: Host, plan: Plan) -> Iterator[str]:
    del host
    for arg in plan.kernel_args:
        name, _, value = arg.partition("=")
        cpus = ",".join(part for part in value.split(",") if part[:1].isdigit())
        if name in {"isolcpus", "nohz_full", "rcu_nocbs"} and CpuSet.parse(cpus) != plan.cpus.isolated:
            yield f"{arg} is not {plan.cpus.isolated}"
    if plan.isolation is not Isolation.BOOT and any(arg.startswith("isolcpus=") for arg in plan.kernel_args):
        yield "isolcpus without isolation at boot"


def nova_pins_to_the_dedicated_pool(host: Host, plan: Plan) -> Iterator[str]:
    del host
    if plan.nova is None:
        return
    if not plan.nova.cpu_dedicated_set <= plan.cpus.dedicated:
        yield f"cpu_dedicated_set {plan.nova.cpu_dedicated_set}"
    if not plan.nova.cpu_dedicated_set.isdisjoint(plan.nova.cpu_shared_set):
        yield f"cpu_shared_set {plan.nova.cpu_shared_set} overlaps cpu_dedicated_set"
    if plan.nova.cpu_dedicated_set | plan.nova.cpu_shared_set == EMPTY:
        yield "nova has no CPU at all"


def nova_reserves_no_more_than_there_is(host: Host, plan: Plan) -> Iterator[str]:
    if plan.nova is None:
        return
    stated = [kib for node in host.nodes if (kib := node.stated_kib or node.memory_kib) is not None]
    if stated and (plan.nova.reserved_host_memory_mib or 0) > sum(stated) // 1024:
        yield f"{plan.nova.reserved_host_memory_mib} MiB reserved of {sum(stated) // 1024}"
    pages = {(node.node, one.size_mib): one.count for node in plan.memory.nodes for one in node.pages}
    for one in plan.nova.reserved_huge_pages:
        if one.count > pages.get((one.node, one.size_kib // 1024), 0):
            yield f"{one.count} pages of node {one.node} reserved"


RULES: tuple[Rule, ...] = (
    a_core_is_in_a_pool_with_all_its_threads,
    no_cpu_is_in_two_pools_but_on_small_machines,
    cpu_0_or_the_lowest_usable_one_is_with_the_host,
    pools_hold_only_cpus_that_run_and_are_allowed,
    isolated_are_pmd_dedicated_and_idle_and_never_the_host,
    each_dpdk_nic_is_polled_on_its_node,
    no_e_core_polls_while_guests_have_p_cores_of_its_node,
    something_polls_where_there_are_ports,
    no_node_gives_out_more_memory_than_it_has,
    the_host_keeps_its_floor,
    pages_are_what_ovs_and_guests_get_of_a_size_that_the_machine_has,
    guests_have_memory_only_where_they_have_cpus,
    management_is_never_touched,
    every_nic_has_one_role,
    vfs_are_never_more_than_the_function_can_have,
    settings_of_vfs_are_for_vfs_that_are_made,
    vfio_goes_without_an_iommu_only_where_there_is_none_and_it_is_told,
    power_is_saved_on_isolated_cpus_alone,
    every_decision_has_a_reason,
    guests_are_pinned_to_dedicated_cpus_of_their_nodes,
    guests_fit_into_the_pages_of_their_nodes,
    ovs_is_told_the_pmd_cpus_and_no_more_memory_than_planned,
    the_kernel_isolates_what_is_planned,
    nova_pins_to_the_dedicated_pool,
    nova_reserves_no_more_than_there_is,
)


def broken_rules(host: Host, plan: Plan) -> list[str]:
    """Every broken rule, by name."""
    return [f"{rule.__name__}: {what}" for rule in RULES for what in rule(host, plan)]
