"""From changes to what is done to the database, and from a before-image back to it."""

from __future__ import annotations

from collections.abc import Iterator

from nfvhost.access.ovs_rows import Bridge, Drop, Make, OpenVswitch, Operation, Place, Port, Restore, Set, value_at
from nfvhost.model.change import Change
from nfvhost.resources.ovs_dpdk.difference import find_port, type_at
from nfvhost.resources.ovs_dpdk.place import parse_key


def operations_of(changes: tuple[Change, ...]) -> tuple[Operation, ...]:
    """What one transaction does for these changes: rows go first, then come, then get their values."""
    drops: list[Operation] = []
    makes: list[Operation] = []
    sets: list[Operation] = []
    gone = {place.bridge for place in _dropped(changes) if place.port is None}
    for change in changes:
        place, setting = parse_key(change.key)
        if setting is not None:
            sets.append(Set(place=place, setting=setting, before=change.before, after=change.after))
        elif change.after is None:
            if place.port is None or place.bridge not in gone:
                drops.append(Drop(place=place))
        elif change.before is None:
            makes.append(Make(place=place, type=change.after))
        else:
            sets.append(_retype(place, change.before, change.after))
    return (*drops, *makes, *sets)


def way_back(before: OpenVswitch, now: OpenVswitch, changes: tuple[Change, ...]) -> tuple[Operation, ...]:
    """What makes each place that the changes name what it was before; empty where it is.

    From what is there now, not from what was meant: a transaction that was cut off may or may not have happened. What
    is neither as before nor as the change wanted it is someone else's, who wrote meanwhile, and stays.
    """
    drops: list[Operation] = []
    restores: list[Operation] = []
    sets: list[Operation] = []
    places = [(*parse_key(change.key), change) for change in changes]
    # Bridges that go or come back with all that is in them.
    whole = {
        place.bridge for place, _, _ in places if place.bridge and _comes_or_goes(before, now, Place(place.bridge))
    }
    for place, setting, change in places:
        if _value(now, place, setting) != change.after or (place.port is not None and place.bridge in whole):
            continue
        was = _row(before, place)
        if place.bridge is not None and _comes_or_goes(before, now, place):
            if setting is None and was is None:
                drops.append(Drop(place=place))
            elif setting is None and was is not None:
                restores.append(Restore(of=place.bridge if place.port is not None else None, row=was))
        elif change.before != change.after and (place.bridge is None or was is not None):
            name = setting if setting is not None else _type_column(place)
            sets.append(Set(place=place, setting=name, before=change.after, after=change.before))
    return (*drops, *restores, *sets)


def remains(now: OpenVswitch, changes: tuple[Change, ...]) -> Iterator[tuple[str, str]]:
    """The keys that still are as the changes wanted them, each with the words for it."""
    for change in changes:
        place, setting = parse_key(change.key)
        new = _value(now, place, setting)
        if new == change.after and new != change.before:
            yield change.key, f"was {_shown(change.before)} and is {_shown(new)}"


def _value(rows: OpenVswitch, place: Place, setting: str | None) -> str | None:
    return type_at(rows, place) if setting is None else value_at(rows, place, setting)


def _shown(value: str | None) -> str:
    return "absent" if value is None else repr(value)


def _dropped(changes: tuple[Change, ...]) -> Iterator[Place]:
    for change in changes:
        place, setting = parse_key(change.key)
        if setting is None and change.after is None:
            yield place


def _type_column(place: Place) -> str:
    return "datapath_type" if place.port is None else "type"


def _retype(place: Place, before: str, after: str) -> Set:
    return Set(place=place, setting=_type_column(place), before=before, after=after)


def _comes_or_goes(before: OpenVswitch, now: OpenVswitch, place: Place) -> bool:
    return (type_at(before, place) is None) != (type_at(now, place) is None)


def _row(rows: OpenVswitch, place: Place) -> Bridge | Port | None:
    if place.bridge is None or type_at(rows, place) is None:
        return None
    return rows.bridge(place.bridge) if place.port is None else find_port(rows, place)
