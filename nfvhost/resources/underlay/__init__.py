"""The network below tunnels: addresses, routes and neighbours of the underlay bridges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nfvhost.access.clock import wait_for
from nfvhost.access.machine import Machine
from nfvhost.access.switch_network import Network, RunningSwitchNetwork, SwitchNetwork
from nfvhost.errors import ApplyError, NfvhostError, Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.underlay.check import dependents, findings, problems
from nfvhost.resources.underlay.difference import differences
from nfvhost.resources.underlay.drift import drifts
from nfvhost.resources.underlay.place import RESOURCE, Kind, Place, bridge_interface, parse_key, parse_way, value_at
from nfvhost.resources.underlay.target import Target, target_of
from nfvhost.resources.underlay.writing import write

_INTERVAL_S = 0.05
# An interface that is there always has a value of these.
_ALWAYS = frozenset({Kind.MTU, Kind.IPV6, Kind.LINK})


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is there."""

    network: Network | None = None  # of the kernel and of ovs-vswitchd; None: no tunnel is planned, or no switch runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Underlay:
    """The network below the plan's tunnels: on each underlay bridge an address, and the way to the other ends.

    A bridge's own interface is a tap device of ovs-vswitchd, in the network namespace of that process: all is done
    there, so that a sandbox never reaches the network of the machine around it. Open vSwitch copies routes from the
    kernel, and asks for neighbours itself; a planned `gatewayMac` is told to both. What nfvhost writes bears the
    protocol number 110, by which a later plan knows it.

    Configured: nowhere; a boot forgets it, and `nfvhost.service` makes it again. A restart of ovs-vswitchd forgets what
        only Open vSwitch knew, the `ovs-neighbour`.
    Active: addresses, routes, neighbours, state and MTU by rtnetlink, `/proc/sys/net/ipv6/conf/<bridge>/disable_ipv6`;
        `ovs/route/lookup` and `tnl/neigh/show` of ovs-vswitchd.
    Keys: `link br-phy`, `mtu br-phy`, `ipv6 br-phy`, `address br-phy 10.0.0.1/24`, `route 10.9.9.9/32`,
        `neighbour br-phy 10.0.0.2`, `ovs-neighbour br-phy 10.0.0.2`.
    Effect: now; where something of an earlier plan is replaced, its tunnels stop for a moment.
    Refuses: an address that another interface has, or whose network another interface is in; a route or neighbour that
        someone else has written differently; a bridge of the kernel's data path; a port with too small an MTU.
    Rollback: removes what this apply added, and puts back what it replaced; an interface that others use by now stays
        up.
    Source: rtnetlink(7), lib/ovs-router.c and lib/tnl-neigh-cache.c of Open vSwitch.
    """

    settle_s: float = 3.0  # for Open vSwitch to copy routes, and for an address to be used

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        if not plan.tunnels:
            return State()
        return State(network=_door(machine).read(_asked(target_of(plan))))

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        return differences(state.network, target_of(plan)) if plan.tunnels else ()

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del host
        if not plan.tunnels:
            return ()
        planned = frozenset(bridge.name for bridge in plan.ovs.bridges) if plan.ovs is not None else frozenset()
        return problems(state.network, target_of(plan), self.diff(state, plan), planned=planned)

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        return findings(state.network, target_of(plan))

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        del state
        door = _door(machine)
        network = door.read() if changes else None
        for change in changes:
            place = parse_key(change.key)
            way = parse_way(change.after or change.before)
            bridge = way.bridge if way is not None else place.bridge
            if network is None or bridge_interface(network, bridge) is None:
                raise ApplyError(
                    f"{bridge} is no bridge of the userspace data path",
                    where=f"{RESOURCE}: {change.key}",
                    hint="see what `ovs-vsctl show` says of it",
                )
            write(door, place, change.before, change.after)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        del seen
        if not plan.tunnels:
            return ()
        target = target_of(plan)
        last: tuple[Drift, ...] = ()

        def as_planned() -> bool:
            nonlocal last
            network = _door(machine).read(_asked(target))
            last = drifts(network, target, differences(network, target))
            return not last

        wait_for(as_planned, timeout_s=self.settle_s, interval_s=_INTERVAL_S)
        return last

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        # The changes say what was there; what others have is none of a journal's.
        del state, changes
        return State()

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        del before
        network = _door(machine).read()
        return () if network is None else tuple(_theirs(network, changes, changes))

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        del before
        door = _door(machine)
        left: list[Problem] = []
        tried: list[Change] = []
        for change in reversed(changes):
            place = parse_key(change.key)
            # Each time anew: with an address, the kernel removes routes that need it.
            network = door.read()
            now = value_at(network, place)
            if network is None:
                return (*left, *_out_of_reach(machine, changes))
            if _is_back(network, place, now, change):
                continue
            theirs = () if force else tuple(_theirs(network, (change,), changes))
            if theirs:
                left += theirs
                continue
            try:
                write(door, place, now, change.before)
            except NfvhostError as error:
                left += [
                    Problem(what=f"could not be put back: {one.what}", where=_where(change), hint=one.hint)
                    for one in error.problems
                ]
                continue
            tried.append(change)
        network = door.read() if tried else None
        return (
            *left,
            *(
                Problem(what="was written and does not read as before", where=_where(change))
                for change in tried
                if network is not None
                and not _is_back(network, place := parse_key(change.key), value_at(network, place), change)
            ),
        )


