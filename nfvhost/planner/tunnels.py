"""Tunnels: what OVS would take in silence is checked here, and the MTU that is left inside."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network
from typing import Final

from nfvhost.model.encapsulation import IPV4, IPV6, SEGMENT, SRH, overhead
from nfvhost.model.host import Host
from nfvhost.model.ovs_keys import SRV6_SINCE, release
from nfvhost.model.plan import OvsBridge, OvsPlan, OvsPort, TunnelPlan
from nfvhost.model.profile import Profile, TunnelType, TunnelWish
from nfvhost.planner.dpdk_ports import DEFAULT_BRIDGE, DEFAULT_MTU, INTEGRATION_BRIDGE, bad_name
from nfvhost.planner.notebook import Notebook

Address = IPv4Address | IPv6Address

# lib/netdev.h of OVS: SRV6_MAX_SEGS; a longer list is a line in the log and no tunnel.
_MOST_SEGMENTS: Final = 6
# RFC 8200, section 5; RFC 791.
_LEAST_IPV6_MTU: Final = 1280
_LEAST_IPV4_MTU: Final = 68
_VNI_BITS: Final = 24
_KEY_BITS: Final = {TunnelType.VXLAN: _VNI_BITS, TunnelType.GENEVE: _VNI_BITS, TunnelType.GRE: 32}
_FLOW_LABELS: Final = ("copy", "zero", "compute")
_PREFIXES: Final = {4: 24, 6: 64}
_MAC: Final = re.compile(r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}")
# options:remote_ip=flow: the flow says where to, and a packet is taken from anywhere (vswitch.xml).
_FLOW: Final = "flow"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """The two ends of a tunnel; `remote` is None where the flow names it."""

    local: Address
    remote: Address | None
    prefix: int


def plan_tunnels(
    host: Host, profile: Profile, ovs: OvsPlan | None, notes: Notebook
) -> tuple[tuple[TunnelPlan, ...], OvsPlan | None]:
    """The tunnels in the profile's order, and the OVS plan with their ports in it."""
    if not profile.tunnels:
        return (), ovs
    if ovs is None:
        notes.warn("the tunnels of the profile are left out: no OVS is planned on this machine")
        return (), None
    plans: list[TunnelPlan] = []
    for index, wish in enumerate(profile.tunnels):
        where = f"tunnels[{index}]"
        before = len(notes.problems)
        ends = _check(wish, where, ovs, notes)
        _check_twins(profile, index, notes)
        _check_guest(profile, index, ovs, notes)
        underlay = _underlay_bridge(host, profile, wish, ovs, where, notes)
        if ends is None or underlay is None or len(notes.problems) > before:
            continue
        tunnel = _plan(profile, wish, ends, underlay, ovs, where, notes)
        if len(notes.problems) == before:
            plans.append(tunnel)
    return tuple(plans), _with_ports(tuple(plans), ovs, notes)


def _check(wish: TunnelWish, where: str, ovs: OvsPlan, notes: Notebook) -> _Ends | None:
    """The ends where they make sense; all else that is wrong with the wish is noted."""
    if (problem := bad_name(wish.name)) is not None:
        notes.refuse(f"{wish.name!r} {problem}", where=f"{where}.name", hint="such as srv6-east, vx0")
    elif any(wish.name in {bridge.name, *(port.name for port in bridge.ports)} for bridge in ovs.bridges):
        notes.refuse(
            f"{wish.name} is a port or bridge of this plan already", where=f"{where}.name", hint="take another name"
        )
    _check_key(wish, where, notes)
    _check_networks(wish, where, notes)
    if wish.type is TunnelType.SRV6:
        _check_srv6(wish, where, ovs, notes)
    else:
        for key, value in (("segments", wish.segments), ("flowLabel", wish.flow_label)):
            if value:
                notes.refuse(f"a {wish.type.value} tunnel has no {key}", where=f"{where}.{key}", hint="take type: srv6")
    return _ends(wish, where, notes)


def _check_key(wish: TunnelWish, where: str, notes: Notebook) -> None:
    if wish.key is None:
        return
    bits = _KEY_BITS.get(wish.type)
    if bits is None:
        notes.refuse(
            "an SRv6 tunnel has no key", where=f"{where}.key", hint="the last segment says who gets the packet"
        )
    elif not 0 <= wish.key < 1 << bits:
        notes.refuse(
            f"the key of {wish.type.value} has {bits} bits, {wish.key} does not fit",
            where=f"{where}.key",
            hint=f"take 0 to {(1 << bits) - 1}",
        )


