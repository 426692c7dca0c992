"""dpdk-testpmd as a generator: 512 frames go round and round. It keeps no rate, so it can say no NDR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from nfvhost.access.clock import now_s, sleep
from nfvhost.access.command import CommandError, find, run
from nfvhost.access.dialogue import Dialogue
from nfvhost.bench.builtin import eal_arguments
from nfvhost.bench.generator import OVERHEAD_S, Ends, Load
from nfvhost.bench.trial import Trial
from nfvhost.model.cpuset import CpuSet

_PROGRAM: Final = "dpdk-testpmd"
_READY_S: Final = 40.0
_FCS: Final = 4
_SETTLE_S: Final = 0.2
_CPUS: Final = 2
# Of 32 frames each: less than a ring of the path holds, so that none of them is lost at once.
_FIRST_BURSTS: Final = 16
_MBUFS: Final = 16384
# app/test-pmd/testpmd.c, nic_stats_display: "  RX-packets: 12  RX-missed: 0 …", "  TX-packets: 12  TX-errors: 0 …"
_COUNTED: Final = re.compile(r"(RX|TX)-packets: *(\d+)")
# app/test-pmd/config.c, port_infos_display
_ADDRESS: Final = re.compile(r"MAC address: ([0-9A-F:]{17})")
# What is asked after each command: its answer ends what came before.
_MARK: Final = "show port summary all"
_MARK_ANSWER: Final = "Number of available ports"


@dataclass(frozen=True, slots=True, kw_only=True)
class PmdProgram:
    """DPDK's own test program, where it is installed."""

    name: str = "dpdk-testpmd"
    searches: bool = False

    @property
    def version(self) -> str:
        """The DPDK that it says it is linked with."""
        try:
            said = run([_PROGRAM, "-v", "--no-huge", "--no-pci", "--no-shconf", "--", "--help"], timeout_s=OVERHEAD_S)
        except CommandError:
            return "unknown"
        found = re.search(r"DPDK (\d+\.[\d.]+)", said.stdout + said.stderr)
        return f"DPDK {found[1]}" if found else "unknown"

    def refusal(self, ends: Ends) -> str | None:
        """It has to be installed; it is no guest beside."""
        if find(_PROGRAM) is None:
            return "dpdk-testpmd is not installed"
        if ends.tunnelled:
            return "it sends plain frames alone"
        return "it cannot be generator and guest at once" if ends.guest is not None else None

    @contextmanager
    def attached(self, ends: Ends, load: Load, cpus: CpuSet) -> Iterator[_Running]:
        """It runs on the first of these CPUs: its command line and its sending thread in turns."""
        cpu = min(cpus)
        # Two lcores are the least that it starts with; both of them on the one CPU.
        arguments = eal_arguments(ends, (cpu,))
        at = arguments.index("-l")
        arguments[at : at + 2] = ["--lcores", ",".join(f"{number}@{cpu}" for number in range(_CPUS))]
        topology = "loop" if len(ends.devices) == 1 else "paired"
        argv = [
            # On a pipe it would keep its words to itself.
            *("stdbuf", "-oL", _PROGRAM, *arguments, "--", "--interactive", "--forward-mode=io", "--nb-cores=1"),
            *(f"--txpkts={round(load.frames.mean_bytes) - _FCS}", "--stats-period=0", f"--port-topology={topology}"),
            # Its own reckoning wants buffers for 32 ports.
            f"--total-num-mbufs={_MBUFS}",
            *(("--txonly-multi-flow",) if load.flows > 1 else ()),
        ]
        with Dialogue(argv, netns=ends.netns) as dialogue:
            running = _Running(dialogue, rx_port=ends.devices.index(ends.rx))
            running.command("clear port stats all", timeout_s=_READY_S)
            if ends.addressed:
                running.address_each_other()
            yield running


class _Running:
    def __init__(self, dialogue: Dialogue, *, rx_port: int) -> None:
        self._dialogue = dialogue
        self._rx_port = rx_port

    def command(self, line: str, *, timeout_s: float = OVERHEAD_S) -> list[str]:
        """What it prints for a command."""
        self._dialogue.say(line)
        self._dialogue.say(_MARK)
        printed = []
        while _MARK_ANSWER not in (answer := self._dialogue.hear(timeout_s=timeout_s)):
            printed.append(answer)
        return printed

    def address_each_other(self) -> None:
        """Nothing; what goes out of port 0 is for port 1, and the other way round."""
        for port, other in ((0, 1), (1, 0)):
            (address,) = _ADDRESS.findall("\n".join(self.command(f"show port info {other}")))
            self.command(f"set eth-peer {port} {address}")
        self.command("set fwd mac")

    def measure(self, *, duration_s: float, load_pps: float) -> Trial:
        self.command("clear port stats all")
        begin = now_s()
        self.command(f"start tx_first {_FIRST_BURSTS}")
        sleep(duration_s)
        self.command("stop")
        took_s = now_s() - begin
        sleep(_SETTLE_S)
        sent = self._counted(0, "TX")
        return Trial(
            duration_s=took_s,
            load_pps=load_pps,
            intended=sent,
            sent=sent,
            refused=0,  # it tries again until its ring has room, and counts no refusal
            behind=0,
            received=min(sent, self._counted(self._rx_port, "RX")),
        )

    def _counted(self, port: int, direction: str) -> int:
        printed = "\n".join(self.command(f"show port stats {port}"))
        return next((int(count) for kind, count in _COUNTED.findall(printed) if kind == direction), 0)
