"""`verify` and a second `apply` against `inspect` of the same host: 64 VFs, 16 DPDK ports. Needs root.

    PYTHONPATH=tests/support .venv/bin/python benchmarks/verify_speed.py [ROUNDS]

The host is a tree of 80 CPUs on 2 nodes, 300 PCI functions, 300 interrupts, 800 processes and 700 packages, whose port
has 64 VFs with address and VLAN on vfio-pci, and a real Open vSwitch in a sandbox with 16 ports of net_null. A profile
is planned for it, applied once, and then read by each in turns. An apply must find nothing to do and write nothing.

Of the order of an apply all resources take part. The tree is as it is behind the reboot that the plan asks for: with
the kernel's arguments, and interrupts where irqaffinity= puts them. What is not there to be read costs nothing here:
tunnels, vDPA devices and a partition are not planned, irqbalance is not installed. The kernel's answers by netlink are
those of tests/support/sriov_kernel.py, out of files. An inspection of a tree asks nothing; what it asks of a live host,
Open vSwitch, udev and sessions, is asked of this machine. The CPU of the programs that they start counts as theirs.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cpu_kernel
import machines
import package_programs
import programs
import sriov_kernel
import unit_programs
from cases import GRUB, RDO, RELEASE, SYSTEMD, pools
from routed_root import RoutedRoot
from scratch import ScratchMachine, ScratchRoot

from nfvhost import engine, sandbox
from nfvhost.access.cpulist import grouped_mask
from nfvhost.access.machine import Machine
from nfvhost.access.ovsdb import Ovsdb
from nfvhost.access.root import DirectoryRoot
from nfvhost.inspect import inspect_host
from nfvhost.inspect.live import live_facts
from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import OvsPlan, Plan
from nfvhost.model.profile import (
    CpuGovernor,
    MemoryWish,
    NicWish,
    OvsWish,
    PageChoice,
    PowerWish,
    Profile,
    Role,
    VirtualPort,
)
from nfvhost.planner import make_plan
from nfvhost.resources.order import ORDER

AT_MOST: Final = 2.0
CPUS: Final = 80
NODES: Final = 2
FUNCTIONS: Final = 300
INTERRUPTS: Final = 300
PROCESSES: Final = 800
PACKAGES: Final = 700
VFS: Final = 64
PORTS: Final = 16
PORT: Final = PciAddress.parse(sriov_kernel.X710)
PMD_CPU: Final = max(os.sched_getaffinity(0))
KERNEL: Final = DirectoryRoot("/")
# The system's switch, as far as its packages look at it.
SWITCH: Final = {
    "/run/openvswitch/ovs-vswitchd.pid": "4711\n",
    "/proc/4711/comm": "ovs-vswitchd\n",
    "/var/lib/dpkg/alternatives/ovs-vswitchd": f"manual\n{package_programs.DPDK}\n",
}
UNIT: Final = "openvswitch-switch.service"
LINKS: Final = {
    "etc/alternatives/ovs-vswitchd": package_programs.DPDK,
    "proc/4711/exe": package_programs.DPDK,
    f"etc/systemd/system/multi-user.target.wants/{UNIT}": f"/lib/systemd/system/{UNIT}",
}
PROFILE: Final = Profile(
    name="benchmark",
    memory=MemoryWish(page_size=PageChoice.MIB_2, guest_mib=8192),
    nics=(
        NicWish(
            pci=PORT,
            role=Role.SRIOV,
            vfs=VFS,
            physnet="physnet2",
            vlan=100,
            trusted=True,
            vf_macs=tuple(f"52:54:00:21:00:{number:02x}" for number in range(VFS)),
        ),
        NicWish(role=Role.UNUSED),
    ),
    ovs=OvsWish(
        no_pci=True,
        rx_queues=1,
        virtual_ports=tuple(
            VirtualPort(name=f"dpdk{number}", devargs=f"net_null{number}", bridge="br-phy") for number in range(PORTS)
        ),
    ),
    power=PowerWish(governor=CpuGovernor.PERFORMANCE, max_idle_latency_us=10),
)


class HostRoot(RoutedRoot):
    """The tree, with the process of the real switch and the folder of its sockets, as this machine has them."""

    def __init__(self, tree: ScratchRoot, switch: sandbox.Sandbox) -> None:
        self._tree = tree
        self._real = (f"/proc/{switch.switch_pid}/", "/proc/self/ns/", switch.run_dir)

    def root_of(self, path: str) -> DirectoryRoot:
        return KERNEL if path.startswith(self._real) else self._tree

    @property
    def live(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The host, its plan, and the doors to it."""

    scratch: ScratchMachine
    machine: Machine
    host: Host
    plan: Plan

    def writes(self) -> tuple[int, int, int]:
        """What was written until now: to the tree, by commands, to the database."""
        with Ovsdb(self.machine.ovsdb_address) as database:
            return len(self.scratch.kernel.calls), len(self.scratch.commands()), database.read().next_cfg


