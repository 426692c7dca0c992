"""The before-image of changes: the rows that they name, and of these the settings that they replace."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from nfvhost.access.ovs_rows import Bridge, Interface, OpenVswitch, Pairs, Place, Port
from nfvhost.model.change import Change
from nfvhost.resources.ovs_dpdk.place import ROOT, parse_key
from nfvhost.resources.ovs_dpdk.state import State


def image_of(state: State, changes: tuple[Change, ...]) -> State:
    """The part of the state that taking these changes back needs.

    A row that goes is kept whole, since it has to come back so. Of others no setting is kept but those that change:
    an option may hold a secret of its owner (a pre-shared key of IPsec). The process is read again when it is needed.
    """
    names = _Names(changes)
    rows = state.database
    return State(
        database=OpenVswitch(
            other_config=names.pairs(ROOT, "other_config", rows.other_config),
            external_ids=names.pairs(ROOT, "external_ids", rows.external_ids),
            bridges=tuple(names.bridge(one) for one in rows.bridges if one.name in names.bridges),
            next_cfg=rows.next_cfg,
            cur_cfg=rows.cur_cfg,
            ovs_version=rows.ovs_version,
            dpdk_version=rows.dpdk_version,
            dpdk_initialized=rows.dpdk_initialized,
            iface_types=(),
        ),
        switch=None,
    )


class _Names:
    """What the changes name."""

    def __init__(self, changes: tuple[Change, ...]) -> None:
        named = [(*parse_key(change.key), change.after) for change in changes]
        self._settings: Collection[tuple[Place, str | None]] = {(place, setting) for place, setting, _ in named}
        self._going = {place for place, setting, after in named if setting is None and after is None}
        self._ports = {place for place, _, _ in named if place.port is not None}
        self.bridges = {place.bridge for place, _, _ in named}

    def pairs(self, place: Place, column: str, pairs: Pairs) -> Pairs:
        """Those of a map column whose keys change."""
        return tuple((key, value) for key, value in pairs if (place, f"{column}:{key}") in self._settings)

    def bridge(self, row: Bridge) -> Bridge:
        place = Place(row.name)
        if place in self._going:
            return row
        return replace(
            row,
            other_config=self.pairs(place, "other_config", row.other_config),
            external_ids=self.pairs(place, "external_ids", row.external_ids),
            ports=tuple(self._port(row.name, one) for one in row.ports if Place(row.name, one.name) in self._ports),
            holds=(),
            image=(),
        )

    def _port(self, bridge: str, row: Port) -> Port:
        place = Place(bridge, row.name)
        if place in self._going:
            return row
        return replace(
            row,
            external_ids=self.pairs(place, "external_ids", row.external_ids),
            interfaces=tuple(self._interface(place, one) for one in row.interfaces),
            image=(),
        )

    def _interface(self, place: Place, row: Interface) -> Interface:
        return replace(
            row,
            options=self.pairs(place, "options", row.options),
            other_config=self.pairs(place, "other_config", row.other_config),
            external_ids=(),
            status=(),
            image=(),
        )
