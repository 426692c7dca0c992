"""Flows that steer guests' packets into SRv6 tunnels, and to guests what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.access.switch_flows import FlowTables, RunningFlowTables, SwitchFlow, SwitchFlows
from nfvhost.errors import ApplyError, NfvhostError, Problem
from nfvhost.model.change import Change, Disruption
from nfvhost.model.host import Host
from nfvhost.model.plan import OvsBridge, Plan, TunnelPlan
from nfvhost.model.profile import TunnelType
from nfvhost.model.report import Drift
from nfvhost.resources import Unmet
from nfvhost.resources.settling import settled

RESOURCE: Final = "steering"
# What guests see as the sender of what comes back, and may name as their gateway's: "nfv" in ASCII, administered here.
_GATEWAY_MAC: Final = "02:6e:66:76:ff:01"
# Above all that Neutron's agent has in table 0 (neutron/plugins/ml2/drivers/openvswitch/agent, at most 105). The length
# of a prefix is added, so that the longest one wins.
_INTO: Final = 20000
_BACK: Final = 20200
_SWITCH: Final = "ovs_dpdk"
# options:remote_ip=flow: it takes packets from anywhere (vswitch.xml).
_FLOW: Final = "flow"
_INTERVAL_S: Final = 0.05
_IPV6: Final = 6
_HINT: Final = "a restart of ovs-vswitchd forgets flows, and others may remove them; nfvhost watch brings them back"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is there."""

    switch: SwitchFlows | None = None  # ports and flows of its bridges; None: none is planned, or none runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """One flow, and why."""

    flow: SwitchFlow
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """The flows of tunnels with a `guestPort`: what comes by that port for the tunnel's networks goes into the tunnel.

    What comes back, by the tunnel itself or by the port that receives for its local address, goes to `guestPort` with
    `guestMac` as its destination: SRv6 carries packets without Ethernet. Its sender is then 02:6e:66:76:ff:01. The
    longest of several networks wins; the lifetime of a packet that goes in is one less (RFC 8986, 5.1). All flows of
    a bridge are written in one bundle. They bear a cookie of nfvhost's, and flows without it are never touched.

    Configured: nowhere; Open vSwitch keeps flows in memory. `nfvhost.service` makes them at each start of Open vSwitch,
        `nfvhost-watch.service` where they went otherwise (docs/decisions/0012-steering-flows.md).
    Active: table 0 of the tunnel's bridge, as `ovs-ofctl dump-flows` shows it.
    Keys: `flow br-int priority=20024,in_port=vhu0,ip,nw_dst=10.2.0.0/24`.
    Effect: now; nothing is disturbed, but for a flow of an earlier plan that goes.
    Refuses: a port that is not there; a flow of someone else with the same match and priority.
    Rollback: removes the flows that this apply made, and puts back those that it replaced; what someone else has made
        of one meanwhile stays.
    Source: ovs-ofctl(8), ovs-fields(7), OpenFlow 1.4.
    """

    settle_s: float = 1.0  # for another's write, such as Neutron's agent that starts

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        if plan.ovs is None:
            return State()
        return State(switch=_door(machine).read({one.bridge for one in _steered(plan)}))

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        return _differences(state.switch, target_of(plan))

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del host
        wants = target_of(plan)
        return (*_absent(state.switch, plan, wants), *_taken(state.switch, wants))

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del state, plan
        return ()

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        del state
        _write(
            _door(machine),
            [flow for change in changes if change.after is None for flow in _flows(change, change.before)],
            [flow for change in changes for flow in _flows(change, change.after)],
        )

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        _, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s, interval_s=_INTERVAL_S)
        return tuple(Drift.of(one, hint=_HINT) for one in changes)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        # The changes say what was there; what others have is none of a journal's.
        del state, changes
        return State()

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        del before
        return tuple(_theirs(_now(machine, changes), changes))

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        del before
        now = _now(machine, changes)
        if now is None:
            # With the process its flows went.
            return ()
        theirs = () if force else tuple(_theirs(now, changes))
        kept = {one.where for one in theirs}
        ports = set(now.ports)
        left: list[Problem] = [*theirs]
        back: list[Change] = []
        for change in changes:
            there = _at(now, change)
            if change.where in kept or (None if there is None else there.actions) == change.before:
                continue
            gone = _absent_ports(ports, _flows(change, change.before))
            if gone:
                left.append(Problem(what=f"the port {gone[0]} is not there any more", where=change.where))
                continue
            back.append(change)
        for bridge in dict.fromkeys(parse_key(change.key).bridge for change in back):
            mine = [change for change in back if parse_key(change.key).bridge == bridge]
            try:
                _write(
                    _door(machine),
                    [there for change in mine if change.before is None if (there := _at(now, change)) is not None],
                    [flow for change in mine for flow in _flows(change, change.before)],
                )
            except NfvhostError as error:
                left += [
                    Problem(what=f"could not be put back: {one.what}", where=change.where, hint=one.hint)
                    for change in mine
                    for one in error.problems
                ]
                back = [change for change in back if change not in mine]
        then = _now(machine, changes) if back else None
        return (
            *left,
            *(
                Problem(what="was written and does not read as before", where=change.where)
                for change in back
                if then is not None
                and (None if (there := _at(then, change)) is None else there.actions) != change.before
            ),
        )


