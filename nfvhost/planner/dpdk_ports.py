"""The ports of the userspace data path: of NICs, of virtual devices, and for vhost-user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import Final

from nfvhost.drivers import Xdp, driver_of
from nfvhost.model.host import Host, Nic, node_cpus
from nfvhost.model.ovs_keys import AFXDP_SINCE, option_known, release
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import CpuPools, NicPlan
from nfvhost.model.profile import Profile, Role, VhostPort, VirtualPort
from nfvhost.model.vdevs import Vdev, parse_vdev
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.ports import DpdkPort
from nfvhost.planner.releases import Releases, planned_releases

# Where QEMU makes the sockets that OVS connects to: a directory that QEMU's user may write, unlike OVS's own.
SOCKET_DIR: Final = "/var/lib/vhost_sockets"
DEFAULT_BRIDGE: Final = "br-phy"
INTEGRATION_BRIDGE: Final = "br-int"
DEFAULT_MTU: Final = 1500
# lib/netdev-dpdk.c: NETDEV_DPDK_MAX_PKT_LEN 9728, less Ethernet's header, check sum and two VLAN tags.
_MAX_MTU: Final = 9702
# IFNAMSIZ less the NUL (include/uapi/linux/if.h); OVS makes a kernel interface of a bridge, and names ports alike.
_MAX_NAME: Final = 15
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# sockaddr_un.sun_path less the NUL (unix(7)).
_MAX_SOCKET: Final = 107
# The first release whose keys model/ovs_keys.py was read from.
_OLDEST: Final = (2, 13)
# XDP wants a frame in one page of 4096 bytes with its headroom of 256 and the kernel's struct skb_shared_info of 320
# (include/uapi/linux/bpf.h, XDP_PACKET_HEADROOM; include/net/xdp.h), less Ethernet's header and two VLAN tags.
_MAX_XDP_MTU: Final = 4096 - 256 - 320 - 14 - 8
# lib/netdev-afxdp.c, MAX_XSKQ.
_MOST_XDP_QUEUES: Final = 16
# lib/netdev-afxdp.c, NUM_FRAMES of FRAME_SIZE: 16384 of 4096 bytes for each queue, locked.
_XDP_QUEUE_MIB: Final = 64
_XDP_SPEED: Final = {
    Xdp.ZERO_COPY: "its driver hands packets over without a copy",
    Xdp.NATIVE: "its driver runs XDP and copies packets once",
    Xdp.GENERIC: "the kernel copies packets above its driver, the slowest of the three",
}
# More queues than this on one port without a wish cost more than they bring: each PMD thread has all ports to poll.
_MOST_QUEUES: Final = 4


def dpdk_ports(host: Host, profile: Profile, nics: tuple[NicPlan, ...], notes: Notebook) -> tuple[DpdkPort, ...]:
    """The ports that PMD threads will poll: NICs in order of address (dpdk0, dpdk1, …), then what the profile names."""
    named = tuple(_virtual_ports(host, profile, nics, notes)) + tuple(_vhost_ports(profile, notes))
    taken = {port.name for port in named}
    free = (name for number in count() if (name := f"dpdk{number}") not in taken)
    xdp = count(_next_xdp(named))
    cards = {nic.pci: nic for nic in host.nics}
    releases = planned_releases(host, profile)
    ports = []
    for nic in sorted((nic for nic in nics if nic.role in {Role.DPDK, Role.AFXDP}), key=lambda nic: nic.pci):
        port = _nic_port(nic, profile, notes)
        if nic.role is not Role.AFXDP:
            ports.append(replace(port, name=next(free)))
            continue
        _check_xdp(port, nic, notes)
        if releases.ovs >= AFXDP_SINCE:
            ports.append(_own_xdp_port(port, nic, cards[nic.pci], releases, notes))
        else:
            ports.append(_dpdk_xdp_port(replace(port, name=next(free)), nic, next(xdp), releases, notes))
    for port in ports:
        _check_queues(cards, port, notes)
    _check_mtus(ports, profile, notes)
    _check_wish(profile, notes)
    for kind in ("rx", "tx"):
        asked = profile.ovs.rx_descriptors if kind == "rx" else profile.ovs.tx_descriptors
        if asked is not None and asked & (asked - 1):
            notes.refuse(
                f"{asked} is no power of two; OVS would take its default in silence",
                where=f"ovs.{kind}Descriptors",
                hint=f"take {1 << (asked.bit_length() - 1)} or {1 << asked.bit_length()}",
            )
    return (*ports, *named)


def _check_wish(profile: Profile, notes: Notebook) -> None:
    version, bridge = profile.ovs.version, profile.ovs.integration_bridge
    number = release(version) if version is not None else None
    if version is not None and (number is None or number < _OLDEST):
        notes.refuse(
            f"{version!r} is no release of OVS that nfvhost knows",
            where="ovs.version",
            hint='2.13 or later, such as "3.5"',
        )
    if bridge is not None and (problem := bad_name(bridge)) is not None:
        notes.refuse(f"{bridge!r} {problem}", where="ovs.integrationBridge", hint="br-int is what Neutron expects")


def bridge_of_nic(nic: NicPlan, profile: Profile) -> str:
    """The bridge of a NIC's port: the one that its entry names, else br-<physnet>, else br-phy."""
    wish = profile.nics[nic.wish] if nic.wish is not None else None
    if wish is not None and wish.bridge is not None:
        return wish.bridge
    return f"br-{nic.physnet}" if nic.physnet is not None else DEFAULT_BRIDGE


