"""The last resort: AF_PACKET sockets of the kernel, driven from Python. It needs nothing; its ceiling says how slow."""

from __future__ import annotations

import os
import platform
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from nfvhost.access.clock import now_s
from nfvhost.access.namespace import packet_socket
from nfvhost.bench.frames import Frames
from nfvhost.bench.generator import Ends, Load
from nfvhost.bench.trial import Trial
from nfvhost.model.cpuset import CpuSet

_FCS: Final = 4
_MAGIC: Final = b"nfvhost-"
_MAGIC_AT: Final = 42  # behind Ethernet, IPv4 and UDP
_BURST: Final = 16
_QUIET_S: Final = 0.05
_DRAIN_S: Final = 1.0
_RECEIVE_BYTES: Final = 4 * 1024 * 1024
# As in generator.c: what is owed beyond this is not sent, and a round that took so long was not at work.
_MOST_BURST_S: Final = 0.002
_ABSENT_S: Final = 0.01
_KEPT_FLOWS: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketSockets:
    """Frames through the kernel's own interfaces."""

    name: str = "af_packet"
    searches: bool = True

    @property
    def version(self) -> str:
        """The kernel, and the Python that drives it."""
        return f"Linux {os.uname().release}, Python {platform.python_version()}"

    def refusal(self, ends: Ends) -> str | None:
        """It has interfaces of the kernel alone."""
        return None if ends.netdevs is not None else "it reaches interfaces of the kernel alone, not vhost-user ports"

    @contextmanager
    def attached(self, ends: Ends, load: Load, cpus: CpuSet) -> Iterator[_Running]:
        """It runs on the first of these CPUs, in this process."""
        tx, rx = ends.netdevs or ("", "")
        allowed = os.sched_getaffinity(0)
        with packet_socket(ends.netns or "", tx) as near, packet_socket(ends.netns or "", rx) as far:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            with suppress(OSError):
                os.sched_setaffinity(0, {min(cpus)})
            try:
                yield _Running(near, far, _frames(load.frames, min(load.flows, _KEPT_FLOWS)))
            finally:
                os.sched_setaffinity(0, allowed)


class _Running:
    def __init__(self, near: socket.socket, far: socket.socket, frames: tuple[bytearray, ...]) -> None:
        self._near = near
        self._far = far
        self._frames = frames
        self._number = 0

    def measure(self, *, duration_s: float, load_pps: float) -> Trial:
        self._number += 1
        mark = _MAGIC + struct.pack("!Q", self._number)
        for frame in self._frames:
            frame[_MAGIC_AT : _MAGIC_AT + len(mark)] = mark
        self._drain(mark)
        sent = refused = behind = received = at = 0
        absent_s = 0.0
        begin = last = now_s()
        allowed = _BURST + int(load_pps * _MOST_BURST_S)
        while (now := now_s()) < begin + duration_s:
            if now - last > _ABSENT_S:
                begin += now - last
                absent_s += now - last
            last = now
            owed = int((now - begin) * load_pps) - sent - refused - behind if load_pps else _BURST
            if load_pps and owed > allowed:
                behind += owed - allowed
            for _ in range(min(max(owed, 0), _BURST)):
                try:
                    self._near.send(self._frames[at], socket.MSG_DONTWAIT)
                    sent += 1
                except OSError:  # ENOBUFS, EAGAIN: the interface's own queue is full
                    refused += 1
                at = (at + 1) % len(self._frames)
            received += self._heard(mark)
        took_s = now_s() - begin
        intended = max(int(took_s * load_pps), sent + refused + behind)
        received += self._drain(mark)
        return Trial(
            duration_s=took_s,
            load_pps=load_pps,
            intended=intended,
            sent=sent,
            refused=refused,
            behind=intended - sent - refused,
            received=received,
            absent_s=absent_s,
        )

    def _heard(self, mark: bytes) -> int:
        counted = 0
        with suppress(BlockingIOError):
            for _ in range(2 * _BURST):
                frame = self._far.recv(2048, socket.MSG_DONTWAIT)
                counted += frame[_MAGIC_AT : _MAGIC_AT + len(mark)] == mark
        return counted

    def _drain(self, mark: bytes) -> int:
        """What still comes, until nothing does for a while."""
        begin = last = now_s()
        received = 0
        while now_s() - last < _QUIET_S and now_s() - begin < _DRAIN_S:
            heard = self._heard(mark)
            received += heard
            if heard:
                last = now_s()
        return received


def _frames(frames: Frames, flows: int) -> tuple[bytearray, ...]:
    """One frame for each flow and size, as generator.c makes them; at most as many flows as are kept here."""
    sizes = [size for size, count in frames.parts for _ in range(count)]
    count = max(flows, len(sizes))
    return tuple(_frame(sizes[number % len(sizes)] - _FCS, number % flows) for number in range(count))


def _frame(length: int, flow: int) -> bytearray:
    ethernet = bytes.fromhex("026e66760102026e66760101") + b"\x08\x00"
    header = struct.pack("!BBHHHBBH", 0x45, 0, length - 14, 0, 0, 64, socket.IPPROTO_UDP, 0)
    # 198.18.0.0/15 is for benchmarks (RFC 2544, C.2.2).
    header += socket.inet_aton(f"198.18.0.{1 + (flow >> 14)}") + socket.inet_aton("198.19.0.1")
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    udp = struct.pack("!HHHH", 0xC000 + (flow & 0x3FFF), 9, length - 34, 0)
    return bytearray(ethernet + header + udp + bytes(length - 42))
