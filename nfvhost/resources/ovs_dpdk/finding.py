"""What is worth saying about an Open vSwitch, and stops nothing."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from difflib import get_close_matches
from typing import Final

from nfvhost.access.ovs_rows import Pairs
from nfvhost.errors import Problem
from nfvhost.model.plan import Plan
from nfvhost.resources.ovs_dpdk.difference import RESOURCE
from nfvhost.resources.ovs_dpdk.keys import KNOWN_KEYS
from nfvhost.resources.ovs_dpdk.place import key_of
from nfvhost.resources.ovs_dpdk.state import State
from nfvhost.resources.ovs_dpdk.target import planned_ports

# How alike a foreign key must be to one that OVS knows to be called a spelling mistake of it (difflib's ratio).
_ALIKE: Final = 0.85


def findings(state: State, plan: Plan) -> tuple[Problem, ...]:
    """Misspelt keys of others, tunnels that Open vSwitch forgets in part, and a data path that is half the kernel's."""
    if plan.ovs is None:
        return ()
    planned = {key for key, _ in plan.ovs.other_config}
    return (
        *misspelt(state.database.other_config, planned=planned),
        *_forgetful_tunnels(plan),
        *_kernel_ports(state, plan),
    )


def misspelt(settings: Pairs, *, planned: AbstractSet[str] = frozenset()) -> Iterator[Problem]:
    """The keys of Open_vSwitch.other_config that no release reads, and that are almost one of those it does."""
    for key, value in settings:
        near = get_close_matches(key, sorted(KNOWN_KEYS), n=1, cutoff=_ALIKE)
        if key not in KNOWN_KEYS and key not in planned and near:
            yield Problem(
                what=f"{value!r} is set, and Open vSwitch ignores a key of this name",
                where=f"Open_vSwitch other_config:{key}",
                hint=f"was {near[0]} meant? it is not nfvhost's, and stays",
            )


def _forgetful_tunnels(plan: Plan) -> Iterator[Problem]:
    """lib/netdev-vport.c, parse_srv6_segs cuts the row's own text at its first comma (3.2 to 4.0)."""
    for place, port in planned_ports(plan.ovs) if plan.ovs is not None else ():
        segments = dict(port.options).get("srv6_segs", "")
        if port.type == "srv6" and "," in segments:
            yield Problem(
                what="Open vSwitch forgets all segments but the first when it is reconfigured twice; the database"
                " and the port's error do not show it",
                where=f"{RESOURCE}: {key_of(place, None)} options:srv6_segs",
                hint="nfvhost watch, or its unit, keeps them (docs/tunnels.md)",
            )


def _kernel_ports(state: State, plan: Plan) -> Iterator[Problem]:
    """A kernel interface in a bridge of the userspace data path is served by the main thread, packet by packet."""
    for planned in plan.ovs.bridges if plan.ovs is not None else ():
        there = state.database.bridge(planned.name)
        foreign = [
            interface.name
            for port in (there.ports if there is not None else ())
            for interface in port.interfaces
            if interface.type == "system"
        ]
        names = sorted({*foreign, *(port.name for port in planned.ports if port.type == "system")})
        if names:
            yield Problem(
                what=f"{', '.join(names)}: kernel interfaces in a bridge of the userspace data path; the main thread"
                " serves them, not a PMD core, at a small part of the speed",
                where=f"{RESOURCE}: bridge {planned.name}",
                hint="give them a port of type afxdp, or net_af_xdp by DPDK",
            )
