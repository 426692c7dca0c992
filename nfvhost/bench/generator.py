"""What a generator is: the one interface behind which all of them are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from nfvhost.access.clock import wait_for
from nfvhost.bench.frames import Frames
from nfvhost.bench.trial import Measurer, Trial
from nfvhost.errors import PreconditionError
from nfvhost.model.cpuset import CpuSet

# What a trial may take on top of its seconds: late frames are waited for, and a busy machine is late itself.
OVERHEAD_S: Final = 60.0
# Until the first frame comes through, some are sent at this rate again and again.
_KNOCK_S: Final = 0.02
_KNOCK_PPS: Final = 2_000.0
_OPEN_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Where a generator is attached: DPDK devices, or interfaces of the kernel."""

    tx: str  # "net_virtio_user0,path=…", "0000:05:00.0"; of `kernel` ends "net_af_packet0,iface=vx0"
    rx: str  # the same device: it hears itself
    guest: tuple[str, str] | None = None  # a guest's two ports, where the generator's thread is the guest too
    netns: str | None = None  # where the interfaces are
    netdevs: tuple[str, str] | None = None  # of kernel ends: transmit, receive
    shared_memory: bool = False  # the other side maps the generator's memory: hugepages
    headers: bytes | None = None  # of a tunnel, in the place of the Ethernet header of what is sent
    more: int = 0  # bytes of a tunnel's headers on top of the plain ones in what comes back
    hint: str | None = None  # what to look at where nothing comes through
    addressed: bool = False  # what is between looks at Ethernet addresses: frames bear those of the two devices

    @property
    def devices(self) -> tuple[str, ...]:
        """Each device once, in the order of DPDK's port numbers."""
        return tuple(dict.fromkeys((self.tx, self.rx, *(self.guest or ()))))

    @property
    def tunnelled(self) -> bool:
        """Whether frames go or come in a tunnel."""
        return self.headers is not None or self.more > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent."""

    frames: Frames
    flows: int


class Generator(Protocol):
    """A program that can send at a rate, and count."""

    @property
    def name(self) -> str:
        """What users call it: "built-in"."""
        ...

    @property
    def version(self) -> str:
        """What it is made of: "DPDK 22.11.11"."""
        ...

    @property
    def searches(self) -> bool:
        """Whether it keeps a rate; one that does not can only say what comes through at full speed."""
        ...

    def refusal(self, ends: Ends) -> str | None:
        """Why it cannot serve these ends here; None where it can."""
        ...

    def attached(self, ends: Ends, load: Load, cpus: CpuSet) -> AbstractContextManager[Measurer]:
        """It runs at these ends, on these CPUs."""
        ...


@contextmanager
def through(generator: Generator, ends: Ends, load: Load, cpus: CpuSet) -> Iterator[Measurer]:
    """The generator at these ends, from when its frames come through; PreconditionError where none does.

    A vhost-user port has a link before the switch serves it: its main thread has to make queues and buffers for the
    guest first, and drops all till then (lib/netdev-dpdk.c, vhost_reconfigured), half a second on a busy machine.
    """
    with generator.attached(ends, load, cpus) as measurer:
        if not wait_for(lambda: measurer.measure(duration_s=_KNOCK_S, load_pps=_KNOCK_PPS).received, timeout_s=_OPEN_S):
            raise PreconditionError(
                f"nothing that is sent comes through within {_OPEN_S:g} s",
                where=f"{ends.tx} to {ends.rx}",
                hint=ends.hint,
            )
        yield measurer


def flat_out(measurer: Measurer, *, duration_s: float) -> Trial:
    """A trial as fast as the generator can: load 0."""
    return measurer.measure(duration_s=duration_s, load_pps=0.0)
