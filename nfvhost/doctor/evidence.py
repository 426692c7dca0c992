"""What the rules look at: the facts of a Host, and what a running machine adds.

None means that nobody could look; an empty tuple that there was nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost.access.ovs_rows import Interface, OpenVswitch, Pairs
from nfvhost.access.process import Thread
from nfvhost.access.vswitchd import RxQueue
from nfvhost.drivers import USERSPACE_DRIVERS
from nfvhost.inspect.pci import parse_address
from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import Host, Nic
from nfvhost.model.pci import PciAddress
from nfvhost.model.units import PageSize
from nfvhost.resources.kernel_cmdline.state import BootLine

# Where HPAGE_SHIFT is the same on every kernel of the architecture (arch/x86/include/asm/page_types.h).
_DEFAULT_PAGES: Final = {"x86_64": PageSize.MIB_2}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentFile:
    """A file of boot arguments, and all arguments that hold once it has been read after those before it."""

    path: str
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFiles:
    """What the next boot is to be told."""

    settings: tuple[ArgumentFile, ...]  # /etc/default/grub and /etc/default/grub.d/*.cfg, in order of reading
    entries: tuple[BootLine, ...]  # of the boot loader; those for rescue are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class NovaSettings:
    """CPU sets of nova-compute: [compute] of nova.conf; None where they are not set."""

    path: str  # the files whose word counts
    dedicated: CpuSet | None  # cpu_dedicated_set; vcpu_pin_set of old releases
    shared: CpuSet | None  # cpu_shared_set


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchProcess:
    """The running ovs-vswitchd."""

    pid: int
    threads: tuple[Thread, ...]
    pmd_threads: tuple[tuple[int, Thread], ...]  # the core that OVS made it for
    rx_queues: tuple[RxQueue, ...]
    segments: tuple[tuple[str, tuple[str, ...]], ...] = ()  # what SRv6 ports that have several really send, by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """One interrupt that came in while we watched."""

    number: int
    name: str  # as /proc/interrupts calls its users
    counts: tuple[tuple[int, int], ...]  # CPU -> how often, where it came in at all
    watched_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLock:
    """A process that pins memory for devices, and how much it may."""

    pid: int
    name: str
    devices: tuple[str, ...]  # /dev/vfio/…, /dev/vhost-vdpa-…
    limit_kib: int | None  # RLIMIT_MEMLOCK; None: as much as it wants
    exempt: bool  # it has CAP_IPC_LOCK
    memory_kib: int  # VmRSS and HugetlbPages


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPages:
    """Who has pages of one size."""

    size: PageSize
    processes: tuple[str, ...]
    files: tuple[str, ...]  # on hugetlbfs, open or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """A network manager that has set up an interface."""

    netdev: str
    name: str  # NetworkManager, systemd-networkd


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSetting:
    """CPUs that a file names."""

    path: str
    cpus: CpuSet


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSetting:
    """Pages of the default size that a file asks for: vm.nr_hugepages."""

    path: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that the rules know of one machine."""

    host: Host
    drivers: tuple[tuple[PciAddress, str | None], ...] = ()  # of all PCI functions
    stated_isolated: CpuSet | None = None  # /sys/devices/system/cpu/isolated, not worked out from arguments
    partitioned: CpuSet | None = None  # /sys/fs/cgroup/cpuset.cpus.isolated, since Linux 6.7
    nohz_full: CpuSet | None = None  # /sys/devices/system/cpu/nohz_full
    boot: BootFiles | None = None
    page_setting: PageSetting | None = None
    irqbalance_banned: CpuSetting | None = None  # IRQBALANCE_BANNED_CPULIST or _CPUS
    nova: NovaSettings | None = None
    database: OpenVswitch | None = None
    switch: SwitchProcess | None = None
    ovs_version: str | None = None  # of the running or installed one
    interrupts: tuple[Interrupt, ...] | None = None
    locks: tuple[MemoryLock, ...] | None = None
    held: tuple[HeldPages, ...] | None = None
    keepers: tuple[Keeper, ...] | None = None

    @property
    def other_config(self) -> Pairs | None:
        """Open_vSwitch.other_config, of the database or as the capture states it."""
        if self.database is not None:
            return self.database.other_config
        return self.host.ovs.other_config if self.host.ovs is not None else None

    @property
    def pmd_mask(self) -> CpuSet | None:
        """The CPUs of pmd-cpu-mask; None where it is not set, or is no mask."""
        text = dict(self.other_config or ()).get("pmd-cpu-mask")
        try:
            return (CpuSet.parse_mask(text) or None) if text is not None else None
        except ValueError:
            return None

    @property
    def pmd_cpus(self) -> CpuSet | None:
        """The CPUs that poll: those of the mask; without one, where Open vSwitch has put its PMD threads itself."""
        cores = CpuSet(core for core, _ in self.switch.pmd_threads) if self.switch is not None else EMPTY
        return self.pmd_mask or cores or None

    @property
    def unscheduled(self) -> CpuSet:
        """The CPUs that the scheduler gives no task by itself: by isolcpus, or by an isolated cpuset partition."""
        return (self.host.isolated | (self.partitioned or EMPTY)) & self.host.online

    @property
    def isolated(self) -> CpuSet:
        """The CPUs that are kept for one task each: isolated from the scheduler, or without its tick."""
        return (self.unscheduled | (self.nohz_full or EMPTY)) & self.host.online

    def driver(self, pci: PciAddress) -> str | None:
        """The driver that is bound to a function; None where none is."""
        return next((driver for address, driver in self.drivers if address == pci), None)

    def args(self, name: str) -> tuple[str, ...]:
        """The values of an argument of the running kernel, in their order."""
        pairs = (arg.partition("=") for arg in self.host.kernel_args or ())
        return tuple(value for key, _, value in pairs if key == name)


