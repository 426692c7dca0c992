"""Flows of Open vSwitch's bridges, those that nfvhost has made told from those of others by their cookie.

Written by ovs-ofctl, all flows of a bridge in one bundle: OpenFlow 1.4, 7.3.9; a bundle is carried out whole or not at
all. Only table 0, where each packet begins, is looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, Protocol

from nfvhost.access.command import CommandError, check
from nfvhost.access.ovs_rows import Bridge
from nfvhost.access.ovsdb import connected, socket_path
from nfvhost.access.root import Root
from nfvhost.access.vswitchd import Vswitchd, find_vswitchd
from nfvhost.errors import PreconditionError

# "nfvhost" in ASCII, and 1: the first kind of flows.
COOKIE: Final = 0x6E66_7668_6F73_7401
# The name of a bridge's own port in flows (openflow-1.4 and ovs-fields(7): OFPP_LOCAL).
_LOCAL: Final = "LOCAL"
# include/openflow/openflow-common.h of Open vSwitch, OFP_DEFAULT_PRIORITY: the one that ovs-ofctl does not print.
_DEFAULT_PRIORITY: Final = 32768
_OPENFLOW: Final = "OpenFlow14"
_TIMEOUT_S: Final = 10.0
_NETWORKS: Final = ("nw_dst", "ipv6_dst")
_IN_PORT: Final = "in_port"
_OUTPUT: Final = re.compile(r"output:([^,()]+)")
_NETDEV: Final = "netdev"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchFlow:
    """One flow of table 0; ports are named."""

    bridge: str
    priority: int
    match: tuple[str, ...]  # sorted: "in_port=vhu0", "ip", "nw_dst=10.2.0.0/24"
    actions: str  # "dec_ttl,output:srv6-east"
    ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchFlows:
    """Ports and flows of the bridges of the userspace data path."""

    ports: tuple[tuple[str, str], ...]  # bridge, and each port that packets can come by, the bridge's own one too
    flows: tuple[SwitchFlow, ...]


class FlowTables(Protocol):
    """The door to them."""

    def read(self, bridges: Collection[str], *, others: bool = True) -> SwitchFlows | None:
        """All flows of these bridges, and with `others` nfvhost's own of the rest; None where no ovs-vswitchd runs.

        PreconditionError where one of these bridges does not answer.
        """
        ...

    def change(self, bridge: str, *, gone: Iterable[SwitchFlow], new: Iterable[SwitchFlow]) -> None:
        """Nothing, once they are gone and there, all at once; PreconditionError where Open vSwitch refuses."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningFlowTables:
    """Those of the ovs-vswitchd behind a database, on this machine; it is looked for at each call."""

    root: Root
    ovsdb: str

    def read(self, bridges: Collection[str], *, others: bool = True) -> SwitchFlows | None:
        daemon = self._find()
        if daemon is None:
            return None
        found: list[SwitchFlow] = []
        numbers = self._numbers()
        for bridge, ports in numbers.items():
            if bridge not in bridges and not others:
                continue
            # Where nothing is planned, what does not answer has nothing of ours either.
            asked = "table=0" if bridge in bridges else f"table=0,cookie={COOKIE:#x}/-1"
            try:
                text = _ask(daemon, bridge, "--no-names", "--no-stats", "dump-flows", arguments=(asked,))
            except CommandError:
                if bridge in bridges:
                    raise
                continue
            found += parsed_flows(text, bridge, {number: name for name, number in ports.items()})
        return SwitchFlows(
            ports=tuple((bridge, name) for bridge, ports in numbers.items() for name in ports),
            flows=tuple(found),
        )

    def change(self, bridge: str, *, gone: Iterable[SwitchFlow], new: Iterable[SwitchFlow]) -> None:
        daemon = self._find()
        if daemon is None:
            raise PreconditionError(
                "ovs-vswitchd is not running, and its flows went with it",
                where=self.ovsdb,
                hint="start it (systemctl start openvswitch-switch); its log says why it ended",
            )
        numbers = self._numbers().get(bridge, {})
        lines = "".join(
            [f"flow delete_strict {_strict(one, numbers)}\n" for one in gone]
            + [f"flow add cookie={COOKIE:#x},{_match(one, numbers)},actions={_actions(one, numbers)}\n" for one in new]
        )
        _ask(daemon, bridge, "bundle", arguments=("-",), input_text=lines)

    def _numbers(self) -> dict[str, dict[str, str]]:
        """The bridges of the userspace data path: the number of each open port by its name."""
        with connected(self.ovsdb) as database:
            rows = database.read()
        return {bridge.name: _port_numbers(bridge) for bridge in rows.bridges if bridge.datapath_type == _NETDEV}

    def _find(self) -> Vswitchd | None:
        # Another tree's switch does not run here.
        return find_vswitchd(self.root, os.path.dirname(socket_path(self.ovsdb))) if self.root.live else None


