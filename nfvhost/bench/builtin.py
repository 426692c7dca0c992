"""The built-in generator: DPDK's own ports, paced by the TSC, on one CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from nfvhost.access.clock import since_boot_s
from nfvhost.access.dialogue import Dialogue
from nfvhost.bench.answering import Answering
from nfvhost.bench.generator import Ends, Load
from nfvhost.bench.program import dpdk_version, missing, program
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
    def attached(self, ends: Ends, load: Load, cpus: CpuSet) -> Iterator[Answering]:
        """It runs on the first of these CPUs; CommandError with DPDK's last words where it does not come up."""
        ports = {device: number for number, device in enumerate(ends.devices)}
        argv = [
            *(program(), *eal_arguments(ends, (min(cpus),)), "--"),
            f"--sizes={load.frames.argument}",
            *(f"--flows={load.flows}", f"--tx={ports[ends.tx]}", f"--rx={ports[ends.rx]}"),
        ]
        if ends.headers is not None:
            argv.append(f"--headers={ends.headers.hex()}")
        if ends.more:
            argv.append(f"--more={ends.more}")
        if ends.addressed:
            argv.append("--addressed")
        if ends.guest is not None:
            argv.append(f"--guest={ports[ends.guest[0]]}:{ports[ends.guest[1]]}")
        with Dialogue(argv, netns=ends.netns) as dialogue:
            yield Answering(dialogue, ready_s=_READY_S)


def eal_arguments(ends: Ends, cpus: tuple[int, ...]) -> list[str]:
    """DPDK's own arguments: CPUs, memory, devices."""
    virtual = [device for device in ends.devices if not is_pci(device)]
    physical = [device for device in ends.devices if is_pci(device)]
    memory = ["--in-memory", "--single-file-segments"] if ends.shared_memory or physical else ["--no-huge"]
    return [
        *("-l", ",".join(map(str, cpus)), "-m", str(MEMORY_MIB), *memory, "--no-shconf", "--no-telemetry"),
        f"--file-prefix=nfvhost-bench-{since_boot_s():.6f}",
        *(f"--allow={device}" for device in physical),
        *(() if physical else ("--no-pci",)),
        *(f"--vdev={device}" for device in virtual),
        "--log-level=*:error",
    ]


def is_pci(device: str) -> bool:
    """Whether it is a NIC by its address, rather than a virtual device."""
    try:
        PciAddress.parse(device.partition(",")[0])
    except ValueError:
        return False
    return True
