"""Rows of the Open vSwitch database as values, and what can be done to them.

Columns: ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Pairs = tuple[tuple[str, str], ...]  # a map column, sorted by key
Image = tuple[tuple[str, str], ...]  # column -> its value in OVSDB's JSON (RFC 7047), defaults left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One row of Interface."""

    name: str
    type: str  # "system" where the column is empty
    options: Pairs
    other_config: Pairs
    external_ids: Pairs
    status: Pairs
    mtu_request: int | None
    mtu: int | None
    ofport: int | None  # -1: could not be opened
    error: str | None
    link_state: str | None
    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One row of Port; a bond has several interfaces."""

    name: str
    tag: int | None
    external_ids: Pairs
    interfaces: tuple[Interface, ...]
    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """One row of Bridge, its ports sorted by name."""

    name: str
    datapath_type: str  # "system" where the column is empty
    fail_mode: str | None
    other_config: Pairs
    external_ids: Pairs
    ports: tuple[Port, ...]
    holds: tuple[str, ...]  # columns with sub-rows of their own: controller, mirrors…
    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVswitch:
    """The root row, its bridges sorted by name."""

    other_config: Pairs
    external_ids: Pairs
    bridges: tuple[Bridge, ...]
    next_cfg: int  # of the last transaction that wants to be waited for
    cur_cfg: int  # of the last one that ovs-vswitchd has carried out
    ovs_version: str | None  # as ovs-ctl wrote it; None where nobody did
    dpdk_version: str | None  # "DPDK 22.11.11"; None for a build without DPDK
    dpdk_initialized: bool
    iface_types: tuple[str, ...]

    def bridge(self, name: str) -> Bridge | None:
        """The bridge of that name, if there is one."""
        return next((one for one in self.bridges if one.name == name), None)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A row: the root row, a bridge, or a port with its one interface."""

    bridge: str | None = None
    port: str | None = None

    def __str__(self) -> str:
        return "/".join(name for name in (self.bridge, self.port) if name is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """A new bridge with its own internal port, or a new port."""

    place: Place
    type: str  # datapath_type or Interface.type


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A bridge with its ports, or a port, goes."""

    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """One value: a column (`mtu_request`, `tag`, `type`) or a key of a map column (`options:n_rxq`); None: absent."""

    place: Place
    setting: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """A dropped row comes back as it was; `of` is the bridge of a port."""

    of: str | None
    row: Bridge | Port


Operation = Make | Drop | Set | Restore


def value_at(now: OpenVswitch, place: Place, setting: str) -> str | None:
    """What a `Set` of that place and setting would replace; None where it, or its row, is absent."""
    if place.bridge is None:
        return _lookup({"other_config": now.other_config, "external_ids": now.external_ids}, {}, setting)
    bridge = now.bridge(place.bridge)
    if bridge is None:
        return None
    if place.port is None:
        return _lookup(
            {"other_config": bridge.other_config, "external_ids": bridge.external_ids},
            {"datapath_type": bridge.datapath_type, "fail_mode": bridge.fail_mode},
            setting,
        )
    port = next((one for one in bridge.ports if one.name == place.port), None)
    if port is None:
        return None
    interface = port.interfaces[0]
    return _lookup(
        {
            "options": interface.options,
            "other_config": interface.other_config,
            "external_ids": port.external_ids,
        },
        {"type": interface.type, "mtu_request": interface.mtu_request, "tag": port.tag},
        setting,
    )


def _lookup(maps: Mapping[str, Pairs], columns: Mapping[str, str | int | None], setting: str) -> str | None:
    column, colon, key = setting.partition(":")
    if colon:
        return dict(maps[column]).get(key)
    value = columns[column]
    return None if value is None else str(value)
