"""`nfvhost tunnel`: the tunnels of a plan."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import HostOption, JsonOption, OvsdbOption, PlanArgument
from nfvhost.cli.terminal import emit, painted, say
from nfvhost.errors import ExitCode
from nfvhost.model.profile import TunnelType

if TYPE_CHECKING:
    from nfvhost.model.plan import Plan, TunnelPlan

HELP = """The tunnels of a plan: SRv6, VXLAN, Geneve, GRE.

`add` and `remove` write the plan, which `nfvhost apply` then makes so.

\b
Examples:
  nfvhost tunnel list plan.yaml
  nfvhost tunnel add plan.yaml srv6-east --local fc00:a::1 --segment fc00:e1::1 --segment fc00:d4::1 \\
      --network 10.2.0.0/24 --gateway fc00:a::2
  nfvhost tunnel remove plan.yaml srv6-east
  nfvhost tunnel check plan.yaml
"""
tunnel = typer.Typer(help=HELP, rich_markup_mode=None, add_completion=False, no_args_is_help=True)
TunnelArgument = Annotated[str, typer.Argument(metavar="TUNNEL", help="The name of a tunnel.")]


@tunnel.command("list", help="Show them.\n\n\b\nExample:\n  nfvhost tunnel list plan.yaml --json")
@ending
def list_tunnels(plan: PlanArgument, json: JsonOption = False) -> None:
    """Tell the tunnels of a plan."""
    from nfvhost.planfile import load_plan

    _show(load_plan(plan), json=json)


@tunnel.command(
    "add",
    help="Write one more into a plan.\n\nRefused with all that Open vSwitch would take in silence.\n\n\b\nExample:\n"
    "  nfvhost tunnel add plan.yaml vx0 --type vxlan --local 10.0.0.1 --remote 10.0.0.9 --key 42",
)
@ending
def add(  # noqa: PLR0913, PLR0917 - an option for each field of a tunnel
    plan: PlanArgument,
    name: TunnelArgument,
    local: Annotated[str, typer.Option("--local", metavar="ADDRESS", help="Of the underlay, on this side.")],
    kind: Annotated[TunnelType, typer.Option("--type", help="Encapsulation.")] = TunnelType.SRV6,
    remote: Annotated[
        str | None, typer.Option("--remote", metavar="ADDRESS", help="The other end. [the first segment]")
    ] = None,
    segment: Annotated[
        list[str] | None, typer.Option("--segment", metavar="ADDRESS", help="SRv6: one node; first node first.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option("--network", metavar="NETWORK", help="What is behind it.")
    ] = None,
    key: Annotated[int | None, typer.Option("--key", metavar="NUMBER", help="VNI, or key of GRE.")] = None,
    flow_label: Annotated[
        str | None, typer.Option("--flow-label", metavar="HOW", help="SRv6: copy, zero or compute.")
    ] = None,
    bridge: Annotated[str | None, typer.Option("--bridge", metavar="NAME", help="Where it is a port.")] = None,
    underlay_bridge: Annotated[
        str | None, typer.Option("--underlay-bridge", metavar="NAME", help="Where its packets leave.")
    ] = None,
    underlay_prefix: Annotated[
        int | None, typer.Option("--underlay-prefix", metavar="BITS", help="Of the local address.")
    ] = None,
    gateway: Annotated[str | None, typer.Option("--gateway", metavar="ADDRESS", help="Router of the underlay.")] = None,
    gateway_mac: Annotated[
        str | None, typer.Option("--gateway-mac", metavar="MAC", help="Of that router, where it does not answer.")
    ] = None,
    guest_port: Annotated[
        str | None,
        typer.Option("--guest-port", metavar="NAME", help="SRv6: whose packets go in, and who gets what comes back."),
    ] = None,
    guest_mac: Annotated[
        str | None, typer.Option("--guest-mac", metavar="MAC", help="SRv6: whom what comes back is for.")
    ] = None,
    host: HostOption = None,
    json: JsonOption = False,
) -> None:
    """Add a tunnel to a plan."""
    from nfvhost.access.archive import open_root
    from nfvhost.inspect import inspect_host
    from nfvhost.model.profile import TunnelWish
    from nfvhost.planfile import load_plan, save_plan
    from nfvhost.planner.tunnel_edit import with_tunnel

    segments = tuple(segment or ())
    wish = TunnelWish(
        name=name,
        type=kind,
        local=local,
        remote=remote if remote is not None else (segments[0] if segments else ""),
        segments=segments,
        networks=tuple(network or ()),
        key=key,
        flow_label=flow_label,
        bridge=bridge,
        underlay_bridge=underlay_bridge,
        underlay_prefix=underlay_prefix,
        gateway=gateway,
        gateway_mac=gateway_mac,
        guest_port=guest_port,
        guest_mac=guest_mac,
    )
    made = with_tunnel(inspect_host(open_root(host)), load_plan(plan), wish)
    save_plan(plan, made)
    _show(made, json=json)
    say(f"written to {plan}; nfvhost apply makes it so")


@tunnel.command("remove", help="Take one out of a plan.\n\n\b\nExample:\n  nfvhost tunnel remove plan.yaml vx0")
@ending
def remove(plan: PlanArgument, name: TunnelArgument, host: HostOption = None, json: JsonOption = False) -> None:
    """Remove a tunnel from a plan."""
    from nfvhost.access.archive import open_root
    from nfvhost.inspect import inspect_host
    from nfvhost.planfile import load_plan, save_plan
    from nfvhost.planner.tunnel_edit import without_tunnel

    made = without_tunnel(inspect_host(open_root(host)), load_plan(plan), name)
    save_plan(plan, made)
    _show(made, json=json)
    say(f"written to {plan}; nfvhost apply makes it so")


@tunnel.command(
    "check",
    help="Say where tunnels are not what the plan says.\n\nLooks at ports, underlay, the segments that really leave and"
    " the flows that steer packets. Ends with 10 where something is not so.\n\n\b\nExample:\n"
    "  nfvhost tunnel check plan.yaml --json",
)
@ending
def check(plan: PlanArgument, ovsdb: OvsdbOption = None, json: JsonOption = False) -> ExitCode:
    """Tell the drift of tunnels."""
    from nfvhost import engine
    from nfvhost.cli.changes import drift_line
    from nfvhost.cli.subject import open_subject
    from nfvhost.resources.order import resources_for
    from nfvhost.resources.steering import target_of

    subject = open_subject(plan, ovsdb=ovsdb)
    resources = resources_for(
        subject.machine, only=("departing_underlay", "ovs_dpdk", "underlay", "tunnels", "steering")
    )
    names = {one.name for one in subject.plan.tunnels}
    drifts = tuple(
        drift
        for drift in engine.verify(subject.plan, subject.machine, subject.host, resources=resources)
        if drift.resource != "ovs_dpdk" or names & set(drift.key.replace("/", " ").split())
    )
    if json:
        from nfvhost.planfile import to_json, verification_document

        emit(to_json(verification_document(drifts)))
    else:
        for drift in drifts:
            emit(f"{painted(drift_line(drift), sys.stdout)}\n")
            if drift.hint:
                emit(f"    hint: {drift.hint}\n")
        flows = len(target_of(subject.plan))
        there = f"{len(names)} tunnels" + (f", {flows} flows" if flows else "")
        say(f"{len(drifts)} not as planned" if drifts else f"{there}, all as planned")
    return ExitCode.DIFFERENCES if drifts else ExitCode.OK


def _show(plan: Plan, *, json: bool) -> None:
    if json:
        from nfvhost.planfile import headed, to_json
        from nfvhost.planfile.structure import plain

        emit(to_json(headed("Tunnels", {"tunnels": plain(plan.tunnels)})))
        return
    for one in plan.tunnels:
        emit(f"{_line(one)}\n")
    if not plan.tunnels:
        say("the plan has no tunnel")


def _line(one: TunnelPlan) -> str:
    path = " -> ".join(one.segments) or one.remote
    key = f"  key {one.key}" if one.key is not None else ""
    networks = f"  for {', '.join(one.networks)}" if one.networks else ""
    guest = f"  from {one.guest_port}" if one.guest_port is not None else ""
    return f"{one.name}  {one.type}  {one.local} -> {path}{key}  MTU {one.mtu}{networks}{guest}"
