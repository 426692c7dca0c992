"""What the kernel must be told at boot."""

from __future__ import annotations

from typing import Final

from nfvhost.model.host import Host
from nfvhost.model.ovs_keys import release
from nfvhost.model.plan import CpuPools, MemoryPlan, NicPlan
from nfvhost.model.profile import Isolation, Profile
from nfvhost.model.units import PageSize
from nfvhost.planner.no_iommu import goes_without, needs_iommu
from nfvhost.planner.notebook import Notebook

# Documentation/admin-guide/kernel-parameters.rst: hugepages=<node>:<count>,… since 5.16 (mm/hugetlb.c).
_PER_NODE_PAGES: Final = (5, 16)
# isolcpus=managed_irq since 5.6, flags at all since 4.15 (kernel/sched/isolation.c).
_MANAGED_IRQ: Final = (5, 6)
_ISOLCPUS_FLAGS: Final = (4, 15)
# VT-d, on processors of Zhaoxin too; AMD-Vi, on Hygon's too (drivers/iommu).
_VTD: Final = frozenset({"GenuineIntel", "CentaurHauls", "Shanghai", "  Shanghai  "})
_AMD_VI: Final = frozenset({"AuthenticAMD", "HygonGenuine"})
_VFIO: Final = "vfio-pci"


def plan_kernel_args(
    host: Host,
    profile: Profile,
    pools: CpuPools,
    memory: MemoryPlan,
    nics: tuple[NicPlan, ...],
    notes: Notebook,
) -> tuple[str, ...]:
    """The arguments of the kernel's command line, in the order that they are to stand in."""
    args = (
        *_iommu(host, profile, nics, notes),
        *_hugepages(host, memory, notes),
        *_isolation(host, profile, pools, notes),
    )
    if args and host.container is not None:
        notes.warn(f"this is a {host.container} container: the kernel arguments belong to the machine around it")
    return args


def _iommu(host: Host, profile: Profile, nics: tuple[NicPlan, ...], notes: Notebook) -> tuple[str, ...]:
    users = [str(nic.pci) for nic in nics if needs_iommu(host, profile, nic)]
    if not users:
        without = goes_without(host, profile) and any(nic.driver == _VFIO for nic in nics)
        why = "the profile says unsafeNoIommu" if without else "no PCI function is given to user space or guests"
        notes.decide("kernelArgs.iommu", "none", why)
        return ()
    if host.virtualization is not None and host.iommu.enabled is not True:
        notes.decide("kernelArgs.iommu", "none", "this virtual machine has no IOMMU that an argument could turn on")
        return ()
    args, why = _iommu_args(host)
    notes.decide("kernelArgs.iommu", " ".join(args) or "none", f"{why}; needed by {', '.join(users)}")
    return args


def _iommu_args(host: Host) -> tuple[tuple[str, ...], str]:
    architecture, vendor = host.model.architecture, host.model.vendor
    if architecture in {"aarch64", "arm64"}:
        return ("iommu.passthrough=1",), "the SMMU is on by default; the host's own DMA goes past it"
    if architecture == "unknown":
        return (), "the architecture is not known"
    if architecture not in {"x86_64", "i686", "i386"}:
        return (), f"the IOMMU of {architecture} needs no argument"
    if vendor in _AMD_VI:
        return ("iommu=pt",), "AMD-Vi is on by default; the host's own DMA goes past it"
    known = "VT-d is off by default in many kernels" if vendor in _VTD else "the CPU's vendor is not known"
    return ("intel_iommu=on", "iommu=pt"), f"{known}; the host's own DMA goes past the IOMMU"


