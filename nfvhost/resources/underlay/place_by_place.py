"""A network that is written place by place, and put back so."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from nfvhost.access.machine import Machine
from nfvhost.access.switch_network import Network, RunningSwitchNetwork, SwitchNetwork
from nfvhost.errors import ApplyError, NfvhostError, Problem
from nfvhost.model.change import Change
from nfvhost.resources.underlay.check import dependents
from nfvhost.resources.underlay.place import WITHOUT, Kind, Place, bridge_interface, parse_key, parse_way, value_at
from nfvhost.resources.underlay.writing import write

# An interface that is there always has a value of these.
_ALWAYS = frozenset({Kind.MTU, Kind.IPV6, Kind.LINK})


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is there."""

    network: Network | None = None  # of the kernel and of ovs-vswitchd; None: no tunnel is about, or no switch runs


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceByPlace:
    """What resources of places have in common."""

    settle_s: float = 3.0  # for Open vSwitch to copy routes, and for an address to be used

    @property
    def state_type(self) -> type[State]:
        return State

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        del state
        door = door_of(machine)
        network = door.read() if changes else None
        for change in changes:
            place = parse_key(change.key)
            way = parse_way(change.after or change.before)
            bridge = way.bridge if way is not None else place.bridge
            if network is None or bridge_interface(network, bridge) is None:
                raise ApplyError(
                    f"{bridge} is no bridge of the userspace data path",
                    where=change.where,
                    hint="see what `ovs-vsctl show` says of it",
                )
            write(door, place, change.before, change.after)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        # The changes say what was there; what others have is none of a journal's.
        del state, changes
        return State()

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        del before
        network = door_of(machine).read()
        return () if network is None else tuple(_theirs(network, changes, changes))

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        del before
        door = door_of(machine)
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
                    Problem(what=f"could not be put back: {one.what}", where=change.where, hint=one.hint)
                    for one in error.problems
                ]
                continue
            tried.append(change)
        network = door.read() if tried else None
        return (
            *left,
            *(
                Problem(what="was written and does not read as before", where=change.where)
                for change in tried
                if network is not None
                and not _is_back(network, place := parse_key(change.key), value_at(network, place), change)
            ),
        )


def door_of(machine: Machine) -> SwitchNetwork:
    """The network around the machine's ovs-vswitchd."""
    return machine.switch_network or RunningSwitchNetwork(root=machine.root, ovsdb=machine.ovsdb_address)


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
            yield Problem(what=what, where=change.where, hint="--force overwrites it")
        elif now == change.after != change.before and change.before in WITHOUT:
            users = users_of(network, place, own)
            if users:
                what = f"is in use by others now: {', '.join(users)}"
                yield Problem(what=what, where=change.where, hint="--force takes it away from them")


def _out_of_reach(machine: Machine, changes: tuple[Change, ...]) -> Iterator[Problem]:
    """What cannot be undone because no ovs-vswitchd runs: on this machine its interfaces outlive it (TUNSETPERSIST).

    Those of a private switch go with its namespace.
    """
    for change in () if machine.private else changes:
        way = parse_way(change.after or change.before)
        bridge = way.bridge if way is not None else parse_key(change.key).bridge
        if machine.root.exists(f"/sys/class/net/{bridge}"):
            what = f"ovs-vswitchd does not run, and the interface {bridge} that it left is not touched"
            yield Problem(what=what, where=change.where, hint="start it (systemctl start openvswitch-switch) and retry")


def users_of(network: Network, place: Place, own: Collection[Place] = ()) -> tuple[str, ...]:
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
