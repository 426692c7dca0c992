"""Ports and their counters, as ovs-vswitchd writes them into the database every 5 seconds.

One question on a connection of its own, with nothing kept: a fifth of what the library's copy of the database costs.
Columns: ovs-vswitchd.conf.db(5), Interface.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from nfvhost.access.ovsdb import OvsdbError, socket_path
from nfvhost.access.unixctl import DaemonError, call

_SELECTS: Final = (
    ("Bridge", ("name", "ports")),
    ("Port", ("_uuid", "interfaces")),
    ("Interface", ("_uuid", "name", "type", "link_state", "statistics")),
)
_Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortStatistics:
    """One interface of a bridge."""

    name: str
    bridge: str
    type: str  # "system" where the column is empty
    link_up: bool | None  # None where the driver does not say
    counters: tuple[tuple[str, int], ...]  # sorted by name


def port_statistics(address: str, *, timeout_s: float) -> tuple[PortStatistics, ...]:
    """All interfaces of all bridges, sorted by name; OvsdbError where the database does not answer."""
    path = socket_path(address)
    selects = [{"op": "select", "table": table, "where": [], "columns": list(columns)} for table, columns in _SELECTS]
    try:
        replies = call(path, "transact", ["Open_vSwitch", *selects], timeout_s=timeout_s)
    except (OSError, DaemonError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.problems[0].what
        raise OvsdbError(f"the database does not answer ({reason})", where=path) from error
    bridges, ports, interfaces = (reply["rows"] for reply in replies)
    return read_port_statistics(bridges, ports, interfaces)


def read_port_statistics(
    bridges: Iterable[_Row], ports: Iterable[_Row], interfaces: Iterable[_Row]
) -> tuple[PortStatistics, ...]:
    """The same from the rows in OVSDB's JSON (RFC 7047, 5.1)."""
    members = {row["_uuid"][1]: _uuids(row["interfaces"]) for row in ports}
    bridge_of = {
        interface: row["name"]
        for row in bridges
        for port in _uuids(row["ports"])
        for interface in members.get(port, ())
    }
    found = (
        PortStatistics(
            name=row["name"],
            bridge=bridge_of[row["_uuid"][1]],
            type=row["type"] or "system",
            # ["set", []] where it is not there
            link_up=row["link_state"] == "up" if isinstance(row["link_state"], str) else None,
            counters=tuple(sorted((name, count) for name, count in row["statistics"][1])),
        )
        for row in interfaces
        if row["_uuid"][1] in bridge_of
    )
    return tuple(sorted(found, key=lambda port: port.name))


def _uuids(column: list[Any]) -> list[str]:
    """The UUIDs of a column: ["uuid", X] where it is one, ["set", [["uuid", X]…]] else."""
    kind, value = column
    return [value] if kind == "uuid" else [one for _, one in value]