def main(rounds: int) -> int:
    """The exit code: 1 where one of them takes more than so many times the CPU of an inspection."""
    switch = sandbox.up(name=f"bench{os.getpid()}", memory_mib=1024)
    try:
        with tempfile.TemporaryDirectory() as work:
            return measure(applied(Path(work), switch), rounds)
    finally:
        sandbox.down(switch.name)


def measure(bench: Bench, rounds: int) -> int:
    """The exit code, after as many rounds, each of all in turn."""
    plan, machine = bench.plan, bench.machine

    def inspect() -> None:
        assert inspect_host(machine.root).nics
        assert live_facts(KERNEL).architecture

    def verify() -> None:
        assert engine.verify(plan, machine, bench.host, resources=ORDER) == ()

    def apply() -> None:
        assert engine.apply(plan, machine, bench.host, resources=ORDER).results == ()

    before = bench.writes()
    # The first one of each pays for imports and for files that are not yet in memory.
    took: dict[Callable[[], None], list[tuple[float, float]]] = {inspect: [], verify: [], apply: []}
    for _ in range(rounds + 1):
        for verb, times in took.items():
            wall, busy = time.perf_counter(), cpu_s()
            verb()
            times.append((time.perf_counter() - wall, cpu_s() - busy))
    assert bench.writes() == before
    exit_code = 0
    inspected = took.pop(inspect)[1:]
    print(f"inspect {median_ms(inspected, 0)}, {median_ms(inspected, 1)} of CPU; load {os.getloadavg()[0]:.1f}")
    for verb, times in took.items():
        wall, busy = (
            statistics.median(one[clock] / base[clock] for one, base in zip(times[1:], inspected, strict=True))
            for clock in (0, 1)
        )
        print(
            f"{verb.__name__} {median_ms(times[1:], 0)}, {median_ms(times[1:], 1)} of CPU: {wall:.2f} times, "
            f"{busy:.2f} times of CPU, medians of {rounds} rounds (wanted: at most {AT_MOST:g})"
        )
        exit_code |= busy > AT_MOST
    return exit_code


