"""How a kernel reacts where CPUs are concerned: clocks, idle states, interrupts, cpusets."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nfvhost.model.cpuset import CpuSet

if TYPE_CHECKING:
    from scratch import ScratchMachine

Reaction = Callable[[Path, str, str, str | None], None]

_GOVERNOR: Final = re.compile(r"/sys/devices/system/cpu/cpufreq/policy\d+/scaling_governor")
_GROUP: Final = 8  # digits of 32 bits
_AFFINITY: Final = re.compile(r"/proc/irq/\d+/smp_affinity_list")
_DISABLE: Final = re.compile(r"/sys/devices/system/cpu/cpu\d+/cpuidle/state\d+/disable")


def clocks(tree: Path, path: str, text: str, before: str | None) -> None:
    """As store_scaling_governor of drivers/cpufreq/cpufreq.c: one that is not there is EINVAL."""
    if _GOVERNOR.fullmatch(path) is None:
        return
    place = tree / path.strip("/")
    if text.strip() not in (place.parent / "scaling_available_governors").read_text().split():
        _refuse(place, before, errno.EINVAL)
    place.write_text(f"{text.strip()}\n")


def idle_states(tree: Path, path: str, text: str, before: str | None) -> None:
    """As store_state_disable of drivers/cpuidle/sysfs.c: a number; any but 0 turns the state off."""
    if _DISABLE.fullmatch(path) is None:
        return
    place = tree / path.strip("/")
    if not text.strip().isdecimal():
        _refuse(place, before, errno.EINVAL)
    place.write_text(f"{int(int(text) != 0)}\n")


def interrupts(tree: Path, path: str, text: str, before: str | None) -> None:
    """As write_irq_affinity and default_affinity_write of kernel/irq/proc.c, Linux 6.12, on 8 CPUs.

    A managed one answers EPERM, and its mode says so before. One that comes in where it may go on stays there, else it
    goes to the first (arch/x86/kernel/apic/vector.c, assign_vector_locked).
    """
    place = tree / path.strip("/")
    if path == "/proc/irq/default_smp_affinity":
        if any(len(group) > _GROUP for group in text.split(",")):
            _refuse(place, before, errno.EOVERFLOW)
        place.write_text(f"{int(CpuSet.parse_mask(text).mask, 16):02x}\n")
    if _AFFINITY.fullmatch(path) is None:
        return
    if not place.stat().st_mode & stat.S_IWUSR:
        _refuse(place, before, errno.EPERM)
    cpus = CpuSet.parse(text) & CpuSet(range(8))
    if not cpus:
        _refuse(place, before, errno.EINVAL)
    place.write_text(f"{cpus}\n")
    effective = place.parent / "effective_affinity_list"
    if effective.exists() and CpuSet.parse(effective.read_text()).isdisjoint(cpus):
        effective.write_text(f"{cpus.first}\n")


def cpusets(tree: Path, path: str, text: str, before: str | None) -> None:
    """Groups below the top of cgroup v2, on 8 CPUs, as kernel/cgroup/cpuset.c of Linux 6.12 does.

    A partition takes its CPUs from all beside it; one whose CPUs another group claims is invalid, and takes none.
    """
    group = tree / "sys/fs/cgroup"
    place = tree / path.strip("/")
    if path == "/sys/fs/cgroup/cgroup.subtree_control":
        words = dict.fromkeys((before or "").split()) | dict.fromkeys([text.removeprefix("+")])
        place.write_text(" ".join(words) + "\n")
        for folder in filter(Path.is_dir, group.iterdir()):
            for name, value in (("cpus", ""), ("cpus.partition", "member"), ("cpus.effective", "0-7")):
                if not (folder / f"cpuset.{name}").exists():
                    (folder / f"cpuset.{name}").write_text(f"{value}\n")
        return
    if path == "/sys/devices/virtual/workqueue/cpumask":
        place.write_text(f"{int(CpuSet.parse_mask(text).mask, 16):02x}\n")
        return
    if not path.startswith("/sys/fs/cgroup/"):
        return
    if path.endswith("/cpuset.cpus"):
        place.write_text(f"{CpuSet.parse(text)}\n")
    elif text not in {"member", "root", "isolated"}:
        _refuse(place, before, errno.EINVAL)
    else:
        place.write_text(f"{text}\n")
    _settle_cpusets(group)


def _settle_cpusets(group: Path) -> None:
    """Partitions become valid or invalid, and everyone has what is left."""
    everything, taken = CpuSet(range(8)), CpuSet()
    folders = [folder for folder in sorted(group.iterdir()) if (folder / "cpuset.cpus").exists()]
    claims = {folder: CpuSet.parse((folder / "cpuset.cpus").read_text()) for folder in folders}
    for folder in folders:
        place = folder / "cpuset.cpus.partition"
        kind = place.read_text().split()[0]
        if kind == "member":
            continue
        others = [cpus for other, cpus in claims.items() if other != folder]
        valid = bool(claims[folder]) and all(cpus.isdisjoint(claims[folder]) for cpus in others)
        place.write_text(f"{kind}\n" if valid else f"{kind} invalid (Cpu list in cpuset.cpus not exclusive)\n")
        taken |= claims[folder] if valid else CpuSet()
    left = everything - taken
    for folder in folders:
        own = (folder / "cpuset.cpus.partition").read_text().strip() in {"root", "isolated"}
        effective = claims[folder] if own else (claims[folder] & left or left)
        (folder / "cpuset.cpus.effective").write_text(f"{effective}\n")
    (group / "cpuset.cpus.effective").write_text(f"{left}\n")


def cpuset_files(groups: dict[str, str], *, cpuset: bool = True) -> dict[str, str]:
    """The top of cgroup v2 with these groups and the CPUs that they claim."""
    top = "/sys/fs/cgroup"
    files = {
        f"{top}/cgroup.controllers": "cpuset cpu io memory pids\n",
        f"{top}/cgroup.subtree_control": "cpuset memory pids\n" if cpuset else "memory pids\n",
        f"{top}/cpuset.cpus.effective": "0-7\n",
        f"{top}/cpuset.cpus.isolated": "\n",
    }
    for name, cpus in groups.items():
        files[f"{top}/{name}/cgroup.procs"] = ""
        if cpuset:
            files |= {
                f"{top}/{name}/cpuset.cpus": f"{cpus}\n",
                f"{top}/{name}/cpuset.cpus.effective": f"{cpus or '0-7'}\n",
                f"{top}/{name}/cpuset.cpus.partition": "member\n",
            }
    return files


def interrupt_files(number: int, users: str, cpus: str, *, effective: str, node: int = -1) -> dict[str, str]:
    """One interrupt."""
    folder = f"/proc/irq/{number}"
    return {
        f"{folder}/smp_affinity_list": f"{cpus}\n",
        f"{folder}/effective_affinity_list": f"{effective}\n",
        f"{folder}/node": f"{node}\n",
        f"/sys/kernel/irq/{number}/actions": f"{users}\n",
    }


def managed(scratch: ScratchMachine, number: int) -> None:
    """Lets only the kernel place that one."""
    (scratch.tree / f"proc/irq/{number}/smp_affinity_list").chmod(0o444)


def frequency_files(
    policies: dict[int, str], *, governor: str = "powersave", driver: str = "acpi-cpufreq", available: str = ""
) -> dict[str, str]:
    """The policies of a machine by their number and CPUs, `{0: "0 4"}`."""
    files: dict[str, str] = {}
    for policy, cpus in policies.items():
        folder = f"/sys/devices/system/cpu/cpufreq/policy{policy}"
        files |= {
            f"{folder}/affected_cpus": f"{cpus}\n",
            f"{folder}/scaling_driver": f"{driver}\n",
            f"{folder}/scaling_available_governors": f"{available or 'ondemand powersave performance schedutil'}\n",
            f"{folder}/scaling_governor": f"{governor}\n",
        }
    return files


def idle_files(cpus: str, states: tuple[tuple[str, int], ...]) -> dict[str, str]:
    """Idle states by name and latency in us, the same on these CPUs; all are enabled."""
    files = {"/sys/devices/system/cpu/cpuidle/current_driver": "intel_idle\n"}
    for cpu in CpuSet.parse(cpus):
        for number, (name, latency) in enumerate(states):
            folder = f"/sys/devices/system/cpu/cpu{cpu}/cpuidle/state{number}"
            files |= {f"{folder}/name": f"{name}\n", f"{folder}/latency": f"{latency}\n", f"{folder}/disable": "0\n"}
    return files


def _refuse(place: Path, before: str | None, number: int) -> None:
    """The attribute says what it said, and the write fails."""
    place.write_text(before or "")
    raise OSError(number, os.strerror(number))