def _hugepages(host: Host, memory: MemoryPlan, notes: Notebook) -> tuple[str, ...]:
    """Hugepagesz and hugepages for each size that is reserved at boot, the largest first."""
    by_size: dict[int, dict[int, int]] = {}
    for node in memory.nodes:
        for pages in node.pages:
            if pages.at_boot and pages.count:
                by_size.setdefault(pages.size_mib, {})[node.node] = pages.count
    args: list[str] = []
    for size_mib in sorted(by_size, reverse=True):
        counts = by_size[size_mib]
        size = PageSize(size_mib * 1024)
        if not args:
            args.append(f"default_hugepagesz={size}")
        args += [f"hugepagesz={size}", f"hugepages={_page_counts(host, size, counts, notes)}"]
    if args:
        notes.decide(
            "kernelArgs.hugepages",
            " ".join(args),
            "pages of 1 GiB can be had for certain only at boot, before memory is in pieces; applications that ask "
            "for no size get these",
        )
    return tuple(args)


def _page_counts(host: Host, size: PageSize, counts: dict[int, int], notes: Notebook) -> str:
    kernel = release(host.kernel_version or "")
    total = sum(counts.values())
    if len(host.nodes) == 1:
        return str(total)
    if kernel is not None and kernel >= _PER_NODE_PAGES:
        return ",".join(f"{node}:{count}" for node, count in sorted(counts.items()))
    with_memory = [node.id for node in host.nodes if node.memory_kib]
    if len({counts.get(node, 0) for node in with_memory}) > 1:
        which = f"Linux {host.kernel_version}" if kernel is not None else "this kernel, whose version is not known,"
        wanted = ", ".join(f"{count} on node {node}" for node, count in sorted(counts.items()))
        notes.warn(
            f"{which} may take no counts by node (5.16 and later do) and spreads {total} pages of {size} evenly over "
            f"its nodes, where the plan wants {wanted}"
        )
    return str(total)


def _isolation(host: Host, profile: Profile, pools: CpuPools, notes: Notebook) -> tuple[str, ...]:
    if profile.isolation is not Isolation.BOOT or not pools.isolated:
        notes.decide("kernelArgs.isolation", "none", _no_isolation(profile, pools))
        if profile.isolation is Isolation.PARTITION and pools.isolated and not pools.shared - pools.host:
            notes.warn(
                "a cpuset partition takes whole processes, and the threads of Open vSwitch and QEMU that do not poll "
                "have no CPUs of their own: ask for `shared: {cores: 1}`, or for `isolation: boot`"
            )
        return ()
    kernel = release(host.kernel_version or "")
    cpus = str(pools.isolated)
    flags = "managed_irq,domain,"
    if kernel is not None and kernel < _MANAGED_IRQ:
        flags = "domain," if kernel >= _ISOLCPUS_FLAGS else ""
    kernel_text = host.kernel_version
    keepers = pools.host | pools.shared
    notes.decide(
        "kernelArgs.isolcpus",
        f"{flags}{cpus}",
        "no task and no managed interrupt lands there unless it is pinned there"
        if "managed_irq" in flags
        else f"no task lands there unless it is pinned there; managed_irq comes with Linux 5.6, this is {kernel_text}",
    )
    notes.decide("kernelArgs.nohz_full", cpus, "no tick while one task runs there: PMD threads and guests are that one")
    notes.decide("kernelArgs.rcu_nocbs", cpus, "RCU's callbacks run on the host's CPUs")
    notes.decide("kernelArgs.irqaffinity", str(keepers), "other interrupts start on the host's CPUs")
    return (
        f"isolcpus={flags}{cpus}",
        f"nohz_full={cpus}",
        f"rcu_nocbs={cpus}",
        *((f"irqaffinity={keepers}",) if keepers else ()),
    )


def _no_isolation(profile: Profile, pools: CpuPools) -> str:
    if profile.isolation is Isolation.PARTITION:
        return "CPUs are isolated at run time by a cpuset partition, without a reboot"
    if profile.isolation is Isolation.NONE:
        return "the profile asks for no isolation"
    return f"there is no CPU to isolate: the host and the guests share {pools.host.named}"
