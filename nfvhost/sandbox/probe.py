"""Real packets through the switch of a sandbox, counted at both ends and in the middle."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nfvhost.access.clock import now_s, wait_for
from nfvhost.access.namespace import packet_socket
from nfvhost.access.switch_counters import pmd_counters, port_traffic
from nfvhost.access.unixctl import ask
from nfvhost.errors import PreconditionError, UsageError
from nfvhost.sandbox.instance import Sandbox

# linux/if_ether.h
_ETH_P_IP: Final = 0x0800
_ETH_MAX: Final = 1514  # of MTU 1500
_ECHO_REQUEST: Final = 8  # RFC 792
_ECHO_REPLY: Final = 0
_PLAIN_IPV4: Final = 0x45  # version 4, header without options
_HEADERS: Final = 14 + 20 + 8  # Ethernet, IPv4, ICMP
_COUNTED: Final = 0x6E66  # identifiers of ICMP echo
_OPENING: Final = 0x6E67
_MAX_COUNT: Final = 65535  # a sequence number has 16 bits
# Few enough on the way for the smallest ring that a virtual port has.
_WINDOW: Final = 32
_TIMEOUT_S: Final = 10.0
_QUIET_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCount:
    """What the switch itself counted on one port while the probe ran."""

    port: str
    received: int
    sent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PmdCount:
    """What one poll-mode thread received while the probe ran."""

    node: int
    cpu: int
    received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """Echo requests from wire0 to wire1 and the replies of the kernel there."""

    sent: int  # requests, each one different; 0: the path did not open
    arrived: int  # requests seen on wire1, whole
    answered: int  # replies seen on wire0, whole
    damaged: int  # frames of the probe whose content had changed
    repeated: int  # frames of the probe that came more than once
    first_reply_s: float | None  # how long the path took to open
    seconds: float  # from the first counted request to the last reply
    ports: tuple[PortCount, ...]  # by name
    pmds: tuple[PmdCount, ...]  # by node and CPU

    @property
    def passed(self) -> bool:
        """Whether each request and each reply came through once and whole, by way of a poll-mode thread."""
        whole = self.arrived == self.answered == self.sent > 0 and not self.damaged and not self.repeated
        return whole and sum(one.received for one in self.pmds) >= 2 * self.sent


@dataclass(slots=True, kw_only=True)
class _Tally:
    """The frames of the probe that one end has seen."""

    kind: int
    identifier: int
    size: int
    seen: set[int] = field(default_factory=set)
    damaged: int = 0
    repeated: int = 0

    def take(self, frame: bytes) -> None:
        """Count a frame, where it is one of the probe's for this end."""
        if len(frame) < _HEADERS or struct.unpack_from("!H", frame, 12)[0] != _ETH_P_IP:
            return
        if frame[14] != _PLAIN_IPV4 or frame[23] != socket.IPPROTO_ICMP or frame[34] != self.kind:
            return
        identifier, number = struct.unpack_from("!HH", frame, 38)
        if identifier != self.identifier:
            return
        if frame[34:] != _echo(self.kind, identifier, number, self.size):
            self.damaged += 1
        elif number in self.seen:
            self.repeated += 1
        else:
            self.seen.add(number)


def probe(sandbox: Sandbox, *, count: int = 100, size: int = 98, timeout_s: float = 10.0) -> ProbeResult:
    """What became of `count` echo requests in frames of `size` bytes, sent from wire0 to the kernel behind wire1.

    The path is given `timeout_s` to open (a port may just have been added), and as long without a frame ends the probe.
    UsageError for a count or a size that an echo request cannot have; PreconditionError where no plan is applied.
    """
    if not 1 <= count <= _MAX_COUNT:
        raise UsageError(f"{count} packets cannot be told apart by their numbers", hint=f"1 to {_MAX_COUNT}")
    if not _HEADERS <= size <= _ETH_MAX:
        raise UsageError(f"a frame of {size} bytes cannot be an echo request", hint=f"{_HEADERS} to {_ETH_MAX}")
    if not ask(sandbox.unixctl, "dpif/show", timeout_s=_TIMEOUT_S):
        raise PreconditionError(
            "its switch has no bridge yet",
            where=f"sandbox {sandbox.name}",
            hint=f"apply a plan to it first: nfvhost apply PLAN --ovsdb {sandbox.ovsdb}",
        )
    with (
        packet_socket(sandbox.peer_netns[0], sandbox.wires[0].netdev) as near,
        packet_socket(sandbox.peer_netns[1], sandbox.wires[1].netdev) as far,
    ):
        first_reply_s = _open_path(sandbox, near, size, timeout_s=timeout_s)
        before_ports, before_pmds = _port_counts(sandbox), _pmd_counts(sandbox)
        requests = _Tally(kind=_ECHO_REQUEST, identifier=_COUNTED, size=size)
        replies = _Tally(kind=_ECHO_REPLY, identifier=_COUNTED, size=size)
        began = now_s()
        sent = 0
        while first_reply_s is not None and len(replies.seen) < count:
            while sent < count and sent - len(replies.seen) < _WINDOW:
                sent += 1
                near.send(_request(sandbox, _COUNTED, sent, size))
            if not _listen({near: replies, far: requests}, timeout_s=timeout_s):
                break
        seconds = now_s() - began
        _listen_until_quiet({near: replies, far: requests})

    # A thread adds up at the end of its round, after the frame has left.
    wait_for(lambda: _since(sandbox, before_pmds, least=2 * len(replies.seen)), timeout_s=1.0)
    after_ports = _port_counts(sandbox)
    return ProbeResult(
        sent=sent,
        arrived=len(requests.seen),
        answered=len(replies.seen),
        damaged=requests.damaged + replies.damaged,
        repeated=requests.repeated + replies.repeated,
        first_reply_s=first_reply_s,
        seconds=seconds,
        ports=tuple(
            PortCount(
                port=port,
                received=received - before_ports.get(port, (0, 0))[0],
                sent=out - before_ports.get(port, (0, 0))[1],
            )
            for port, (received, out) in sorted(after_ports.items())
        ),
        pmds=_since(sandbox, before_pmds, least=0) or (),
    )