def _check_networks(wish: TunnelWish, where: str, notes: Notebook) -> None:
    for number, text in enumerate(wish.networks):
        place = f"{where}.networks[{number}]"
        try:
            ip_network(text)
        except ValueError:
            try:
                hint = f"{ip_network(text, strict=False)} is the network that this address is in"
            except ValueError:
                hint = "such as 10.2.0.0/24 or fd02::/64"
            notes.refuse(f"{text!r} is no network", where=place, hint=hint)


def _check_srv6(wish: TunnelWish, where: str, ovs: OvsPlan, notes: Notebook) -> None:
    version = release(ovs.version)
    if version is not None and version < SRV6_SINCE:
        notes.refuse(
            f"OVS {ovs.version} has no SRv6; it came with 3.2",
            where=f"{where}.type",
            hint="install OVS 3.2 or later (Debian 13 and Ubuntu 24.04 have it) and name it in ovs.version",
        )
    if len(wish.segments) > _MOST_SEGMENTS:
        notes.refuse(
            f"{len(wish.segments)} segments: OVS takes 1 to {_MOST_SEGMENTS}, and only its log would tell",
            where=f"{where}.segments",
            hint="leave out segments that the shortest path passes anyway",
        )
    addresses: list[Address | None] = []
    for number, text in enumerate(wish.segments):
        segment = _address(text)
        addresses.append(segment)
        if not isinstance(segment, IPv6Address) or not _is_unicast(segment):
            notes.refuse(
                f"{text!r} is no IPv6 address of a node", where=f"{where}.segments[{number}]", hint="such as fc00:e1::1"
            )
    if addresses and addresses[0] is not None and addresses[0] != _address(wish.remote):
        notes.refuse(
            f"the first segment is {wish.segments[0]} and remote is {wish.remote}: packets go to the first segment",
            where=f"{where}.segments[0]",
            hint="make them equal",
        )
    if wish.flow_label is not None and wish.flow_label not in _FLOW_LABELS:
        notes.refuse(
            f"{wish.flow_label!r} is no way to fill the flow label, and OVS would take it in silence",
            where=f"{where}.flowLabel",
            hint=f"one of {', '.join(_FLOW_LABELS)}",
        )
    if len(wish.segments) > 1:
        # lib/netdev-vport.c, parse_srv6_segs: strtok_r on the row's own text, in 3.2 to 4.0.
        notes.warn(
            f"{where}: OVS forgets all segments but the first when it is reconfigured, while its database still has "
            "them; `nfvhost watch`, which this plan makes a unit of, brings them back within seconds"
        )


def _ends(wish: TunnelWish, where: str, notes: Notebook) -> _Ends | None:
    local, remote = _address(wish.local), _address(wish.remote)
    flow = wish.remote == _FLOW and not wish.segments
    good = True
    for key, text, address in (("local", wish.local, local), ("remote", wish.remote, remote)):
        if key == "remote" and flow:
            continue
        if address is None or not _is_unicast(address):
            notes.refuse(
                f"{text!r} is no address of a node", where=f"{where}.{key}", hint="such as fc00:a::1 or 10.0.0.1"
            )
            good = False
        elif wish.type is TunnelType.SRV6 and address.version != 6:  # noqa: PLR2004 - IPv6
            notes.refuse(
                f"{text} is IPv4, and SRv6 runs over IPv6 alone", where=f"{where}.{key}", hint="give an IPv6 address"
            )
            good = False
    if not good or local is None:
        return None
    if remote is not None and (remote.version != local.version or remote == local):
        what = "are the same" if remote == local else "are of different families"
        notes.refuse(
            f"local {local} and remote {remote} {what}", where=f"{where}.remote", hint="name the other side's address"
        )
        return None
    prefix = wish.underlay_prefix if wish.underlay_prefix is not None else _PREFIXES[local.version]
    if prefix > local.max_prefixlen:
        notes.refuse(
            f"a prefix of IPv{local.version} has at most {local.max_prefixlen} bits, not {prefix}",
            where=f"{where}.underlayPrefix",
            hint=f"{_PREFIXES[local.version]} is common",
        )
        return None
    ends = _Ends(local=local, remote=remote, prefix=prefix)
    _check_gateway(wish, ends, where, notes)
    return ends


