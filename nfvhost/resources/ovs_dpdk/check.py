"""Why a plan must not be written to this Open vSwitch: all that it would accept in silence, or die of."""

from __future__ import annotations

from collections.abc import Iterator

from nfvhost.access.ovs_rows import Bridge, Place
from nfvhost.errors import Problem
from nfvhost.model.host import Host
from nfvhost.model.plan import OvsBridge, Plan
from nfvhost.resources import Unmet
from nfvhost.resources.ovs_dpdk.check_keys import key_problems
from nfvhost.resources.ovs_dpdk.check_ports import port_problems
from nfvhost.resources.ovs_dpdk.difference import mark_at, running_version
from nfvhost.resources.ovs_dpdk.state import State, Switch
from nfvhost.resources.ovs_dpdk.target import other_config, target_of

_PACKAGES = "packages"
# <net/if.h> IFNAMSIZ, with its NUL: a bridge is a kernel interface as well.
_NAME_BYTES = 15
_DPDK_TYPES = frozenset({"dpdk", "dpdkvhostuserclient", "dpdkvhostuser"})
# ovs-vswitchd knows no other (vswitchd/bridge.c).
_FAIL_MODES = frozenset({None, "standalone", "secure"})


def problems(state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
    """All problems at once, in the order of the plan; empty where it may be written."""
    if plan.ovs is None:
        return ()
    switch = state.switch
    if switch is None:
        return (
            Unmet(
                what=state.absent or "ovs-vswitchd is not running: nobody would carry out what is written",
                where="ovs-vswitchd",
                hint="start it (systemctl start openvswitch-switch); its log says why it ended",
                met_by=_PACKAGES,
            ),
        )
    target = target_of(plan, version=running_version(state, plan))
    config = other_config(target)
    return (
        *target.problems,
        *_build_problems(state, switch, plan, config),
        *key_problems(state, switch, plan, config, host),
        *(problem for bridge in plan.ovs.bridges for problem in _bridge_problems(state, bridge, host)),
        *port_problems(state, switch, plan, config, host),
    )


def _build_problems(state: State, switch: Switch, plan: Plan, config: dict[str, str]) -> Iterator[Problem]:
    """Port types that this build or this configuration does not offer."""
    wants_dpdk = config.get("dpdk-init") in {"true", "try"}
    types = {port.type for bridge in plan.ovs.bridges for port in bridge.ports} if plan.ovs is not None else set()
    if state.database.dpdk_version is None and (wants_dpdk or types & _DPDK_TYPES):
        yield Unmet(
            what=f"this ovs-vswitchd ({switch.daemon.process.executable}) is built without DPDK",
            where="ovs.otherConfig.dpdk-init",
            hint="install openvswitch-switch-dpdk and choose it (update-alternatives --set ovs-vswitchd"
            " /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk), then restart openvswitch-switch",
            met_by=_PACKAGES,
        )
        return
    if types & _DPDK_TYPES and not wants_dpdk and not state.database.dpdk_initialized:
        yield Problem(
            what="ports of DPDK are planned, and DPDK is not switched on",
            where="ovs.otherConfig.dpdk-init",
            hint="plan dpdk-init: 'true'",
        )
    for kind in sorted(types - _DPDK_TYPES - set(state.database.iface_types)):
        yield Problem(
            what=f"Open vSwitch {switch.version} has no port type {kind}",
            where="ovs.bridges[].ports[].type",
            hint="srv6 came with 3.2" if kind == "srv6" else f"it has {', '.join(state.database.iface_types)}",
        )


def _bridge_problems(state: State, bridge: OvsBridge, host: Host) -> Iterator[Problem]:
    where = f"ovs.bridges.{bridge.name}"
    if not is_name(bridge.name) or len(bridge.name.encode()) > _NAME_BYTES:
        yield Problem(
            what=f"{bridge.name!r} cannot name a bridge",
            where=where,
            hint=f"at most {_NAME_BYTES} bytes, without blanks and slashes: it is a network interface as well",
        )
    if bridge.fail_mode not in _FAIL_MODES:
        yield Problem(
            what=f"{bridge.fail_mode!r} is no fail mode", where=f"{where}.failMode", hint="standalone or secure"
        )
    there = state.database.bridge(bridge.name)
    if there is None:
        yield from _name_problems(state, bridge.name, where)
        return
    if mark_at(state.database, Place(bridge.name)) is None and there.datapath_type != bridge.datapath_type:
        yield from _conversion_problems(there, bridge, where, host)


def _name_problems(state: State, name: str, where: str) -> Iterator[Problem]:
    for other in state.database.bridges:
        if any(port.name == name for port in other.ports):
            yield Problem(
                what=f"bridge {other.name} has a port of this name", where=where, hint="rename one of the two"
            )
    if state.switch is not None and name in state.switch.netdevs:
        yield Problem(
            what="a network interface of this name is there already",
            where=where,
            hint="rename the bridge; its own interface would not come up",
        )


def _conversion_problems(there: Bridge, wanted: OvsBridge, where: str, host: Host) -> Iterator[Problem]:
    """Another's bridge that would have to change its data path under its users."""
    users = [port.name for port in there.ports if port.name not in {there.name, *(one.name for one in wanted.ports)}]
    own = next((netdev for netdev in host.netdevs if netdev.name == there.name), None)
    if own is not None and own.addresses:
        users.append(f"the addresses {', '.join(own.addresses)}")
    if users:
        yield Problem(
            what=f"is a bridge of the {there.datapath_type} data path that others made and use ({', '.join(users)});"
            f" turning it into {wanted.datapath_type} would cut them off",
            where=where,
            hint="choose another name, or move its ports away first",
        )


def is_name(text: str) -> bool:
    """Whether a text can name a row: some bytes, without blanks and slashes."""
    return bool(text) and "/" not in text and not any(letter.isspace() for letter in text)