def _open_path(sandbox: Sandbox, near: socket.socket, size: int, *, timeout_s: float) -> float | None:
    """Seconds until a request of its own kind was answered; None where none was.

    Addresses are learned and flows are set up by then: the counted requests meet a switch at rest.
    """
    opening = _Tally(kind=_ECHO_REPLY, identifier=_OPENING, size=size)
    began = now_s()
    number = 0
    while not opening.seen:
        if now_s() - began > timeout_s:
            return None
        number += 1
        near.send(_request(sandbox, _OPENING, number % _MAX_COUNT, size))
        _listen({near: opening}, timeout_s=_QUIET_S)
    first_reply_s = now_s() - began
    _listen_until_quiet({near: opening})
    return first_reply_s


def _listen(tallies: Mapping[socket.socket, _Tally], *, timeout_s: float) -> bool:
    """Whether a frame came within `timeout_s`; all that are there by then are counted."""
    ready = select.select(list(tallies), [], [], timeout_s)[0]
    for one in ready:
        while frame := _next_frame(one):
            tallies[one].take(frame)
    return bool(ready)


def _listen_until_quiet(tallies: Mapping[socket.socket, _Tally]) -> None:
    deadline = now_s() + _TIMEOUT_S
    while now_s() < deadline and _listen(tallies, timeout_s=_QUIET_S):
        pass


def _next_frame(one: socket.socket) -> bytes | None:
    try:
        return one.recv(65535, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None


def _request(sandbox: Sandbox, identifier: int, number: int, size: int) -> bytes:
    """A whole Ethernet frame with an echo request from wire0's address to wire1's."""
    near, far = sandbox.wires
    ethernet = bytes.fromhex(far.mac.replace(":", "") + near.mac.replace(":", "")) + struct.pack("!H", _ETH_P_IP)
    addresses = socket.inet_aton(near.ipv4) + socket.inet_aton(far.ipv4)
    header = struct.pack("!BBHHHBBH", _PLAIN_IPV4, 0, size - 14, number, 0, 64, socket.IPPROTO_ICMP, 0) + addresses
    header = header[:10] + struct.pack("!H", _checksum(header)) + header[12:]
    return ethernet + header + _echo(_ECHO_REQUEST, identifier, number, size)


def _echo(kind: int, identifier: int, number: int, size: int) -> bytes:
    """The ICMP part of a frame of `size` bytes; its payload differs from number to number."""
    payload = bytes((number * 31 + place * 7) & 0xFF for place in range(size - _HEADERS))
    body = struct.pack("!BBHHH", kind, 0, 0, identifier, number) + payload
    return body[:2] + struct.pack("!H", _checksum(body)) + body[4:]


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _port_counts(sandbox: Sandbox) -> dict[str, tuple[int, int]]:
    """Packets received and sent by each port of the data path, as the switch has them now (the database lags 5 s)."""
    return {one.port: (one.received, one.sent) for one in port_traffic(sandbox.unixctl, timeout_s=_TIMEOUT_S)}


def _pmd_counts(sandbox: Sandbox) -> dict[tuple[int, int], int]:
    """Packets received by each poll-mode thread, by node and CPU."""
    return {(one.node, one.core): one.received for one in pmd_counters(sandbox.unixctl, timeout_s=_TIMEOUT_S)}


def _since(sandbox: Sandbox, before: Mapping[tuple[int, int], int], *, least: int) -> tuple[PmdCount, ...] | None:
    """What each poll-mode thread has received since `before`; None where all together have fewer than `least`."""
    counted = tuple(
        PmdCount(node=node, cpu=cpu, received=received - before.get((node, cpu), 0))
        for (node, cpu), received in sorted(_pmd_counts(sandbox).items())
    )
    return counted if sum(one.received for one in counted) >= least else None
