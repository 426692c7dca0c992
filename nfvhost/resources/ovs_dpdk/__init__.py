"""Open vSwitch with DPDK: its settings, bridges and ports, in the database and in the process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Final

from nfvhost.access.clock import wait_for
from nfvhost.access.machine import Machine
from nfvhost.access.ovs_rows import OpenVswitch, Place
from nfvhost.access.ovsdb import Ovsdb, connected, socket_path
from nfvhost.access.vswitchd import detach_device, find_vswitchd, log_complaints, log_size
from nfvhost.errors import ApplyError, Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.ovs_dpdk.check import problems
from nfvhost.resources.ovs_dpdk.difference import RESOURCE, differences, find_port
from nfvhost.resources.ovs_dpdk.drift import drifts
from nfvhost.resources.ovs_dpdk.finding import findings
from nfvhost.resources.ovs_dpdk.image import image_of
from nfvhost.resources.ovs_dpdk.operation import foreign_values, operations_of, remains, way_back
from nfvhost.resources.ovs_dpdk.place import key_of, parse_key
from nfvhost.resources.ovs_dpdk.state import State, read_activity, read_state

_INTERVAL_S: Final = 0.05
_LOG_LINES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsDpdk:
    """Open vSwitch with DPDK: its settings, bridges and ports.

    Rows and keys of others stay; what nfvhost has made carries its mark in external_ids.

    Configured: the database of Open vSwitch, which a reboot does not forget.
    Active: what ovs-vswitchd has made of it: DPDK, PMD threads and where they run, queues, errors of ports.
    Keys: the table and key of a setting; bridge and port: `br-phy/dpdk0`.
    Effect: now; a few settings of DPDK at the next start of ovs-vswitchd, which interrupts all traffic (host).
    Refuses: a key, port type or option that this version would ignore or die of; a build without DPDK; a port or
        bridge of someone else's; a device that is not bound, carries management or is not there; a socket's folder
        that is not there.
    Rollback: the rows and keys as they were, as far as nobody else has changed them since; then the ports that were
        open are open again.
    Source: ovs-vswitchd.conf.db(5), the control socket of ovs-vswitchd, /proc of its threads.
    """

    carry_out_s: float = 60.0  # for ovs-vswitchd to carry out one transaction; DPDK clears its hugepages in it
    settle_s: float = 3.0  # for a planned state to show itself after that
    connect: Callable[[str], AbstractContextManager[Ovsdb]] = connected  # the way to the database, to write to it

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        return read_state(machine, plan)

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        return differences(state, plan)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        return problems(state, plan, host)

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        return findings(state, plan)

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        log = state.switch.log if state.switch is not None else None
        since = log_size(log)
        with self.connect(machine.ovsdb_address) as database:
            number = database.commit(operations_of(changes))
            if database.wait_for_cfg(number, timeout_s=self.carry_out_s, alive=_alive(state)):
                return
        said = "; ".join(log_complaints(log, since=since)[-_LOG_LINES:]) or "nothing"
        if state.switch is None or not state.switch.daemon.alive:
            raise ApplyError(
                f"ovs-vswitchd ended while it carried out the changes; its log says: {said}",
                where="ovs-vswitchd",
                hint="start it again (systemctl start openvswitch-switch) once the changes are taken back",
            )
        raise ApplyError(
            f"ovs-vswitchd has not carried out the changes within {self.carry_out_s:g} s; its log says: {said}",
            where=f"ovs-vswitchd, pid {state.switch.daemon.process.pid}",
            hint="is it stopped, or does it hang? see its log",
        )

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        last: tuple[Drift, ...] = ()

        def as_planned() -> bool:
            nonlocal last, seen
            state = read_state(machine, plan) if seen is None else seen
            seen = None
            last = drifts(state, read_activity(machine, state), plan)
            return all(drift.pending is not None for drift in last)

        wait_for(as_planned, timeout_s=self.settle_s, interval_s=_INTERVAL_S)
        return last

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        return image_of(state, changes)

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        del before
        with self.connect(machine.ovsdb_address) as database:
            return tuple(
                Problem(what=what, where=f"{RESOURCE}: {key}", hint="--force overwrites it")
                for key, what in foreign_values(database.read(), changes)
            )

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        # The process that runs now: the one of the before-image may have been started anew since.
        daemon = find_vswitchd(machine.root, os.path.dirname(socket_path(machine.ovsdb_address)))
        with self.connect(machine.ovsdb_address) as database:
            now = database.read()
            back = way_back(before.database, now, changes, force=force)
            # Where nothing is to be written: what a rollback that was cut off has written may not be carried out yet.
            number = database.commit(back) if back else now.next_cfg
            carried_out = database.wait_for_cfg(
                number, timeout_s=self.carry_out_s, alive=lambda: daemon is not None and daemon.alive
            )
            left = tuple(
                Problem(what=what, where=f"{RESOURCE}: {key}", hint="set it back by hand with ovs-vsctl")
                for key, what in remains(database.read(), changes)
            )
        if left or daemon is None or not daemon.alive:
            return left
        if not carried_out:
            return (
                Problem(
                    what=f"the database is as it was; ovs-vswitchd has not taken it up within {self.carry_out_s:g} s",
                    where=f"ovs-vswitchd, pid {daemon.process.pid}",
                    hint="it hangs: restart it (systemctl restart openvswitch-switch)",
                ),
            )
        # Their old drivers come back next.
        for pci in _planned_devices(changes):
            detach_device(daemon, pci)
        return tuple(
            Problem(
                what="was open before, and cannot be opened again although its row is as it was",
                where=f"{RESOURCE}: {key_of(place, None)}",
                hint="see the log of ovs-vswitchd",
            )
            for place in self._lost(machine, before)
        )

    def _lost(self, machine: Machine, before: State) -> tuple[Place, ...]:
        """Ports that were open before, and are there and not open any more."""
        with self.connect(machine.ovsdb_address) as database:
            now = database.read()
        open_now = set(_open_ports(now))
        return tuple(
            place
            for place in _open_ports(before.database)
            if place not in open_now and find_port(now, place) is not None
        )


def _planned_devices(changes: tuple[Change, ...]) -> tuple[PciAddress, ...]:
    """The PCI functions that these changes gave to ports."""
    found = []
    for change in changes:
        _, setting = parse_key(change.key)
        if setting == "options:dpdk-devargs" and change.after is not None:
            with suppress(ValueError):  # a virtual device, or one by its class
                found.append(PciAddress.parse(change.after.partition(",")[0]))
    return tuple(dict.fromkeys(found))


def _open_ports(rows: OpenVswitch) -> tuple[Place, ...]:
    return tuple(
        Place(bridge.name, port.name)
        for bridge in rows.bridges
        for port in bridge.ports
        if all(one.error is None and one.ofport is not None and one.ofport > 0 for one in port.interfaces)
    )


def _alive(state: State) -> Callable[[], bool]:
    switch = state.switch
    return lambda: switch is not None and switch.daemon.alive


__all__ = ["OvsDpdk"]
