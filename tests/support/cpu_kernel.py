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
