"""How a kernel reacts where CPUs are concerned: clocks, idle states, interrupts, cpusets."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nfvhost.model.cpuset import CpuSet

Reaction = Callable[[Path, str, str, str | None], None]

_GOVERNOR: Final = re.compile(r"/sys/devices/system/cpu/cpufreq/policy\d+/scaling_governor")
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


def frequency_files(
    policies: dict[int, str], *, governor: str = "powersave", driver: str = "acpi-cpufreq", available: str = ""
) -> dict[str, str]:
    """The policies of a machine by their number and CPUs, `{0: "0 4"}`."""
    files = {}
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