def lost_flows(machine: Machine, plan: Plan) -> tuple[Change, ...]:
    """What brings the plan's flows back whose ports are there, and whose place nobody else has taken."""
    if not _steered(plan):
        return ()
    switch = _door(machine).read({one.bridge for one in _steered(plan)}, others=False)
    if switch is None:
        return ()
    wants = target_of(plan)
    blocked = {one.where for one in (*_absent(switch, plan, wants), *_taken(switch, wants))}
    return tuple(
        change for change in _differences(switch, wants) if change.after is not None and change.where not in blocked
    )


def make_again(machine: Machine, lost: tuple[Change, ...]) -> None:
    """Nothing, once these flows are there; PreconditionError where Open vSwitch refuses."""
    Steering().apply(machine, State(), lost)


def target_of(plan: Plan) -> tuple[Want, ...]:
    """The flows that the plan wants, each match once."""
    wants: dict[str, Want] = {}
    for tunnel in _steered(plan):
        for want in (*_into(tunnel), *_back(plan, tunnel)):
            wants.setdefault(key_of(want.flow), want)
    return tuple(wants.values())


def key_of(flow: SwitchFlow) -> str:
    """How the changes of that flow are called."""
    return f"flow {flow.bridge} {','.join((f'priority={flow.priority}', *flow.match))}"


def parse_key(key: str) -> SwitchFlow:
    """The place of a flow: without actions; ApplyError for a text that `key_of` has not made."""
    kind, _, rest = key.partition(" ")
    bridge, _, match = rest.partition(" ")
    first, *words = match.split(",")
    name, _, priority = first.partition("=")
    if kind != "flow" or name != "priority" or not priority.isdecimal():
        raise ApplyError("is no flow", where=f"{RESOURCE}: {key}")
    return SwitchFlow(bridge=bridge, priority=int(priority), match=tuple(words), actions="", ours=True)


def _steered(plan: Plan) -> tuple[TunnelPlan, ...]:
    """The tunnels whose flows the plan says."""
    return tuple(one for one in plan.tunnels if one.guest_port is not None and one.guest_mac is not None)


def _into(tunnel: TunnelPlan) -> Iterator[Want]:
    for text in tunnel.networks:
        network = ip_network(text)
        kind, field = ("ipv6", "ipv6_dst") if network.version == _IPV6 else ("ip", "nw_dst")
        match = [f"in_port={tunnel.guest_port}", kind]
        if network.prefixlen:
            match.append(f"{field}={network}")
        yield Want(
            flow=SwitchFlow(
                bridge=tunnel.bridge,
                priority=_INTO + network.prefixlen,
                match=tuple(sorted(match)),
                actions=f"dec_ttl,output:{tunnel.name}",
                ours=True,
            ),
            reason=f"{network} is behind tunnel {tunnel.name}",
        )


def _back(plan: Plan, tunnel: TunnelPlan) -> Iterator[Want]:
    actions = f"set_field:{_GATEWAY_MAC}->eth_src,set_field:{tunnel.guest_mac}->eth_dst,output:{tunnel.guest_port}"
    for port in (tunnel.name, *_receivers(plan, tunnel)):
        yield Want(
            flow=SwitchFlow(
                bridge=tunnel.bridge, priority=_BACK, match=(f"in_port={port}",), actions=actions, ours=True
            ),
            reason=f"what comes to {tunnel.local} is for {tunnel.guest_port}",
        )


def _receivers(plan: Plan, tunnel: TunnelPlan) -> tuple[str, ...]:
    """The ports that take packets for its local address from anywhere."""
    bridge = _bridge(plan, tunnel.bridge)
    return tuple(
        port.name
        for port in (bridge.ports if bridge is not None else ())
        if port.type == TunnelType.SRV6
        and dict(port.options).get("remote_ip") == _FLOW
        and dict(port.options).get("local_ip") == tunnel.local
        and port.name != tunnel.name
    )


def _bridge(plan: Plan, name: str) -> OvsBridge | None:
    return next((one for one in plan.ovs.bridges if one.name == name), None) if plan.ovs is not None else None


