"""From changes to what is done to the database, and from a before-image back to it."""

from __future__ import annotations

from collections.abc import Iterator

from nfvhost.access.ovs_rows import Bridge, Drop, Make, OpenVswitch, Operation, Place, Port, Restore, Set, value_at
from nfvhost.model.change import Change
from nfvhost.resources.ovs_dpdk.difference import find_port, type_at
from nfvhost.resources.ovs_dpdk.place import key_of, parse_key


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

    From what is there now, not from what was meant: a transaction that was cut off may or may not have happened.
    """
    drops: list[Operation] = []
    restores: list[Operation] = []
    sets: list[Operation] = []
    places = tuple(dict.fromkeys(parse_key(change.key) for change in changes))
    # Bridges that go or come back with all that is in them.
    whole = {place.bridge for place, _ in places if place.bridge and _comes_or_goes(before, now, Place(place.bridge))}
    for place, setting in places:
        was, is_now = _row(before, place), _row(now, place)
        if place.port is not None and place.bridge in whole:
            continue
        if place.bridge is not None and _comes_or_goes(before, now, place):
            if setting is None and was is None:
                drops.append(Drop(place=place))
            elif setting is None and was is not None:
                restores.append(Restore(of=place.bridge if place.port is not None else None, row=was))
            continue
        if place.bridge is not None and was is None and is_now is None:
            continue
        name = setting if setting is not None else _type_column(place)
        old, new = value_at(before, place, name), value_at(now, place, name)
        if old != new:
            sets.append(Set(place=place, setting=name, before=new, after=old))
    return (*drops, *restores, *sets)


def remains(before: OpenVswitch, now: OpenVswitch, changes: tuple[Change, ...]) -> Iterator[tuple[str, str]]:
    """The keys that are not as they were before, each with the words for it."""
    for place, setting in dict.fromkeys(parse_key(change.key) for change in changes):
        name = setting if setting is not None or place.bridge is None else _type_column(place)
        old = value_at(before, place, name or "")
        new = value_at(now, place, name or "")
        if old != new:
            yield key_of(place, setting), f"was {_shown(old)} and is {_shown(new)}"


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