def parsed_flows(text: str, bridge: str, names: Mapping[str, str]) -> Iterator[SwitchFlow]:
    """The flows of what `ovs-ofctl --no-names --no-stats dump-flows` prints; `names` are of ports by their numbers.

    The number of a port that has gone stays a number.
    """
    for line in text.splitlines():
        head, separator, actions = f" {line.strip()}".partition(" actions=")
        if not separator:
            continue
        # ofputil_flow_stats_format (lib/ofp-flow.c): cookie, timeouts and flags first, blanks between.
        words = [word for word in re.split(r"[, ]+", head) if word]
        facts = dict(word.split("=", 1) for word in words if "=" in word)
        yield SwitchFlow(
            bridge=bridge,
            priority=int(facts.get("priority", _DEFAULT_PRIORITY)),
            match=tuple(sorted(_named(word, names) for word in words if not _is_no_match(word))),
            actions=_OUTPUT.sub(lambda one: f"output:{names.get(one[1], one[1])}", _outputs(actions)),
            ours=int(facts.get("cookie", "0"), 0) == COOKIE,
        )


def _port_numbers(bridge: Bridge) -> dict[str, str]:
    open_ports = {
        one.name: str(one.ofport)
        for port in bridge.ports
        for one in port.interfaces
        if one.ofport is not None and one.ofport > 0
    }
    return {bridge.name: _LOCAL} | {name: number for name, number in open_ports.items() if name != bridge.name}


def _is_no_match(word: str) -> bool:
    key = word.partition("=")[0]
    return key in {"cookie", "table", "priority", "idle_timeout", "hard_timeout", "importance"} or word in {
        "send_flow_rem",
        "check_overlap",
        "reset_counts",
        "no_packet_counts",
        "no_byte_counts",
    }


def _named(word: str, names: Mapping[str, str]) -> str:
    key, _, value = word.partition("=")
    if key == _IN_PORT:
        return f"{key}={names.get(value, value)}"
    # The length of a single address is not printed.
    return f"{key}={ip_network(value)}" if key in _NETWORKS and _is_network(value) else word


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _outputs(actions: str) -> str:
    """The same, where ovs-ofctl leaves out that the bridge's own port is put out to."""
    return ",".join(f"output:{_LOCAL}" if one == _LOCAL else one for one in actions.split(","))


def _strict(flow: SwitchFlow, numbers: Mapping[str, str]) -> str:
    cookie = f"cookie={COOKIE:#x}/-1," if flow.ours else ""
    return cookie + _match(flow, numbers)


def _match(flow: SwitchFlow, numbers: Mapping[str, str]) -> str:
    words = (
        f"{_IN_PORT}={numbers.get(name, name)}" if (name := word.removeprefix(f"{_IN_PORT}=")) != word else word
        for word in flow.match
    )
    return ",".join((f"table=0,priority={flow.priority}", *words))


def _actions(flow: SwitchFlow, numbers: Mapping[str, str]) -> str:
    return _OUTPUT.sub(lambda one: f"output:{numbers.get(one[1], one[1])}", flow.actions)


def _ask(daemon: Vswitchd, bridge: str, *words: str, arguments: tuple[str, ...], input_text: str | None = None) -> str:
    """What ovs-ofctl says; CommandError with its own words where it fails."""
    place = f"unix:{os.path.dirname(daemon.control)}/{bridge}.mgmt"
    argv = ["ovs-ofctl", f"--timeout={_TIMEOUT_S:g}", "-O", _OPENFLOW, *words, place, *arguments]
    return check(argv, timeout_s=_TIMEOUT_S + 1, input_text=input_text).stdout


__all__ = ["COOKIE", "FlowTables", "RunningFlowTables", "SwitchFlow", "SwitchFlows", "parsed_flows"]
