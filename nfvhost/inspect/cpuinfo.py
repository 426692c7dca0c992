"""/proc/cpuinfo, whose shape is each architecture's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nfvhost.access.root import Root
from nfvhost.model.cpuset import MAX_CPUS
from nfvhost.model.host import CpuModel

# "processor : 0" opens a block; "processor 0: version = FF" is s390's. Loongarch says package and core.
_PROCESSOR: Final = re.compile(
    r"^(?:processor[ \t]+(\d{1,10}):|"
    r"(processor|physical id|package|core id|core|apicid)[ \t]*:[ \t]*(\d{1,10})[ \t]*$)",
    re.MULTILINE,
)
_FIELD: Final = re.compile(r"^([^\n:]*?)[ \t]*:[ \t]*([^\n]*?)[ \t]*$", re.MULTILINE)
_POWER: Final = re.compile(r"POWER(\d{1,2})")
# The first POWER whose Linux distributions are little-endian only (Power ISA 2.07).
_LITTLE_ENDIAN_POWER: Final = 8
# arch/arm64/include/asm/cputype.h, ARM_CPU_IMP_*
_ARM_IMPLEMENTERS: Final[Mapping[str, str]] = {
    "0x41": "ARM",
    "0x42": "Broadcom",
    "0x43": "Cavium",
    "0x46": "Fujitsu",
    "0x48": "HiSilicon",
    "0x4e": "NVIDIA",
    "0x50": "APM",
    "0x51": "Qualcomm",
    "0x61": "Apple",
    "0x6d": "Microsoft",
    "0xc0": "Ampere",
}
# Documentation/ABI/testing/sysfs-devices-system-cpu, modalias: what stands behind "cpu:type:".
_MODALIAS: Final = re.compile(r"(?:cpu:type:(\w+)|(x86)cpu:)")
# A 32-bit kernel has the same alias; 64 bits are the likely ones.
_TYPES: Final[Mapping[str, str]] = {"x86": "x86_64", "aarch64": "aarch64", "loongarch": "loongarch64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """One running CPU, as /proc/cpuinfo has it."""

    id: int
    machine: int  # 0; 1, 2… where the same APIC ids come again, as in one system image over several machines
    package: int | None  # physical id
    core: int | None  # core id, within the package


def cpuinfo(root: Root) -> str | None:
    """The file's text; None where there is none."""
    return root.read_text("/proc/cpuinfo")


def processors(text: str) -> tuple[Processor, ...]:
    """The running CPUs in the file's order; empty where it does not name them, as on SPARC.

    A number that no CPU can have is left out.
    """
    blocks: list[tuple[int, dict[str, int]]] = []
    for number, name, value in _PROCESSOR.findall(text):
        if number or name == "processor":
            blocks.append((int(number or value), {}))
        elif blocks:
            blocks[-1][1].setdefault(name, int(value))
    seen: Counter[tuple[int, int]] = Counter()
    found: list[Processor] = []
    for cpu, ids in blocks:
        if cpu >= MAX_CPUS:
            continue
        package = ids.get("physical id", ids.get("package"))
        machine = 0
        if package is not None and "apicid" in ids:
            machine = seen[package, ids["apicid"]]
            seen[package, ids["apicid"]] += 1
        found.append(Processor(id=cpu, machine=machine, package=package, core=ids.get("core id", ids.get("core"))))
    return tuple(found)


def cpu_model(root: Root, text: str | None, *, architecture: str | None) -> CpuModel:
    """The processor's kind; `architecture` is what the machine itself said, where it was asked.

    Of CPUs that differ, the vendor, name and flags are those of the first.
    Source: /proc/cpuinfo, /proc/sys/kernel/arch, /sys/devices/system/cpu/modalias.
    """
    fields = first_fields(text or "")
    implementer = fields.get("CPU implementer")
    vendor = fields.get("vendor_id") or fields.get("vendor")
    if vendor is None and implementer is not None:
        vendor = _ARM_IMPLEMENTERS.get(implementer.lower(), implementer)
    names = ("model name", "Model Name", "cpu", "cpu model", "Processor", "uarch")
    flags = next((fields[key] for key in ("flags", "Features", "features") if key in fields), "")
    return CpuModel(
        architecture=architecture or root.read_line("/proc/sys/kernel/arch") or _architecture(root, fields),
        vendor=vendor or None,
        name=next((fields[key] for key in names if fields.get(key)), None),
        flags=frozenset(flags.replace(",", " ").split()),
    )


def first_fields(text: str) -> dict[str, str]:
    """Each field's first value: those of the first CPU, and of the parts that belong to the whole machine."""
    blocks = text.strip("\n").split("\n\n")
    fields: dict[str, str] = {}
    # The machine's own parts stand before the first CPU (loongarch) or after the last (powerpc; two on 32-bit Arm).
    for block in (*blocks[:2], *blocks[-2:]):
        for name, value in _FIELD.findall(block):
            fields.setdefault(name.strip(), value)
    return fields


def _architecture(root: Root, fields: Mapping[str, str]) -> str:  # noqa: PLR0911 - one answer for each shape
    """What uname -m would say, from the shape of the file; `unknown` where nothing tells."""
    flags = fields.get("flags", fields.get("Features", fields.get("features", ""))).split()
    if "vendor_id" in fields and "flags" in fields:
        # Only 32-bit kernels report fdiv_bug (arch/x86/kernel/cpu/proc.c); their CPUs may have long mode.
        return "x86_64" if "lm" in flags and "fdiv_bug" not in fields else "i686"
    if "CPU implementer" in fields:
        return "aarch64" if "asimd" in flags or "fp" in flags else "armv7l"
    if fields.get("vendor_id", "").startswith("IBM/S390"):
        return "s390x" if "zarch" in flags else "s390"
    if "pvr" in fields.get("revision", ""):
        power = _POWER.search(fields.get("cpu", ""))
        if power is not None:
            return "ppc64le" if int(power[1]) >= _LITTLE_ENDIAN_POWER else "ppc64"
        return "ppc64" if "970" in fields.get("cpu", "") else "ppc"
    if fields.get("isa", "").startswith("rv"):
        return "riscv64" if fields["isa"].startswith("rv64") else "riscv32"
    if "IA-64" in fields.get("arch", ""):
        return "ia64"
    if fields.get("type", "").startswith("sun4"):
        return "sparc64" if fields["type"] in {"sun4u", "sun4v"} else "sparc"
    if "loongarch64" in fields.get("ISA", "") or "Loongson-64bit" in fields.get("CPU Family", ""):
        return "loongarch64"
    alias = _MODALIAS.match(root.read_line("/sys/devices/system/cpu/modalias") or "")
    kind = (alias[1] or alias[2]) if alias else None
    return _TYPES.get(kind or "", "unknown")
