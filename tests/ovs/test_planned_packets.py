"""The whole way: this machine inspected, a profile planned for it, the plan applied and verified, packets counted."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import pytest

from nfvhost import engine, sandbox
from nfvhost.access.machine import Machine
from nfvhost.access.process import read_threads
from nfvhost.access.root import DirectoryRoot
from nfvhost.inspect import inspect_host
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.profile import VhostPort, VirtualPort
from nfvhost.planfile import load_profile
from nfvhost.planner import make_plan

if TYPE_CHECKING:
    from nfvhost.model.plan import Plan
    from tests.ovs.conftest import NewSwitch, Switch

COUNT = 200
ROOT = DirectoryRoot("/")
DRIVERS = ("net_af_packet", "net_af_xdp")


def virtual_ports(driver: str, *, bridges: tuple[str, str] = ("br-phy", "br-phy")) -> tuple[VirtualPort, ...]:
    """One port over each of the sandbox's own netdevs."""
    return tuple(
        VirtualPort(name=f"dpdk{n}", devargs=f"{driver}{n},iface=port{n}", bridge=bridge)
        for n, bridge in enumerate(bridges)
    )


def planned(*, virtual: tuple[VirtualPort, ...] | None = None, vhost: tuple[VhostPort, ...] | None = None) -> Plan:
    """The plan of this machine by plans/sandbox.yaml, with other ports where given."""
    profile = load_profile("sandbox")
    wish = profile.ovs
    ports = dataclasses.replace(
        wish,
        virtual_ports=wish.virtual_ports if virtual is None else virtual,
        vhost_ports=wish.vhost_ports if vhost is None else vhost,
    )
    return make_plan(inspect_host(ROOT), dataclasses.replace(profile, ovs=ports))


def apply(plan: Plan, switch: Switch) -> None:
    """The plan applied as `nfvhost apply` does, after which nothing differs and a second apply finds nothing to do."""
    machine = Machine(root=ROOT, ovsdb=switch.sandbox.ovsdb)
    assert engine.apply(plan, machine, inspect_host(ROOT)).results
    assert engine.diff(plan, machine) == ()
    assert engine.verify(plan, machine) == ()
    assert engine.apply(plan, machine, inspect_host(ROOT)).results == ()


def assert_polled_as_planned(plan: Plan, switch: Switch, result: sandbox.ProbeResult) -> None:
    """The packets came by PMD threads that run where the plan says, each on its one CPU."""
    threads = read_threads(switch.sandbox.switch_pid)
    polling = {one.name.partition("/")[0]: one.cpus for one in threads if one.name.startswith("pmd-")}
    assert polling == {f"pmd-c{one.cpu:02d}": CpuSet([one.cpu]) for one in result.pmds}
    assert {one.cpu for one in result.pmds} <= set(plan.cpus.pmd)
    assert result.passed


def test_the_shipped_profile_gives_a_switch_that_forwards_by_the_planned_cpu(new_switch: NewSwitch) -> None:
    plan = planned()
    # Made before the sandbox came up and reserved its pages: that does not make it stale.
    switch = new_switch(memory_mib=1024)
    apply(plan, switch)

    result = sandbox.probe(switch.sandbox, count=COUNT)

    assert (result.sent, result.arrived, result.answered) == (COUNT, COUNT, COUNT)
    assert_polled_as_planned(plan, switch, result)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_planned_switch_forwards_by_each_driver_of_kernel_netdevs(new_switch: NewSwitch, driver: str) -> None:
    switch = new_switch(memory_mib=1024)
    plan = planned(virtual=virtual_ports(driver), vhost=())
    apply(plan, switch)

    result = sandbox.probe(switch.sandbox, count=COUNT, size=1514)

    assert (result.sent, result.arrived, result.answered) == (COUNT, COUNT, COUNT)
    assert_polled_as_planned(plan, switch, result)


def test_a_planned_vhost_user_port_reaches_a_virtio_user_peer(new_switch: NewSwitch) -> None:
    """port0 - br0 - vhost-user - virtio-user - a second switch - virtio-user - vhost-user - br1 - port1."""
    switch, peer = new_switch("s", memory_mib=1024), new_switch("p")
    sockets = [f"{switch.sandbox.run_dir}/vhost{number}.sock" for number in range(2)]
    plan = planned(
        virtual=virtual_ports("net_af_packet", bridges=("br0", "br1")),
        vhost=tuple(VhostPort(name=f"vhost{n}", socket=path, bridge=f"br{n}") for n, path in enumerate(sockets)),
    )
    apply(plan, switch)
    peer.start_dpdk(min(os.sched_getaffinity(0)), "--single-file-segments")
    peer.add_bridge("br0")
    for number, path in enumerate(sockets):
        devargs = f"net_virtio_user{number},path={path},server=1"
        peer.add_port("br0", f"virtio{number}", "type=dpdk", f"options:dpdk-devargs={devargs}")

    result = sandbox.probe(switch.sandbox, count=COUNT)

    assert (result.sent, result.arrived, result.answered) == (COUNT, COUNT, COUNT)
    counted = {one.port: min(one.received, one.sent) for one in result.ports}
    assert min(counted[name] for name in ("dpdk0", "dpdk1", "vhost0", "vhost1")) >= COUNT
    assert_polled_as_planned(plan, switch, result)
    assert engine.verify(plan, Machine(root=ROOT, ovsdb=switch.sandbox.ovsdb)) == ()
