"""A tunnel that is added to a plan, or taken out of it, as if the profile had said so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ovs_plans import OvsPlans
from synthetic import host
from typer.testing import CliRunner

from nfvhost.cli.app import app
from nfvhost.errors import DocumentError, PreconditionError, UsageError
from nfvhost.model.plan import Plan
from nfvhost.model.profile import TunnelType, TunnelWish
from nfvhost.planfile import load_plan, save_plan
from nfvhost.planner.tunnel_edit import with_tunnel, without_tunnel

SRV6 = TunnelWish(
    name="far",
    type=TunnelType.SRV6,
    local="fc00:a::1",
    remote="fc00:e1::1",
    segments=("fc00:e1::1", "fc00:d4::1"),
    networks=("10.2.0.0/24",),
    gateway="fc00:a::2",
)
VXLAN = TunnelWish(name="vx0", type=TunnelType.VXLAN, local="192.0.2.1", remote="192.0.2.9", key=42)


def plan() -> Plan:
    ports = OvsPlans.port("dpdk0", "dpdk", dpdk_devargs="0000:10:00.0", mtu=1500)
    return OvsPlans.plan(OvsPlans.bridge("br-phy", ports), version="3.5")


def ports_of(one: Plan) -> list[str]:
    assert one.ovs is not None
    return sorted(port.name for bridge in one.ovs.bridges for port in bridge.ports)


@pytest.mark.parametrize("order", [(SRV6, VXLAN), (VXLAN, SRV6)])
def test_tunnels_that_are_added_and_removed_again_leave_the_plan_as_it_was(order: tuple[TunnelWish, ...]) -> None:
    before = plan()

    with_one = with_tunnel(host(), before, order[0])
    with_both = with_tunnel(host(), with_one, order[1])

    assert [one.name for one in with_both.tunnels] == [one.name for one in order]
    assert ports_of(with_both) == ["dpdk0", "far", "srv6in0", "vx0"]
    assert without_tunnel(host(), with_both, order[1].name) == with_one
    assert without_tunnel(host(), with_one, order[0].name) == before


def test_what_open_vswitch_would_take_in_silence_is_refused_all_at_once() -> None:
    wish = replace(SRV6, local="10.0.0.1", flow_label="red", segments=("fc00:e2::1", "fc00:d4::1"))

    with pytest.raises(DocumentError) as caught:
        with_tunnel(host(), plan(), wish)

    assert {one.where for one in caught.value.problems} == {
        "tunnels[0].local",
        "tunnels[0].flowLabel",
        "tunnels[0].segments[0]",
    }


def test_a_name_that_is_taken_and_one_that_is_not_there_are_refused() -> None:
    made = with_tunnel(host(), plan(), VXLAN)

    with pytest.raises(DocumentError, match="has the name vx0 too"):
        with_tunnel(host(), made, replace(VXLAN, key=43))
    with pytest.raises(UsageError, match="there is no tunnel nobody"):
        without_tunnel(host(), made, "nobody")
    with pytest.raises(PreconditionError, match="no Open vSwitch"):
        with_tunnel(host(), replace(plan(), ovs=None), VXLAN)


def test_the_verb_writes_the_plan_and_shows_its_tunnels(tmp_path: Path) -> None:
    path = str(tmp_path / "plan.yaml")
    captured = str(Path(__file__).parents[2] / "examples/home-server/host")
    save_plan(path, plan())
    runner = CliRunner()

    words = ["tunnel", "add", path, "far", "--local", "fc00:a::1", "--gateway", "fc00:a::2", "--host", captured]
    segments = ["--segment", "fc00:e1::1", "--segment", "fc00:d4::1", "--network", "10.2.0.0/24"]
    guest = ["--guest-port", "vhu0", "--guest-mac", "02:00:00:00:01:02"]
    added = runner.invoke(app, [*words, *segments, *guest])

    assert added.exit_code == 0, added.output
    assert added.stdout == "far  srv6  fc00:a::1 -> fc00:e1::1 -> fc00:d4::1  MTU 1420  for 10.2.0.0/24  from vhu0\n"
    assert [one.name for one in load_plan(path).tunnels] == ["far"]
    listed = runner.invoke(app, ["tunnel", "list", path, "--json"])
    assert json.loads(listed.stdout)["tunnels"][0]["segments"] == ["fc00:e1::1", "fc00:d4::1"]

    removed = runner.invoke(app, ["tunnel", "remove", path, "far", "--host", captured])

    assert removed.exit_code == 0, removed.output
    assert load_plan(path) == plan()
