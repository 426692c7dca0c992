"""The network below tunnels: addresses, routes and neighbours of the underlay bridges."""

from __future__ import annotations

from dataclasses import dataclass

from nfvhost.access.clock import wait_for
from nfvhost.access.machine import Machine
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.underlay.check import findings, problems
from nfvhost.resources.underlay.difference import departures, differences
from nfvhost.resources.underlay.drift import drifts
from nfvhost.resources.underlay.place import RESOURCE
from nfvhost.resources.underlay.place_by_place import PlaceByPlace, State, door_of
from nfvhost.resources.underlay.target import Target, target_of

_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Underlay(PlaceByPlace):
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
    Effect: now. What an earlier plan wanted and this one does not is `departing_underlay`'s.
    Refuses: an address that another interface has, or whose network another interface is in; a route or neighbour that
        someone else has written differently; a bridge of the kernel's data path; a port with too small an MTU.
    Rollback: removes what this apply added, and puts back what it replaced; an interface that others use by now stays
        up.
    Source: rtnetlink(7), lib/ovs-router.c and lib/tnl-neigh-cache.c of Open vSwitch.
    """

    @property
    def name(self) -> str:
        return RESOURCE

    def read(self, machine: Machine, plan: Plan) -> State:
        if not plan.tunnels:
            return State()
        return State(network=door_of(machine).read(_asked(target_of(plan))))

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        return differences(state.network, target_of(plan)) if plan.tunnels else ()

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del host
        if not plan.tunnels:
            return ()
        planned = frozenset(bridge.name for bridge in plan.ovs.bridges) if plan.ovs is not None else frozenset()
        departing = frozenset(place for place, *_ in departures(state.network, plan))
        return problems(state.network, target_of(plan), self.diff(state, plan), planned=planned, departing=departing)

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        return findings(state.network, target_of(plan))

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        del seen
        if not plan.tunnels:
            return ()
        target = target_of(plan)
        last: tuple[Drift, ...] = ()

        def as_planned() -> bool:
            nonlocal last
            network = door_of(machine).read(_asked(target))
            last = drifts(network, target, differences(network, target))
            return not last

        wait_for(as_planned, timeout_s=self.settle_s, interval_s=_INTERVAL_S)
        return last


def _asked(target: Target) -> tuple[str, ...]:
    """The addresses that Open vSwitch has to know a way to."""
    return tuple(dict.fromkeys(one for end in target.ends for one in (end.local, end.remote) if one is not None))


__all__ = ["State", "Underlay"]
