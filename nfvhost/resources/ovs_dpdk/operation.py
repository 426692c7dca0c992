"""From changes to what is done to the database, and from a before-image back to it."""

from __future__ import annotations

from collections.abc import Iterator

from nfvhost.access.ovs_rows import Bridge, Drop, Make, OpenVswitch, Operation, Place, Port, Restore, Set, value_at
from nfvhost.model.change import Change
from nfvhost.resources.ovs_dpdk.difference import find_port, strangers, type_at
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


def way_back(
    before: OpenVswitch, now: OpenVswitch, changes: tuple[Change, ...], *, force: bool = False
) -> tuple[Operation, ...]:
    """What makes each place that the changes name what it was before; empty where it is.

    From what is there now, not from what was meant: a transaction that was cut off may or may not have happened. What
    is neither as before nor as the change wanted it is someone else's, who wrote meanwhile, and stays, with the row
    that it is in, unless `force`.
    """
    drops: list[Operation] = []
    restores: list[Operation] = []
    sets: list[Operation] = []
    kept = frozenset() if force else _rows_of_others(now, changes)
    places = [(*parse_key(change.key), change) for change in changes]
    # Bridges that go or come back with all that is in them.
    whole = {
        place.bridge
        for place, _, _ in places
        if place.bridge and Place(place.bridge) not in kept and _comes_or_goes(before, now, Place(place.bridge))
    }
    for place, setting, change in places:
        value = _value(now, place, setting)
        theirs = value != change.after
        if value == change.before or (theirs and not force) or (place.port is not None and place.bridge in whole):
            continue
        was = _row(before, place)
        if place.bridge is not None and _comes_or_goes(before, now, place):
            if setting is None and was is None and place not in kept:
                drops.append(Drop(place=place))
            elif setting is None and was is not None and change.after is None:
                restores.append(Restore(of=place.bridge if place.port is not None else None, row=was))
        elif place.bridge is None or was is not None:
            name = setting if setting is not None else _type_column(place)
            sets.append(Set(place=place, setting=name, before=value, after=change.before))
    return (*drops, *restores, *sets)


def foreign_values(now: OpenVswitch, changes: tuple[Change, ...]) -> Iterator[tuple[str, str]]:
    """The keys that are neither as before nor as the changes wanted them, each with the words for it.

    Also a bridge that nfvhost made and that others have put something into.
    """
    for change in changes:
        place, setting = parse_key(change.key)
        value = _value(now, place, setting)
        if value not in {change.before, change.after}:
            ours = f"was {_shown(change.before)}, then nfvhost made it {_shown(change.after)}"
            yield change.key, f"{ours}; since then someone else made it {_shown(value)}"
        elif setting is None and change.before is None and value is not None and place.port is None:
            bridge = now.bridge(place.bridge or "")
            held = strangers(bridge) if bridge is not None else ()
            if held:
                yield change.key, f"nfvhost made it, and since then others have put into it: {', '.join(held)}"


def remains(now: OpenVswitch, changes: tuple[Change, ...]) -> Iterator[tuple[str, str]]:
    """The keys that still are as the changes wanted them, each with the words for it; of a new row the row alone."""
    left = [
        (change, place, setting)
        for change in changes
        for place, setting in (parse_key(change.key),)
        if change.before != change.after and _value(now, place, setting) == change.after
    ]
    rows = {place for change, place, setting in left if setting is None and change.before is None}
    for change, place, setting in left:
        if setting is None or place not in rows:
            yield change.key, f"was {_shown(change.before)} and is {_shown(change.after)}"


def _rows_of_others(now: OpenVswitch, changes: tuple[Change, ...]) -> frozenset[Place]:
    """Rows, and the bridges around them, that hold what someone else has written into them since."""
    places = [parse_key(key)[0] for key, _ in foreign_values(now, changes)]
    return frozenset([*places, *(Place(place.bridge) for place in places)])


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
