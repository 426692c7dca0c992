"""For each rule of the doctor a machine that has the failure, and one that is like it and has not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from synthetic import host as make_host
from synthetic import nic

from nfvhost.access.ovs_rows import Bridge, Interface, OpenVswitch, Port
from nfvhost.access.process import Thread
from nfvhost.access.vswitchd import RxQueue
from nfvhost.doctor.evidence import (
    ArgumentFile,
    BootFiles,
    CpuSetting,
    Evidence,
    HeldPages,
    Interrupt,
    Keeper,
    MemoryLock,
    NovaSettings,
    PageSetting,
    SwitchProcess,
)
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host, HugepagePool, Iommu, OvsInstall
from nfvhost.model.pci import PciAddress
from nfvhost.model.units import PageSize
from nfvhost.resources.kernel_cmdline.state import BootLine

A, B, VF = (PciAddress.parse(text) for text in ("0000:10:00.0", "0000:10:00.1", "0000:10:02.0"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One failure: what is told of the machine that has it."""

    rule: str
    ill: Evidence
    told: str
    healthy: Evidence
    name: str = ""


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text)


def host(*nics: Any, **facts: Any) -> Host:  # noqa: ANN401 - fields of Nic and of Host
    """Two nodes of four cores with two threads: CPUs 0-3,8-11 and 4-7,12-15."""
    return make_host(nodes=2, threads=2, nics=nics, **facts)


def card(pci: PciAddress = A, **facts: Any) -> Any:  # noqa: ANN401 - fields of Nic
    return nic(str(pci), **facts)


def seen(*nics: Any, drivers: dict[PciAddress, str | None] | None = None, **facts: Any) -> Evidence:  # noqa: ANN401 - as above
    """A machine with these NICs; their drivers, and those of `drivers`, are in sight."""
    bound = {one.pci: one.driver for one in nics} | (drivers or {})
    return Evidence(host=host(*nics, **facts), drivers=tuple(sorted(bound.items())))


def interface(name: str = "p0", kind: str = "dpdk", *, error: str | None = None, **options: str) -> Interface:
    return Interface(
        name=name,
        type=kind,
        options=tuple(sorted((key.replace("_", "-") if key != "srv6_segs" else key, options[key]) for key in options)),
        other_config=(),
        external_ids=(),
        status=(),
        mtu_request=None,
        mtu=None,
        ofport=1,
        error=error,
        link_state=None,
        image=(),
    )


def switch(
    *interfaces: Interface, data_path: str = "netdev", started: bool = True, version: str = "3.1.0", **config: str
) -> OpenVswitch:
    """One bridge with these interfaces."""
    ports = tuple(Port(name=one.name, tag=None, external_ids=(), interfaces=(one,), image=()) for one in interfaces)
    bridge = Bridge(
        name="br0",
        datapath_type=data_path,
        fail_mode=None,
        other_config=(),
        external_ids=(),
        ports=ports,
        holds=(),
        image=(),
    )
    return OpenVswitch(
        other_config=tuple(sorted((key.replace("_", "-"), value) for key, value in config.items())),
        external_ids=(),
        bridges=(bridge,),
        next_cfg=1,
        cur_cfg=1,
        ovs_version=version,
        dpdk_version="DPDK 22.11.1",
        dpdk_initialized=started,
        iface_types=(),
    )


def daemon(
    *threads: tuple[str, str],
    pmds: tuple[tuple[int, str], ...] = (),
    queues: tuple[tuple[str, int], ...] = (),
    segments: tuple[tuple[str, tuple[str, ...]], ...] = (),
) -> SwitchProcess:
    """Threads as (name, CPUs), PMD threads as (core, CPUs), queues as (port, core), segments that are sent."""
    return SwitchProcess(
        pid=42,
        threads=tuple(Thread(tid=50 + at, name=name, cpus=cpus(text)) for at, (name, text) in enumerate(threads)),
        pmd_threads=tuple(
            (core, Thread(tid=90 + at, name=f"pmd-c{core:02}/id:9", cpus=cpus(text)))
            for at, (core, text) in enumerate(pmds)
        ),
        rx_queues=tuple(RxQueue(port=port, queue=at, core=core) for at, (port, core) in enumerate(queues)),
        segments=segments,
    )


def ovs(*interfaces: Interface, process: SwitchProcess | None = None, on: Host | None = None, **keys: Any) -> Evidence:  # noqa: ANN401 - arguments of `switch`
    rows = switch(*interfaces, **keys)
    return Evidence(host=on or host(), database=rows, switch=process or daemon(), ovs_version=rows.ovs_version)


