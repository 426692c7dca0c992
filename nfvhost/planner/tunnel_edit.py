"""One tunnel more, or one less, in a plan that is there."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Final

from nfvhost.errors import DocumentError, PreconditionError, UsageError
from nfvhost.model.host import Host
from nfvhost.model.plan import OvsBridge, OvsPlan, OvsPort, Plan, TunnelPlan
from nfvhost.model.profile import Profile, TunnelType, TunnelWish
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.tunnels import plan_tunnels

# How plan_tunnels names what it notes of tunnels.
_SUBJECT: Final = "tunnels."
_WARNING: Final = "tunnels["
# vswitch.xml, options:remote_ip
_FLOW: Final = "flow"


def with_tunnel(host: Host, plan: Plan, wish: TunnelWish) -> Plan:
    """The plan with this tunnel as its last one; DocumentError with all that is wrong with it."""
    return _planned(host, plan, (*map(_wish, plan.tunnels), wish))


def without_tunnel(host: Host, plan: Plan, name: str) -> Plan:
    """The plan without the tunnel of that name, and without the port that received for it alone."""
    kept = tuple(tunnel for tunnel in plan.tunnels if tunnel.name != name)
    if len(kept) == len(plan.tunnels):
        there = ", ".join(tunnel.name for tunnel in plan.tunnels) or "none"
        raise UsageError(f"there is no tunnel {name} in this plan", hint=f"there are: {there}")
    return _planned(host, plan, tuple(map(_wish, kept)))


def _planned(host: Host, plan: Plan, wishes: tuple[TunnelWish, ...]) -> Plan:
    if plan.ovs is None:
        raise PreconditionError("this plan has no Open vSwitch", hint="a tunnel is a port of one: plan with DPDK ports")
    notes = Notebook()
    profile = Profile(name=plan.profile, tunnels=wishes)
    tunnels, ovs = plan_tunnels(host, profile, _without_tunnels(plan, plan.ovs), notes)
    if notes.problems:
        raise DocumentError.of(tuple(notes.problems))
    others = (one for one in plan.decisions if not one.subject.startswith(_SUBJECT))
    warnings = (one for one in plan.warnings if not one.startswith(_WARNING))
    return replace(
        plan,
        tunnels=tunnels,
        ovs=ovs,
        decisions=(*others, *notes.decisions),
        warnings=(*warnings, *notes.warnings),
    )


def _wish(tunnel: TunnelPlan) -> TunnelWish:
    """What a profile would say to get this tunnel."""
    names = {field.name for field in fields(TunnelPlan)} & {field.name for field in fields(TunnelWish)}
    wish = TunnelWish(**{name: getattr(tunnel, name) for name in names})
    return replace(wish, segments=()) if tunnel.remote == _FLOW else wish


def _without_tunnels(plan: Plan, ovs: OvsPlan) -> OvsPlan:
    names = {tunnel.name for tunnel in plan.tunnels}
    bridges = (
        replace(bridge, ports=tuple(port for port in bridge.ports if port.name not in names and not _receives(port)))
        for bridge in ovs.bridges
    )
    used = {tunnel.bridge for tunnel in plan.tunnels} | {tunnel.underlay_bridge for tunnel in plan.tunnels}
    return replace(ovs, bridges=tuple(bridge for bridge in bridges if bridge.name not in used or not _is_bare(bridge)))


def _receives(port: OvsPort) -> bool:
    return port.type == TunnelType.SRV6 and dict(port.options).get("remote_ip") == _FLOW


def _is_bare(bridge: OvsBridge) -> bool:
    """Whether a bridge is there for tunnels alone."""
    return not bridge.ports and bridge.physnet is None and bridge.fail_mode is None


__all__ = ["with_tunnel", "without_tunnel"]