def _nic_port(nic: NicPlan, profile: Profile, notes: Notebook) -> DpdkPort:
    """The port of a NIC, which has the NIC's address for its name yet."""
    wish = profile.nics[nic.wish] if nic.wish is not None else None
    bridge = bridge_of_nic(nic, profile)
    if wish is not None and (problem := bad_name(bridge)) is not None:
        key = "bridge" if wish.bridge is not None else "physnet"
        notes.refuse(f"the bridge {bridge} {problem}", where=f"nics[{nic.wish}].{key}", hint="name a shorter `bridge`")
    return DpdkPort(
        name=str(nic.pci),
        bridge=bridge,
        pci=nic.pci,
        devargs=str(nic.pci),
        node=nic.node,
        mtu=nic.mtu or profile.ovs.mtu or DEFAULT_MTU,
        speed_mbps=nic.speed_mbps,
        rx_queues=wish.rx_queues if wish is not None else None,
        vlan=wish.vlan if wish is not None else None,
        reason=f"{nic.name} at {nic.pci}",
    )


def _check_xdp(port: DpdkPort, nic: NicPlan, notes: Notebook) -> None:
    where = f"nics[{nic.wish}]" if nic.wish is not None else "ovs"
    if port.mtu > _MAX_XDP_MTU:
        notes.refuse(
            f"AF_XDP takes an MTU up to {_MAX_XDP_MTU}, not {port.mtu}: a frame has to fit into a page",
            where=f"{where}.mtu",
            hint="1500, or leave this port to the kernel",
        )
    if port.rx_queues is not None and port.rx_queues > _MOST_XDP_QUEUES:
        notes.refuse(
            f"OVS opens {_MOST_XDP_QUEUES} queues of AF_XDP at most, not {port.rx_queues}",
            where=f"{where}.rxQueues",
            hint="one for each PMD thread is enough",
        )


def _own_xdp_port(port: DpdkPort, nic: NicPlan, card: Nic, releases: Releases, notes: Notebook) -> DpdkPort:
    """By Open vSwitch's own type, which names its ports like their interfaces."""
    netdev, queues = nic.netdevs[0], port.rx_queues or 1
    row = driver_of(card)
    kind = row.xdp if row is not None else Xdp.GENERIC
    # NEWS, v3.7.0.
    always = "" if option_known("afxdp", "use-need-wakeup", releases.ovs) else ", always so from OVS 3.7 on"
    notes.decide(
        f"ovs.afxdp.{netdev}",
        "type=afxdp",
        f"OVS {releases.ovs_text} has ports of type afxdp where it is built with libxdp, as Debian's is: no device and "
        f"no memory of DPDK's between, and Interface.status says which mode came of it; {_xdp_needs(netdev, queues)}",
    )
    notes.decide(
        f"ovs.afxdp.{netdev}.xdp-mode",
        "best-effort",
        f"zero-copy where the driver has it, else native, else generic; of this one: {_XDP_SPEED[kind]}",
    )
    notes.decide(
        f"ovs.afxdp.{netdev}.use-need-wakeup",
        "true",
        f"the kernel is called only when it asks for it, which saves a system call a burst{always}",
    )
    notes.decide(
        f"ovs.afxdp.{netdev}.lockedMemory",
        f"{_XDP_QUEUE_MIB * queues} MiB",
        f"{_XDP_QUEUE_MIB} MiB of frames for each queue, of the host's memory, not of hugepages: ovs-vswitchd has to "
        "run as root, or with LimitMEMLOCK=infinity",
    )
    return replace(
        port,
        name=netdev,
        devargs=None,
        xdp=True,
        rx_queues=queues,
        reason=f"{nic.name} at {nic.pci} by AF_XDP; {netdev} has to have exactly {_counted(queues)}",
    )


