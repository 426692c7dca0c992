"""Machines made by hand: packages of nodes of cache groups of cores of threads, numbered as Linux numbers x86."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import (
    Cpu,
    CpuKind,
    CpuModel,
    Host,
    HugepagePool,
    Iommu,
    IommuGroup,
    Netdev,
    Nic,
    NumaNode,
    Vdpa,
)
from nfvhost.model.pci import PciAddress
from nfvhost.model.units import PageSize


def nic(pci: str, **facts: Any) -> Nic:  # noqa: ANN401 - fields of Nic
    """An X710 with a 10 Gb/s link on node 0; `facts` are fields of Nic."""
    address = PciAddress.parse(pci)
    known: dict[str, Any] = {
        "pci": address,
        "vendor": "8086",
        "device": "1572",
        "class_code": "020000",
        "vendor_name": "Intel Corporation",
        "device_name": "Ethernet Controller X710 for 10GbE SFP+",
        "driver": "i40e",
        "netdevs": (f"ens{address.bus}f{address.function}",),
        "mac": None,
        "speed_mbps": 10_000,
        "node": 0,
        "iommu_group": address.bus * 8 + address.function,
        "group_mates": (),
        "total_vfs": 64,
        "num_vfs": 0,
        "vfs": (),
        "physfn": None,
        "management": None,
    }
    return Nic(**(known | facts))


def host(  # noqa: PLR0913 - a machine has this many dimensions
    *,
    packages: int = 1,
    nodes: int = 1,
    groups: int = 1,
    cores: int = 4,
    threads: int = 1,
    node_mib: int | Sequence[int | None] | None = 32_768,
    nics: Sequence[Nic] = (),
    offline: str = "",
    allowed: str | None = None,
    efficiency: str = "",
    flags: Sequence[str] = ("pse", "pdpe1gb", "vmx"),
    pages: Sequence[int] = (2, 1024),
    **facts: Any,  # noqa: ANN401 - fields of Host
) -> Host:
    """`packages` x `nodes` a package x `groups` of L3 a node x `cores` a group x `threads` a core.

    The second threads are numbered after all first ones, as Linux does on x86. `facts` are fields of Host.
    """
    count = packages * nodes * groups * cores
    dark, slow = CpuSet.parse(offline), CpuSet.parse(efficiency)
    every = range(count * threads)
    made = []
    for number in every:
        core = number % count
        group, node = core // cores, core // (cores * groups)
        online = number not in dark
        siblings = CpuSet(core + count * thread for thread in range(threads)) - dark
        l3 = CpuSet(cpu for cpu in every if cpu % count // cores == group) - dark
        kind = None if not slow else CpuKind.EFFICIENCY if number in slow else CpuKind.PERFORMANCE
        made.append(
            Cpu(
                id=number,
                online=online,
                package=node // nodes if online else None,
                die=0 if online else None,
                cluster=None,
                core=core if online else None,
                node=node if online else None,
                thread_siblings=siblings if online else EMPTY,
                l2=siblings if online else None,
                l3=l3 if online else None,
                kind=kind,
            )
        )
    totals = [node_mib] * (packages * nodes) if isinstance(node_mib, int | None) else list(node_mib)
    pools = tuple(HugepagePool(size=PageSize(size * 1024), total=0, free=0, surplus=0) for size in sorted(pages))
    numa = tuple(
        NumaNode(
            id=node,
            cpus=CpuSet(cpu.id for cpu in made if cpu.node == node),
            memory_kib=None if total is None else total * 1024,
            free_kib=None,
            distances=tuple(10 if node == other else 21 for other in range(len(totals))),
            hugepages=pools,
        )
        for node, total in enumerate(totals)
    )
    online_cpus = CpuSet(cpu.id for cpu in made if cpu.online)
    known = [total for total in totals if total is not None]
    by_default: dict[str, Any] = {
        "model": CpuModel(architecture="x86_64", vendor="Test", name="Test CPU", flags=frozenset(flags)),
        "cpus": tuple(made),
        "allowed": online_cpus if allowed is None else CpuSet.parse(allowed),
        "isolated": EMPTY,
        "nodes": numa,
        "memory_kib": sum(known) * 1024 if known else None,
        "available_kib": None,
        "hugepages": pools,
        "nics": tuple(nics),
        "netdevs": tuple(
            Netdev(
                name=name,
                pci=one.pci,
                kind="physical",
                mac=None,
                speed_mbps=one.speed_mbps,
                mtu=1500,
                operstate="up",
                driver=one.driver,
                lowers=(),
                addresses=(),
                management=one.management,
            )
            for one in nics
            for name in one.netdevs
        ),
        "iommu": Iommu(
            enabled=True,
            groups=tuple(IommuGroup(id=one.iommu_group, devices=(one.pci,)) for one in nics if one.iommu_group),
        ),
        "vdpa": Vdpa(management_devices=None, devices=()),
        "kernel_version": "6.8.0",
        "kernel_args": (),
        "boot_loader": "grub",
        "init": "systemd",
        "distribution": None,
        "virtualization": None,
        "container": None,
        "ovs": None,
    }
    return Host(**(by_default | facts))
