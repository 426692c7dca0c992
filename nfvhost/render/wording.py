"""Facts in a few words, the same on the screen and in pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import cores

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nfvhost.model.host import Host, HugepagePool, Nic
    from nfvhost.model.plan import Pages, Plan


def counted(number: int, noun: str) -> str:
    """`1 core`, `2 cores`, `1 address`, `2 addresses`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def memory_size(kib: int | None) -> str:
    """`31.3 GiB`, `512 MiB`; `unknown` where the kernel does not say."""
    if kib is None:
        return "unknown"
    gib = kib / (1024 * 1024)
    if gib >= 100:  # noqa: PLR2004 - three digits are enough
        return f"{gib:.0f} GiB"
    return f"{gib:.1f} GiB" if gib >= 1 else f"{kib / 1024:.0f} MiB"


def link_speed(mbps: int | None) -> str:
    """`10G`, `2.5G`, `100M`; empty where the link is down."""
    if not mbps or mbps < 0:
        return ""
    return f"{mbps / 1000:g}G" if mbps >= 1000 else f"{mbps}M"  # noqa: PLR2004 - from 1 Gbit/s on


def device_name(nic: Nic) -> str:
    """Vendor, device and their ids; the ids alone where no database names them."""
    names = [name for name in (nic.vendor_name, nic.device_name) if name]
    return " ".join((*names, f"[{nic.vendor}:{nic.device}]"))


def hugepages(pools: Iterable[HugepagePool]) -> str:
    """`16 x 1G (4 free), 512 x 2M`; a dash where no page is reserved."""
    parts = [
        f"{pool.total} x {pool.size}" + ("" if pool.free is None else f" ({pool.free} free)")
        for pool in sorted(pools, key=lambda pool: -pool.size.kib)
        if pool.total
    ]
    return ", ".join(parts) or "-"


def planned_pages(pages: Iterable[Pages]) -> str:
    """`24 x 1G at boot, 512 x 2M`; a dash where none is planned."""
    parts = [
        f"{one.count} x {f'{one.size_mib // 1024}G' if one.size_mib % 1024 == 0 else f'{one.size_mib}M'}"
        + (" at boot" if one.at_boot else "")
        for one in pages
        if one.count
    ]
    return ", ".join(parts) or "-"


def strided(cpus: Iterable[int]) -> str:
    """The shortest kernel list, with strides (`0-78:2`) where the numbers of a node are spread over all nodes."""
    numbers = sorted(cpus)
    parts: list[str] = []
    while numbers:
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        length = 1
        while length < len(numbers) and numbers[length] - numbers[length - 1] == step:
            length += 1
        if step > 1 and length < 3:  # noqa: PLR2004 - "3,9" says it better than "3-9:6"
            length = 1
        first, last = numbers[0], numbers[length - 1]
        parts.append(str(first) if length == 1 else f"{first}-{last}" + (f":{step}" if step > 1 else ""))
        numbers = numbers[length:]
    return ",".join(parts)


def shape(host: Host) -> str:
    """`1 package · 6 cores · 12 CPUs · 1 node · 31.3 GiB`."""
    packages = {cpu.package for cpu in host.cpus if cpu.online and cpu.package is not None}
    parts = [
        counted(len(packages), "package") if packages else "",
        counted(len(cores(host)), "core"),
        counted(len(host.online), "CPU"),
        counted(len(host.nodes), "NUMA node") if host.nodes else "",
        "" if host.memory_kib is None else memory_size(host.memory_kib),
    ]
    return " · ".join(filter(None, parts))


def platform(host: Host) -> str:
    """`Debian GNU/Linux 12 · Linux 6.1.0-18-amd64 · IOMMU on`."""
    system = host.distribution
    iommu = {True: "IOMMU on", False: "IOMMU off", None: "IOMMU unknown"}[host.iommu.enabled]
    parts = [
        "" if system is None else system.name or " ".join(filter(None, (system.id, system.version_id))),
        f"Linux {host.kernel_version}" if host.kernel_version else "",
        iommu,
        f"{host.virtualization} virtual machine" if host.virtualization else "",
        f"in a {host.container} container" if host.container else "",
    ]
    return " · ".join(filter(None, parts))


def processor(host: Host) -> str:
    """The CPU's name, else its vendor, else its architecture."""
    return " ".join((host.model.name or host.model.vendor or f"{host.model.architecture} machine").split())


def core_count(host: Host, cpus: CpuSet) -> int:
    """How many physical cores the CPUs are on."""
    siblings = {cpu.id: cpu.thread_siblings for cpu in host.cpus}
    return len({siblings.get(cpu) or CpuSet((cpu,)) for cpu in cpus})


def summary(host: Host, plan: Plan) -> str:
    """The plan in a sentence: guests get 4 cores and 24.0 GiB, OVS-DPDK gets 1 core, the host keeps 1 core."""
    guest_kib = sum(node.guest_mib for node in plan.memory.nodes) * 1024
    bridges = plan.ovs.bridges if plan.ovs is not None else ()
    ports = sum(port.type in {"dpdk", "afxdp"} for bridge in bridges for port in bridge.ports)

    def number(cpus: CpuSet) -> str:
        return counted(core_count(host, cpus), "core")

    memory = f" and {memory_size(guest_kib)}" if guest_kib else ""
    work = f" for {counted(ports, 'port')}" if ports else ""
    parts = [
        f"guests get {number(plan.cpus.dedicated)}{memory}",
        f"OVS-DPDK gets {number(plan.cpus.pmd)}{work}" if plan.cpus.pmd else "",
        f"the host keeps {number(plan.cpus.host)}",
    ]
    text = "; ".join(filter(None, parts))
    return f"{text[0].upper()}{text[1:]}."


def offline(host: Host) -> CpuSet:
    """The CPUs that exist and do not run."""
    return CpuSet(cpu.id for cpu in host.cpus if not cpu.online)