def _check_gateway(wish: TunnelWish, ends: _Ends, where: str, notes: Notebook) -> None:
    network = ip_interface(f"{ends.local}/{ends.prefix}").network
    if wish.gateway is None:
        if ends.remote is not None and ends.remote not in network:
            notes.refuse(
                f"{ends.remote} is not in {network}, so packets to it need a gateway",
                where=f"{where}.gateway",
                hint="name the router of the underlay, and underlayPrefix where it is not "
                f"{_PREFIXES[ends.local.version]}",
            )
    else:
        gateway = _address(wish.gateway)
        near = gateway is not None and (gateway in network or gateway.is_link_local)
        if gateway is None or gateway.version != ends.local.version or gateway == ends.local or not near:
            notes.refuse(
                f"{wish.gateway!r} is no other node in {network}",
                where=f"{where}.gateway",
                hint="name the router of the underlay's own network",
            )
    if wish.gateway_mac is not None and not _MAC.fullmatch(wish.gateway_mac):
        notes.refuse(
            f"{wish.gateway_mac!r} is no MAC address of a node",
            where=f"{where}.gatewayMac",
            hint="such as 02:00:00:00:0a:02",
        )


def _check_twins(profile: Profile, index: int, notes: Notebook) -> None:
    wish = profile.tunnels[index]
    for number, other in enumerate(profile.tunnels[:index]):
        if other.name == wish.name:
            notes.refuse(
                f"tunnels[{number}] has the name {wish.name} too",
                where=f"tunnels[{index}].name",
                hint="take another name",
            )
        elif (other.type, other.local, other.remote, other.key) == (wish.type, wish.local, wish.remote, wish.key):
            notes.refuse(
                f"tunnels[{number}] has the same ends, and OVS opens one of such a pair",
                where=f"tunnels[{index}].remote",
                hint="give them different keys or first segments",
            )


def _check_guest(profile: Profile, index: int, ovs: OvsPlan, notes: Notebook) -> None:
    """What is wrong with the port whose packets go into the tunnel."""
    wish, where = profile.tunnels[index], f"tunnels[{index}]"
    if wish.guest_port is None and wish.guest_mac is None:
        return
    if wish.type is not TunnelType.SRV6:
        notes.refuse(
            f"a {wish.type.value} tunnel carries Ethernet, which its bridge switches without flows of nfvhost's",
            where=f"{where}.guestPort",
            hint=f"leave guestPort and guestMac out, and give {wish.bridge or 'its bridge'} both ports",
        )
        return
    if wish.guest_port is None or wish.guest_mac is None:
        notes.refuse(
            "guestPort says where packets come from and go to, guestMac whom they are for: one without the other",
            where=f"{where}.{'guestPort' if wish.guest_port is None else 'guestMac'}",
            hint="give both, or neither",
        )
        return
    if not _MAC.fullmatch(wish.guest_mac):
        notes.refuse(
            f"{wish.guest_mac!r} is no MAC address of a node",
            where=f"{where}.guestMac",
            hint="such as 02:00:00:00:01:02",
        )
    if wish.remote == _FLOW and wish.networks:
        notes.refuse(
            "remote: flow sends where other flows say, and nfvhost's know no place for these networks",
            where=f"{where}.networks",
            hint="name the networks at tunnels that have a remote",
        )
    _check_guest_port(profile, wish, wish.guest_port, ovs, where, notes)
    _check_other_guests(profile, index, notes)


def _check_guest_port(
    profile: Profile, wish: TunnelWish, guest_port: str, ovs: OvsPlan, where: str, notes: Notebook
) -> None:
    bridge = _bridge_of(profile, wish)
    holders = [one.name for one in ovs.bridges if guest_port in {one.name, *(port.name for port in one.ports)}]
    if (problem := bad_name(guest_port)) is not None:
        notes.refuse(f"{guest_port!r} {problem}", where=f"{where}.guestPort", hint="such as vhu0, br-int")
    elif holders and bridge not in holders:
        notes.refuse(
            f"{guest_port} is of {holders[0]}, and the tunnel of {bridge}: no flow leads from the one to the other",
            where=f"{where}.guestPort",
            hint=f"name bridge: {holders[0]}, or a port of {bridge}",
        )
    elif not holders and guest_port != bridge:
        notes.warn(
            f"{where}: this plan makes no port {guest_port}; `nfvhost apply` asks for it, and `nfvhost watch` steers "
            "packets when it comes"
        )


