"""What an earlier plan made below its tunnels, and this one does not want."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nfvhost.access.machine import Machine
from nfvhost.access.switch_network import Network
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.settling import settled
from nfvhost.resources.underlay.check import dependents
from nfvhost.resources.underlay.difference import change_of, departures
from nfvhost.resources.underlay.place import DEPARTING, Kind, Place, parse_key, parse_way
from nfvhost.resources.underlay.place_by_place import PlaceByPlace, State, door_of, users_of

_REASONS = {
    Kind.LINK: "its bridge goes",
    Kind.IPV6: "its bridge goes",
}
_OLD = "nfvhost set this for an earlier plan; this one does not name it"
_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartingUnderlay(PlaceByPlace):
    """Addresses, routes and neighbours of an earlier plan's tunnels that this plan does not want.

    They go before `ovs_dpdk` removes a bridge, with which they would go unseen, and so a rollback has them back with
    the bridge. What `underlay` makes in their place comes later. Only what bears nfvhost's protocol number 110 goes.

    Configured: nowhere; a boot forgets it.
    Active: addresses, routes, neighbours and state by rtnetlink; `tnl/neigh/show` of ovs-vswitchd.
    Keys: as those of `underlay`.
    Effect: now; the tunnels of the earlier plan stop.
    Refuses: an address that an address of someone else hangs on; a bridge that goes and has an address or a route of
        someone else.
    Rollback: all of it as it was, once its bridge is back.
    Source: rtnetlink(7).
    """

    @property
    def name(self) -> str:
        return DEPARTING

    def read(self, machine: Machine, plan: Plan) -> State:
        del plan
        door = door_of(machine)
        # A network costs more to read than a database, and most machines have no tunnels.
        return State(network=door.read() if door.has_tunnels() else None)

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        return tuple(
            change_of(DEPARTING, place, before, after, _REASONS.get(place.kind, _OLD))
            for place, before, after in departures(state.network, plan)
        )

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del host
        if state.network is None:
            return ()
        changes = self.diff(state, plan)
        return (*_hanging(state.network, changes), *_passing(state.network, changes))

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del state, plan
        return ()

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        _, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s, interval_s=_INTERVAL_S)
        return tuple(Drift.of(one) for one in changes)


def _hanging(network: Network, changes: tuple[Change, ...]) -> Iterator[Problem]:
    """Others' addresses that go with one that is removed."""
    for change in changes:
        place: Place = parse_key(change.key)
        for one in dependents(network, place) if place.kind is Kind.ADDRESS else ():
            yield Problem(
                what=f"{one.address} of someone else hangs on it and would go too",
                where=change.where,
                hint=f"sysctl net.ipv4.conf.{place.bridge}.promote_secondaries=1",
            )


def _passing(network: Network, changes: tuple[Change, ...]) -> Iterator[Problem]:
    """What others have on a bridge that goes."""
    for change in changes:
        place = parse_key(change.key)
        if place.kind is not Kind.LINK:
            continue
        routes = [
            f"the route to {one.destination}"
            for one in network.routing.routes
            if not one.ours and (way := parse_way(one.way)) is not None and way.bridge == place.bridge
        ]
        for what in (*users_of(network, place), *routes):
            yield Problem(
                what=f"{what} of someone else would go with the bridge",
                where=change.where,
                hint="remove it, or keep the bridge in the plan",
            )


__all__ = ["DepartingUnderlay"]