def _dpdk_xdp_port(port: DpdkPort, nic: NicPlan, number: int, releases: Releases, notes: Notebook) -> DpdkPort:
    """By DPDK's driver."""
    netdev, queues = nic.netdevs[0], port.rx_queues or 1
    several = f",queue_count={queues}" if queues > 1 else ""
    notes.decide(
        f"ovs.afxdp.{netdev}",
        f"net_af_xdp{number}",
        f"by DPDK's driver: OVS {releases.ovs_text} has ports of type afxdp only where somebody has built it so (from "
        f"3.1 on wherever libxdp is there); {_xdp_needs(netdev, queues)}",
    )
    return replace(
        port,
        devargs=f"net_af_xdp{number},iface={netdev}{several}",
        rx_queues=queues,
        reason=f"{nic.name} at {nic.pci} by AF_XDP; {netdev} has to have exactly {_counted(queues)}",
    )


def _xdp_needs(netdev: str, queues: int) -> str:
    return (
        f"{netdev} has to have exactly {_counted(queues)} (ethtool -L {netdev} combined {queues}), or packets of the "
        "others never arrive"
    )


def _counted(queues: int) -> str:
    return "1 queue" if queues == 1 else f"{queues} queues"


def _next_xdp(ports: Iterable[DpdkPort]) -> int:
    """A number for net_af_xdp that no virtual port of the profile has."""
    numbers = [
        int(match[1])
        for port in ports
        if port.devargs is not None and (match := re.match(r"net_af_xdp(\d+),", port.devargs))
    ]
    return max(numbers, default=-1) + 1


def _virtual_ports(host: Host, profile: Profile, nics: tuple[NicPlan, ...], notes: Notebook) -> Iterable[DpdkPort]:
    devices: dict[str, int] = {}
    for index, wish in enumerate(profile.ovs.virtual_ports):
        where = f"ovs.virtualPorts[{index}]"
        bridge = wish.bridge or DEFAULT_BRIDGE
        _check_names(wish.name, bridge, where, notes)
        try:
            vdev = parse_vdev(wish.devargs)
        except ValueError as error:
            notes.refuse(str(error), where=f"{where}.devargs", hint="write it as in net_af_packet0,iface=eth1")
            continue
        if vdev.name in devices:
            notes.refuse(
                f"{vdev.name} is already the device of ovs.virtualPorts[{devices[vdev.name]}]",
                where=f"{where}.devargs",
                hint="give each device a number of its own: net_af_packet0, net_af_packet1",
            )
            continue
        devices[vdev.name] = index
        _check_netdevs(host, nics, vdev, f"{where}.devargs", notes)
        if wish.node is not None and all(node.id != wish.node for node in host.nodes):
            notes.refuse(
                f"there is no NUMA node {wish.node} here",
                where=f"{where}.node",
                hint=f"the nodes are {', '.join(str(node.id) for node in host.nodes)}",
            )
        _check_mtu(wish.mtu, f"{where}.mtu", notes)
        yield _virtual_port(host, profile, wish, vdev, bridge)