def _check_other_guests(profile: Profile, index: int, notes: Notebook) -> None:
    """Tunnels before this one that would take its packets, or get what is for it."""
    wish, where = profile.tunnels[index], f"tunnels[{index}]"
    bridge = _bridge_of(profile, wish)
    for number, other in enumerate(profile.tunnels[:index]):
        if other.guest_port is None:
            continue
        same_port = (_bridge_of(profile, other), other.guest_port) == (bridge, wish.guest_port)
        same_mac = (other.guest_mac or "").lower() == (wish.guest_mac or "").lower()
        if _address(other.local) == _address(wish.local) and not (same_port and same_mac):
            notes.refuse(
                f"what comes to {wish.local} is for {other.guest_port} already, by tunnels[{number}]",
                where=f"{where}.guestPort",
                hint="give each guest a local address of its own: it is what tells their packets apart",
            )
        both = {*map(_network, wish.networks)} & {*map(_network, other.networks)} - {None}
        if same_port and both:
            notes.refuse(
                f"packets of {wish.guest_port} for {min(map(str, both))} go into tunnels[{number}] already",
                where=f"{where}.networks",
                hint="name each network once; the longest prefix wins",
            )


def _bridge_of(profile: Profile, wish: TunnelWish) -> str:
    return wish.bridge or profile.ovs.integration_bridge or INTEGRATION_BRIDGE


def _underlay_bridge(
    host: Host, profile: Profile, wish: TunnelWish, ovs: OvsPlan, where: str, notes: Notebook
) -> str | None:
    """The bridge whose local port has the outer address: the named one, else the first that leads past the guests."""
    names = [bridge.name for bridge in ovs.bridges]
    if wish.underlay_bridge is not None:
        if wish.underlay_bridge in names or (host.ovs is not None and wish.underlay_bridge in host.ovs.bridges):
            return wish.underlay_bridge
        notes.refuse(
            f"there is no bridge {wish.underlay_bridge} in this plan",
            where=f"{where}.underlayBridge",
            hint=f"there are {', '.join(names)}" if names else "leave it out",
        )
        return None
    guests = {one.guest_port for one in profile.tunnels}
    for bridge in ovs.bridges:
        if any(port.type in {"dpdk", "afxdp"} and port.name not in guests for port in bridge.ports):
            return bridge.name
    notes.warn(f"{where}: no port of this machine reaches the underlay; {DEFAULT_BRIDGE} is planned without one")
    return DEFAULT_BRIDGE


def _plan(
    profile: Profile, wish: TunnelWish, ends: _Ends, underlay: str, ovs: OvsPlan, where: str, notes: Notebook
) -> TunnelPlan:
    segments = wish.segments or ((wish.remote,) if wish.type is TunnelType.SRV6 and ends.remote is not None else ())
    ipv6 = isinstance(ends.local, IPv6Address)
    under = _underlay_mtu(profile, underlay, ovs)
    cost = overhead(wish.type, ipv6=ipv6, segments=max(1, len(segments)), key=wish.key is not None)
    mtu = under - cost
    if mtu < _LEAST_IPV4_MTU:
        notes.refuse(
            f"an underlay MTU of {under} leaves {mtu} after {cost} byte of headers",
            where=f"{where}",
            hint="raise the MTU of the underlay's ports",
        )
    elif mtu < _LEAST_IPV6_MTU:
        notes.warn(
            f"{where}: {mtu} byte are left inside, and IPv6 asks for {_LEAST_IPV6_MTU}: raise the underlay's MTU"
        )
    if wish.guest_port is not None:
        notes.decide(
            f"tunnels.{wish.name}.guestPort",
            f"{wish.guest_port}, {', '.join(wish.networks) or 'what comes back alone'}",
            "SRv6 carries packets without Ethernet: flows of nfvhost's lead packets for the tunnel's networks into it, "
            f"and give what comes back the address {wish.guest_mac}",
        )
    notes.decide(f"tunnels.{wish.name}", f"MTU {mtu}", _mtu_reason(wish.type, under, cost, len(segments), ipv6=ipv6))
    return TunnelPlan(
        name=wish.name,
        type=wish.type,
        bridge=_bridge_of(profile, wish),
        local=str(ends.local),
        remote=wish.remote if ends.remote is None else str(ends.remote),
        segments=tuple(str(_address(text)) for text in segments),
        networks=wish.networks,
        key=wish.key,
        flow_label=wish.flow_label,
        mtu=mtu,
        underlay_bridge=underlay,
        underlay_prefix=ends.prefix,
        gateway=None if wish.gateway is None else str(_address(wish.gateway)),
        gateway_mac=None if wish.gateway_mac is None else wish.gateway_mac.lower(),
        guest_port=wish.guest_port,
        guest_mac=None if wish.guest_mac is None else wish.guest_mac.lower(),
    )


