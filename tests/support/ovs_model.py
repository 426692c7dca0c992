"""Rows of Open vSwitch made by hand, and a model of what its database does with operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from nfvhost.access.ovs_rows import (
    Bridge,
    Drop,
    Interface,
    OpenVswitch,
    Operation,
    Pairs,
    Place,
    Port,
    Restore,
    Set,
    value_at,
)
from nfvhost.access.process import Process
from nfvhost.access.vswitchd import Vswitchd
from nfvhost.resources.ovs_dpdk.state import State, Switch

TYPES = ("afxdp", "dpdk", "dpdkvhostuserclient", "geneve", "gre", "internal", "patch", "system", "vxlan")


def port(name: str, kind: str = "internal", **columns: Any) -> Port:  # noqa: ANN401 - fields of its rows
    """A port that is open; columns are fields of its Interface, but tag and port_ids (external_ids of the Port)."""
    tag, port_ids = columns.pop("tag", None), columns.pop("port_ids", {})
    maps: dict[str, Any] = {
        key: _pairs(columns.pop(key, {})) for key in ("options", "other_config", "external_ids", "status")
    }
    known: dict[str, Any] = {"mtu_request": None, "mtu": 1500, "ofport": 1, "error": None, "link_state": "up"}
    interface = Interface(name=name, type=kind, image=(("name", name),), **maps, **(known | columns))
    return Port(name=name, tag=tag, external_ids=_pairs(port_ids), interfaces=(interface,), image=(("name", name),))


def bridge(name: str, *ports: Port, kind: str = "netdev", **columns: Any) -> Bridge:  # noqa: ANN401 - fields of Bridge
    """A bridge with these ports and its own."""
    maps: dict[str, Any] = {key: _pairs(columns.pop(key, {})) for key in ("other_config", "external_ids")}
    known: dict[str, Any] = {"fail_mode": None, "holds": ()}
    return Bridge(
        name=name,
        datapath_type=kind,
        ports=_by_name([*ports, port(name)]),
        image=(("name", name),),
        **maps,
        **(known | columns),
    )


def rows(*bridges: Bridge, **columns: Any) -> OpenVswitch:  # noqa: ANN401 - fields of OpenVswitch
    """A database with these bridges, of a build with DPDK that does not run it."""
    maps: dict[str, Any] = {key: _pairs(columns.pop(key, {})) for key in ("other_config", "external_ids")}
    known: dict[str, Any] = {
        "next_cfg": 1,
        "cur_cfg": 1,
        "ovs_version": None,
        "dpdk_version": "DPDK 22.11.11",
        "dpdk_initialized": False,
        "iface_types": TYPES,
    }
    return OpenVswitch(bridges=_by_name(bridges), **maps, **(known | columns))


def state(database: OpenVswitch, *, version: str = "3.1.0", **facts: Any) -> State:  # noqa: ANN401 - fields of Switch
    """That database, served by a process in the network namespace of the host."""
    process = Process(pid=42, start_ticks=7, executable="/usr/sbin/ovs-vswitchd", argv=("ovs-vswitchd",))
    known: dict[str, Any] = {
        "netdevs": frozenset({"lo", "eth0"}),
        "shares_host_network": True,
        "hugetlbfs": ("/dev/hugepages",),
        "absent": frozenset(),
        "log": None,
    }
    daemon = Vswitchd(process=process, control="/run/openvswitch/ovs-vswitchd.42.ctl", version=version)
    return State(database=database, switch=Switch(daemon=daemon, version=version, **(known | facts)))


def carry_out(before: OpenVswitch, operations: Iterable[Operation]) -> OpenVswitch:
    """The rows after the operations; AssertionError where the real database would refuse one."""
    now = before
    for operation in operations:
        now = _one(now, operation)
    return now


def _one(now: OpenVswitch, operation: Operation) -> OpenVswitch:
    place = operation.place if not isinstance(operation, Restore) else Place(operation.of)
    if isinstance(operation, Set):
        assert value_at(now, place, operation.setting) == operation.before
        return _set(now, operation)
    if isinstance(operation, Restore):
        return _restore(now, place, operation.row)
    if isinstance(operation, Drop):
        assert value_at(now, place, "datapath_type" if place.port is None else "type") is not None
        if place.port is None:
            return replace(now, bridges=tuple(one for one in now.bridges if one.name != place.bridge))
        return _in_bridge(now, place, lambda ports: [one for one in ports if one.name != place.port])
    made = str(place.port or place.bridge)
    assert made not in [name for each in now.bridges for name in (each.name, *(one.name for one in each.ports))]
    if place.port is None:
        return replace(now, bridges=_by_name([*now.bridges, bridge(made, kind=operation.type)]))
    return _in_bridge(now, place, lambda ports: [*ports, port(made, operation.type)])


def _restore(now: OpenVswitch, place: Place, row: Bridge | Port) -> OpenVswitch:
    if isinstance(row, Bridge):
        return replace(now, bridges=_by_name([*now.bridges, row]))
    return _in_bridge(now, place, lambda ports: [*ports, row])


def _set(now: OpenVswitch, operation: Set) -> OpenVswitch:
    place, setting, after = operation.place, operation.setting, operation.after
    if place.bridge is None:
        return replace(now, **_column(now, setting, after))
    if place.port is None:
        changed = [
            replace(one, **_column(one, setting, after)) if one.name == place.bridge else one for one in now.bridges
        ]
        return replace(now, bridges=tuple(changed))

    def write(one: Port) -> Port:
        if setting.partition(":")[0] in {"tag", "external_ids"}:
            return replace(one, **_column(one, setting, after))
        return replace(one, interfaces=(replace(one.interfaces[0], **_column(one.interfaces[0], setting, after)),))

    return _in_bridge(now, place, lambda ports: [write(one) if one.name == place.port else one for one in ports])


def _column(row: object, setting: str, after: str | None) -> dict[str, Any]:
    column, colon, key = setting.partition(":")
    if not colon:
        return {column: int(after) if after is not None and column in {"tag", "mtu_request"} else after}
    pairs = dict(getattr(row, column)) | {key: after}
    return {column: _pairs({name: value for name, value in pairs.items() if value is not None})}


def _in_bridge(now: OpenVswitch, place: Place, change: Callable[[tuple[Port, ...]], list[Port]]) -> OpenVswitch:
    assert now.bridge(str(place.bridge)) is not None
    changed = [
        replace(one, ports=_by_name(change(one.ports))) if one.name == place.bridge else one for one in now.bridges
    ]
    return replace(now, bridges=tuple(changed))


def _pairs(texts: Mapping[str, str]) -> Pairs:
    return tuple(sorted(texts.items()))


def _by_name(named: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(named, key=lambda one: str(one.name)))
