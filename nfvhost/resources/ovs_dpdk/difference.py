"""From what is to what is planned, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nfvhost.access.ovs_rows import Bridge, OpenVswitch, Place, Port, value_at
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.plan import Plan
from nfvhost.resources.ovs_dpdk import mark
from nfvhost.resources.ovs_dpdk.keys import read_at_start
from nfvhost.resources.ovs_dpdk.mark import Mark, mark_of, read_mark
from nfvhost.resources.ovs_dpdk.place import ROOT, key_of
from nfvhost.resources.ovs_dpdk.state import State
from nfvhost.resources.ovs_dpdk.target import OTHER_CONFIG, Row, target_of

RESOURCE = "ovs_dpdk"
_MARK_REASON = "nfvhost's own note of what it has set here"
_OLD_REASON = "nfvhost set this for an earlier plan; this one does not name it"
# Settings that a port or the data path takes up without a reload of its queues or threads.
_SILENT = frozenset({"fail_mode", f"{OTHER_CONFIG}:n-handler-threads", f"{OTHER_CONFIG}:n-revalidator-threads"})


def differences(state: State, plan: Plan) -> tuple[Change, ...]:
    """The changes from this state to the plan, in the order of the rows; what is no longer planned goes first.

    Rows and keys that neither the plan names nor nfvhost has marked are never in it.
    """
    if plan.ovs is None:
        return ()
    target = target_of(plan, version=running_version(state, plan))
    wanted = dict(target.rows)
    changes = list(_removals(state.database, frozenset(wanted)))
    for place, row in target.rows:
        changes.extend(_row_changes(state.database, place, row))
    return tuple(changes)


def running_version(state: State, plan: Plan) -> str:
    """The version that keys are written for: of the process, else as its start script noted it, else as planned."""
    if state.switch is not None:
        return state.switch.version
    return state.database.ovs_version or (plan.ovs.version if plan.ovs is not None else "")


def find_port(database: OpenVswitch, place: Place) -> Port | None:
    """The port at that place, if it is there."""
    bridge = database.bridge(place.bridge) if place.bridge is not None else None
    return next((port for port in bridge.ports if port.name == place.port), None) if bridge is not None else None


def type_at(database: OpenVswitch, place: Place) -> str | None:
    """The datapath type of a bridge or the type of a port; None where it is not there, and for the root row."""
    if place.bridge is None:
        return None
    return value_at(database, place, "datapath_type" if place.port is None else "type")


def mark_at(database: OpenVswitch, place: Place) -> Mark | None:
    """The mark of the row at that place; None where it has none, or is not there."""
    if place.bridge is None:
        return read_mark(database.external_ids)
    row: Bridge | Port | None = database.bridge(place.bridge) if place.port is None else find_port(database, place)
    return None if row is None else read_mark(row.external_ids)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the changes of one row."""

    place: Place
    dpdk_initialized: bool
    used: bool  # the row is there already, so that a change of it interrupts traffic

    def change(self, setting: str | None, before: str | None, after: str | None, reason: str) -> Change:
        """One change of this row, or of one of its settings."""
        interrupts = self.used and (
            setting is None
            or (setting not in _SILENT and not setting.startswith("external_ids:") and self.place != ROOT)
            or setting == f"{OTHER_CONFIG}:pmd-cpu-mask"
        )
        waits = (
            self.place == ROOT
            and self.dpdk_initialized
            and setting is not None
            and read_at_start(setting.removeprefix(f"{OTHER_CONFIG}:"))
        )
        return Change(
            resource=RESOURCE,
            key=key_of(self.place, setting),
            before=before,
            after=after,
            activation=Activation.RESTART if waits else Activation.NOW,
            disruption=Disruption.LINK if interrupts else Disruption.NONE,
            reason=reason,
        )


def _row_changes(database: OpenVswitch, place: Place, row: Row) -> Iterator[Change]:
    there = place == ROOT or type_at(database, place) is not None
    maker = _Maker(place, database.dpdk_initialized, used=there)
    before_type = type_at(database, place)
    if row.type != before_type:
        yield maker.change(None, before_type, row.type, row.reason)
    for name, setting in row.settings:
        before = value_at(database, place, name)
        if before != setting.value:
            yield maker.change(name, before, setting.value, setting.reason)
    old = mark_at(database, place)
    names = [name for name, _ in row.settings]
    for name in old.settings if old is not None else ():
        before = value_at(database, place, name)
        if name not in names and before is not None:
            yield maker.change(name, before, None, _OLD_REASON)
    made = not there if old is None else old.made
    note = str(mark_of(made=made, settings=names)) if names or place != ROOT else None
    written = value_at(database, place, mark.SETTING)
    if note != written:
        yield maker.change(mark.SETTING, written, note, _MARK_REASON)


def _removals(database: OpenVswitch, wanted: frozenset[Place]) -> Iterator[Change]:
    for bridge in database.bridges:
        place = Place(bridge.name)
        ours = read_mark(bridge.external_ids)
        going = place not in wanted and ours is not None
        dropped = going and ours is not None and ours.made and not strangers(bridge)
        for port in bridge.ports:
            yield from _port_removal(database, Place(bridge.name, port.name), wanted)
        maker = _Maker(place, database.dpdk_initialized, used=True)
        if dropped:
            yield maker.change(None, bridge.datapath_type, None, _OLD_REASON)
        elif going and ours is not None:
            held = ", ".join(strangers(bridge)) or "others made it"
            reason = f"no longer planned, and not nfvhost's to drop ({held}): left to its owner as it is"
            yield maker.change(mark.SETTING, value_at(database, place, mark.SETTING), None, reason)


def _port_removal(database: OpenVswitch, place: Place, wanted: frozenset[Place]) -> Iterator[Change]:
    ours = mark_at(database, place)
    if place in wanted or ours is None:
        return
    maker = _Maker(place, database.dpdk_initialized, used=True)
    if ours.made:
        yield maker.change(None, type_at(database, place), None, _OLD_REASON)
    else:
        note = value_at(database, place, mark.SETTING)
        yield maker.change(mark.SETTING, note, None, "no longer planned, and others made it: left as it is")


def strangers(bridge: Bridge) -> tuple[str, ...]:
    """What in a bridge is not nfvhost's: foreign ports, and columns such as `controller`."""
    ports = (
        port.name
        for port in bridge.ports
        if port.name != bridge.name and ((own := read_mark(port.external_ids)) is None or not own.made)
    )
    return (*ports, *bridge.holds)