def _differences(switch: SwitchFlows | None, wants: tuple[Want, ...]) -> tuple[Change, ...]:
    """What is to be written: flows of an earlier plan go first."""
    wanted = {key_of(want.flow): want for want in wants}
    there = {key_of(one): one for one in (switch.flows if switch is not None else ()) if one.ours}
    return (
        *(
            _change(key, one.actions, None, "nfvhost made it for an earlier plan; this one does not name it")
            for key, one in there.items()
            if key not in wanted
        ),
        *(
            _change(key, None if before is None else before.actions, want.flow.actions, want.reason)
            for key, want in wanted.items()
            for before in (there.get(key),)
            if before is None or before.actions != want.flow.actions
        ),
    )


def _change(key: str, before: str | None, after: str | None, reason: str) -> Change:
    # What was there may have been in use.
    disruption = Disruption.NONE if before is None else Disruption.LINK
    return Change.now(RESOURCE, key, before, after, reason, disruption=disruption)


def _absent(switch: SwitchFlows | None, plan: Plan, wants: tuple[Want, ...]) -> Iterator[Problem]:
    """Flows whose ports are not there."""
    ports = set(switch.ports) if switch is not None else set()
    for want in wants:
        bridge = _bridge(plan, want.flow.bridge)
        planned = {port.name for port in bridge.ports} | {bridge.name} if bridge is not None else set()
        for name in _absent_ports(ports, (want.flow,)):
            where = f"{RESOURCE}: {key_of(want.flow)}"
            if name in planned:
                yield Unmet(what=f"there is no port {name} yet", where=where, met_by=_SWITCH)
            else:
                yield Problem(
                    what=f"{want.flow.bridge} has no port {name}, and the plan makes none",
                    where=where,
                    hint="start the guest that it is of first, or correct guestPort",
                )
            break


def _absent_ports(ports: set[tuple[str, str]], flows: Sequence[SwitchFlow]) -> tuple[str, ...]:
    """The ports that these flows name and no bridge has."""
    named = ((flow.bridge, name) for flow in flows for name in _ports_of(flow))
    return tuple(name for bridge, name in named if (bridge, name) not in ports)


def _ports_of(flow: SwitchFlow) -> tuple[str, ...]:
    came_by = [word.removeprefix("in_port=") for word in flow.match if word.startswith("in_port=")]
    goes_to = [word.removeprefix("output:") for word in flow.actions.split(",") if word.startswith("output:")]
    return tuple(dict.fromkeys([*came_by, *goes_to]))


def _taken(switch: SwitchFlows | None, wants: tuple[Want, ...]) -> Iterator[Problem]:
    """Matches that someone else has a flow for: OpenFlow keeps one."""
    others = {key_of(one): one for one in (switch.flows if switch is not None else ()) if not one.ours}
    for want in wants:
        other = others.get(key_of(want.flow))
        if other is not None:
            yield Problem(
                what=f"someone else has a flow with this match: {other.actions}",
                where=f"{RESOURCE}: {key_of(want.flow)}",
                hint="remove it (ovs-ofctl --strict del-flows), or leave guestPort out and keep to flows of your own",
            )


def _door(machine: Machine) -> FlowTables:
    return machine.flow_tables or RunningFlowTables(root=machine.root, ovsdb=machine.ovsdb_address)


def _now(machine: Machine, changes: tuple[Change, ...]) -> SwitchFlows | None:
    return _door(machine).read({parse_key(change.key).bridge for change in changes})


def _at(now: SwitchFlows, change: Change) -> SwitchFlow | None:
    """The flow of that match, whoever made it."""
    return next((one for one in now.flows if key_of(one) == change.key), None)


def _flows(change: Change, actions: str | None) -> tuple[SwitchFlow, ...]:
    """The flow of that change with these actions; none where there are none."""
    if actions is None:
        return ()
    place = parse_key(change.key)
    return (SwitchFlow(bridge=place.bridge, priority=place.priority, match=place.match, actions=actions, ours=True),)


def _write(door: FlowTables, gone: Sequence[SwitchFlow], new: Sequence[SwitchFlow]) -> None:
    for bridge in dict.fromkeys(flow.bridge for flow in (*gone, *new)):
        door.change(
            bridge,
            gone=[flow for flow in gone if flow.bridge == bridge],
            new=[flow for flow in new if flow.bridge == bridge],
        )


def _theirs(now: SwitchFlows | None, changes: tuple[Change, ...]) -> Iterator[Problem]:
    """The places that someone else has made something of; what is not there is nobody's."""
    for change in changes:
        there = _at(now, change) if now is not None else None
        if there is not None and not (there.ours and there.actions in {change.before, change.after}):
            what = f"was {change.before}, then nfvhost made it {change.after}; since then someone else made it "
            yield Problem(what=what + there.actions, where=change.where, hint="--force overwrites it")


__all__ = ["RESOURCE", "State", "Steering", "key_of", "lost_flows", "make_again", "parse_key", "target_of"]