def _virtual_port(host: Host, profile: Profile, wish: VirtualPort, vdev: Vdev, bridge: str) -> DpdkPort:
    under = [nic for nic in host.nics if set(nic.netdevs) & set(vdev.netdevs)]
    node = wish.node if wish.node is not None else next((nic.node for nic in under), None)
    over = f" over {', '.join(vdev.netdevs)}" if vdev.netdevs else ""
    return DpdkPort(
        name=wish.name,
        bridge=bridge,
        devargs=wish.devargs,
        node=node,
        mtu=wish.mtu or profile.ovs.mtu or DEFAULT_MTU,
        speed_mbps=wish.speed_mbps if wish.speed_mbps is not None else next((nic.speed_mbps for nic in under), None),
        rx_queues=wish.rx_queues,
        reason=f"the virtual device net_{vdev.kind}{over}, as the profile asks",
    )


def _check_netdevs(host: Host, nics: tuple[NicPlan, ...], vdev: Vdev, where: str, notes: Notebook) -> None:
    netdevs = {one.name: one for one in host.netdevs}
    for name in vdev.netdevs:
        management = next((nic.management for nic in host.nics if name in nic.netdevs and nic.management), None)
        if name in netdevs:
            management = management or netdevs[name].management
        if management is not None:
            notes.forbid(
                f"{name} carries management: {management}; the switch would answer and forward its packets",
                where=where,
                hint="choose an interface that this host does not need",
            )
        for nic in nics:
            if name in nic.netdevs and nic.role in {Role.DPDK, Role.AFXDP}:
                notes.refuse(
                    f"{name} is the interface of {nic.pci}, which is {nic.role.value} in this plan",
                    where=where,
                    hint="use the NIC once: as a NIC or under a virtual device",
                )


def _vhost_ports(profile: Profile, notes: Notebook) -> Iterable[DpdkPort]:
    directory = profile.ovs.socket_dir or SOCKET_DIR
    if not directory.startswith("/"):
        notes.refuse(f"{directory!r} is no absolute path", where="ovs.socketDir", hint="write it from the root: /run/x")
    for index, wish in enumerate(profile.ovs.vhost_ports):
        where = f"ovs.vhostPorts[{index}]"
        bridge = wish.bridge or profile.ovs.integration_bridge or INTEGRATION_BRIDGE
        _check_names(wish.name, bridge, where, notes)
        _check_mtu(wish.mtu, f"{where}.mtu", notes)
        yield _vhost_port(profile, wish, bridge, directory, where, notes)


def _vhost_port(
    profile: Profile, wish: VhostPort, bridge: str, directory: str, where: str, notes: Notebook
) -> DpdkPort:
    socket = wish.socket if wish.socket is not None else f"{directory.rstrip('/')}/{wish.name}"
    if not socket.startswith("/") or len(socket.encode()) > _MAX_SOCKET:
        notes.refuse(
            f"{socket!r} is no absolute path of at most {_MAX_SOCKET} byte, as a socket must have",
            where=f"{where}.socket",
            hint=f"leave it out for {SOCKET_DIR}/<name>",
        )
    return DpdkPort(
        name=wish.name,
        bridge=bridge,
        vhost=True,
        mtu=wish.mtu or profile.ovs.mtu or DEFAULT_MTU,
        rx_queues=wish.rx_queues,
        vlan=wish.vlan,
        socket=socket,
        reason=f"vhost-user client: the other side (QEMU) makes {socket}, so that it may restart, and OVS may too",
    )


def _check_names(name: str, bridge: str, where: str, notes: Notebook) -> None:
    for key, text in (("name", name), ("bridge", bridge)):
        if (problem := bad_name(text)) is not None:
            notes.refuse(f"{text!r} {problem}", where=f"{where}.{key}", hint="such as dpdk0, vm1, br-phy")


def bad_name(name: str) -> str | None:
    """What keeps a port or bridge from having that name; None where it can."""
    if len(name) > _MAX_NAME:
        return f"has {len(name)} characters, and interface names have at most {_MAX_NAME}"
    if not _NAME.fullmatch(name):
        return "has characters that an interface name cannot have"
    return None


def _check_queues(cards: Mapping[PciAddress, Nic], port: DpdkPort, notes: Notebook) -> None:
    most = _most_queues(cards, port)
    if most is not None and port.rx_queues is not None and port.rx_queues > most:
        notes.warn(
            f"{port.pci} has {most} receive queues at most; OVS will open that many of the {port.rx_queues} asked"
        )


