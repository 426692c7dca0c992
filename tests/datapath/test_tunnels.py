"""VXLAN, Geneve, GRE and VLANs with packets: to a far side that is this test, and back."""

from __future__ import annotations

import dataclasses
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from cases import tunnel

from nfvhost import engine
from nfvhost.access.command import run
from nfvhost.access.namespace import packet_socket
from nfvhost.inspect import inspect_host
from nfvhost.model.profile import TunnelType
from nfvhost.planner.planned_host import planned_host
from nfvhost.resources.underlay import Underlay

if TYPE_CHECKING:
    from ovs_plans import OvsPlans

    from nfvhost.model.plan import Plan
    from tests.ovs.conftest import Bed

NEAR, FAR, KEY = "198.51.100.2", "198.51.100.1", 42
COUNT = 5
# include/uapi/linux/if_packet.h: a tag is no part of the frame that a socket reads, but of what comes beside it.
SOL_PACKET, PACKET_AUXDATA = 263, 8
AUXDATA = struct.Struct("=IIIHHHH")
VLAN = 0x8100
ETHERNET = 14
# What is between the Ethernet header outside and the one inside, and the bytes of it that say which tunnel it is: RFC
# 791 with the protocol of UDP or GRE, then RFC 7348, RFC 8926, RFC 2890.
AROUND = {
    TunnelType.VXLAN: (36, {9: b"\x11", 22: struct.pack("!H", 4789), 28: b"\x08\0\0\0" + struct.pack("!I", KEY << 8)}),
    TunnelType.GENEVE: (
        36,
        {9: b"\x11", 22: struct.pack("!H", 6081), 28: b"\0\0\x65\x58" + struct.pack("!I", KEY << 8)},
    ),
    TunnelType.GRE: (28, {9: b"\x2f", 20: b"\x20\0\x65\x58" + struct.pack("!I", KEY)}),
}


def swapped(frame: bytearray, at: int, length: int) -> None:
    """Two neighbouring fields change places, which leaves each checksum as it was."""
    frame[at : at + 2 * length] = frame[at + length : at + 2 * length] + frame[at : at + length]


def answer(frame: bytearray, ethernet: int) -> bool:
    """Whether an echo request was behind that Ethernet header; it has become its reply."""
    ip = ethernet + ETHERNET
    if frame[ip - 2 : ip + 1] != b"\x08\0\x45" or frame[ip + 9] != socket.IPPROTO_ICMP or frame[ip + 20] != 8:
        return False
    swapped(frame, ethernet, 6)
    swapped(frame, ip + 12, 4)
    # From type 8 to 0: what goes here comes back in the checksum.
    (checksum,) = struct.unpack_from("!H", frame, ip + 22)
    checksum += 0x0800
    struct.pack_into("!BBH", frame, ip + 20, 0, 0, (checksum & 0xFFFF) + (checksum >> 16))
    return True


def answer_in(kind: TunnelType, frame: bytearray) -> bool:
    """The same where it came in that tunnel from the switch."""
    length, marks = AROUND[kind]
    outer = frame[ETHERNET : ETHERNET + length]
    if outer[12:20] != socket.inet_aton(NEAR) + socket.inet_aton(FAR):
        return False
    if any(outer[at : at + len(mark)] != mark for at, mark in marks.items()):
        return False
    if not answer(frame, ETHERNET + length):
        return False
    swapped(frame, 0, 6)
    swapped(frame, ETHERNET + 12, 4)
    return True


@contextmanager
def far_side(bed: Bed, kind: TunnelType | None) -> Iterator[list[int]]:
    """Answers what comes in the tunnel, None: in the VLAN; how many it has answered."""
    sandbox, answered, ended = bed.switch.sandbox, [0], threading.Event()
    with packet_socket(sandbox.peer_netns[0], sandbox.wires[0].netdev) as wire:
        wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        wire.settimeout(0.1)

        def serve() -> None:
            while not ended.is_set():
                try:
                    data, beside, _, _ = wire.recvmsg(2048, 256)
                except TimeoutError:
                    continue
                frame = bytearray(data)
                tag = next((AUXDATA.unpack(one)[5] for level, _, one in beside if level == SOL_PACKET), 0)
                if kind is None:
                    if tag != KEY or not answer(frame, 0):
                        continue
                    frame[12:12] = struct.pack("!HH", VLAN, KEY)
                elif not answer_in(kind, frame):
                    continue
                wire.send(frame)
                answered[0] += 1

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield answered
        finally:
            ended.set()
            server.join()


def pings(bed: Bed) -> bool:
    """Whether all of several pings of the machine on port1 to the one on port0 are answered, the first ones apart."""
    sandbox = bed.switch.sandbox
    words = ["ip", "netns", "exec", sandbox.peer_netns[1], "ping", "-q", "-i", "0.2", "-W", "1", sandbox.wires[0].ipv4]
    run([*words, "-c", "3"], timeout_s=30)
    return run([*words, "-c", str(COUNT)], timeout_s=30).code == 0


def applied(bed: Bed, plan: Plan) -> None:
    made = dataclasses.replace(plan, host=planned_host(inspect_host(bed.machine.root)))
    engine.apply(made, bed.machine, inspect_host(bed.machine.root), resources=(bed.resource, Underlay()))


@pytest.mark.parametrize("kind", list(AROUND))
def test_packets_go_out_in_a_tunnel_and_are_taken_out_of_it(bed: Bed, ovs: OvsPlans, kind: TunnelType) -> None:
    ports = [ovs.port(f"dpdk{n}", "dpdk", dpdk_devargs=f"net_af_packet{n},iface=port{n}") for n in range(2)]
    end = ovs.port("tun0", kind.value, local_ip=NEAR, remote_ip=FAR, key=KEY)
    plan = ovs.plan(
        ovs.bridge("br-phy", ports[0], fail_mode=None),
        ovs.bridge("br-int", ports[1], end, fail_mode=None),
        version="3.5",
        **bed.keys,
    )
    below = tunnel(
        "tun0",
        kind,
        local=NEAR,
        remote=FAR,
        key=KEY,
        mtu=1400,
        gateway=None,
        gateway_mac=bed.switch.sandbox.wires[0].mac,
    )
    applied(bed, dataclasses.replace(plan, tunnels=(below,)))

    with far_side(bed, kind) as answered:
        assert pings(bed)
    assert answered[0] >= COUNT


def test_packets_of_a_tagged_port_go_out_in_its_vlan_and_come_back_without(bed: Bed, ovs: OvsPlans) -> None:
    trunk = ovs.port("dpdk0", "dpdk", dpdk_devargs="net_af_packet0,iface=port0")
    access = ovs.port("dpdk1", "dpdk", dpdk_devargs="net_af_packet1,iface=port1", tag=KEY)
    applied(bed, ovs.plan(ovs.bridge("br-phy", trunk, access, fail_mode=None), version="3.5", **bed.keys))

    with far_side(bed, None) as answered:
        assert pings(bed)
    assert answered[0] >= COUNT
