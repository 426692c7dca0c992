"""Tunnels of a plan on a real switch: pings come through, and a rollback leaves the network as it was."""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

import pytest
from cases import tunnel

from nfvhost import engine, sandbox
from nfvhost.access.clock import wait_for
from nfvhost.access.command import check
from nfvhost.access.namespace import call_inside, disable_transmit_checksum
from nfvhost.access.process import read_process
from nfvhost.access.unixctl import ask
from nfvhost.errors import ApplyError, PreconditionError
from nfvhost.inspect import inspect_host
from nfvhost.model.profile import TunnelType
from nfvhost.planner.planned_host import planned_host
from nfvhost.resources import Unmet
from nfvhost.resources.ovs_dpdk import OvsDpdk
from nfvhost.resources.underlay import Underlay
from nfvhost.resources.underlay.departing import DepartingUnderlay

if TYPE_CHECKING:
    from ovs_plans import OvsPlans

    from nfvhost.model.plan import Plan, TunnelPlan
    from nfvhost.model.report import Report
    from tests.ovs.conftest import Bed

# What runs behind br-phy, in the sandbox's first peer: a router that is the other end of the tunnels as well.
MAC = "02:6e:66:76:00:01"
ENDS: Final[dict[int, dict[str, Any]]] = {
    4: {"local": "10.0.0.1", "remote": "10.9.9.9", "gateway": "10.0.0.2", "underlay_prefix": 24},
    6: {"local": "fd00:a::1", "remote": "fd00:9::9", "gateway": "fd00:a::2", "underlay_prefix": 64},
}


