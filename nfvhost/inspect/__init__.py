"""Root -> Host: one module per kernel area."""

from __future__ import annotations

from dataclasses import replace

from nfvhost.access.lenient import LenientRoot
from nfvhost.access.root import Root
from nfvhost.errors import DocumentError
from nfvhost.inspect import cgroup, cmdline, cpu, cpuinfo, hugepages, memory, numa, platform
from nfvhost.inspect.iommu import iommu
from nfvhost.inspect.live import live_facts
from nfvhost.inspect.netdev import netdevs
from nfvhost.inspect.nic import nics
from nfvhost.inspect.pci import pci_functions
from nfvhost.inspect.vdpa import vdpa
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host


def inspect_host(root: Root) -> Host:
    """Everything that planning needs to know of the machine whose tree this is.

    What the tree does not state, or this user may not read, is None or empty in it, and a warning names the latter.
    Raises DocumentError where it states no CPU: then it is no such tree.
    """
    tree = LenientRoot(root)
    facts = live_facts(tree)
    warnings: list[str] = []
    text = cpuinfo.cpuinfo(tree)
    running = cpuinfo.processors(text) if text else ()
    there = cpu.presence(tree, running, warn=warnings.append)
    if not there.online:
        raise DocumentError(
            "no CPU is to be seen, neither here nor in /proc/cpuinfo",
            where=cpu.SYSTEM,
            hint="name a folder or an archive that holds sys/ and proc/ of a machine",
        )
    meminfo = memory.meminfo(tree)
    pools = hugepages.machine_hugepages(tree, meminfo)
    claims = {node: numa.stated_node_cpus(tree, node) for node in numa.node_ids(tree)}
    nodes = numa.numa_nodes(tree, claims, online=there.online, machine=meminfo)
    args = cmdline.kernel_args(tree)
    isolated = cpu.isolated_cpus(tree)
    if isolated is None:
        isolated = cmdline.isolcpus(args or ())
    fields = meminfo or {}
    if contested := numa.contested_cpus(claims) & there.online:
        warnings.append(f"several NUMA nodes claim CPUs {contested}; each is planned on one of them")
    cpus = cpu.cpus(tree, there, running=running, nodes=numa.cpu_nodes(tree, claims), warn=warnings.append)
    groups = cgroup.cpuset_groups(tree)
    functions = pci_functions(tree)
    remapping = iommu(tree, functions)
    interfaces = netdevs(tree, facts)
    model = cpuinfo.cpu_model(tree, text, architecture=facts.architecture)
    host = Host(
        model=model,
        cpus=cpus,
        allowed=_allowed(cgroup.allowed_cpus(tree, groups, isolated=isolated), there.online, warnings),
        allowed_nodes=cgroup.allowed_nodes(tree, groups),
        isolated=isolated & there.online,
        nodes=nodes
        or (
            numa.single_node(
                cpus=there.online,
                memory_kib=fields.get("MemTotal"),
                free_kib=fields.get("MemFree"),
                hugepages=pools,
            ),
        ),
        memory_kib=fields.get("MemTotal"),
        available_kib=fields.get("MemAvailable"),
        hugepages=pools,
        nics=nics(tree, functions=functions, remapping=remapping, interfaces=interfaces, facts=facts),
        netdevs=interfaces,
        iommu=remapping,
        vdpa=vdpa(tree, facts),
        kernel_version=cmdline.kernel_version(tree),
        kernel_args=args,
        boot_loader=platform.boot_loader(tree),
        init=platform.init(tree),
        distribution=platform.distribution(tree),
        virtualization=platform.virtualization(tree, model),
        container=platform.container(tree, facts),
        ovs=facts.ovs,
    )
    if tree.forbidden:
        warnings.append(f"not readable by this user, so taken as not there: {', '.join(tree.forbidden)}")
    return replace(host, warnings=tuple(warnings))


def _allowed(stated: CpuSet | None, online: CpuSet, warnings: list[str]) -> CpuSet:
    """The online CPUs that the control group states; all of them where it states none of them."""
    if stated is None:
        return online
    if stated.isdisjoint(online):
        warnings.append(f"the control group allows CPUs {stated}, none of which is online; it is ignored")
        return online
    return stated & online
