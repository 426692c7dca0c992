"""A real OVS-DPDK for each test that wants one.

A machine that cannot run it skips the tier; with NFVHOST_REQUIRE_TIERS=1, as in CI, that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from nfvhost import sandbox
from nfvhost.access.command import check
from nfvhost.access.hugepages import memory_nodes, read_pool
from nfvhost.errors import PreconditionError
from nfvhost.model.units import PageSize
from nfvhost.sandbox import Sandbox
from nfvhost.sandbox.daemons import find_programs

# Small, so that several fit on a small machine; OVS makes its pools of packet buffers smaller until they fit.
MEMORY_MIB = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A sandbox, and ovs-vsctl for it."""

    sandbox: Sandbox

    def vsctl(self, *words: str) -> str:
        """What ovs-vsctl prints; it waits for the switch to take the change."""
        return check(["ovs-vsctl", f"--db={self.sandbox.ovsdb}", "--timeout=20", *words], timeout_s=30).stdout.strip()

    def start_dpdk(self, cpu: int, *extra: str) -> None:
        """DPDK runs, with one poll-mode thread on `cpu` as soon as there is a port."""
        arguments = " ".join(["--no-pci", "--iova-mode=va", *extra])
        self.vsctl(
            *("set", "Open_vSwitch", ".", "other_config:dpdk-init=true", "other_config:dpdk-socket-mem=128"),
            f'other_config:dpdk-extra="{arguments}"',
            f"other_config:pmd-cpu-mask={1 << cpu:#x}",
        )
        assert self.vsctl("get", "Open_vSwitch", ".", "dpdk_initialized") == "true"

    def add_bridge(self, bridge: str) -> None:
        """A bridge of the userspace data path."""
        self.vsctl("add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev")

    def add_port(self, bridge: str, port: str, *columns: str) -> None:
        """A port without an error of its own."""
        self.vsctl("add-port", bridge, port, "--", "set", "interface", port, *columns)
        assert self.vsctl("get", "interface", port, "error") == "[]"


class NewSwitch(Protocol):
    """Makes a switch under a name that no other test process has; it goes at the end of the test."""

    def __call__(self, suffix: str = "x", /, *, memory_mib: int = MEMORY_MIB) -> Switch: ...


@pytest.fixture(scope="session", autouse=True)
def this_machine_can_run_the_tier() -> None:
    reason = _missing()
    if reason is None:
        return
    if os.environ.get("NFVHOST_REQUIRE_TIERS") == "1":
        pytest.fail(f"the tier ovs is required and cannot run: {reason}")
    pytest.skip(f"the tier ovs cannot run: {reason}")


@pytest.fixture
def new_switch() -> Iterator[NewSwitch]:
    names: list[str] = []

    def make(suffix: str = "x", /, *, memory_mib: int = MEMORY_MIB) -> Switch:
        name = f"t{os.getpid()}-{suffix}x"
        names.append(name)
        return Switch(sandbox=sandbox.up(name=name, memory_mib=memory_mib))

    yield make
    for name in names:
        sandbox.down(name)


@pytest.fixture
def pmd_cpu() -> int:
    """The CPU for poll-mode threads: the last one, away from CPU 0 where there are two."""
    return max(os.sched_getaffinity(0))


@pytest.fixture
def pages() -> Callable[[], tuple[int, ...]]:
    """The hugepages of 2 MiB in each node's pool, as they are when called."""

    def now() -> tuple[int, ...]:
        pools = [read_pool(node, PageSize.MIB_2) for node in memory_nodes()]
        return tuple(pool.total for pool in pools if pool is not None)

    return now


def _missing() -> str | None:
    """Why this machine cannot run a sandbox; None where it can."""
    if os.geteuid() != 0:
        return "it needs root"
    try:
        find_programs()
    except PreconditionError as error:
        return str(error)
    if any(read_pool(node, PageSize.MIB_2) is None for node in memory_nodes()):
        return "the kernel has no hugepages of 2 MiB"
    return None
