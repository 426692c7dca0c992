"""Ways through a switch or the kernel, made on a sandbox: where a generator is attached, and to what.

port     generator - vhost-user - PMD - vhost-user - generator
pvp      generator - vhost-user - PMD - guest (l2fwd on virtio) - PMD - vhost-user - generator
netdev   generator - veth - Open vSwitch in user space without DPDK - veth - generator
kernel   generator - veth - the kernel's bridge - veth - generator
"""

from __future__ import annotations

import os
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
from nfvhost.model.plan import OvsBridge, OvsPlan, OvsPort, Plan
from nfvhost.sandbox import Sandbox

_TIMEOUT_S: Final = 30.0
BRIDGE: Final = "br-bench"
_NETDEV_BRIDGE: Final = "br-netdev"
_KERNEL_BRIDGE: Final = "kernel-bridge"
# Descriptors of a virtio ring: QEMU's most (rx_queue_size, tx_queue_size).
QUEUE_SIZE: Final = 1024
# MiB of hugepages that Open vSwitch may take in a sandbox for a bench, and what is left to the generator.
SWITCH_MIB: Final = 512
GENERATOR_MIB: Final = 192
# A ring in memory: the frames come back where they were sent. What it carries is the generator's own ceiling.
_LOOP: Final = "net_ring0"


class PathKind(StrEnum):
    """A way that frames go."""

    PORT = "port"
    PVP = "pvp"
    NETDEV = "netdev"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A way that is there."""

    kind: PathKind
    ends: Ends
    loop: Ends  # the same kind of ends, joined without anything between: the generator's own ceiling
    ports: tuple[str, ...] = ()  # of the switch

    @property
    def polled(self) -> bool:
        """Whether poll-mode threads forward."""
        return self.kind in {PathKind.PORT, PathKind.PVP}


def path_kind(text: str) -> PathKind:
    """The way of that name; UsageError where there is none."""
    try:
        return PathKind(text)
    except ValueError as error:
        raise UsageError(f"there is no path {text!r}", where="--path", hint=", ".join(PathKind)) from error


@contextmanager
def opened(kind: PathKind, sandbox: Sandbox, plan: Plan, *, queue_size: int = QUEUE_SIZE) -> Iterator[Path]:
    """The path, made on the sandbox by the plan's settings of Open vSwitch; its bridge is gone afterwards."""
    try:
        match kind:
            case PathKind.PORT | PathKind.PVP:
                yield _vhost(kind, sandbox, plan, queue_size)
            case PathKind.NETDEV:
                yield _netdev(sandbox)
            case PathKind.KERNEL:
                yield _kernel(sandbox)
    finally:
        _close(sandbox)


def benched(plan: Plan, ports: tuple[OvsPort, ...]) -> Plan:
    """The plan with its settings of Open vSwitch on a bridge of these ports alone."""
    bridge = OvsBridge(name=BRIDGE, datapath_type="netdev", fail_mode="secure", physnet=None, ports=ports)
    ovs = replace(_ovs(plan), other_config=settings(plan), bridges=(bridge,))
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


def _vhost(kind: PathKind, sandbox: Sandbox, plan: Plan, queue_size: int) -> Path:
    guest = kind is PathKind.PVP
    names = ("tx", "rx", "guest0", "guest1") if guest else ("tx", "rx")
    sockets = {name: f"{sandbox.run_dir}/bench-{name}" for name in names}
    ports = tuple(
        OvsPort(
            name=f"bench-{name}",
            type="dpdkvhostuserclient",
            options=(("vhost-server-path", sockets[name]),),
            other_config=(),
            mtu=None,
            tag=None,
            node=None,
            reason="measured",
        )
        for name in names
    )
    machine = Machine(root=DirectoryRoot("/"), ovsdb=sandbox.ovsdb)
    engine.apply(benched(plan, ports), machine, inspect_host(machine.root))
    hops = (("tx", "guest0"), ("guest1", "rx")) if guest else (("tx", "rx"),)
    for one, other in hops:
        _join(sandbox, BRIDGE, f"bench-{one}", f"bench-{other}")
    devices = [
        f"net_virtio_user{number},path={sockets[name]},queue_size={queue_size},server=1"
        for number, name in enumerate(names)
    ]
    ends = Ends(tx=devices[0], rx=devices[1], guest=(devices[2], devices[3]) if guest else None, shared_memory=True)
    return Path(kind=kind, ends=ends, loop=Ends(tx=_LOOP, rx=_LOOP), ports=tuple(one.name for one in ports))


def _netdev(sandbox: Sandbox) -> Path:
    _make_wires(sandbox)
    kind = ("datapath_type=netdev", "fail_mode=secure")
    _vsctl(sandbox, "--may-exist", "add-br", _NETDEV_BRIDGE, "--", "set", "bridge", _NETDEV_BRIDGE, *kind)
    for port in ("bench-y0", "bench-y1"):
        _vsctl(sandbox, "--may-exist", "add-port", _NETDEV_BRIDGE, port)
    _join(sandbox, _NETDEV_BRIDGE, "bench-y0", "bench-y1")
    return _wired(PathKind.NETDEV, sandbox, ports=("bench-y0", "bench-y1"))


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


def _wired(kind: PathKind, sandbox: Sandbox, ports: tuple[str, ...] = ()) -> Path:
    def ends(tx: str, rx: str) -> Ends:
        return Ends(
            tx=f"net_af_packet0,iface={tx}",
            rx=f"net_af_packet1,iface={rx}",
            netns=sandbox.netns,
            netdevs=(tx, rx),
        )

    return Path(kind=kind, ends=ends("bench-x0", "bench-x1"), loop=ends("bench-l0", "bench-l1"), ports=ports)


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
    for bridge in (BRIDGE, _NETDEV_BRIDGE):
        _vsctl(sandbox, "--if-exists", "del-br", bridge)
    for netdev in (_KERNEL_BRIDGE, "bench-x0", "bench-x1", "bench-l0"):
        run(["ip", "-n", sandbox.netns, "link", "delete", netdev], timeout_s=_TIMEOUT_S)
    for name in ("tx", "rx", "guest0", "guest1"):
        socket = f"{sandbox.run_dir}/bench-{name}"
        if os.path.lexists(socket):
            os.unlink(socket)


def _vsctl(sandbox: Sandbox, *words: str) -> None:
    check(["ovs-vsctl", f"--db={sandbox.ovsdb}", f"--timeout={_TIMEOUT_S:.0f}", *words], timeout_s=_TIMEOUT_S + 1)


def _ip(sandbox: Sandbox, *words: str) -> None:
    check(["ip", "-n", sandbox.netns, *words], timeout_s=_TIMEOUT_S)