def cpu_s() -> float:
    """The CPU time of this process and of those that it has waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def median_ms(times: list[tuple[float, float]], clock: int) -> str:
    """`12.3 ms`."""
    return f"{statistics.median(one[clock] for one in times) * 1000:.1f} ms"


def applied(work: Path, switch: sandbox.Sandbox) -> Bench:
    """The host, once the plan is applied."""
    scratch = made(work)
    machine = scratch.machine()
    assert isinstance(machine.root, ScratchRoot)
    root = HostRoot(machine.root, switch)
    machine = replace(machine, root=root, ovsdb=switch.ovsdb)
    host = inspect_host(root)
    plan = make_plan(host, PROFILE)
    assert plan.ovs is not None
    plan = replace(plan, ovs=for_this_machine(plan.ovs))
    boot(scratch, plan)
    report = engine.apply(plan, machine, host, resources=ORDER)
    assert report.results
    assert not report.pending, report.pending
    changed = sorted({result.change.resource for result in report.results})
    print(f"{len(report.results)} changes by the first apply, of {', '.join(changed)}")
    return Bench(scratch=scratch, machine=machine, host=host, plan=plan)


def for_this_machine(ovs: OvsPlan) -> OvsPlan:
    """The same with threads on a CPU that this machine has, and the memory of its sandbox."""
    keys = {name: value for name, value in ovs.other_config if name not in {"dpdk-lcore-mask", "dpdk-socket-mem"}}
    return replace(ovs, other_config=tuple(sorted({**keys, "pmd-cpu-mask": f"{1 << PMD_CPU:#x}"}.items())))


def made(work: Path) -> ScratchMachine:
    """The host as it is after its installation, but for its switch."""
    scratch = ScratchMachine(work)
    scratch.make(
        {
            **GRUB,
            **RDO,
            **SYSTEMD,
            **SWITCH,
            "/etc/os-release": "ID=debian\nVERSION_ID=12\n",
            "/dev/hugepages/": "",
            "/usr/lib/systemd/systemd-udevd": "",
            "/usr/lib/systemd/systemd-networkd": "",
            "/run/udev/control": "",
            "/run/systemd/netif/state": "OPER_STATE=routable\n",
            package_programs.STATUS: dpkg_status(),
            f"/lib/modules/{RELEASE}/modules.dep": "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\n",
            f"/lib/modules/{RELEASE}/modules.builtin": "kernel/drivers/vfio/vfio.ko\n",
        },
        {
            "modprobe": programs.MODPROBE,
            "systemctl": unit_programs.SYSTEMCTL,
            "update-grub": programs.UPDATE_GRUB,
            **sriov_kernel.PROGRAMS,
        },
    )
    machines.machine(scratch.tree, cpus=CPUS, functions=FUNCTIONS, nodes=NODES)
    sriov_kernel.booted(scratch)
    for path, link in LINKS.items():
        (scratch.tree / path).parent.mkdir(parents=True, exist_ok=True)
        (scratch.tree / path).symlink_to(link)
    for path, text in kernel_files().items():
        scratch.put(path, text)
    scratch.kernel.reactions += [cpu_kernel.clocks, cpu_kernel.idle_states]
    return scratch


def kernel_files() -> dict[str, str]:
    """What its kernel says, besides CPUs and PCI functions."""
    files = {
        "/proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz root=/dev/sda1 ro quiet\n",
        "/proc/modules": "i40e 16384 0 - Live 0x0000000000000000\n",
        "/proc/self/mounts": "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n",
        "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
        "/proc/sys/kernel/random/boot_id": "1\n",
        "/proc/sys/vm/compact_memory": "",
        **cpu_kernel.frequency_files({cpu: str(cpu) for cpu in range(CPUS)}),
        **cpu_kernel.idle_files(f"0-{CPUS - 1}", (("POLL", 0), ("C1", 2), ("C1E", 10), ("C6", 133))),
    }
    for node in range(NODES):
        folder = f"/sys/devices/system/node/node{node}/hugepages"
        files |= {path: text for path, text in pools(node, kb2048=0, kb1048576=0).items() if path.startswith(folder)}
    for pid in range(1, PROCESSES + 1):
        files |= {f"/proc/{pid}/comm": f"kworker/{pid}\n", f"/proc/{pid}/cmdline": "", f"/proc/{pid}/fd/": ""}
    return files


def dpkg_status() -> str:
    """What dpkg has of a server with Open vSwitch and DPDK."""
    libraries = [f"librte-{name}23" for name in ("eal", "bus-pci", "bus-vdev", "mempool-ring", "net-null")]
    names = [*libraries, "openvswitch-switch", "openvswitch-switch-dpdk", *(f"package-{n}" for n in range(PACKAGES))]
    depends = "libc6 (>= 2.34), librte-eal23 (>= 22.11), adduser | systemd-sysusers"
    # Half of a real one is for people.
    told = "".join(
        f" A line of {number} that says what it is for, at the length that such lines have.\n" for number in range(8)
    )
    return "".join(
        f"Package: {name}\nStatus: install ok installed\nPriority: optional\nSection: net\nInstalled-Size: 812\n"
        f"Maintainer: Somebody <somebody@example.org>\nArchitecture: amd64\nVersion: 3.1.0-2\nDepends: {depends}\n"
        f"Description: a package\n{told}Homepage: https://example.org\n\n"
        for name in names
    )


def boot(scratch: ScratchMachine, plan: Plan) -> None:
    """What a boot with the plan's arguments makes."""
    arguments = " ".join(plan.kernel_args)
    scratch.put("/proc/cmdline", f"{scratch.read('/proc/cmdline').strip()} {arguments}\n")
    for name in ("isolated", "nohz_full"):
        scratch.put(f"/sys/devices/system/cpu/{name}", f"{plan.cpus.isolated}\n")
    keepers = (plan.cpus.host | plan.cpus.shared) - plan.cpus.isolated
    scratch.put("/proc/irq/default_smp_affinity", f"{grouped_mask(keepers)}\n")
    for number in range(INTERRUPTS):
        effective = tuple(keepers)[number % len(keepers)]
        for path, text in cpu_kernel.interrupt_files(
            number, f"i40e-TxRx-{number}", str(keepers), effective=str(effective), node=number % NODES
        ).items():
            scratch.put(path, text)
    counts = " ".join(f"{17:>10}" for _ in range(CPUS))
    head = "".join(f"       CPU{cpu}" for cpu in range(CPUS))
    rows = [f"{number:>4}: {counts}  PCI-MSI {number}-edge      i40e-TxRx-{number}" for number in range(INTERRUPTS)]
    scratch.put("/proc/interrupts", "\n".join([head, *rows, ""]))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
