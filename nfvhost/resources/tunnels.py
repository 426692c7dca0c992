"""The segments of SRv6 tunnels, as they leave the switch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from nfvhost.access.clock import sleep, wait_for
from nfvhost.access.machine import Machine
from nfvhost.access.ovs_rows import OpenVswitch, Place, Set, value_at
from nfvhost.access.ovsdb import NotRunningError, connected, socket_path
from nfvhost.access.tunnel_segments import sent_segments
from nfvhost.access.vswitchd import Vswitchd, find_vswitchd
from nfvhost.errors import ApplyError, Problem
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources import Unmet
from nfvhost.resources.ovs_dpdk.mark import read_mark

RESOURCE: Final = "tunnels"
_TYPE: Final = "srv6"
_SEGMENTS: Final = "srv6_segs"
# A key that Open vSwitch does not read: any change of the row makes it read the whole row again.
_REARMED: Final = "other_config:nfvhost-rearmed"
_INTERVAL_S: Final = 0.1
_CARRY_OUT_S: Final = 10.0
# What a change of another resource has set off in ovs-vswitchd may still come.
_CALM_S: Final = 0.3
_HINT: Final = "nfvhost watch restores it by itself; nfvhost apply does so once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """One port with several segments."""

    bridge: str
    port: str
    wanted: tuple[str, ...]
    sent: tuple[str, ...] | None  # by ovs-vswitchd itself; None where it does not know the way yet

    @property
    def lost(self) -> bool:
        """Whether packets leave with other segments than those wanted."""
        return self.sent is not None and self.sent != self.wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is there."""

    there: tuple[Segments, ...] = ()  # of the plan's tunnels, those whose port is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnels:
    """The segments of SRv6 tunnels, as they leave the switch.

    Open vSwitch cuts the list of segments that it holds in memory at the first comma each time that it reads it, and
    reads it at each reconfiguration: packets then leave with the first segment alone, while its database shows them
    all (docs/decisions/0011-srv6-segments.md). This comes after all that reconfigures Open vSwitch, and makes it read
    the rows of all these tunnels again, in one transaction. A tunnel with one segment is not concerned.

    Configured: nowhere; the list itself is in the database, and is written by `ovs_dpdk`.
    Active: the header that ovs-vswitchd would put before a packet, as `ofproto/trace-packet-out` shows it.
    Keys: `segments br-int/srv6-east`.
    Effect: now; nothing is disturbed.
    Refuses: nothing.
    Rollback: nothing is to be put back; the port goes with `ovs_dpdk`.
    Source: lib/netdev-vport.c (parse_srv6_segs) and lib/ovsdb-idl.c (ovsdb_idl_modify_row) of Open vSwitch.
    """

    settle_s: float = 3.0

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        names = {tunnel.name for tunnel in plan.tunnels if len(tunnel.segments) > 1}
        if not names:
            return State()
        return State(there=tuple(one for one in read_segments(machine, find_way=True) if one.port in names))

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        there = {one.port: one for one in state.there}
        return tuple(
            Change(
                resource=RESOURCE,
                key=f"segments {tunnel.bridge}/{tunnel.name}",
                before=None if one is None or one.sent is None else ",".join(one.sent),
                after=",".join(tunnel.segments),
                activation=Activation.NOW,
                disruption=Disruption.NONE,
                reason="Open vSwitch forgets all segments but the first when it is reconfigured, and is reminded",
            )
            for tunnel in plan.tunnels
            if len(tunnel.segments) > 1
            for one in (there.get(tunnel.name),)
            if one is None or one.lost
        )

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del host
        there = {one.port for one in state.there}
        return tuple(
            Unmet(
                what=f"there is no port {tunnel.name} yet",
                where=f"{RESOURCE}: segments {tunnel.bridge}/{tunnel.name}",
                met_by="ovs_dpdk",
            )
            for tunnel in plan.tunnels
            if len(tunnel.segments) > 1 and tunnel.name not in there
        )

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del plan
        return tuple(
            Problem(
                what="Open vSwitch knows no way to the first segment yet: nobody can say what it sends",
                where=f"{RESOURCE}: segments {one.bridge}/{one.port}",
                hint="does the gateway of the underlay answer?",
            )
            for one in state.there
            if one.sent is None
        )

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        del changes
        ports = frozenset(one.port for one in state.there)

        def whole() -> bool:
            rearm(machine, ports)
            sleep(_CALM_S)
            return not any(one.lost for one in read_segments(machine) if one.port in ports)

        if ports and not wait_for(whole, timeout_s=self.settle_s, interval_s=_INTERVAL_S):
            raise ApplyError(
                "another program reconfigures Open vSwitch so often that the segments do not stay",
                where=RESOURCE,
                hint="ovs-vsctl and `ip monitor link` in its network namespace show who",
            )

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        there = (self.read(machine, plan) if seen is None else seen).there
        if there and not any(one.lost for one in there):
            sleep(_CALM_S)
            there = self.read(machine, plan).there
        return tuple(
            Drift(
                resource=RESOURCE,
                key=f"segments {one.bridge}/{one.port}",
                planned=",".join(one.wanted),
                actual=",".join(one.sent or ()),
                hint=_HINT,
            )
            for one in there
            if one.lost
        )

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        del state, changes
        return State()

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        del machine, before, changes
        return ()

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        del machine, before, changes, force
        return ()