def interfaces(database: OpenVswitch) -> tuple[tuple[str, Interface], ...]:
    """Each interface of each bridge, with the bridge's name."""
    return tuple(
        (bridge.name, interface)
        for bridge in database.bridges
        for port in bridge.ports
        for interface in port.interfaces
    )


def ovs_nics(evidence: Evidence) -> tuple[tuple[str, Nic], ...]:
    """The NICs that Open vSwitch drives by DPDK, each with its interface there; nothing where its rows are unseen."""
    found = []
    for _, interface in interfaces(evidence.database) if evidence.database is not None else ():
        address = parse_address(dict(interface.options).get("dpdk-devargs", "").partition(",")[0])
        nic = evidence.host.nic(address) if address is not None else None
        if nic is not None:
            found.append((interface.name, nic))
    return tuple(found)


def user_space_nics(evidence: Evidence) -> tuple[Nic, ...]:
    """The ports whose driver hands them to user space: no VFs, which are for guests."""
    return tuple(nic for nic in evidence.host.nics if nic.driver in USERSPACE_DRIVERS and nic.physfn is None)


def page_counts(evidence: Evidence) -> tuple[tuple[PageSize, int | None, int], ...]:
    """(size, node or None, count) of each `hugepages=` of the running kernel.

    A count whose size is the kernel's default is left out where that is not known.
    Source: Documentation/admin-guide/kernel-parameters.rst.
    """
    size = _page_size(next(iter(evidence.args("default_hugepagesz")[-1:]), None)) or _DEFAULT_PAGES.get(
        evidence.host.model.architecture
    )
    found: list[tuple[PageSize, int | None, int]] = []
    for arg in evidence.host.kernel_args or ():
        name, _, value = arg.partition("=")
        if name == "hugepagesz":
            size = _page_size(value)
        elif name == "hugepages" and size is not None:
            for part in value.split(","):
                node, colon, count = part.rpartition(":")
                if count.isdecimal() and (not colon or node.isdecimal()):
                    found.append((size, int(node) if colon else None, int(count)))
    return tuple(found)


def _page_size(text: str | None) -> PageSize | None:
    try:
        return PageSize.parse(text) if text is not None else None
    except ValueError:
        return None