def _check_mtus(ports: list[DpdkPort], profile: Profile, notes: Notebook) -> None:
    _check_mtu(profile.ovs.mtu, "ovs.mtu", notes)
    for index, wish in enumerate(profile.nics):
        _check_mtu(wish.mtu, f"nics[{index}].mtu", notes)
    by_bridge: dict[str, set[int]] = {}
    for port in ports:
        by_bridge.setdefault(port.bridge, set()).add(port.mtu)
    for bridge, mtus in by_bridge.items():
        if len(mtus) > 1:
            notes.warn(
                f"the ports of {bridge} have different MTUs ({', '.join(map(str, sorted(mtus)))}): larger packets drop"
            )


def _check_mtu(mtu: int | None, where: str, notes: Notebook) -> None:
    if mtu is not None and mtu > _MAX_MTU:
        notes.refuse(
            f"OVS-DPDK takes an MTU up to {_MAX_MTU}, not {mtu}", where=where, hint="9000 is what most switches take"
        )


def queues(profile: Profile, ports: tuple[DpdkPort, ...], pools: CpuPools, host: Host) -> tuple[DpdkPort, ...]:
    """The ports with their number of receive queues.

    The asked number, else one per PMD thread on the port's node and at most 4, and no more than the card has;
    vhost-user ports have what the guest has, and count with 1 where nothing is asked.
    """
    cards = {nic.pci: nic for nic in host.nics}
    return tuple(_with_queues(port, *_rx_queues(profile, port, pools, host, cards)) for port in ports)


def _most_queues(cards: Mapping[PciAddress, Nic], port: DpdkPort) -> int | None:
    """The receive queues of the port's card; None where they are not known."""
    nic = cards.get(port.pci) if port.pci is not None else None
    row = driver_of(nic) if nic is not None else None
    return row.rx_queues if row is not None else None


def _with_queues(port: DpdkPort, number: int, why: str) -> DpdkPort:
    counted = "1 receive queue" if number == 1 else f"{number} receive queues"
    reason = port.reason if port.vhost or port.xdp else f"{port.reason}; {counted}: {why}"
    return replace(port, rx_queues=number, reason=reason)


def _rx_queues(
    profile: Profile, port: DpdkPort, pools: CpuPools, host: Host, cards: Mapping[PciAddress, Nic]
) -> tuple[int, str]:
    """How many, and why."""
    if port.vhost:
        return port.rx_queues or 1, "the guest has as many as it has"
    if port.xdp:
        return port.rx_queues or 1, "as many as the interface has to have"
    if port.devargs is not None and port.devargs.startswith("net_"):
        return _vdev_queues(parse_vdev(port.devargs), port, pools)
    asked = port.rx_queues or profile.ovs.rx_queues
    if asked is not None:
        return asked, "as the profile asks"
    near = len(pools.pmd & node_cpus(host, port.node))
    most = _most_queues(cards, port)
    if most is not None and most < min(near or len(pools.pmd), _MOST_QUEUES):
        return most, "the card has no more"
    where = f" on node {port.node}" if near and port.node is not None else ""
    return max(1, min(near or len(pools.pmd), _MOST_QUEUES)), f"one per PMD thread{where}, at most {_MOST_QUEUES}"


def _vdev_queues(vdev: Vdev, port: DpdkPort, pools: CpuPools) -> tuple[int, str]:
    """A virtual device has the queues that its devargs make."""
    if vdev.kind == "tap":
        # A tap has as many receive queues as transmit queues, and OVS makes one of these per PMD thread and one more
        # (net_tap, tap_setup_queue; lib/dpif-netdev.c).
        return len(pools.pmd) + 1, "one per PMD thread and one more, as net_tap needs"
    made = vdev.argument({"af_packet": "qpairs", "af_xdp": "queue_count"}.get(vdev.kind, ""))
    if made is not None and made.isdecimal():
        return int(made), "as its devargs say"
    if vdev.kind in {"null", "memif"} and port.rx_queues is not None:
        return port.rx_queues, "as the profile asks"
    return 1, f"net_{vdev.kind} makes one"
