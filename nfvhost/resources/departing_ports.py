"""Ports of Open vSwitch whose functions go back to a driver of the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.access.ovs_rows import Place, Port
from nfvhost.access.ovsdb import socket_path
from nfvhost.access.root import Root
from nfvhost.access.sysfs import linked_name
from nfvhost.access.vfio_holders import vfio_holders
from nfvhost.access.vswitchd import detach_device, find_vswitchd
from nfvhost.errors import Problem
from nfvhost.model.change import Change, Disruption
from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.driver_binding.state import DEVICES
from nfvhost.resources.driver_binding.target import SWITCH_PROCESS, is_userspace, targets
from nfvhost.resources.ovs_dpdk import OvsDpdk
from nfvhost.resources.ovs_dpdk.difference import mark_at
from nfvhost.resources.ovs_dpdk.image import image_of
from nfvhost.resources.ovs_dpdk.place import key_of, parse_key
from nfvhost.resources.ovs_dpdk.state import State as SwitchState
from nfvhost.resources.ovs_dpdk.state import read_state
from nfvhost.resources.settling import settled

RESOURCE: Final = "departing_ports"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The functions that are still with user space, and Open vSwitch."""

    leaving: tuple[PciAddress, ...]  # what the plan gives back to the kernel, and has no such driver yet
    held: tuple[PciAddress, ...]  # of these, what ovs-vswitchd has open (/proc/<pid>/fd)
    switch: SwitchState


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartingPorts:
    """Ports that leave Open vSwitch because their functions go back to a driver of the kernel.

    As long as DPDK has a function open, no other driver can have it. So the port goes before `driver_binding` acts, and
    ovs-vswitchd is told to let go of what DPDK probed at its start and keeps. What the plan makes of other ports under
    the same name is for `ovs_dpdk`, which comes later.

    Configured: the database of Open vSwitch.
    Active: whether ovs-vswitchd has the function open: /proc/<pid>/fd.
    Keys: bridge and port: `port br-phy/dpdk0`; the address of a function that is held without a port.
    Effect: now; the port's traffic ends (link).
    Refuses: nothing of its own; a port of someone else's stays, and then `driver_binding` refuses.
    Rollback: the ports as they were, once their functions are back with vfio-pci.
    Source: lib/netdev-dpdk.c, netdev_dpdk_destruct and netdev_dpdk_detach.
    """

    settle_s: float = 3.0
    switch: OvsDpdk = field(default_factory=OvsDpdk)

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        leaving = _leaving(machine.root, plan)
        if not leaving:
            return State(leaving=(), held=(), switch=read_state(machine, replace(plan, ovs=None)))
        holders = vfio_holders(machine.root, leaving)
        held = tuple(pci for pci in leaving if any(who.startswith(SWITCH_PROCESS) for who in holders.get(pci, ())))
        return State(leaving=leaving, held=held, switch=read_state(machine, plan))

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        del plan
        changes, used = [], set()
        for place, port, pci in _device_ports(state.switch):
            if pci not in state.leaving:
                continue
            used.add(pci)
            mark = mark_at(state.switch.database, place)
            if mark is not None and mark.made:
                reason = f"{pci} goes back to a driver of the kernel, and DPDK has to let go of it before"
                changes.append(_change(key_of(place, None), port.interfaces[0].type, reason))
        reason = "DPDK keeps what it probed at its start, with a port or without"
        changes += [_change(str(pci), "held by ovs-vswitchd", reason) for pci in state.held if pci not in used]
        return tuple(changes)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del state, plan, host
        return ()

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del state, plan
        return ()

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        if ports := _of_ports(changes):
            self.switch.apply(machine, state.switch, ports)
        daemon = find_vswitchd(machine.root, os.path.dirname(socket_path(machine.ovsdb_address)))
        if daemon is None:
            return
        gone = {parse_key(change.key)[0] for change in ports}
        named = {change.key for change in changes}
        at_ports = {pci for place, _, pci in _device_ports(state.switch) if place in gone}
        for pci in state.leaving:
            if pci in at_ports or str(pci) in named:
                detach_device(daemon, pci)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        _, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s)
        return tuple(Drift.of(one) for one in changes)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        return State(leaving=(), held=(), switch=image_of(state.switch, _of_ports(changes)))

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        ports = _of_ports(changes)
        return self.switch.foreign(machine, before.switch, ports) if ports else ()

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        ports = _of_ports(changes)
        return self.switch.rollback(machine, before.switch, ports, force=force) if ports else ()


def _leaving(root: Root, plan: Plan) -> tuple[PciAddress, ...]:
    """The functions that are to have a driver of the kernel, and have one of user space."""
    return tuple(
        target.nic.pci
        for target in targets(plan, vfs=False)
        if not is_userspace(target.driver) and is_userspace(linked_name(root, f"{DEVICES}/{target.nic.pci}/driver"))
    )


def _device_ports(state: SwitchState) -> Iterator[tuple[Place, Port, PciAddress]]:
    """The ports of PCI functions, by their first interface."""
    for bridge in state.database.bridges:
        for port in bridge.ports:
            devargs = next((dict(one.options).get("dpdk-devargs") for one in port.interfaces), None)
            with suppress(ValueError):  # a virtual device, or one by its class
                yield Place(bridge.name, port.name), port, PciAddress.parse((devargs or "").partition(",")[0])


def _of_ports(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    return tuple(change for change in changes if parse_key(change.key)[0].port is not None)


def _change(key: str, before: str, reason: str) -> Change:
    return Change.now(RESOURCE, key, before, None, reason, disruption=Disruption.LINK)


__all__ = ["DepartingPorts"]
