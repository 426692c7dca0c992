"""A real OVS-DPDK for each test that wants one.

A machine that cannot run it skips the tier; with NFVHOST_REQUIRE_TIERS=1, as in CI, that is a failure.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from tiers import demand

from nfvhost import engine, sandbox
from nfvhost.access.command import check
from nfvhost.access.hugepages import memory_nodes, read_pool
from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.engine import Progress
from nfvhost.errors import PreconditionError
from nfvhost.inspect import inspect_host
from nfvhost.model.fingerprint import fingerprint
from nfvhost.model.ovs_keys import release
from nfvhost.model.plan import Plan, PlannedHost
from nfvhost.model.report import Drift, Report
from nfvhost.model.units import PageSize
from nfvhost.resources.ovs_dpdk import OvsDpdk
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
            *("set", "Open_vSwitch", ".", "other_config:dpdk-init=true"),
            # All in one piece: net_af_xdp of DPDK 24.11 wants a pool of packet buffers without a gap.
            f"other_config:dpdk-socket-mem={MEMORY_MIB}",
            f'other_config:dpdk-extra="{arguments}"',
            f"other_config:pmd-cpu-mask={1 << cpu:#x}",
        )
        # 2.17 says so only after it has said that it is done.
        self.vsctl("wait-until", "Open_vSwitch", ".", "dpdk_initialized=true")

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
    demand(_missing(), "the tier ovs")


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


# Rows as others see them: settings alone, without the UUIDs that a row that comes back cannot keep.
_SETTINGS = {
    "Open_vSwitch": "other_config,external_ids,manager_options",
    "Bridge": "name,datapath_type,fail_mode,protocols,other_config,external_ids",
    "Port": "name,tag,trunks,vlan_mode,bond_mode,lacp,other_config,external_ids",
    "Interface": "name,type,options,mtu_request,ofport_request,other_config,external_ids",
}
# vswitch.xml: the columns that ovs-vswitchd alone writes.
_TOLD_BY_THE_SWITCH = {
    *("cur_cfg", "statistics", "ovs_version", "db_version", "dpdk_initialized", "dpdk_version", "iface_types"),
    *(
        "datapath_types",
        "datapath_id",
        "datapath_version",
        "status",
        "rstp_status",
        "rstp_statistics",
        "fdb_statistics",
    ),
    *("admin_state", "link_state", "link_speed", "link_resets", "duplex", "mtu", "mac_in_use", "ifindex", "error"),
    *("ofport", "bfd_status", "cfm_fault", "cfm_fault_status", "cfm_flap_count", "cfm_health", "cfm_mpid"),
    *("cfm_remote_mpids", "cfm_remote_opstate", "lacp_current", "bond_active_slave"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """A switch to apply plans to, with short deadlines, and what the database of it holds."""

    switch: Switch
    cpu: int

    @property
    def machine(self) -> Machine:
        return Machine(root=DirectoryRoot("/"), ovsdb=self.switch.sandbox.ovsdb)

    @property
    def release(self) -> tuple[int, int]:
        """The release of Open vSwitch that runs: (3, 1)."""
        found = release(self.switch.vsctl("get", "Open_vSwitch", ".", "ovs_version").strip('"'))
        assert found is not None
        return found

    @property
    def keys(self) -> dict[str, str]:
        """Settings with which DPDK starts here and polls on one CPU."""
        return {
            "dpdk_init": "true",
            "dpdk_extra": "--no-pci --iova-mode=va",
            "dpdk_socket_mem": "64",
            "pmd_cpu_mask": f"{1 << self.cpu:#x}",
        }

    @property
    def resource(self) -> OvsDpdk:
        return OvsDpdk(carry_out_s=10.0, settle_s=0.3)

    def apply(self, plan: Plan) -> Report:
        """What the engine makes of the plan, on the machine inspected just now."""
        return self.apply_with(plan)

    def apply_with(
        self, plan: Plan, progress: Progress = lambda _step, _change: None, resource: OvsDpdk | None = None
    ) -> Report:
        """The same, told of each step, with other deadlines."""
        host = inspect_host(self.machine.root)
        fresh = PlannedHost(name="this one", fingerprint=fingerprint(host))
        return engine.apply(
            dataclasses.replace(plan, host=fresh),
            self.machine,
            host,
            progress=progress,
            resources=(resource or self.resource,),
        )

    def drifts(self, plan: Plan) -> tuple[Drift, ...]:
        return self.resource.verify(self.machine, plan)

    def rows(self) -> str:
        """Every setting of every row, by ovs-vsctl, sorted."""
        lines = [
            self.switch.vsctl("--format=csv", "--no-headings", f"--columns={columns}", "list", table)
            for table, columns in _SETTINGS.items()
        ]
        members = [
            f"{bridge}: {sorted(self.switch.vsctl('list-ports', bridge).split())}"
            for bridge in sorted(self.switch.vsctl("list-br").split())
        ]
        return "\n".join([*(line for table in lines for line in sorted(table.splitlines())), *members])

    def transactions(self) -> int:
        """How many the database's log holds, but for those in which the switch tells how it is."""
        log = Path(self.switch.sandbox.run_dir, "conf.db").read_text("utf-8")
        records = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
        return sum(
            "_date" in record  # the first one is the schema
            and any(
                not (isinstance(row, dict) and row.keys() <= _TOLD_BY_THE_SWITCH)
                for table, rows in record.items()
                if not table.startswith("_")
                for row in rows.values()
            )
            for record in records
        )


@pytest.fixture(scope="module")
def idle() -> Iterator[Bed]:
    """One switch for all plans that are refused: none of them leaves a trace."""
    name = f"t{os.getpid()}-idle"
    yield Bed(switch=Switch(sandbox=sandbox.up(name=name, memory_mib=MEMORY_MIB)), cpu=max(os.sched_getaffinity(0)))
    sandbox.down(name)


@pytest.fixture
def bed(new_switch: NewSwitch, pmd_cpu: int) -> Bed:
    return Bed(switch=new_switch(), cpu=pmd_cpu)


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
