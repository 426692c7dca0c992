"""The flows that a plan wants, and flows as ovs-ofctl prints them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import STEERED, steered, steered_plan

from nfvhost.access.switch_flows import COOKIE, parsed_flows
from nfvhost.errors import ApplyError
from nfvhost.resources.steering import parse_key, target_of

NAMES = {"1": "vhu0", "2": "sr4", "LOCAL": "br-int"}


@pytest.mark.parametrize(
    ("line", "priority", "match", "actions", "ours"),
    [
        (
            f" cookie={COOKIE:#x}, priority=20024,ip,in_port=1,nw_dst=10.2.0.0/24 actions=dec_ttl,output:2",
            20024,
            ("in_port=vhu0", "ip", "nw_dst=10.2.0.0/24"),
            "dec_ttl,output:sr4",
            True,
        ),
        (
            f" cookie={COOKIE:#x}, priority=20128,ipv6,in_port=1,ipv6_dst=fd02::5 actions=dec_ttl,output:2",
            20128,
            ("in_port=vhu0", "ipv6", "ipv6_dst=fd02::5/128"),
            "dec_ttl,output:sr4",
            True,
        ),
        (
            " cookie=0x1, idle_timeout=500, send_flow_rem priority=20001,ip,in_port=7 actions=LOCAL",
            20001,
            ("in_port=7", "ip"),
            "output:br-int",
            False,
        ),
        (" actions=NORMAL", 32768, (), "NORMAL", False),
        (" priority=0 actions=NORMAL", 0, (), "NORMAL", False),
        (
            " priority=5,ct_state=+trk,in_port=LOCAL actions=learn(table=1,output:NXM_OF_IN_PORT[]),output:1",
            5,
            ("ct_state=+trk", "in_port=br-int"),
            "learn(table=1,output:NXM_OF_IN_PORT[]),output:vhu0",
            False,
        ),
    ],
)
def test_a_printed_flow_is_read_with_names_of_ports(
    line: str, priority: int, match: tuple[str, ...], actions: str, *, ours: bool
) -> None:
    (found,) = parsed_flows(f"OFPST_FLOW reply (OF1.4) (xid=0x2):\n{line}\n", "br-int", NAMES)

    assert (found.priority, found.match, found.actions, found.ours) == (priority, match, actions, ours)


def test_the_longest_network_has_the_highest_priority_and_all_networks_need_no_address() -> None:
    plan = steered_plan(steered("sr4", "vhu0", "0.0.0.0/0", "10.0.0.0/8", "10.2.0.5/32", "::/0", "fd02::/64"))

    wants = [(want.flow.priority, want.flow.match) for want in target_of(plan) if want.flow.actions.startswith("dec")]

    assert wants == [
        (20000, ("in_port=vhu0", "ip")),
        (20008, ("in_port=vhu0", "ip", "nw_dst=10.0.0.0/8")),
        (20032, ("in_port=vhu0", "ip", "nw_dst=10.2.0.5/32")),
        (20000, ("in_port=vhu0", "ipv6")),
        (20064, ("in_port=vhu0", "ipv6", "ipv6_dst=fd02::/64")),
    ]


def test_what_comes_back_reaches_the_guest_of_its_local_address_whichever_port_takes_it() -> None:
    back = {
        (want.flow.bridge, want.flow.match): want.flow.actions.rpartition(":")[2]
        for want in target_of(STEERED)
        if "set_field" in want.flow.actions
    }

    assert back == {
        ("br-int", ("in_port=sr4",)): "vhu0",
        ("br-int", ("in_port=sr6",)): "vhu0",
        ("br-int", ("in_port=in0",)): "vhu0",
        ("br-other", ("in_port=other",)): "vhu1",
        ("br-other", ("in_port=in0",)): "vhu1",
    }


def test_a_tunnel_without_a_guest_has_no_flows() -> None:
    mine, other = STEERED.tunnels[0], replace(STEERED.tunnels[2], guest_port=None, guest_mac=None)

    bridges = {want.flow.bridge for want in target_of(replace(STEERED, tunnels=(mine, other)))}

    assert bridges == {mine.bridge}


@pytest.mark.parametrize("text", ["", "flow br-int", "flow br-int in_port=vhu0", "segments br-int/sr4"])
def test_a_key_that_is_of_no_flow_is_an_error(text: str) -> None:
    with pytest.raises(ApplyError, match="is no flow"):
        parse_key(text)
