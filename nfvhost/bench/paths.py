"""Ways through a switch, the kernel or a NIC, most made on a sandbox: where a generator is attached, and to what.

port        generator - vhost-user - PMD - vhost-user - generator
pvp         generator - vhost-user - PMD - guest (l2fwd on virtio) - PMD - vhost-user - generator
srv6-encap  the same as port, and the PMD puts each packet into SRv6 with one segment
srv6-decap  the same as port, and the PMD takes each packet out of it
netdev      generator - veth - Open vSwitch in user space without DPDK - veth - generator
kernel      generator - veth - the kernel's bridge - veth - generator
sriov       generator - VF - the NIC's own switch - VF - generator (nothing is made for it)
"""

from __future__ import annotations

import json
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from nfvhost import engine
from nfvhost.access.command import check, run
from nfvhost.access.machine import Machine
from nfvhost.access.namespace import disable_transmit_checksum
from nfvhost.access.root import DirectoryRoot
from nfvhost.bench.generator import Ends
from nfvhost.errors import PreconditionError, UsageError
from nfvhost.inspect import inspect_host
from nfvhost.model.encapsulation import overhead
from nfvhost.model.ovs_keys import SRV6_SINCE, release
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import OvsBridge, OvsPlan, OvsPort, Plan, TunnelPlan
from nfvhost.model.profile import TunnelType
from nfvhost.resources.ovs_dpdk import OvsDpdk
from nfvhost.resources.underlay import Underlay
from nfvhost.sandbox import Sandbox
from nfvhost.sandbox.daemons import find_programs

_TIMEOUT_S: Final = 30.0
BRIDGE: Final = "br-bench"
_UNDERLAY_BRIDGE: Final = "br-under"
_NETDEV_BRIDGE: Final = "br-netdev"
_KERNEL_BRIDGE: Final = "kernel-bridge"
# Descriptors of a virtio ring: QEMU's most (rx_queue_size, tx_queue_size).
QUEUE_SIZE: Final = 1024
# MiB of hugepages that Open vSwitch may take in a sandbox for a bench, and what is left to the generator.
SWITCH_MIB: Final = 512
GENERATOR_MIB: Final = 192
# A ring in memory: the frames come back where they were sent. What it carries is the generator's own ceiling.
LOOP: Final = "net_ring0"
# 2001:2::/48 is for benchmarks (RFC 5180, 8).
_NEAR: Final = "2001:2::1"
_FAR: Final = "2001:2::2"
_FAR_MAC: Final = "02:6e:66:76:01:02"
# Room for the headers of a tunnel around the largest frame.
_TUNNEL_MTU: Final = 1600
_PLAIN_MTU: Final = 1500
_AROUND: Final = overhead(TunnelType.SRV6, ipv6=True, segments=1, key=False)


