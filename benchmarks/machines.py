"""Synthetic /sys and /proc trees of any size, to see how the cost of a plan grows with the machine."""

from __future__ import annotations

from pathlib import Path

_CPUINFO = """\
processor\t: {cpu}
vendor_id\t: GenuineIntel
model name\t: synthetic
physical id\t: {package}
core id\t\t: {core}
flags\t\t: fpu pdpe1gb

"""


def write(path: Path, text: str) -> None:
    """Write `text` to a file whose directories are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def machine(top: Path, *, cpus: int, functions: int, nodes: int | None = None) -> None:
    """Write a machine: two threads a core, an L3 a node, a node per 64 CPUs, each twentieth PCI function a NIC."""
    system = top / "sys/devices/system"
    write(system / "cpu/online", f"0-{cpus - 1}\n")
    write(system / "cpu/possible", f"0-{cpus - 1}\n")
    write(system / "cpu/present", f"0-{cpus - 1}\n")
    nodes = nodes or max(1, cpus // 64)
    write(system / "node/online", f"0-{nodes - 1}\n" if nodes > 1 else "0\n")
    for node in range(nodes):
        first, last = node * cpus // nodes, (node + 1) * cpus // nodes - 1
        write(system / f"node/node{node}/cpulist", f"{first}-{last}\n")
        write(system / f"node/node{node}/distance", " ".join("10" if n == node else "21" for n in range(nodes)) + "\n")
        write(
            system / f"node/node{node}/meminfo",
            f"Node {node} MemTotal: 67108864 kB\nNode {node} MemFree: 60000000 kB\n",
        )
        for cpu in range(first, last + 1):
            core = cpu // 2
            here = system / f"cpu/cpu{cpu}"
            for name, value in {
                "physical_package_id": node,
                "die_id": 0,
                "core_id": core,
                "thread_siblings_list": f"{core * 2}-{core * 2 + 1}",
                "core_cpus_list": f"{core * 2}-{core * 2 + 1}",
                "package_cpus_list": f"{first}-{last}",
                "core_siblings_list": f"{first}-{last}",
            }.items():
                write(here / "topology" / name, f"{value}\n")
            for index, (level, kind, shared) in enumerate(
                [
                    (1, "Data", f"{core * 2}-{core * 2 + 1}"),
                    (1, "Instruction", f"{core * 2}-{core * 2 + 1}"),
                    (2, "Unified", f"{core * 2}-{core * 2 + 1}"),
                    (3, "Unified", f"{first}-{last}"),
                ]
            ):
                for name, text in {"level": level, "type": kind, "shared_cpu_list": shared}.items():
                    write(here / f"cache/index{index}/{name}", f"{text}\n")
    write(
        top / "proc/cpuinfo",
        "".join(_CPUINFO.format(cpu=cpu, package=cpu * nodes // cpus, core=cpu // 2) for cpu in range(cpus)),
    )
    write(top / "proc/meminfo", f"MemTotal: {67108864 * nodes} kB\nMemFree: {60000000 * nodes} kB\n")
    write(top / "proc/cmdline", "quiet\n")
    links = top / "sys/bus/pci/devices"
    links.mkdir(parents=True)
    for number in range(functions):
        address = f"{number // 65536:04x}:{number // 256 % 256:02x}:{number // 8 % 32:02x}.{number % 8}"
        here = top / "sys/devices/pci0000:00" / address
        nic = number % 20 == 0
        for name, value in {
            "class": "0x020000" if nic else "0x088000",
            "vendor": "0x8086",
            "device": "0x1572" if nic else "0x2021",
            "numa_node": number % nodes,
        }.items():
            write(here / name, f"{value}\n")
        (links / address).symlink_to(f"../../../devices/pci0000:00/{address}")