def mask(text: str, **facts: Any) -> Evidence:  # noqa: ANN401 - fields of Host
    """A machine whose PMD threads run on these CPUs."""
    return ovs(pmd_cpu_mask=cpus(text).mask, on=host(**facts))


def nova(dedicated: str | None, shared: str | None = None) -> NovaSettings:
    return NovaSettings(
        path="/etc/nova/nova.conf",
        dedicated=None if dedicated is None else cpus(dedicated),
        shared=None if shared is None else cpus(shared),
    )


def pool(count: int, size: PageSize = PageSize.MIB_2, *, free: int | None = None) -> HugepagePool:
    return HugepagePool(size=size, total=count, free=count if free is None else free, surplus=0)


def pages(*counts: int, size: PageSize = PageSize.MIB_2, args: str = "", **facts: Any) -> Evidence:  # noqa: ANN401 - as above
    """A machine whose nodes have so many pages."""
    one = host(kernel_args=tuple(args.split()), **facts)
    nodes = tuple(replace(node, hugepages=(pool(count, size),)) for node, count in zip(one.nodes, counts, strict=True))
    return Evidence(host=replace(one, nodes=nodes, hugepages=(pool(sum(counts), size),)))


def boot(
    settings: tuple[str, ...] = (), entries: tuple[str, ...] = (), *, active: str, loader: str = "grub"
) -> Evidence:
    """Files of settings and entries with these arguments, and a kernel that was given `active`."""
    return Evidence(
        host=host(kernel_args=tuple(active.split()), boot_loader=loader),
        boot=BootFiles(
            settings=tuple(
                ArgumentFile(path=f"/etc/default/grub.d/{at}.cfg", args=tuple(text.split()))
                for at, text in enumerate(settings)
            ),
            entries=tuple(
                BootLine(where=f"/boot/loader/entries/{at}.conf", arguments=tuple(text.split()))
                for at, text in enumerate(entries)
            ),
        ),
    )


def interrupts(evidence: Evidence, *counts: tuple[int, int]) -> Evidence:
    one = Interrupt(number=45, name="eth0-rx-1", counts=counts, watched_s=1.0)
    return replace(evidence, interrupts=(one,))


def lock(limit_mib: int | None, *, exempt: bool = False, device: str = "/dev/vfio/7") -> Evidence:
    """A process with a device and 4 GiB."""
    kib = None if limit_mib is None else limit_mib * 1024
    one = MemoryLock(pid=7, name="qemu", devices=(device,), limit_kib=kib, exempt=exempt, memory_kib=4 * 1024 * 1024)
    return Evidence(host=host(), locks=(one,))


def held(*files: str, processes: tuple[str, ...] = ()) -> Evidence:
    return Evidence(host=host(), held=(HeldPages(size=PageSize.GIB_1, processes=processes, files=files),))


VFIO = card(driver="vfio-pci", netdevs=(), group_mates=(B,))
OFF = Iommu(enabled=False, groups=())
MLX5: dict[str, Any] = {"vendor": "15b3", "device": "1017"}
REALTEK: dict[str, Any] = {"vendor": "10ec", "device": "8168"}
PF = card(num_vfs=2, vfs=(VF, PciAddress.parse("0000:10:02.1")))
ON_NODE_1 = card(driver="vfio-pci", netdevs=(), node=1)
ISOLATED = {"isolated": cpus("2-3,10-11")}
INSTALLED = OvsInstall(
    version="3.1.0",
    dpdk_version="22.11.1",
    running=True,
    database=None,
    bridges=(),
    other_config=(("pmd-cpu-mask", "0x2"),),
)
HYBRID = {"efficiency": "4-7,12-15"}