@dataclasses.dataclass(frozen=True)
class Site:
    """A sandbox: port0 leads to a router and tunnel end, port1 to a machine whose packets go into the tunnel."""

    bed: Bed

    @property
    def router(self) -> str:
        return self.bed.switch.sandbox.peer_netns[0]

    @property
    def netns(self) -> str:
        return self.bed.switch.sandbox.netns

    def ip(self, netns: str, *words: str) -> str:
        return check(["ip", "-n", netns, *words], timeout_s=10).stdout

    def far_end(self, tunnel: TunnelPlan) -> None:
        """The kernel's side of the tunnel, with 172.16.0.9 in it."""
        gateway, length = tunnel.gateway, tunnel.underlay_prefix
        assert gateway is not None
        host = "128" if ":" in gateway else "32"
        nodad = ["nodad"] if ":" in gateway else []
        self.ip(self.router, "addr", "add", f"{gateway}/{length}", "dev", "wire0", *nodad)
        self.ip(self.router, "addr", "add", f"{tunnel.remote}/{host}", "dev", "lo", *nodad)
        words = ["id", str(tunnel.key), "remote", tunnel.local, "local", tunnel.remote, "dstport", "4789"]
        self.ip(self.router, "link", "add", "far", "type", "vxlan", *words)
        self.ip(self.router, "link", "set", "far", "mtu", "1400", "up")
        self.ip(self.router, "addr", "add", "172.16.0.9/24", "dev", "far")
        disable_transmit_checksum(self.router, "far")

    def near_end(self) -> None:
        """172.16.0.1 behind port1."""
        near = self.bed.switch.sandbox.peer_netns[1]
        self.ip(near, "link", "set", "wire1", "mtu", "1400")
        self.ip(near, "addr", "add", "172.16.0.1/24", "dev", "wire1")

    def ping(self) -> bool:
        """Whether a packet of 1000 byte comes back through the tunnel."""
        near = self.bed.switch.sandbox.peer_netns[1]
        with call_inside(near, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as icmp:
            icmp.settimeout(0.5)
            return bool(wait_for(lambda: echoed(icmp, "172.16.0.9"), timeout_s=20.0))

    def network(self) -> str:
        """Addresses, routes, neighbours and settings of the sandbox's namespace, as iproute2 shows them."""
        shown = [
            self.ip(self.netns, "-json", *words)
            for words in (["route"], ["-6", "route"], ["neigh", "show", "nud", "permanent"])
        ]
        links = json.loads(self.ip(self.netns, "-json", "addr"))
        kept = [
            (
                link["ifname"],
                link["mtu"],
                "UP" in link["flags"],
                sorted(f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if one["scope"] == "global"),
            )
            for link in links
        ]
        # Of the kernel's own link-local addresses, routes come when an interface goes up.
        routes = [[one for one in json.loads(text) if not one["dst"].startswith("fe80")] for text in shown]
        return "\n".join([*map(str, kept), *map(str, routes)])

    def plan(self, ovs: OvsPlans, *tunnels: TunnelPlan, underlay: str = "br-phy") -> Plan:
        """Ports over both wires, with the tunnels."""
        ports = [ovs.port(f"dpdk{n}", "dpdk", dpdk_devargs=f"net_af_packet{n},iface=port{n}") for n in range(2)]
        made = [
            ovs.port(one.name, one.type.value, local_ip=one.local, remote_ip=one.remote, key=one.key) for one in tunnels
        ]
        plan = ovs.plan(
            ovs.bridge(underlay, ports[0], fail_mode=None),
            ovs.bridge("br-int", ports[1], *made, fail_mode=None),
            **self.bed.keys,
        )
        host = planned_host(inspect_host(self.bed.machine.root))
        return dataclasses.replace(plan, host=host, tunnels=tunnels)

    def apply(self, plan: Plan) -> Report:
        machine = self.bed.machine
        resources = (DepartingUnderlay(), self.bed.resource, Underlay(settle_s=3.0))
        return engine.apply(plan, machine, inspect_host(machine.root), resources=resources)

    def roll_back(self) -> None:
        (undone,) = engine.rollback(self.bed.machine, resources=(DepartingUnderlay(), OvsDpdk(), Underlay()))
        assert undone.problems == ()

    def keys(self, plan: Plan) -> list[str]:
        """What of the underlay is not as planned."""
        resources = (DepartingUnderlay(), Underlay(settle_s=3.0))
        return [drift.key for one in resources for drift in one.verify(self.bed.machine, plan)]


def echoed(icmp: socket.socket, address: str) -> bool:
    """Whether an echo request of 1000 byte is answered (RFC 792: types 8 and 0)."""
    body = b"\x00\x07\x00\x01" + bytes(996)
    total = sum(struct.unpack(f"!{len(body) // 2}H", body)) + 0x0800
    checksum = ~(total + (total >> 16)) & 0xFFFF
    icmp.sendto(struct.pack("!BBH", 8, 0, checksum) + body, (address, 0))
    try:
        reply = icmp.recv(2048)
    except TimeoutError:
        return False
    return reply[20] == 0 and reply[24:] == body


@pytest.fixture
def site(bed: Bed) -> Site:
    return Site(bed)


def host_network() -> str:
    """Addresses and routes of the machine around the sandbox."""
    return "".join(
        check(["ip", *words], timeout_s=10).stdout
        for words in (["addr"], ["route"], ["-6", "route"], ["neigh", "show", "nud", "permanent"])
    )


@pytest.mark.parametrize("version", [4, 6])
def test_a_planned_tunnel_carries_packets_and_its_rollback_leaves_no_trace(
    site: Site, ovs: OvsPlans, version: int
) -> None:
    one = tunnel("tun0", mtu=1400, **ENDS[version])
    site.far_end(one)
    site.near_end()
    before, around = site.network(), host_network()
    plan = site.plan(ovs, one)

    report = site.apply(plan)

    made = {result.change.key for result in report.results if result.change.resource == "underlay"}
    assert {"link br-phy", f"address br-phy {one.local}/{one.underlay_prefix}"} < made
    assert site.ping()
    assert site.keys(plan) == []
    assert site.apply(plan).results == ()
    assert host_network() == around

    site.roll_back()

    assert site.network() == before
    assert host_network() == around


@pytest.mark.parametrize("version", [4, 6])
def test_a_tunnel_moves_to_another_underlay_bridge_and_back(site: Site, ovs: OvsPlans, version: int) -> None:
    one = tunnel("tun0", mtu=1400, **ENDS[version])
    site.far_end(one)
    site.near_end()
    site.apply(site.plan(ovs, one))
    assert site.ping()
    before = site.network()
    plan = site.plan(ovs, dataclasses.replace(one, underlay_bridge="br-wan"), underlay="br-wan")

    site.apply(plan)

    assert '"br-phy"' not in site.ip(site.netns, "-json", "route")
    assert site.ping()
    assert site.keys(plan) == []
    assert site.apply(plan).results == ()

    site.roll_back()

    assert site.network() == before
    assert site.ping()


def test_tunnels_that_leave_a_plan_with_their_bridge_come_back(site: Site, ovs: OvsPlans) -> None:
    one = tunnel("tun0", mtu=1400, **ENDS[6])
    site.far_end(one)
    site.near_end()
    site.apply(site.plan(ovs, one))
    assert site.ping()
    before = site.network()
    plan = site.plan(ovs, underlay="br-wan")

    site.apply(plan)

    assert one.local not in site.network()
    assert site.keys(plan) == []
    assert site.apply(plan).results == ()

    site.roll_back()

    assert site.network() == before
    assert site.ping()


def test_a_rollback_of_the_underlay_alone_leaves_the_bridge_as_it_was(site: Site, ovs: OvsPlans) -> None:
    one = tunnel("tun0", mtu=1400, gateway_mac=MAC, **ENDS[4])
    two = tunnel("tun1", TunnelType.GENEVE, mtu=1400, gateway_mac=MAC, **ENDS[6])
    plan = site.plan(ovs, one, two)
    machine, resource = site.bed.machine, Underlay(settle_s=3.0)
    site.bed.apply(dataclasses.replace(plan, tunnels=()))
    site.ip(site.netns, "addr", "add", "10.5.0.1/24", "dev", "br-phy")
    site.ip(site.netns, "link", "set", "br-phy", "up")
    site.ip(site.netns, "neigh", "add", "10.5.0.9", "lladdr", MAC, "dev", "br-phy", "nud", "permanent")
    ask(site.bed.switch.sandbox.unixctl, "tnl/neigh/set", "br-phy", "10.5.0.9", MAC)
    before = site.network()
    neighbours = ask(site.bed.switch.sandbox.unixctl, "tnl/neigh/show")
    state = resource.read(machine, plan)
    changes = resource.diff(state, plan)

    engine.apply(plan, machine, inspect_host(machine.root), resources=(resource,))
    shown = ask(site.bed.switch.sandbox.unixctl, "tnl/neigh/show")
    assert [shown.count(text) for text in ("10.0.0.2 ", "fd00:a::2 ", "10.5.0.9 ")] == [1, 1, 1]
    assert resource.verify(machine, plan) == ()
    assert resource.foreign(machine, resource.image(state, changes), changes) == ()
    assert resource.rollback(machine, resource.image(state, changes), changes) == ()

    assert site.network() == before
    assert ask(site.bed.switch.sandbox.unixctl, "tnl/neigh/show") == neighbours


def test_what_others_take_away_is_seen_where_tunnels_see_it(site: Site, ovs: OvsPlans) -> None:
    one = tunnel("tun0", mtu=1400, gateway_mac=MAC, **ENDS[4])
    plan = site.plan(ovs, one)
    site.apply(plan)
    control = site.bed.switch.sandbox.unixctl

    ask(control, "tnl/neigh/set", "br-phy", "10.0.0.2", "02:00:00:00:00:77")
    assert site.keys(plan) == ["ovs-neighbour br-phy 10.0.0.2"]
    ask(control, "ovs/route/add", "10.9.9.9/32", "br-phy", "10.0.0.7")
    assert site.keys(plan) == ["ovs-neighbour br-phy 10.0.0.2", "ovs-route 10.9.9.9"]
    ask(control, "ovs/route/del", "10.9.9.9/32")
    site.ip(site.netns, "addr", "del", "10.0.0.1/24", "dev", "br-phy")
    assert "address br-phy 10.0.0.1/24" in site.keys(plan)

    site.apply(plan)

    assert site.keys(plan) == []


def test_ipv6_that_is_off_for_new_interfaces_is_switched_on_for_the_bridge_alone(site: Site, ovs: OvsPlans) -> None:
    check(["ip", "netns", "exec", site.netns, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"], timeout_s=10)
    one = tunnel("tun0", mtu=1400, **ENDS[6])
    plan = site.plan(ovs, one)
    site.far_end(one)
    site.near_end()

    report = site.apply(plan)

    assert "ipv6 br-phy" in {result.change.key for result in report.results}
    assert site.ping()
    shown = check(
        ["ip", "netns", "exec", site.netns, "sysctl", "-n", "net.ipv6.conf.br-int.disable_ipv6"], timeout_s=10
    )
    assert shown.stdout.strip() == "1"


def test_an_address_that_the_sandbox_has_elsewhere_is_refused_and_nothing_is_made(site: Site, ovs: OvsPlans) -> None:
    plan = site.plan(ovs, tunnel("tun0", mtu=1400, **ENDS[4]))
    site.ip(site.netns, "addr", "add", "10.0.0.1/24", "dev", "lo")
    before = site.network()

    with pytest.raises((ApplyError, PreconditionError), match="lo has this address already"):
        site.apply(plan)

    assert site.network() == before


def test_a_restarted_switch_finds_its_underlay_again(site: Site, ovs: OvsPlans) -> None:
    one = tunnel("tun0", mtu=1400, gateway_mac=MAC, **ENDS[4])
    plan = site.plan(ovs, one)
    site.far_end(one)
    site.near_end()
    site.apply(plan)

    sandbox.restart_switch(site.bed.switch.sandbox.name)

    # The kernel keeps the interface (TUNSETPERSIST); what the process itself knew is gone.
    assert site.keys(plan) == ["ovs-neighbour br-phy 10.0.0.2"]
    site.apply(plan)
    assert site.keys(plan) == []
    assert site.ping()


def test_without_a_switch_a_rollback_does_nothing_to_the_machine_around_the_sandbox(site: Site, ovs: OvsPlans) -> None:
    plan = site.plan(ovs, tunnel("tun0", mtu=1400, **ENDS[4]))
    machine, resource = site.bed.machine, Underlay(settle_s=0.0)
    around = host_network()
    site.bed.apply(dataclasses.replace(plan, tunnels=()))
    state = resource.read(machine, plan)
    changes = resource.diff(state, plan)
    resource.apply(machine, state, changes)
    check(["ovs-appctl", "-t", site.bed.switch.sandbox.unixctl, "exit"], timeout_s=10)
    assert wait_for(lambda: read_process(site.bed.switch.sandbox.switch_pid) is None, timeout_s=10.0)
    assert resource.read(machine, plan).network is None

    assert resource.rollback(machine, resource.image(state, changes), changes) == ()
    with pytest.raises(ApplyError, match="br-phy is no bridge"):
        resource.apply(machine, state, changes)
    found = resource.check(resource.read(machine, plan), plan, inspect_host(machine.root))
    assert {one.met_by for one in found if isinstance(one, Unmet)} == {"ovs_dpdk"}

    assert host_network() == around
