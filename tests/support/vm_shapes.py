"""The hardware of the machine under test, as options of QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vm_build import MANAGEMENT_MAC

# Under TCG rep stosb (erms) is very slow; what follows it is not emulated and would only be warned of.
_INTEL: Final = "Haswell-noTSX,+pdpe1gb,-erms,-pcid,-tsc-deadline,-invpcid"
# pxb-pcie gives each node PCI buses of its own, from these numbers on.
_FIRST_BUS: Final = 0x20
_BUSES_PER_NODE: Final = 0x40


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One NIC on a wire of its own, or on one that it shares with others of the same name."""

    model: str  # QEMU's name of the device
    node: int
    mac: str
    wire: int  # a hub's number
    vfs: int = 0  # those of a virtio card; an igb has its own

    @property
    def options(self) -> str:
        """What such a device has besides; virtio behind the IOMMU, as a card is that speaks it."""
        return ",iommu_platform=on,ats=on,disable-legacy=on" if self.model == "virtio-net-pci" else ""

    @property
    def legacy(self) -> bool:
        """Whether it is a PCI device, which needs a bridge below a PCI Express port."""
        return self.model == "rtl8139"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuPlace:
    """Where a CPU is that comes by a device of its own."""

    package: int
    core: int
    thread: int

    @property
    def name(self) -> str:
        """Its name for QEMU."""
        return f"cpu{self.package}-{self.core}-{self.thread}"

    def properties(self) -> dict[str, int]:
        """Its place for QEMU."""
        return {"socket-id": self.package, "core-id": self.core, "thread-id": self.thread, "die-id": 0, "module-id": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One machine."""

    name: str
    smp: str = "8,sockets=2,cores=2,threads=2"
    cpus: int = 8
    nodes: int = 2
    node_mib: int = 4096
    cpu: str = _INTEL
    cpuless_mib: int = 0  # memory of a node more, which has no CPUs
    iommu: str | None = "intel"  # intel, amd
    machine: str = "q35"  # with its properties
    ports: tuple[Port, ...] = ()
    plugged: tuple[CpuPlace, ...] = ()  # CPUs besides the first that -smp names
    host_files: bool = False  # it may read those of the host below, by 9p under the name `host`

    @property
    def cpu_device(self) -> str:
        """QEMU's name of one of its CPUs."""
        return f"{self.cpu.partition(',')[0]}-x86_64-cpu"

    def argv(self) -> list[str]:
        """The options of its CPUs, memory, IOMMU and NICs."""
        words = ["-machine", self.machine, "-cpu", self.cpu, "-smp", self.smp]
        words += ["-m", f"{self.node_mib * self.nodes + self.cpuless_mib}M"]
        for node in range(self.nodes):
            own = self.cpus // self.nodes
            words += ["-object", f"memory-backend-ram,id=m{node},size={self.node_mib}M"]
            words += ["-numa", f"node,nodeid={node},cpus={node * own}-{node * own + own - 1},memdev=m{node}"]
        if self.cpuless_mib:
            words += ["-object", f"memory-backend-ram,id=m{self.nodes},size={self.cpuless_mib}M"]
            words += ["-numa", f"node,nodeid={self.nodes},memdev=m{self.nodes}"]
        for place in self.plugged:
            where = ",".join(f"{name}={number}" for name, number in place.properties().items())
            words += ["-device", f"{self.cpu_device},id={place.name},{where}"]
        every = self.nodes + bool(self.cpuless_mib)
        for one in range(every):
            for other in range(one + 1, every):
                words += ["-numa", f"dist,src={one},dst={other},val=21"]
        if self.iommu == "intel":
            words += ["-device", "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on,aw-bits=48"]
        if self.iommu == "amd":
            words += ["-device", "amd-iommu,intremap=on"]
        words += ["-netdev", "user,id=mg", "-device"]
        words += [f"virtio-net-pci,id=mgmt,netdev=mg,mac={MANAGEMENT_MAC},bus=pcie.0,addr=0x3,romfile="]
        if self.host_files:
            shared = "id=host,path=/,security_model=none,readonly=on,multidevs=remap"
            words += ["-fsdev", f"local,{shared}", "-device"]
            words += ["virtio-9p-pci,fsdev=host,mount_tag=host,bus=pcie.0,addr=0x5"]
        return [*words, *self._nics()]

    def _nics(self) -> Iterator[str]:
        """Each port in a slot of its own, below a root port on its node: an IOMMU group of its own."""
        slots = dict.fromkeys(range(self.nodes), 0)
        for node in sorted({port.node for port in self.ports}):
            bus = _FIRST_BUS + node * _BUSES_PER_NODE
            yield "-device"
            yield f"pxb-pcie,id=pxb{node},bus=pcie.0,addr={8 + node:#x},bus_nr={bus:#x},numa_node={node}"
        for number, port in enumerate(self.ports):
            slot = slots[port.node]
            slots[port.node] += 1
            chassis = 10 + number
            yield "-device"
            yield f"pcie-root-port,id=rp{number},bus=pxb{port.node},chassis={chassis},slot={chassis},addr={slot:#x}"
            place = f"rp{number}"
            if port.legacy:
                yield "-device"
                yield f"pcie-pci-bridge,id=pb{number},bus={place}"
                place = f"pb{number},addr=1"
            # QEMU's docs/system/sriov.rst: each VF is a device of its own, and comes before its PF.
            functions = [f"id=nic{number}v{vf},sriov-pf=nic{number},addr=0x0.{vf:#x}" for vf in range(1, port.vfs + 1)]
            for function, what in enumerate([*functions, f"id=nic{number}"]):
                end = f"h{number}-{function}"
                # A wire's end has one MAC: that of a VF differs in its fourth byte.
                mac = port.mac if what == f"id=nic{number}" else f"52:54:00:{function + 1:02x}:{port.mac[12:]}"
                yield "-netdev"
                yield f"hubport,id={end},hubid={port.wire}"
                yield "-device"
                yield f"{port.model},{what},bus={place},netdev={end},mac={mac},romfile={port.options}"


# Two nodes with SMT; igb - igb and e1000e - vmxnet3 share a wire, so that packets can go from one to the other.
SERVER: Final = Shape(
    name="server",
    host_files=True,
    ports=(
        Port(model="igb", node=0, mac="52:54:00:00:01:01", wire=1),
        Port(model="e1000e", node=0, mac="52:54:00:00:02:01", wire=2),
        Port(model="igb", node=1, mac="52:54:00:00:01:02", wire=1),
        Port(model="vmxnet3", node=1, mac="52:54:00:00:02:02", wire=2),
        Port(model="rtl8139", node=1, mac="52:54:00:00:03:01", wire=3),
        Port(model="virtio-net-pci", node=1, mac="52:54:00:00:04:01", wire=4, vfs=2),
    ),
)
# Of other machines a capture is enough: small, and as quick to boot as they can be.
ONE_NODE: Final = Shape(
    name="one-node",
    smp="4,sockets=1,cores=4,threads=1",
    cpus=4,
    nodes=1,
    node_mib=2048,
    iommu=None,
    ports=(Port(model="e1000e", node=0, mac="52:54:00:00:01:01", wire=1),),
)
TWO_NODES: Final = Shape(
    name="two-nodes-no-smt",
    smp="8,sockets=2,cores=4,threads=1",
    node_mib=2048,
    iommu=None,
    ports=tuple(Port(model="igb", node=one, mac=f"52:54:00:00:01:{one + 1:02x}", wire=1) for one in range(2)),
)
# As QEMU names it; TCG leaves out what it cannot do. Each die has a last-level cache of its own.
_DIE_CACHES: Final = "q35,smp-cache.0.cache=l3,smp-cache.0.topology=die"
_AMD: Final = "EPYC-Rome,+topoext,-erms,-fsrm"
# Of an AMD processor Linux learns its caches by TOPOEXT alone, which TCG has not: this is an Intel. QEMU 11.1.2 fails
# an assertion where such a CPU with dies is asked for CPUID 0x1f: it has none of that number.
CACHE_GROUPS: Final = Shape(
    name="four-caches",
    smp="16,sockets=1,dies=4,cores=2,threads=2",
    cpus=16,
    nodes=1,
    node_mib=4096,
    cpu=f"{_INTEL},level=13",
    machine=_DIE_CACHES,
    ports=tuple(Port(model="igb", node=0, mac=f"52:54:00:00:01:{one:02x}", wire=one) for one in (1, 2)),
)
AMD: Final = Shape(
    name="amd-four-nodes",
    smp="16,sockets=2,dies=2,cores=2,threads=2",
    cpus=16,
    nodes=4,
    node_mib=1024,
    cpu=_AMD,
    machine=_DIE_CACHES,
    iommu="amd",
    ports=tuple(Port(model="igb", node=one * 2, mac=f"52:54:00:00:01:{one + 1:02x}", wire=1) for one in range(2)),
)
# Each port below a bridge of its own takes 4 KiB of the 64 KiB of I/O space: SeaBIOS stops where it runs out.
MANY_NICS: Final = Shape(
    name="many-nics",
    node_mib=2048,
    ports=(
        *(Port(model="igb", node=one % 2, mac=f"52:54:00:00:01:{one:02x}", wire=one) for one in range(6)),
        *(Port(model="e1000e", node=one % 2, mac=f"52:54:00:00:02:{one:02x}", wire=6 + one) for one in range(2)),
        *(Port(model="vmxnet3", node=one % 2, mac=f"52:54:00:00:03:{one:02x}", wire=8 + one) for one in range(2)),
    ),
)
MEMORY_ONLY: Final = Shape(
    name="memory-only-node",
    smp="8,sockets=2,cores=2,threads=2",
    node_mib=2048,
    cpuless_mib=2048,
    ports=(Port(model="igb", node=0, mac="52:54:00:00:01:01", wire=1),),
)
# The CPUs of the second package are devices, so that they can go: that leaves holes in the numbers. (Where TCG runs it,
# Linux takes no CPU that was not there at the boot.)
HOTPLUG: Final = Shape(
    name="holes",
    smp="4,maxcpus=8,sockets=2,cores=2,threads=2",
    node_mib=2048,
    ports=(Port(model="igb", node=1, mac="52:54:00:00:01:01", wire=1),),
    plugged=tuple(CpuPlace(package=1, core=core, thread=thread) for core in range(2) for thread in range(2)),
)
SHAPES: Final = {
    one.name: one for one in (SERVER, ONE_NODE, TWO_NODES, CACHE_GROUPS, AMD, MANY_NICS, MEMORY_ONLY, HOTPLUG)
}
