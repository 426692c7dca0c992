"""What the Open vSwitch of this machine says of itself, asked with its own tools; nothing is changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nfvhost.access.command import CommandError, find, run

_TIMEOUT_S: Final = 5.0
_DAEMON: Final = "ovs-vswitchd"
# Debian's openvswitch-switch-dpdk keeps its build here, beside the plain one (update-alternatives).
_DPDK_DAEMON: Final = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What a build of ovs-vswitchd is."""

    ovs: str
    dpdk: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One interface of one bridge."""

    bridge: str
    interface: str
    devargs: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """What its database holds, as far as planning asks."""

    address: str
    ovs_version: str | None
    dpdk_version: str | None
    other_config: tuple[tuple[str, str], ...]
    bridges: tuple[str, ...]
    ports: tuple[Port, ...]


def installed_versions() -> Versions | None:
    """Versions of the installed build, the one with DPDK where there are two; None where there is none."""
    plain = _versions(_DAEMON)
    if plain is not None and plain.dpdk is not None:
        return plain
    return (_versions(_DPDK_DAEMON) if os.path.exists(_DPDK_DAEMON) else None) or plain


def ask_database(address: str) -> Database | None:
    """What the database at `unix:<socket>` holds; None where it does not answer, or not to this user."""
    if find("ovsdb-client") is None:
        return None
    request: list[Any] = ["Open_vSwitch"]
    for table, columns in (
        ("Open_vSwitch", ["ovs_version", "dpdk_version", "other_config"]),
        ("Bridge", ["name", "ports"]),
        ("Port", ["_uuid", "interfaces"]),
        ("Interface", ["_uuid", "name", "options"]),
    ):
        request.append({"op": "select", "table": table, "where": [], "columns": columns})
    try:
        done = run(
            ["ovsdb-client", f"--timeout={_TIMEOUT_S:.0f}", "transact", address, json.dumps(request)],
            timeout_s=_TIMEOUT_S + 1,
        )
        tables = [answer["rows"] for answer in json.loads(done.stdout)] if done.code == 0 else []
        (switch, *_), bridges, ports, interfaces = tables
    except (CommandError, ValueError, KeyError, TypeError):
        # An old schema without these columns, or a server that answers something else, is one that cannot be asked.
        return None
    return Database(
        address=address,
        ovs_version=_text(switch["ovs_version"]),
        dpdk_version=_dpdk(_text(switch["dpdk_version"])),
        other_config=tuple(sorted((str(key), str(value)) for key, value in switch["other_config"][1])),
        bridges=tuple(sorted(bridge["name"] for bridge in bridges)),
        ports=_ports(bridges, ports, interfaces),
    )


def _versions(daemon: str) -> Versions | None:
    """Source: `ovs-vswitchd (Open vSwitch) 3.1.0`, and for a build with it a line `DPDK 22.11.1`."""
    try:
        lines = run([daemon, "--version"], timeout_s=_TIMEOUT_S).stdout.splitlines()
    except CommandError:
        return None
    if not lines or "Open vSwitch" not in lines[0]:
        return None
    dpdk = next((line for line in lines if line.startswith("DPDK ")), None)
    return Versions(ovs=lines[0].split()[-1], dpdk=_dpdk(dpdk))


def _dpdk(text: str | None) -> str | None:
    """`22.11.1` of `DPDK 22.11.1`; None of a build without it, which says `none`."""
    return text.removeprefix("DPDK ").strip() if text is not None and text.startswith("DPDK ") else None


def _text(value: object) -> str | None:
    """A column that may be empty (RFC 7047, 5.1: then it is a set)."""
    return value if isinstance(value, str) and value else None


def _members(value: list[Any]) -> Iterable[str]:
    """The UUIDs of a reference column: one, or a set of them (RFC 7047, 5.1)."""
    kind, content = value
    return [content] if kind == "uuid" else [uuid for _, uuid in content]


def _ports(
    bridges: Iterable[Mapping[str, Any]], ports: Iterable[Mapping[str, Any]], interfaces: Iterable[Mapping[str, Any]]
) -> tuple[Port, ...]:
    interfaces_of = {port["_uuid"][1]: list(_members(port["interfaces"])) for port in ports}
    rows = {row["_uuid"][1]: row for row in interfaces}
    found = [
        Port(
            bridge=bridge["name"],
            interface=rows[interface]["name"],
            devargs=dict(rows[interface]["options"][1]).get("dpdk-devargs"),
        )
        for bridge in bridges
        for port in _members(bridge["ports"])
        for interface in interfaces_of[port]
    ]
    return tuple(sorted(found, key=lambda port: (port.bridge, port.interface)))