class PathKind(StrEnum):
    """A way that frames go."""

    PORT = "port"
    PVP = "pvp"
    SRV6_ENCAP = "srv6-encap"
    SRV6_DECAP = "srv6-decap"
    NETDEV = "netdev"
    KERNEL = "kernel"
    SRIOV = "sriov"

    @property
    def polled(self) -> bool:
        """Whether poll-mode threads forward."""
        return self.switched and self is not PathKind.NETDEV

    @property
    def switched(self) -> bool:
        """Whether Open vSwitch forwards."""
        return self not in {PathKind.KERNEL, PathKind.SRIOV}


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A way that is there."""

    kind: PathKind
    ends: Ends
    loop: Ends  # the same kind of ends, joined without anything between: the generator's own ceiling
    switch: Sandbox | None = None  # the Open vSwitch that forwards
    ports: tuple[str, ...] = ()  # of it


def path_kind(text: str) -> PathKind:
    """The way of that name; UsageError where there is none."""
    try:
        return PathKind(text)
    except ValueError as error:
        raise UsageError(f"there is no path {text!r}", where="--path", hint=", ".join(PathKind)) from error


@contextmanager
def opened(
    kind: PathKind,
    sandbox: Sandbox | None,
    plan: Plan,
    *,
    queue_size: int = QUEUE_SIZE,
    vfs: tuple[PciAddress, ...] = (),
) -> Iterator[Path]:
    """The path, made on the sandbox by the plan's settings of Open vSwitch; its bridge is gone afterwards.

    Its sockets have paths that none had before: what Open vSwitch may still connect to for a port that is gone finds
    nobody there. From VF to VF nothing is made. UsageError where it takes a sandbox, and there is none.
    """
    if kind is PathKind.SRIOV:
        yield _through_nic(vfs)
        return
    if sandbox is None:
        raise UsageError("it is made on a sandbox, and there is none", where=f"--path {kind}")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=sandbox.run_dir) as sockets:
        try:
            match kind:
                case PathKind.PORT | PathKind.PVP:
                    yield _vhost(kind, sandbox, plan, sockets, queue_size)
                case PathKind.SRV6_ENCAP | PathKind.SRV6_DECAP:
                    yield _srv6(kind, sandbox, plan, sockets, queue_size)
                case PathKind.NETDEV:
                    yield _netdev(sandbox)
                case PathKind.KERNEL:
                    yield _kernel(sandbox)
        finally:
            _close(sandbox)


def benched(plan: Plan, ports: tuple[OvsPort, ...], *more: OvsBridge) -> Plan:
    """The plan with its settings of Open vSwitch on a bridge of these ports, and these bridges, alone."""
    ovs = replace(_ovs(plan), other_config=settings(plan), bridges=(_bridge(BRIDGE, ports), *more))
    return replace(plan, ovs=ovs, tunnels=())


def settings(plan: Plan) -> tuple[tuple[str, str], ...]:
    """The plan's keys of Open vSwitch, but for those that a sandbox beside a generator needs otherwise."""
    config = {
        **dict(_ovs(plan).other_config),
        # The generator's pages are of the same pool.
        "dpdk-socket-limit": str(SWITCH_MIB),
        "dpdk-socket-mem": str(SWITCH_MIB // 2),
        # One pool for each port: all ports' together would not fit.
        "per-port-memory": "true",
        # Nothing in a sandbox reaches a NIC.
        "dpdk-extra": "--no-pci --iova-mode=va",
    }
    return tuple(sorted(config.items()))


def _ovs(plan: Plan) -> OvsPlan:
    if plan.ovs is None:
        raise PreconditionError("the plan has no Open vSwitch to measure", where=f"plan {plan.profile}")
    return plan.ovs


def _bridge(name: str, ports: tuple[OvsPort, ...]) -> OvsBridge:
    return OvsBridge(name=name, datapath_type="netdev", fail_mode="secure", physnet=None, ports=ports)


def _port(name: str, kind: str, mtu: int | None = None, **options: str) -> OvsPort:
    """A port of the path, its options sorted."""
    return OvsPort(
        name=f"bench-{name}",
        type=kind,
        options=tuple(sorted(options.items())),
        other_config=(),
        mtu=mtu,
        tag=None,
        node=None,
        reason="measured",
    )


def _vhost_port(name: str, path: str, mtu: int | None = None) -> OvsPort:
    return _port(name, "dpdkvhostuserclient", mtu, **{"vhost-server-path": path})


def _device(number: int, path: str, queue_size: int) -> str:
    """The generator's end of a vhost-user port."""
    return f"net_virtio_user{number},path={path},queue_size={queue_size},server=1"


def _through_nic(vfs: tuple[PciAddress, ...]) -> Path:
    """From the first of these functions to the second."""
    tx, rx = vfs
    hint = "with most drivers VFs reach each other only while the interface of their port is up: ip link set PF up"
    ends = Ends(tx=str(tx), rx=str(rx), hint=hint, addressed=True)
    return Path(kind=PathKind.SRIOV, ends=ends, loop=Ends(tx=LOOP, rx=LOOP))


def _vhost(kind: PathKind, sandbox: Sandbox, plan: Plan, folder: str, queue_size: int) -> Path:
    guest = kind is PathKind.PVP
    names = ("tx", "rx", "guest0", "guest1") if guest else ("tx", "rx")
    sockets = {name: f"{folder}/{name}" for name in names}
    ports = tuple(_vhost_port(name, sockets[name]) for name in names)
    machine = Machine(root=DirectoryRoot("/"), ovsdb=sandbox.ovsdb)
    engine.apply(benched(plan, ports), machine, inspect_host(machine.root))
    hops = (("tx", "guest0"), ("guest1", "rx")) if guest else (("tx", "rx"),)
    for one, other in hops:
        _join(sandbox, BRIDGE, f"bench-{one}", f"bench-{other}")
    devices = [_device(number, sockets[name], queue_size) for number, name in enumerate(names)]
    ends = Ends(tx=devices[0], rx=devices[1], guest=(devices[2], devices[3]) if guest else None, shared_memory=True)
    loop = Ends(tx=LOOP, rx=LOOP)
    return Path(kind=kind, ends=ends, loop=loop, switch=sandbox, ports=tuple(one.name for one in ports))


def _srv6(kind: PathKind, sandbox: Sandbox, plan: Plan, folder: str, queue_size: int) -> Path:
    """Plain frames on the one side, on the other an underlay with its own bridge, as a plan has it."""
    version = release(find_programs().switch_version)
    if version is None or version < SRV6_SINCE:
        raise PreconditionError(
            "this Open vSwitch has no SRv6", where=f"--path {kind}", hint="3.2 or later has: Debian 13 has 3.5"
        )
    encap = kind is PathKind.SRV6_ENCAP
    sockets = [f"{folder}/{name}" for name in ("tx", "rx")]
    tx, rx = (_vhost_port(name, path, _TUNNEL_MTU) for name, path in zip(("tx", "rx"), sockets, strict=True))
    tunnel = _port("tunnel", "srv6", local_ip=_NEAR, remote_ip=_FAR if encap else "flow")
    plain, under = (tx, rx) if encap else (rx, tx)
    made = benched(plan, (plain, tunnel), _bridge(_UNDERLAY_BRIDGE, (under,)))
    below = TunnelPlan(
        name=tunnel.name,
        type=TunnelType.SRV6,
        bridge=BRIDGE,
        local=_NEAR,
        remote=_FAR,
        segments=(_FAR,),
        networks=(),
        key=None,
        flow_label=None,
        # The bridge's own interface is no wider until a guest is there; no frame goes through it.
        mtu=_PLAIN_MTU - _AROUND,
        underlay_bridge=_UNDERLAY_BRIDGE,
        underlay_prefix=64,
        gateway=None,
        gateway_mac=_FAR_MAC,
    )
    machine = Machine(root=DirectoryRoot("/"), ovsdb=sandbox.ovsdb)
    engine.apply(
        replace(made, tunnels=(below,)), machine, inspect_host(machine.root), resources=(OvsDpdk(), Underlay())
    )
    hops = [(BRIDGE, tx.name, tunnel.name), (_UNDERLAY_BRIDGE, "LOCAL", rx.name)]
    if not encap:
        hops = [(_UNDERLAY_BRIDGE, tx.name, "LOCAL"), (BRIDGE, tunnel.name, rx.name)]
    for bridge, one, other in hops:
        _join(sandbox, bridge, one, other)
    headers = None if encap else _srv6_headers(_address(sandbox, _UNDERLAY_BRIDGE))
    one, other = (_device(number, path, queue_size) for number, path in enumerate(sockets))
    return Path(
        kind=kind,
        ends=Ends(tx=one, rx=other, shared_memory=True, headers=headers, more=_AROUND if encap else 0),
        loop=Ends(tx=LOOP, rx=LOOP, headers=headers, more=0 if encap else _AROUND),
        switch=sandbox,
        ports=(tx.name, rx.name),
    )


def _srv6_headers(mac: str) -> bytes:
    """Ethernet, IPv6 without its length, and the routing header of a packet at its last segment (RFC 8754, 2)."""
    far, near = (socket.inet_pton(socket.AF_INET6, one) for one in (_FAR, _NEAR))
    ethernet = bytes.fromhex(mac.replace(":", "") + _FAR_MAC.replace(":", "") + "86dd")
    ipv6 = struct.pack("!IHBB", 6 << 28, 0, socket.IPPROTO_ROUTING, 64) + far + near
    return ethernet + ipv6 + struct.pack("!BBBBBBH", socket.IPPROTO_IPIP, len(near) // 8, 4, 0, 0, 0, 0) + near


def _address(sandbox: Sandbox, bridge: str) -> str:
    """The Ethernet address of a bridge's own interface."""
    told = check(["ip", "-n", sandbox.netns, "-json", "link", "show", bridge], timeout_s=_TIMEOUT_S).stdout
    return str(json.loads(told)[0]["address"])


def _netdev(sandbox: Sandbox) -> Path:
    _make_wires(sandbox)
    kind = ("datapath_type=netdev", "fail_mode=secure")
    _vsctl(sandbox, "--may-exist", "add-br", _NETDEV_BRIDGE, "--", "set", "bridge", _NETDEV_BRIDGE, *kind)
    for port in ("bench-y0", "bench-y1"):
        _vsctl(sandbox, "--may-exist", "add-port", _NETDEV_BRIDGE, port)
    _join(sandbox, _NETDEV_BRIDGE, "bench-y0", "bench-y1")
    return replace(_wired(PathKind.NETDEV, sandbox), switch=sandbox, ports=("bench-y0", "bench-y1"))


def _kernel(sandbox: Sandbox) -> Path:
    _make_wires(sandbox)
    _ip(sandbox, "link", "add", _KERNEL_BRIDGE, "type", "bridge")
    _ip(sandbox, "link", "set", _KERNEL_BRIDGE, "up")
    for port in ("bench-y0", "bench-y1"):
        _ip(sandbox, "link", "set", port, "master", _KERNEL_BRIDGE)
    return _wired(PathKind.KERNEL, sandbox)


def _make_wires(sandbox: Sandbox) -> None:
    """Nothing; three veth pairs in the sandbox's own namespace, with which they go: two to the path, one to itself."""
    for near, far in (("bench-x0", "bench-y0"), ("bench-x1", "bench-y1"), ("bench-l0", "bench-l1")):
        _ip(sandbox, "link", "add", near, "type", "veth", "peer", "name", far)
        for one in (near, far):
            # No address of its own: it would speak, and be counted.
            _ip(sandbox, "link", "set", one, "addrgenmode", "none")
            _ip(sandbox, "link", "set", one, "up")
            disable_transmit_checksum(sandbox.netns, one)


def _wired(kind: PathKind, sandbox: Sandbox) -> Path:
    def ends(tx: str, rx: str) -> Ends:
        return Ends(
            tx=f"net_af_packet0,iface={tx}",
            rx=f"net_af_packet1,iface={rx}",
            netns=sandbox.netns,
            netdevs=(tx, rx),
        )

    return Path(kind=kind, ends=ends("bench-x0", "bench-x1"), loop=ends("bench-l0", "bench-l1"))


def _join(sandbox: Sandbox, bridge: str, one: str, other: str) -> None:
    check(
        [
            *("ovs-ofctl", f"--timeout={_TIMEOUT_S:.0f}", "add-flow"),
            *(f"unix:{sandbox.run_dir}/{bridge}.mgmt", f"in_port={one},actions=output:{other}"),
        ],
        timeout_s=_TIMEOUT_S,
    )


def _close(sandbox: Sandbox) -> None:
    """Nothing; also after a half of it was made."""
    for bridge in (BRIDGE, _UNDERLAY_BRIDGE, _NETDEV_BRIDGE):
        _vsctl(sandbox, "--if-exists", "del-br", bridge)
    for netdev in (_KERNEL_BRIDGE, "bench-x0", "bench-x1", "bench-l0"):
        run(["ip", "-n", sandbox.netns, "link", "delete", netdev], timeout_s=_TIMEOUT_S)


def _vsctl(sandbox: Sandbox, *words: str) -> None:
    check(["ovs-vsctl", f"--db={sandbox.ovsdb}", f"--timeout={_TIMEOUT_S:.0f}", *words], timeout_s=_TIMEOUT_S + 1)


def _ip(sandbox: Sandbox, *words: str) -> None:
    check(["ip", "-n", sandbox.netns, *words], timeout_s=_TIMEOUT_S)