CASES = (
    Case(
        rule="group-not-viable",
        ill=seen(VFIO, drivers={B: "i40e"}),
        told="0000:10:00.0 is bound to vfio-pci; of its IOMMU group, the kernel has 0000:10:00.1 (i40e)",
        healthy=seen(VFIO, drivers={B: "vfio-pci"}),
    ),
    Case(
        rule="no-iommu",
        ill=seen(VFIO, iommu=OFF),
        told="0000:10:00.0: bound to vfio-pci, and the kernel has no IOMMU groups",
        healthy=seen(VFIO),
    ),
    Case(
        rule="no-driver",
        ill=seen(card(driver=None), card(B)),
        told="0000:10:00.0 (Ethernet Controller X710 for 10GbE SFP+) has no driver; its kernel driver is i40e",
        healthy=seen(card(), card(B)),
    ),
    Case(
        rule="bifurcated-driver",
        ill=seen(card(driver="vfio-pci", **MLX5)),
        told="0000:10:00.0 (NVIDIA ConnectX-4 and later) is bound to vfio-pci, not to mlx5_core",
        healthy=seen(card(driver="mlx5_core", **MLX5)),
    ),
    Case(
        rule="bifurcated-driver",
        name="a VF for a guest",
        ill=seen(card(driver="vfio-pci", **MLX5)),
        told="vfio-pci",
        healthy=seen(card(driver="vfio-pci", vendor="15b3", device="1018", physfn=B)),
    ),
    Case(
        rule="no-pmd",
        ill=seen(card(driver="vfio-pci", **REALTEK), ovs=INSTALLED),
        told="is bound to vfio-pci; DPDK 22.11.1 has no PMD",
        healthy=seen(card(driver="vfio-pci"), ovs=INSTALLED),
    ),
    Case(
        rule="vfs-short",
        ill=seen(replace(PF, num_vfs=8)),
        told="0000:10:00.0: sriov_numvfs is 8, and 2 VFs are there",
        healthy=seen(PF, card(VF, physfn=A)),
    ),
    Case(
        rule="vf-managed",
        ill=replace(seen(), keepers=(Keeper(netdev="ens16v0", name="NetworkManager"),)),
        told="ens16v0 is a VF, and NetworkManager has set it up",
        healthy=replace(seen(), keepers=()),
    ),
    Case(
        rule="pages-short",
        ill=pages(3, 4, size=PageSize.GIB_1, args="hugepagesz=1G hugepages=8"),
        told="hugepages=8 of 1G at boot; there are 7",
        healthy=pages(4, 4, size=PageSize.GIB_1, args="hugepagesz=1G hugepages=8"),
    ),
    Case(
        rule="pages-short",
        name="by node",
        ill=pages(5, 3, args="hugepages=0:4,1:4"),
        told="hugepages=1:4 of 2M at boot; node 1 has 3",
        healthy=pages(4, 4, args="hugepages=0:4,1:4"),
    ),
    Case(
        rule="pages-short",
        name="a CPU without them",
        ill=pages(0, 0, args="hugepagesz=1G hugepages=8", flags=("pse",)),
        told="this CPU has none",
        # A capture that shows the pool of the default size alone says nothing of the other.
        healthy=pages(0, 0, args="hugepagesz=1G hugepages=8"),
    ),
    Case(
        rule="pages-short",
        name="of sysctl.d",
        ill=replace(pages(100, 100), page_setting=PageSetting(path="/etc/sysctl.d/80-pages.conf", count=512)),
        told="/etc/sysctl.d/80-pages.conf: vm.nr_hugepages = 512; there are 200 of 2M",
        healthy=replace(pages(256, 256), page_setting=PageSetting(path="/etc/sysctl.d/80-pages.conf", count=512)),
    ),
    Case(
        rule="pages-missing-on-node",
        ill=replace(pages(512, 0), database=switch(dpdk_init="true", dpdk_socket_mem="1024,1024")),
        told="dpdk-socket-mem asks 1024 MiB of node 1; its pages are 0 MiB",
        healthy=replace(pages(512, 512), database=switch(dpdk_init="true", dpdk_socket_mem="1024,1024")),
    ),
    Case(
        rule="pages-missing-on-node",
        name="beside a port",
        ill=replace(pages(512, 0), host=replace(pages(512, 0).host, nics=(ON_NODE_1,))),
        told="node 1 has no hugepages, other nodes have; of node 1 are 0000:10:00.0",
        healthy=replace(pages(512, 2), host=replace(pages(512, 2).host, nics=(ON_NODE_1,))),
    ),
    Case(
        rule="pages-starve-host",
        ill=pages(31, 32, size=PageSize.GIB_1),
        told="64512 of 65536 MiB are hugepages; the host keeps 1024 MiB, less than 2048",
        healthy=pages(28, 31, size=PageSize.GIB_1),
    ),
    Case(
        rule="pages-leaked",
        ill=held("/dev/hugepages/rtemap_0"),
        told="pages of 1G are used, no process has one mapped, and there are /dev/hugepages/rtemap_0",
        healthy=held("/dev/hugepages/rtemap_0", processes=("ovs-vswitchd (pid 42): 1",)),
    ),
    Case(
        rule="node-without-memory",
        ill=seen(ON_NODE_1, node_mib=[32768, 0]),
        told="0000:10:00.0 is of node 1, which has no memory",
        healthy=seen(ON_NODE_1),
    ),
    Case(
        rule="socket-mem",
        ill=ovs(dpdk_socket_mem=",".join(["64"] * 33)),
        told="dpdk-socket-mem has 33 numbers; DPDK's builds here know 32 nodes",
        healthy=ovs(dpdk_socket_mem="1024,1024"),
    ),
    Case(
        rule="socket-mem",
        name="no number",
        ill=ovs(dpdk_socket_mem="1024M,1024"),
        told="'1024M' is no number of MiB",
        healthy=ovs(),
    ),
    Case(
        rule="memory-lock",
        ill=lock(64),
        told="qemu (pid 7) has /dev/vfio/7 open and 4096 MiB; it may lock 64 MiB",
        healthy=lock(64, exempt=True),
    ),
    Case(
        rule="memory-lock",
        name="vDPA asks for the limit of root as well",
        ill=lock(64, exempt=True, device="/dev/vhost-vdpa-0"),
        told="/dev/vhost-vdpa-0",
        healthy=lock(None, device="/dev/vhost-vdpa-0"),
    ),
    Case(
        rule="boot-arguments-overridden",
        ill=boot(("quiet isolcpus=2-5", "quiet"), active="quiet"),
        told="/etc/default/grub.d/1.cfg drops isolcpus=2-5, which the files before it set",
        healthy=boot(("quiet", "quiet isolcpus=2-5"), active="quiet"),
    ),
    Case(
        rule="boot-arguments-inactive",
        ill=boot(("quiet isolcpus=2-5",), ("quiet",), active="quiet", loader="bls"),
        told="/etc/default/grub.d/0.cfg leads to isolcpus=2-5; neither boot entries nor the running kernel have them",
        healthy=boot(("quiet isolcpus=2-5",), ("quiet isolcpus=2-5",), active="quiet isolcpus=2-5", loader="bls"),
    ),
    Case(
        rule="boot-arguments-inactive",
        name="before the reboot",
        ill=boot((), ("quiet iommu=pt",), active="quiet"),
        told="the boot menu has iommu=pt; the running kernel has not got them",
        healthy=boot((), ("quiet iommu=pt",), active="iommu=pt"),
    ),
    Case(
        rule="boot-arguments-lost",
        ill=boot((), ("quiet iommu=pt", "quiet"), active="quiet iommu=pt"),
        told="/boot/loader/entries/1.conf has no iommu=pt, which the running kernel was given",
        healthy=boot((), ("iommu=pt", "iommu=pt"), active="quiet iommu=pt"),
    ),
    Case(
        rule="isolation-not-obeyed",
        ill=Evidence(host=host(kernel_args=("isolcpus=2-3", "isolcpus=4-5")), stated_isolated=cpus("2-3")),
        told="isolcpus=2-3 isolcpus=4-5; the kernel isolates 2-3, and not 4-5",
        healthy=Evidence(host=host(kernel_args=("isolcpus=managed_irq,domain,2-3",)), stated_isolated=cpus("2-3")),
    ),
    Case(
        rule="isolation-not-obeyed",
        name="the tick",
        ill=Evidence(host=host(kernel_args=("nohz_full=2-3",)), stated_isolated=cpus(""), nohz_full=cpus("")),
        told="nohz_full=2-3; the kernel stops the tick on none, not on 2-3",
        healthy=Evidence(host=host(kernel_args=("nohz_full=2-3",)), stated_isolated=cpus(""), nohz_full=cpus("2-3")),
    ),
    Case(
        rule="cpu-sets-overlap",
        ill=replace(mask("1,9"), nova=nova("1-7,9-15", "0,8")),
        told="CPUs 1,9: in cpu_dedicated_set of /etc/nova/nova.conf, and of PMD threads",
        healthy=replace(mask("1,9"), nova=nova("2-7,10-15", "0,8")),
    ),
    Case(
        rule="cpu-sets-overlap",
        name="within Nova",
        ill=replace(Evidence(host=host()), nova=nova("2-7", "0-2")),
        told="CPU 2: in both CPU sets",
        healthy=replace(Evidence(host=host()), nova=nova("2-7", "0-1")),
    ),
    Case(
        rule="core-split",
        ill=mask("1"),
        told="CPUs 1 of 1,9 poll; their sibling threads run guests or the host",
        healthy=mask("1,9"),
    ),
    Case(
        rule="core-split",
        name="a sibling at rest",
        ill=replace(mask("2", **ISOLATED), nova=nova("10")),
        told="CPUs 2 of 2,10 poll",
        healthy=mask("2", **ISOLATED),
    ),
    Case(
        rule="core-split",
        name="of Nova",
        ill=replace(Evidence(host=host()), nova=nova("2-7")),
        told="CPUs 2 of 2,10, 3 of 3,11, 4 of 4,12, 5 of 5,13, 6 of 6,14, 7 of 7,15 are for pinned guests",
        healthy=replace(Evidence(host=host()), nova=nova("2-7,10-15")),
    ),
    Case(
        rule="shared-cpus-far",
        ill=replace(Evidence(host=host()), nova=nova("1-7,9-15", "0,8")),
        told="cpu_dedicated_set has CPUs 4-7,12-15 of node 1, and cpu_shared_set, 0,8, none there",
        healthy=replace(Evidence(host=host()), nova=nova("1-3,5-7,9-11,13-15", "0,4,8,12")),
    ),
    Case(
        rule="pmd-not-isolated",
        ill=mask("2-4", **ISOLATED),
        told="CPU 4: of PMD threads and not isolated; CPUs 2-3,10-11 are",
        healthy=mask("2-3", **ISOLATED),
    ),
    Case(
        rule="pmd-not-isolated",
        name="by a cpuset partition",
        ill=replace(mask("2-4"), partitioned=cpus("2-3,10-11")),
        told="CPU 4: of PMD threads and not isolated; CPUs 2-3,10-11 are",
        healthy=replace(mask("2-3"), partitioned=cpus("2-3,10-11")),
    ),
    Case(
        rule="pmd-not-isolated",
        name="where Open vSwitch put them itself",
        ill=ovs(process=daemon(pmds=((0, "0"),)), on=host(**ISOLATED)),
        told="CPU 0: of PMD threads and not isolated",
        healthy=ovs(process=daemon(pmds=((2, "2"),)), on=host(**ISOLATED)),
    ),
    Case(
        rule="pmd-offline",
        ill=mask("2,40"),
        told="CPU 40: in pmd-cpu-mask; online are 0-15",
        healthy=mask("2,10"),
    ),
    Case(
        rule="pmd-offline",
        name="a list in place of a mask",
        ill=ovs(pmd_cpu_mask="2-3"),
        told="pmd-cpu-mask=2-3 is no hexadecimal mask",
        healthy=ovs(pmd_cpu_mask="C"),
    ),
    Case(
        rule="core-kinds-mixed",
        ill=mask("3-4", **HYBRID),
        told="the PMD pool has performance cores 3 and efficiency cores 4",
        healthy=mask("2-3", **HYBRID),
    ),
    Case(
        rule="pmd-repinned",
        ill=ovs(process=daemon(pmds=((2, "0-15"),))),
        told="the PMD thread of CPU 2 (tid 90) may run on CPUs 0-15",
        healthy=ovs(process=daemon(pmds=((2, "2"),))),
    ),
    Case(
        rule="pmd-far-from-port",
        ill=ovs(interface(dpdk_devargs=f"{A},x=1"), process=daemon(queues=(("p0", 2),)), on=host(ON_NODE_1)),
        told="port p0 (0000:10:00.0) is on node 1, and polled by CPU 2 of node 0",
        healthy=ovs(interface(dpdk_devargs=str(A)), process=daemon(queues=(("p0", 4),)), on=host(ON_NODE_1)),
    ),
    Case(
        rule="handler-threads",
        ill=ovs(process=daemon(*[(f"handler{at}", "0-1,8-9") for at in range(9)]), on=host(isolated=cpus("2-7,10-15"))),
        told="9 handler and revalidator threads may use CPUs 0-1,8-9 besides",
        healthy=ovs(
            process=daemon(*[(f"revalidator{at}", "0-1,8-9") for at in range(5)]), on=host(isolated=cpus("2-7,10-15"))
        ),
    ),
    Case(
        rule="interrupts-on-isolated",
        ill=interrupts(Evidence(host=host(**ISOLATED)), (1, 9), (2, 120)),
        told="within 1.0 s on CPU 2: 45 eth0-rx-1 120 times",
        healthy=interrupts(Evidence(host=host(**ISOLATED)), (1, 120)),
    ),
    Case(
        rule="irqbalance-ban-list",
        ill=Evidence(
            host=host(**ISOLATED), irqbalance_banned=CpuSetting(path="/etc/default/irqbalance", cpus=cpus("2"))
        ),
        told="/etc/default/irqbalance bans CPUs 2; isolated or polling, and not banned: CPUs 3,10-11",
        healthy=Evidence(
            host=host(**ISOLATED),
            irqbalance_banned=CpuSetting(path="/etc/default/irqbalance", cpus=cpus("2-3,10-11")),
        ),
    ),
    Case(
        rule="dpdk-not-started",
        ill=ovs(dpdk_init="true", started=False),
        told="dpdk-init=true, and dpdk_initialized is false",
        healthy=ovs(dpdk_init="true"),
    ),
    Case(
        rule="port-error",
        ill=ovs(interface(error="Error attaching device '0000:10:00.0' to DPDK")),
        told="port br0/p0 (dpdk): Error attaching device '0000:10:00.0' to DPDK",
        healthy=ovs(interface()),
    ),
    Case(
        rule="mixed-data-path",
        ill=ovs(interface("eth1", "system"), interface("br0", "internal")),
        told="bridge br0 of the userspace data path: eth1",
        healthy=ovs(interface("eth1", "system"), data_path="system"),
    ),
    Case(
        rule="vhost-server-mode",
        ill=ovs(interface("vhu0", "dpdkvhostuser")),
        told="port br0/vhu0 is of type dpdkvhostuser",
        healthy=ovs(interface("vhu0", "dpdkvhostuserclient")),
    ),
    Case(
        rule="srv6-port",
        ill=ovs(interface("s0", "srv6"), data_path="system", version="3.3.0"),
        told="port br0/s0: its bridge is of the kernel's data path",
        healthy=ovs(interface("s0", "srv6"), version="3.3.0"),
    ),
    Case(
        rule="srv6-port",
        name="segments that are forgotten",
        ill=ovs(interface("s0", "srv6", srv6_segs="fc00::1,fc00::2"), version="3.3.0"),
        told="port br0/s0: 2 segments; Open vSwitch forgets all but the first",
        healthy=ovs(interface("s0", "srv6", srv6_segs="fc00::1"), version="3.3.0"),
    ),
    Case(
        rule="srv6-port",
        name="segments that were forgotten",
        ill=ovs(
            interface("s0", "srv6", srv6_segs="fc00::1,fc00::2"),
            version="3.3.0",
            process=daemon(segments=(("s0", ("fc00::1",)),)),
        ),
        told="port br0/s0: 2 segments, and packets leave with 1",
        healthy=ovs(interface("s0", "srv6", srv6_segs="fc00::1"), version="3.3.0", process=daemon()),
    ),
    Case(
        rule="srv6-port",
        name="too many segments",
        ill=ovs(interface("s0", "srv6", srv6_segs=",".join(["fc00::1"] * 7)), version="3.3.0"),
        told="7 segments; Open vSwitch takes 6",
        healthy=ovs(interface("s0", "srv6"), version="3.3.0"),
    ),
    Case(
        rule="ovs-key-misspelt",
        ill=ovs(pmd_cpu_maks="0x2"),
        told="other_config:pmd-cpu-maks: '0x2' is set",
        healthy=ovs(pmd_cpu_mask="0x2", my_own_key="1"),
    ),
    Case(
        rule="ovs-key-of-another-release",
        ill=ovs(pmd_sleep_max="50", version="2.17.0"),
        told="other_config:pmd-sleep-max=50: Open vSwitch 2.17.0 runs, and pmd-sleep-max came with",
        healthy=ovs(pmd_sleep_max="50", version="3.2.0"),
    ),
    Case(
        rule="ovs-key-of-another-release",
        name="an option",
        ill=ovs(interface(rx_steering="rss+lacp"), version="3.1.0"),
        told="port br0/p0: Open vSwitch 3.1.0 has no option rx-steering",
        healthy=ovs(interface(rx_steering="rss+lacp"), version="3.2.0"),
    ),
    Case(
        rule="confined",
        ill=seen(allowed="0-3"),
        told="the control group allows CPUs 0-3; online are 4-15 as well",
        healthy=seen(),
    ),
)

# As a capture states it, without the database.
CAPTURED = Evidence(host=host(ovs=INSTALLED))
