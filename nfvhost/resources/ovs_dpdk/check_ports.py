"""Ports that OVS takes in silence and that would never work, and those that would do harm."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv6Address, ip_address
from typing import Final

from nfvhost.access.ovs_rows import Place
from nfvhost.drivers import driver_of
from nfvhost.errors import Problem
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host, Nic
from nfvhost.model.ovs_keys import INTERFACE_OPTIONS, option_known, release
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import OvsPort, Plan
from nfvhost.resources import Unmet
from nfvhost.resources.ovs_dpdk.difference import find_port, mark_at
from nfvhost.resources.ovs_dpdk.state import AF_XDP, AFXDP_TYPES, State, Switch
from nfvhost.resources.ovs_dpdk.target import planned_ports

_DRIVER_BINDING: Final = "driver_binding"
# Kernel drivers through which DPDK drives a device from user space (DPDK Linux guide, linux_drivers).
_USERSPACE_DRIVERS: Final = frozenset({"vfio-pci", "uio_pci_generic", "igb_uio"})
# sockaddr_un.sun_path with its NUL (unix(7)).
_SOCKET_PATH_BYTES: Final = 107
# lib/netdev-dpdk.c: NETDEV_DPDK_MAX_PKT_LEN 9728 less the Ethernet header, CRC and two VLAN tags.
_MTUS: Final = range(68, 9702 + 1)
_VLANS: Final = range(4096)
# lib/netdev-dpdk.c: NIC_PORT_MAX_Q_SIZE.
_MAX_DESCRIPTORS: Final = 4096
# lib/packets.h: SRV6_MAX_SEGS.
_MAX_SEGMENTS: Final = 6
_TUNNELS: Final = frozenset({"vxlan", "geneve", "gre", "ip6gre", "srv6", "erspan", "ip6erspan", "gtpu", "bareudp"})
# One PF has a port for itself and one for each representor (DPDK guide, switch_representation).
_REPRESENTOR: Final = re.compile(r"representor=(\[[^\]]*\]|[^,]*)")
_KERNEL_TYPES: Final = frozenset({"system"}) | AFXDP_TYPES
# Virtual devices whose `iface=` names a kernel interface that must be there; net_tap makes its own.
_OVER_NETDEV: Final = ("net_af_packet", "eth_af_packet", *AF_XDP)


@dataclass(frozen=True, slots=True)
class _Port:
    """One planned port with what surrounds it."""

    place: Place
    port: OvsPort
    pmd_cpus: CpuSet | None

    @property
    def where(self) -> str:
        return f"ovs.bridges.{self.place.bridge}.ports.{self.port.name}"

    @property
    def options(self) -> dict[str, str]:
        return dict(self.port.options)


def port_problems(state: State, switch: Switch, plan: Plan, config: dict[str, str], host: Host) -> Iterator[Problem]:
    """Problems of the planned ports, in the order of the plan."""
    if plan.ovs is None:
        return
    mask = config.get("pmd-cpu-mask")
    try:
        pmd_cpus = CpuSet.parse_mask(mask) if mask is not None else None
    except ValueError:
        pmd_cpus = None  # said where the key is checked
    devices = _foreign_devices(state, plan)
    names: dict[str, str] = {}
    for place, port in planned_ports(plan.ovs):
        one = _Port(place, port, pmd_cpus)
        if port.name in names:
            yield Problem(what=f"{names[port.name]} has this name as well", where=one.where, hint="rename one of them")
        names.setdefault(port.name, one.where)
        yield from _row_problems(state, one)
        yield from _option_problems(one, switch.version)
        yield from _value_problems(one)
        yield from _queue_problems(one)
        if port.type == "dpdk":
            yield from _device_problems(one, devices, switch, plan, host)
        elif port.type == "dpdkvhostuserclient":
            yield from _socket_problems(one, switch)
        elif port.type in _KERNEL_TYPES:
            yield from _kernel_problems(one, switch, host)
        elif port.type == "patch":
            yield from _patch_problems(state, plan, one)
        elif port.type in _TUNNELS:
            yield from _tunnel_problems(one)


def device_of(devargs: str) -> str:
    """What the arguments name: `0000:10:00.0`, `net_null0`, a representor with its PF, `class=eth,mac=…` as it is."""
    if devargs.startswith("class="):
        return devargs
    base = devargs.split(",", 1)[0].strip().lower()
    representor = _REPRESENTOR.search(devargs)
    return f"{base},{representor[0]}" if representor else base


def _foreign_devices(state: State, plan: Plan) -> dict[str, str]:
    """The devices that ports which stay, and are not planned, have taken."""
    planned = {place for place, _ in planned_ports(plan.ovs)} if plan.ovs is not None else set()
    taken = {}
    for bridge in state.database.bridges:
        for port in bridge.ports:
            place = Place(bridge.name, port.name)
            own = mark_at(state.database, place)
            if place in planned or (own is not None and own.made):
                continue
            for interface in port.interfaces:
                devargs = dict(interface.options).get("dpdk-devargs")
                if devargs:
                    taken[device_of(devargs)] = f"port {bridge.name}/{port.name}, which is not nfvhost's"
    return taken


def _row_problems(state: State, one: _Port) -> Iterator[Problem]:
    name = one.port.name
    if not name or "/" in name or any(letter.isspace() for letter in name):
        yield Problem(what=f"{name!r} cannot name a port", where=one.where, hint="no blanks and no slashes")
    for bridge in state.database.bridges:
        for port in bridge.ports:
            if port.name != name or bridge.name == one.place.bridge:
                continue
            own = mark_at(state.database, Place(bridge.name, name))
            if own is None or not own.made:
                yield Problem(
                    what=f"bridge {bridge.name} has a port of this name that others made",
                    where=one.where,
                    hint=f"rename it, or remove the other (ovs-vsctl del-port {bridge.name} {name})",
                )
    there = find_port(state.database, one.place)
    if there is not None and len(there.interfaces) != 1:
        members = ", ".join(interface.name for interface in there.interfaces)
        yield Problem(
            what=f"is a bond of {members} that others made",
            where=one.where,
            hint="rename the planned port, or remove the bond",
        )


def _option_problems(one: _Port, version: str) -> Iterator[Problem]:
    running = release(version)
    known = INTERFACE_OPTIONS.get(one.port.type)
    if running is None or known is None:
        return
    for name in one.options:
        if option_known(one.port.type, name, running):
            continue
        near = get_close_matches(name, sorted(known), n=1)
        yield Problem(
            what=f"Open vSwitch {version} knows no option {name} of {one.port.type} ports, and would ignore it",
            where=f"{one.where}.options.{name}",
            hint=f"did you mean {near[0]}?"
            if near and near[0] != name
            else "the options are in ovs-vswitchd.conf.db(5)",
        )


def _value_problems(one: _Port) -> Iterator[Problem]:
    if one.port.mtu is not None and one.port.mtu not in _MTUS:
        yield Problem(
            what=f"an MTU of {one.port.mtu} is not possible", where=f"{one.where}.mtu", hint="68 to 9702 bytes"
        )
    if one.port.tag is not None and one.port.tag not in _VLANS:
        yield Problem(what=f"VLAN {one.port.tag} is not possible", where=f"{one.where}.tag", hint="0 to 4095")
    for name in ("n_rxq", "n_txq"):
        value = one.options.get(name)
        if value is not None and (not value.isdecimal() or not int(value)):
            yield Problem(
                what=f"{value!r} is no number of queues; Open vSwitch would make one in silence",
                where=f"{one.where}.options.{name}",
                hint="a number from 1",
            )
    for name in ("n_rxq_desc", "n_txq_desc"):
        value = one.options.get(name)
        if value is None:
            continue
        count = int(value) if value.isdecimal() else 0
        if not 0 < count <= _MAX_DESCRIPTORS or count & (count - 1):
            yield Problem(
                what=f"{value!r} is no number of descriptors; Open vSwitch would take 2048 in silence",
                where=f"{one.where}.options.{name}",
                hint=f"a power of two up to {_MAX_DESCRIPTORS}",
            )


def _queue_problems(one: _Port) -> Iterator[Problem]:
    affinity = dict(one.port.other_config).get("pmd-rxq-affinity")
    if affinity is None:
        return
    where = f"{one.where}.otherConfig.pmd-rxq-affinity"
    try:
        pairs = rxq_affinity(affinity)
    except ValueError:
        yield Problem(
            what=f"{affinity!r} is no list of queue:core; Open vSwitch would ignore it", where=where, hint="0:3,1:7"
        )
        return
    for queue, core in pairs:
        if one.pmd_cpus is not None and core not in one.pmd_cpus:
            yield Problem(
                what=f"queue {queue} shall be polled by core {core}, which is no PMD core; nobody would poll it",
                where=where,
                hint=f"pmd-cpu-mask names {one.pmd_cpus}",
            )


def rxq_affinity(text: str) -> tuple[tuple[int, int], ...]:
    """The pairs of queue and core in `0:3,1:7`; ValueError for anything else."""
    pairs = (part.split(":") for part in text.split(","))
    return tuple((int(queue), int(core)) for queue, core in pairs)


def _device_problems(one: _Port, taken: dict[str, str], switch: Switch, plan: Plan, host: Host) -> Iterator[Problem]:
    devargs = one.options.get("dpdk-devargs")
    where = f"{one.where}.options.dpdk-devargs"
    if not devargs:
        yield Problem(
            what="a port of DPDK needs a device", where=where, hint="a PCI address, or net_af_packet0,iface=…"
        )
        return
    device = device_of(devargs)
    if device in taken:
        yield Problem(what=f"{device} is in use by {taken[device]}", where=where, hint="one device serves one port")
    taken.setdefault(device, one.where)
    if device.startswith(_OVER_NETDEV):
        iface = dict(part.partition("=")[::2] for part in devargs.split(",")[1:]).get("iface")
        if iface:
            yield from _netdev_problems(iface, where, switch, host)
            if device.startswith(AF_XDP):
                words = dict(part.partition("=")[::2] for part in devargs.split(",")[1:])
                yield from _xdp_problems(iface, words.get("queue_count"), where, switch)
        else:
            yield Problem(what=f"{device} needs a kernel interface", where=where, hint=f"{device},iface=…")
        return
    try:
        pci = PciAddress.parse(device.partition(",")[0])
    except ValueError:
        return  # another virtual device, or class=eth,mac=…: what it needs is its own driver's to say
    nic = host.nic(pci)
    if nic is None:
        yield Problem(
            what=f"no network function is at {pci}", where=where, hint="nfvhost inspect shows those that are there"
        )
    elif nic.management is not None:
        yield Problem(
            what=f"{pci} carries management ({nic.management}); giving it to DPDK would cut this host off",
            where=where,
            hint="choose another NIC, or move the address first",
        )
    else:
        bound = frozenset(one.pci for one in plan.nics if one.driver in _USERSPACE_DRIVERS)
        yield from _binding_problems(nic, where, bound)
        yield from _group_problems(nic, where, bound, host)


def _group_problems(nic: Nic, where: str, bound: frozenset[PciAddress], host: Host) -> Iterator[Problem]:
    """VFIO gives a whole IOMMU group away, or nothing (Documentation/driver-api/vfio.rst)."""
    mates = (host.nic(mate) for mate in nic.group_mates) if nic.driver == "vfio-pci" else ()
    kept = [mate for mate in mates if mate is not None and mate.driver not in {None, "vfio-pci", "pci-stub"}]
    if kept:
        names = ", ".join(f"{mate.pci} ({mate.driver})" for mate in kept)
        yield _unbound(
            Problem(
                what=f"IOMMU group {nic.iommu_group} of {nic.pci} is not viable: the kernel still uses {names} of it",
                where=where,
                hint="bind all functions of the group to vfio-pci, or choose a card in a group of its own",
            ),
            planned=all(mate.pci in bound for mate in kept),
        )


def _binding_problems(nic: Nic, where: str, bound: frozenset[PciAddress]) -> Iterator[Problem]:
    row = driver_of(nic)
    bifurcated = row is not None and row.bifurcated
    if bifurcated and nic.driver in _USERSPACE_DRIVERS:
        yield Problem(
            what=f"{nic.pci} is bound to {nic.driver}, and DPDK drives it by way of its kernel driver alone",
            where=where,
            hint=f"give it back: driverctl unset-override {nic.pci}",
        )
    elif not bifurcated and nic.driver not in _USERSPACE_DRIVERS:
        yield _unbound(
            Problem(
                what=f"{nic.pci} is bound to {nic.driver or 'no driver'}, and DPDK cannot drive it there",
                where=where,
                hint=f"bind it first: driverctl set-override {nic.pci} vfio-pci",
            ),
            planned=nic.pci in bound,
        )


def _unbound(problem: Problem, *, planned: bool) -> Problem:
    """The problem, as one that driver_binding sees to where the plan binds what it is about."""
    if not planned:
        return problem
    return Unmet(what=problem.what, where=problem.where, hint=problem.hint, met_by=_DRIVER_BINDING)


def _kernel_problems(one: _Port, switch: Switch, host: Host) -> Iterator[Problem]:
    """Ports that are named like the interface that they take."""
    yield from _netdev_problems(one.port.name, one.where, switch, host)
    if one.port.type in AFXDP_TYPES:
        yield from _xdp_problems(one.port.name, one.options.get("n_rxq"), one.where, switch)


def _netdev_problems(name: str, where: str, switch: Switch, host: Host) -> Iterator[Problem]:
    if name not in switch.netdevs:
        yield Problem(
            what=f"ovs-vswitchd sees no network interface {name}",
            where=where,
            hint=f"its network namespace has {', '.join(sorted(switch.netdevs))}",
        )
        return
    netdev = next((one for one in host.netdevs if one.name == name), None)
    # The host was seen from one network namespace; an interface of that name may be another one there.
    if netdev is not None and netdev.management is not None and switch.shares_host_network:
        yield Problem(
            what=f"{name} carries management ({netdev.management}); taking its packets would cut this host off",
            where=where,
            hint="choose another interface, or move the address first",
        )


def _xdp_problems(name: str, asked: str | None, where: str, switch: Switch) -> Iterator[Problem]:
    """Queues that no socket is bound to keep their packets to themselves, and one that is not there takes none."""
    there = dict(switch.queues).get(name)
    wanted = int(asked) if asked is not None and asked.isdecimal() else 1
    if there is not None and there != wanted:
        harm = "packets of the others would never arrive" if there > wanted else "Open vSwitch could not open them"
        yield Problem(
            what=f"AF_XDP is planned on {wanted} of {name}'s receive queues, and it has {there}: {harm}",
            where=where,
            hint=f"ethtool -L {name} combined {wanted}",
        )
    if not switch.locks_memory:
        yield Problem(
            what="ovs-vswitchd may not lock the memory that AF_XDP takes for its frames",
            where=where,
            hint="run it as root, or give it LimitMEMLOCK=infinity (systemctl edit ovs-vswitchd)",
        )


def _socket_problems(one: _Port, switch: Switch) -> Iterator[Problem]:
    path = one.options.get("vhost-server-path")
    where = f"{one.where}.options.vhost-server-path"
    if not path:
        yield Problem(
            what="a vhost-user client needs the path of its guest's socket; Open vSwitch would wait in silence",
            where=where,
            hint="a path such as /var/lib/vhost_sockets/<port>",
        )
    elif not os.path.isabs(path) or len(path.encode()) > _SOCKET_PATH_BYTES:
        yield Problem(
            what=f"{path!r} cannot be a socket's path",
            where=where,
            hint=f"absolute, at most {_SOCKET_PATH_BYTES} bytes",
        )
    elif (folder := os.path.dirname(path)) in switch.absent:
        what = f"the directory {folder} is not there; Open vSwitch would try for ever, in silence"
        hint = f"make it, writable for QEMU's user and group: install -d -m 2770 -o libvirt-qemu -g kvm {folder}"
        yield Unmet(what=what, where=where, hint=hint, met_by="vhost_sockets")


def _patch_problems(state: State, plan: Plan, one: _Port) -> Iterator[Problem]:
    peer = one.options.get("peer")
    where = f"{one.where}.options.peer"
    if not peer:
        yield Problem(
            what="a patch port needs its peer", where=where, hint="the name of a patch port in another bridge"
        )
        return
    ovs = plan.ovs
    planned = {port.name: (place, port.type, dict(port.options)) for place, port in planned_ports(ovs)} if ovs else {}
    foreign = {
        port.name: (Place(bridge.name, port.name), interface.type, dict(interface.options))
        for bridge in state.database.bridges
        for port in bridge.ports
        for interface in port.interfaces
    }
    found = planned.get(peer) or foreign.get(peer)
    if found is None:
        yield Problem(what=f"no port {peer} is planned, or there", where=where, hint="a patch cable has two ends")
        return
    place, kind, options = found
    if kind != "patch" or options.get("peer") != one.port.name or place.bridge == one.place.bridge:
        yield Problem(
            what=f"{place.bridge}/{peer} is not the other end (type {kind}, peer {options.get('peer', 'none')})",
            where=where,
            hint="both are patch ports of two bridges, and name each other",
        )


def _tunnel_problems(one: _Port) -> Iterator[Problem]:
    options = one.options
    for name in ("remote_ip", "local_ip"):
        value = options.get(name)
        if value is None and name == "local_ip":
            continue
        if value != "flow" and not _is_address(value, six=one.port.type == "srv6"):
            yield Problem(
                what=f"{value!r} is no address of an {one.port.type} tunnel; Open vSwitch would take it in silence",
                where=f"{one.where}.options.{name}",
                hint="an IPv6 address, or flow" if one.port.type == "srv6" else "an IP address, or flow",
            )
    segments = options.get("srv6_segs")
    if one.port.type != "srv6" or segments is None:
        return
    where = f"{one.where}.options.srv6_segs"
    parts = [part for part in segments.split(",") if part]
    if not 0 < len(parts) <= _MAX_SEGMENTS:
        yield Problem(
            what=f"{len(parts)} segments: Open vSwitch has room for 1 to {_MAX_SEGMENTS}, and only logs more",
            where=where,
            hint="leave out segments that the underlay's routing finds by itself",
        )
    for part in parts:
        if not _is_address(part, six=True):
            yield Problem(what=f"{part!r} is no IPv6 address", where=where, hint="fc00:0:1::1")
    if parts and options.get("remote_ip") not in {parts[0], "flow"}:
        yield Problem(
            what=f"the first segment is {parts[0]}, and the tunnel goes to {options.get('remote_ip')};"
            " Open vSwitch would take it in silence",
            where=where,
            hint="the first segment is the remote address",
        )


def _is_address(text: str | None, *, six: bool) -> bool:
    try:
        address = ip_address(text or "")
    except ValueError:
        return False
    return isinstance(address, IPv6Address) or not six
