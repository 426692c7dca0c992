"""An apply to this machine's own kernel and to a real Open vSwitch, with the files of OpenStack in a folder aside."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cases import RDO, nic
from routed_root import RoutedRoot
from scratch import ScratchMachine

from nfvhost import engine, sandbox
from nfvhost.access.hugepages import memory_nodes, read_pool
from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.inspect import inspect_host
from nfvhost.model.plan import Pages
from nfvhost.model.profile import NovaWish, Role
from nfvhost.model.report import Outcome
from nfvhost.model.units import PageSize
from nfvhost.planfile import load_profile
from nfvhost.planner import make_plan
from nfvhost.resources.hugepages import Hugepages
from nfvhost.resources.modules import Modules
from nfvhost.resources.neutron_conf import NEUTRON_CONF
from nfvhost.resources.nova_conf import NOVA_CONF
from nfvhost.resources.ovs_dpdk import OvsDpdk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nfvhost.model.plan import Plan
    from tests.ovs.conftest import NewSwitch

KERNEL = DirectoryRoot("/")
RESOURCES = (Modules(), Hugepages(), OvsDpdk(), NEUTRON_CONF, NOVA_CONF)
# Small enough for any machine that runs the tier.
PAGES = 256


class SettingsAside(RoutedRoot):
    """This machine's kernel, with all settings in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = DirectoryRoot(str(folder), writable=True)

    def root_of(self, path: str) -> DirectoryRoot:
        return KERNEL if path.startswith(("/proc", "/sys", "/dev", "/run", "/lib/modules")) else self._folder

    @property
    def live(self) -> bool:
        return True


def planned() -> Plan:
    """This machine by plans/sandbox.yaml, with Nova, a NIC of a driver in the kernel itself, and PAGES more pages."""
    profile = dataclasses.replace(load_profile("sandbox"), nova=NovaWish(enabled=True))
    plan = make_plan(inspect_host(KERNEL), profile)
    nodes = tuple(
        dataclasses.replace(node, pages=(Pages(size_mib=2, count=total(node.node) + PAGES, at_boot=False),))
        for node in plan.memory.nodes
    )
    built_in = nic("0000:10:00.0", Role.KERNEL, driver="virtio-pci")
    return dataclasses.replace(plan, memory=dataclasses.replace(plan.memory, nodes=nodes), nics=(*plan.nics, built_in))


def total(node: int) -> int:
    """The pages of 2 MiB that this kernel has on a node."""
    pool = read_pool(node if memory_nodes() != (None,) else None, PageSize.MIB_2)
    assert pool is not None
    return pool.total


def test_a_plan_changes_the_kernels_pools_the_switch_and_the_settings_and_a_rollback_restores_them(
    new_switch: NewSwitch, tmp_path: Path, pages: Callable[[], tuple[int, ...]]
) -> None:
    switch = new_switch()
    settings = ScratchMachine(tmp_path).make(RDO, {})
    machine = Machine(root=SettingsAside(settings.tree), ovsdb=switch.sandbox.ovsdb)
    host = inspect_host(KERNEL)
    pages_before, files_before = pages(), settings.snapshot()
    keys_before = switch.vsctl("get", "Open_vSwitch", ".", "other_config")
    plan = planned()

    report = engine.apply(plan, machine, host, resources=RESOURCES)

    assert {result.change.resource for result in report.results} == {
        "hugepages",
        "ovs_dpdk",
        "neutron_conf",
        "nova_conf",
    }
    assert {result.outcome for result in report.results} == {Outcome.APPLIED}
    assert pages() == tuple(count + PAGES for count in pages_before)
    assert switch.vsctl("get", "Open_vSwitch", ".", "dpdk_initialized") == "true"
    assert "cpu_shared_set" in settings.read("/etc/nova/nova-compute.conf.d/zz-nfvhost.conf")
    assert engine.apply(plan, machine, host, resources=RESOURCES).results == ()

    (undone,) = engine.rollback(machine, resources=RESOURCES)

    assert undone.problems == ()
    # DPDK cannot be left by a process that has begun with it: what it holds goes with it.
    sandbox.restart_switch(switch.sandbox.name)
    assert pages() == pages_before
    assert settings.snapshot() == files_before
    assert switch.vsctl("get", "Open_vSwitch", ".", "other_config") == keys_before
    assert switch.vsctl("list-br") == ""