def read_segments(machine: Machine, *, find_way: bool = False) -> tuple[Segments, ...]:
    """Those of nfvhost's ports that have several segments; empty where no Open vSwitch runs.

    With `find_way`, Open vSwitch is made to look for the next hop where it does not know it.
    """
    daemon = _daemon(machine)
    if daemon is None:
        return ()
    try:
        with connected(machine.ovsdb_address) as database:
            rows = database.read()
    except NotRunningError:
        return ()
    return tuple(
        Segments(bridge=bridge, port=port, wanted=wanted, sent=_sent(daemon, bridge, ofport, find_way=find_way))
        for bridge, port, wanted, ofport in with_several_segments(rows, ours=True)
    )


def rearm(machine: Machine, ports: Iterable[str]) -> None:
    """Nothing, once ovs-vswitchd has read the rows of these ports of nfvhost again.

    All in one transaction: that of one would cut the others. What has been read is cut again in memory, so that the
    next reconfiguration but one row's own forgets the segments once more.
    """
    daemon = _daemon(machine)
    wanted = frozenset(ports)
    with connected(machine.ovsdb_address) as database:
        rows = database.read()
        places = [
            Place(bridge, port) for bridge, port, _, _ in with_several_segments(rows, ours=True) if port in wanted
        ]
        if not places:
            return
        number = database.commit(tuple(_touch(rows, place) for place in places))
        if not database.wait_for_cfg(number, timeout_s=_CARRY_OUT_S, alive=lambda: daemon is not None and daemon.alive):
            raise ApplyError(
                f"ovs-vswitchd has not read its database within {_CARRY_OUT_S:g} s", where=RESOURCE, hint="see its log"
            )


def _touch(rows: OpenVswitch, place: Place) -> Set:
    before = value_at(rows, place, _REARMED)
    count = int(before) if before is not None and before.isdecimal() else 0
    return Set(place=place, setting=_REARMED, before=before, after=str(count + 1))


def with_several_segments(rows: OpenVswitch, *, ours: bool) -> Iterator[tuple[str, str, tuple[str, ...], int]]:
    """Bridge, port, segments and OpenFlow number of each open port that has several segments.

    With `ours`, of those alone that bear nfvhost's mark.
    """
    for bridge in rows.bridges:
        for port in bridge.ports:
            interface = port.interfaces[0]
            if interface.type != _TYPE or (ours and read_mark(port.external_ids) is None):
                continue
            parts = [one for one in dict(interface.options).get(_SEGMENTS, "").split(",") if one]
            if len(parts) > 1 and interface.ofport is not None and interface.ofport > 0:
                yield bridge.name, port.name, tuple(map(_plain, parts)), interface.ofport


def _plain(segment: str) -> str:
    """The address as Open vSwitch writes it; the text itself where it is none."""
    try:
        return str(ip_address(segment))
    except ValueError:
        return segment


def _sent(daemon: Vswitchd, bridge: str, ofport: int, *, find_way: bool) -> tuple[str, ...] | None:
    found = sent_segments(daemon.control, bridge, ofport)
    if found is not None or not find_way:
        return found
    sent_segments(daemon.control, bridge, ofport, send=True)
    return wait_for(lambda: sent_segments(daemon.control, bridge, ofport), timeout_s=1.0, interval_s=_INTERVAL_S)


def _daemon(machine: Machine) -> Vswitchd | None:
    if not machine.root.live:
        return None
    return find_vswitchd(machine.root, os.path.dirname(socket_path(machine.ovsdb_address)))


__all__ = ["RESOURCE", "Segments", "State", "Tunnels", "read_segments", "rearm", "with_several_segments"]