def _door(machine: Machine) -> SwitchNetwork:
    return machine.switch_network or RunningSwitchNetwork(root=machine.root, ovsdb=machine.ovsdb_address)


def _asked(target: Target) -> tuple[str, ...]:
    """The addresses that Open vSwitch has to know a way to."""
    return tuple(dict.fromkeys(one for end in target.ends for one in (end.local, end.remote) if one is not None))


def _where(change: Change) -> str:
    return f"{RESOURCE}: {change.key}"


def _is_back(network: Network, place: Place, now: str | None, change: Change) -> bool:
    """Whether nothing is left to undo: the place is as before, or the interface that it is of has gone."""
    if now == change.before:
        return True
    way = parse_way(change.before or change.after)
    gone = bridge_interface(network, way.bridge if way is not None else place.bridge) is None
    return (gone and now is None) or (change.before is None and place.kind in _ALWAYS)


def _theirs(network: Network, changes: tuple[Change, ...], mine: tuple[Change, ...]) -> Iterator[Problem]:
    """The places of `changes` that someone else has made something of; `mine` are all changes of that apply.

    What is not there is nobody's: it goes with the interface.
    """
    own = {parse_key(change.key) for change in mine}
    for change in changes:
        place = parse_key(change.key)
        now = value_at(network, place)
        if now not in {change.before, change.after, None}:
            what = f"was {change.before}, then nfvhost made it {change.after}; since then someone else made it {now}"
            yield Problem(what=what, where=_where(change), hint="--force overwrites it")
        elif now == change.after != change.before:
            users = _users(network, place, own)
            if users:
                what = f"is in use by others now: {', '.join(users)}"
                yield Problem(what=what, where=_where(change), hint="--force takes it away from them")


def _out_of_reach(machine: Machine, changes: tuple[Change, ...]) -> Iterator[Problem]:
    """What cannot be undone because no ovs-vswitchd runs: on this machine its interfaces outlive it (TUNSETPERSIST).

    Those of a private switch go with its namespace.
    """
    for change in () if machine.private else changes:
        way = parse_way(change.after or change.before)
        bridge = way.bridge if way is not None else parse_key(change.key).bridge
        if machine.root.exists(f"/sys/class/net/{bridge}"):
            what = f"ovs-vswitchd does not run, and the interface {bridge} that it left is not touched"
            yield Problem(
                what=what, where=_where(change), hint="start it (systemctl start openvswitch-switch) and retry"
            )


def _users(network: Network, place: Place, own: set[Place]) -> tuple[str, ...]:
    """Addresses of others that would go with this setting."""
    if place.kind is Kind.ADDRESS:
        return tuple(one.address for one in dependents(network, place))
    if place.kind not in {Kind.LINK, Kind.IPV6}:
        return ()
    return tuple(
        one.address
        for one in network.routing.addresses
        if one.interface == place.bridge
        and not one.ours
        and Place(kind=Kind.ADDRESS, bridge=one.interface, item=one.address) not in own
        # The kernel makes these itself.
        and not one.address.startswith("fe80:")
        and (place.kind is Kind.LINK or ":" in one.address)
    )


__all__ = ["State", "Underlay"]