def _mtu_reason(kind: TunnelType, under: int, cost: int, segments: int, *, ipv6: bool) -> str:
    outer = f"IPv6 {IPV6}" if ipv6 else f"IPv4 {IPV4}"
    if kind is TunnelType.SRV6:
        parts = f"{outer}, segment routing header {SRH} and {SEGMENT} for each of {segments} segments"
        return f"{under} of the underlay less {cost} ({parts}); SRv6 carries IP packets, not Ethernet"
    return f"{under} of the underlay less {cost} ({outer}, {kind.value} and the Ethernet header inside)"


def _underlay_mtu(profile: Profile, underlay: str, ovs: OvsPlan) -> int:
    """The smallest MTU of the underlay's ports to the outside."""
    mtus = [
        port.mtu
        for bridge in ovs.bridges
        if bridge.name == underlay
        for port in bridge.ports
        if port.type in {"dpdk", "afxdp", "system"} and port.mtu is not None
    ]
    return min(mtus, default=profile.ovs.mtu or DEFAULT_MTU)


def _with_ports(tunnels: tuple[TunnelPlan, ...], ovs: OvsPlan, notes: Notebook) -> OvsPlan:
    """The OVS plan with a port for each tunnel, and one for each local address that SRv6 packets may come to."""
    ports: dict[str, list[OvsPort]] = {}
    for tunnel in tunnels:
        ports.setdefault(tunnel.bridge, []).append(_port(tunnel))
        ports.setdefault(tunnel.underlay_bridge, [])
    taken = {port.name for bridge in ovs.bridges for port in bridge.ports} | {tunnel.name for tunnel in tunnels}
    for tunnel in _receivers(tunnels):
        name = next(name for number in range(len(taken) + 1) if (name := f"srv6in{number}") not in taken)
        taken.add(name)
        ports[tunnel.bridge].append(_receiver(tunnel, name))
        notes.decide(
            f"tunnels.{name}",
            f"remote_ip=flow at {tunnel.local}",
            "OVS takes an SRv6 packet only where its outer source is a port's remote_ip; what comes back has the other "
            "edge's address there and not the first segment: this port takes it from anywhere",
        )
    bridges = {bridge.name: bridge for bridge in ovs.bridges}
    for name, members in ports.items():
        bridge = bridges.get(name) or OvsBridge(
            name=name, datapath_type="netdev", fail_mode=None, physnet=None, ports=()
        )
        bridges[name] = replace(bridge, ports=(*bridge.ports, *members))
    return replace(ovs, bridges=tuple(bridges[name] for name in sorted(bridges)))


def _receivers(tunnels: tuple[TunnelPlan, ...]) -> tuple[TunnelPlan, ...]:
    """The first SRv6 tunnel of each local address that no tunnel of the profile receives for already."""
    srv6 = [tunnel for tunnel in tunnels if tunnel.type is TunnelType.SRV6]
    served = {tunnel.local for tunnel in srv6 if tunnel.remote == _FLOW}
    first: dict[str, TunnelPlan] = {}
    for tunnel in srv6:
        if tunnel.local not in served:
            first.setdefault(tunnel.local, tunnel)
    return tuple(first.values())


def _port(tunnel: TunnelPlan) -> OvsPort:
    options = {"local_ip": tunnel.local, "remote_ip": tunnel.remote}
    if tunnel.key is not None:
        options["key"] = str(tunnel.key)
    if len(tunnel.segments) > 1:
        options["srv6_segs"] = ",".join(tunnel.segments)
    if tunnel.flow_label is not None:
        options["srv6_flowlabel"] = tunnel.flow_label
    return _tunnel_port(tunnel.name, tunnel.type, options, f"{tunnel.type.value} tunnel to {tunnel.remote}")


def _receiver(tunnel: TunnelPlan, name: str) -> OvsPort:
    options = {"local_ip": tunnel.local, "remote_ip": _FLOW}
    return _tunnel_port(name, tunnel.type, options, f"receives SRv6 packets for {tunnel.local}")


def _tunnel_port(name: str, kind: TunnelType, options: dict[str, str], reason: str) -> OvsPort:
    return OvsPort(
        name=name,
        type=kind.value,
        options=tuple(sorted(options.items())),
        other_config=(),
        mtu=None,
        tag=None,
        node=None,
        reason=reason,
    )


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_unicast(address: Address) -> bool:
    return not (address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local)
