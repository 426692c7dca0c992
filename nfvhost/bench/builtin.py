"""The built-in generator: DPDK's own ports, paced by the TSC, on one CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from nfvhost.access.clock import since_boot_s
from nfvhost.access.dialogue import Dialogue
from nfvhost.bench.generator import OVERHEAD_S, Ends, Load
from nfvhost.bench.program import dpdk_version, missing, program
from nfvhost.bench.trial import Latency, Trial
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.pci import PciAddress

# The links of vhost-user ports come when the switch has found their sockets, which it looks for once a second.
_READY_S: Final = 40.0
MEMORY_MIB: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltIn:
    """The C program that comes with nfvhost."""

    name: str = "built-in"
    searches: bool = True

    @property
    def version(self) -> str:
        """The DPDK that it is compiled against."""
        return f"DPDK {dpdk_version()}"

    def refusal(self, ends: Ends) -> str | None:
        """It needs a compiler and DPDK's headers, and serves every DPDK device."""
        del ends
        return missing()

    @contextmanager
    def attached(self, ends: Ends, load: Load, cpus: CpuSet) -> Iterator[_Running]:
        """It runs on the first of these CPUs; CommandError with DPDK's last words where it does not come up."""
        ports = {device: number for number, device in enumerate(ends.devices)}
        argv = [
            *(program(), *eal_arguments(ends, (min(cpus),)), "--"),
            f"--sizes={','.join(f'{size}:{count}' for size, count in load.frames.parts)}",
            *(f"--flows={load.flows}", f"--tx={ports[ends.tx]}", f"--rx={ports[ends.rx]}"),
        ]
        if ends.headers is not None:
            argv.append(f"--headers={ends.headers.hex()}")
        if ends.more:
            argv.append(f"--more={ends.more}")
        if ends.guest is not None:
            argv.append(f"--guest={ports[ends.guest[0]]}:{ports[ends.guest[1]]}")
        with Dialogue(argv, netns=ends.netns) as dialogue:
            running = _Running(dialogue)
            running.answer(timeout_s=_READY_S)
            yield running


def eal_arguments(ends: Ends, cpus: tuple[int, ...]) -> list[str]:
    """DPDK's own arguments: CPUs, memory, devices."""
    virtual = [device for device in ends.devices if not _is_pci(device)]
    physical = [device for device in ends.devices if _is_pci(device)]
    memory = ["--in-memory", "--single-file-segments"] if ends.shared_memory or physical else ["--no-huge"]
    return [
        *("-l", ",".join(map(str, cpus)), "-m", str(MEMORY_MIB), *memory, "--no-shconf", "--no-telemetry"),
        f"--file-prefix=nfvhost-bench-{since_boot_s():.6f}",
        *(f"--allow={device}" for device in physical),
        *(() if physical else ("--no-pci",)),
        *(f"--vdev={device}" for device in virtual),
        "--log-level=*:error",
    ]


class _Running:
    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue

    def measure(self, *, duration_s: float, load_pps: float) -> Trial:
        self._dialogue.say(f"{duration_s:.6f} {load_pps:.3f}")
        told = self.answer(timeout_s=duration_s + OVERHEAD_S)
        samples = int(told["samples"])
        return Trial(
            duration_s=told["seconds"],
            load_pps=load_pps,
            intended=int(told["intended"]),
            sent=int(told["sent"]),
            refused=int(told["refused"]),
            behind=int(told["behind"]),
            received=int(told["received"]),
            absent_s=told["absent_s"],
            latency=None
            if samples == 0
            else Latency(
                samples=samples,
                minimum_us=told["minimum_us"],
                median_us=told["median_us"],
                p99_us=told["p99_us"],
                maximum_us=told["maximum_us"],
            ),
        )

    def answer(self, *, timeout_s: float) -> dict[str, float]:
        """The next line that is an answer: drivers of DPDK print lines of their own."""
        while not (line := self._dialogue.hear(timeout_s=timeout_s)).startswith("{"):
            pass
        answer: dict[str, float] = json.loads(line)
        return answer


def _is_pci(device: str) -> bool:
    try:
        PciAddress.parse(device.partition(",")[0])
    except ValueError:
        return False
    return True
