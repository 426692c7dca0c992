"""A switch between a machine and a router of Linux that is every node of an SRv6 path, with a machine at its end."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from cases import tunnel

from nfvhost import engine
from nfvhost.access.command import check, run
from nfvhost.access.unixctl import ask
from nfvhost.inspect import inspect_host
from nfvhost.model.profile import TunnelType
from nfvhost.planner.planned_host import planned_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovs_plans import OvsPlans

    from nfvhost.model.plan import Plan, TunnelPlan
    from nfvhost.model.report import Report
    from nfvhost.resources import Resource
    from tests.ovs.conftest import Bed

# Three nodes, the last of which unpacks, for each version of IP inside.
PATHS: Final = {4: ("fc00:e1::1", "fc00:e2::1", "fc00:d4::1"), 6: ("fc00:e1::2", "fc00:e2::1", "fc00:d6::1")}
NETWORKS: Final = {4: "10.2.0.0/24", 6: "fd02::/64"}
FAR: Final = {4: "10.2.0.2", 6: "fd02::2"}
ROUTER_MAC: Final = "02:6e:66:76:00:01"
MACHINE_MAC: Final = "02:6e:66:76:00:02"
# What the machine behind port1 takes for its gateway.
GATEWAY_MAC: Final = "02:00:00:00:01:01"


def path_tunnel(version: int, **facts: Any) -> TunnelPlan:  # noqa: ANN401 - fields of TunnelPlan
    """The tunnel for packets of that version of IP."""
    known: dict[str, Any] = {
        "local": "fc00:a::1",
        "remote": PATHS[version][0],
        "segments": PATHS[version],
        "networks": (NETWORKS[version],),
        "key": None,
        "mtu": 1404,
        "underlay_prefix": 64,
        "gateway": "fc00:a::2",
        "gateway_mac": ROUTER_MAC,
    }
    return tunnel(f"sr{version}", TunnelType.SRV6, **(known | facts))


@dataclasses.dataclass(frozen=True)
class Srv6Site:
    """A sandbox: port0 leads to the router, port1 to a machine whose packets go into the tunnels."""

    bed: Bed

    @property
    def router(self) -> str:
        return self.bed.switch.sandbox.peer_netns[0]

    @property
    def machine(self) -> str:
        return self.bed.switch.sandbox.peer_netns[1]

    @property
    def far(self) -> str:
        return f"{self.bed.switch.sandbox.netns}-far"

    def lay(self) -> None:
        """The kernel's side: the nodes of the path, the machine behind them, the way back, and the near machine."""
        check(["ip", "netns", "add", self.far], timeout_s=10)
        for netns in (self.router, self.far, self.machine):
            for key in ("net.ipv6.conf.all.seg6_enabled", "net.ipv6.conf.all.forwarding", "net.ipv4.ip_forward"):
                check(["ip", "netns", "exec", netns, "sysctl", "-qw", f"{key}=1"], timeout_s=10)
        check(["ip", "netns", "exec", self.router, "sysctl", "-qw", "net.ipv6.conf.wire0.seg6_enabled=1"], timeout_s=10)
        nodes = dict.fromkeys(node for path in PATHS.values() for node in path[:-1])
        _ip(
            self.router,
            "addr add fc00:a::2/64 dev wire0 nodad",
            f"link add far type veth peer name end netns {self.far}",
            "link set far up",
            "addr add 10.2.0.1/24 dev far",
            "addr add fd02::1/64 dev far nodad",
            *(f"route add {node}/128 encap seg6local action End dev wire0" for node in nodes),
            f"route add {PATHS[4][-1]}/128 encap seg6local action End.DX4 nh4 {FAR[4]} dev far",
            f"route add {PATHS[6][-1]}/128 encap seg6local action End.DX6 nh6 {FAR[6]} dev far",
            "route add 10.1.0.0/24 encap seg6 mode encap segs fc00:e1::1,fc00:a::1 dev wire0",
            "route add fd01::/64 encap seg6 mode encap segs fc00:e1::1,fc00:a::1 dev wire0",
        )
        _ip(
            self.far,
            "link set end up",
            f"addr add {FAR[4]}/24 dev end",
            f"addr add {FAR[6]}/64 dev end nodad",
            "route add default via 10.2.0.1",
            "route add ::/0 via fd02::1",
        )
        _ip(
            self.machine,
            "addr add 10.1.0.2/24 dev wire1",
            "addr add fd01::2/64 dev wire1 nodad",
            f"neigh add 10.1.0.1 lladdr {GATEWAY_MAC} dev wire1",
            f"neigh add fd01::1 lladdr {GATEWAY_MAC} dev wire1",
            "route add default via 10.1.0.1 mtu 1404",
            "route add ::/0 via fd01::1 mtu 1404",
        )

    def clear(self) -> None:
        """The namespace that the sandbox does not know goes."""
        run(["ip", "netns", "delete", self.far], timeout_s=10)

    def plan(self, ovs: OvsPlans, *tunnels: TunnelPlan) -> Plan:
        """Ports over both wires, with the tunnels and the port that receives."""
        ports = [ovs.port(f"dpdk{n}", "dpdk", dpdk_devargs=f"net_af_packet{n},iface=port{n}") for n in range(2)]
        made = [
            ovs.port(
                one.name,
                "srv6",
                local_ip=one.local,
                remote_ip=one.remote,
                srv6_segs=",".join(one.segments) if len(one.segments) > 1 else None,
            )
            for one in tunnels
        ]
        plan = ovs.plan(
            ovs.bridge("br-phy", ports[0], fail_mode=None),
            ovs.bridge("br-int", ports[1], *made, ovs.port("srv6in0", "srv6", local_ip="fc00:a::1", remote_ip="flow")),
            version="3.5",
            **self.bed.keys,
        )
        return dataclasses.replace(plan, host=planned_host(inspect_host(self.bed.machine.root)), tunnels=tunnels)

    def apply(self, plan: Plan, resources: Sequence[Resource[Any]]) -> Report:
        """What the engine makes of the plan."""
        return engine.apply(plan, self.bed.machine, inspect_host(self.bed.machine.root), resources=resources)

    def steer(self, *tunnels: TunnelPlan) -> None:
        """By hand: packets for the networks of the tunnels go into them, what comes back goes to the near machine."""
        for one in tunnels:
            for network in one.networks:
                match = f"ipv6,ipv6_dst={network}" if ":" in network else f"ip,nw_dst={network}"
                self.ofctl("add-flow", "br-int", f"priority=100,{match},actions=output:{one.name}")
        back = f"set_field:{GATEWAY_MAC}->eth_src,set_field:{MACHINE_MAC}->eth_dst,output:dpdk1"
        self.ofctl("add-flow", "br-int", f"priority=200,in_port=srv6in0,actions={back}")

    def ofctl(self, command: str, bridge: str, *words: str) -> str:
        """What ovs-ofctl says."""
        place = f"unix:{self.bed.switch.sandbox.run_dir}/{bridge}.mgmt"
        return check(["ovs-ofctl", "-O", "OpenFlow15", command, place, *words], timeout_s=20).stdout

    def tables(self) -> list[str]:
        """All flows of both bridges."""
        found = []
        for bridge in ("br-int", "br-phy"):
            text = self.ofctl("dump-flows", bridge, "--no-stats")
            found += [f"{bridge} {line.strip()}" for line in text.splitlines() if "actions=" in line]
        return sorted(found)

    def ping(self, version: int, *, count: int = 3) -> bool:
        """Whether all of several packets come back from behind the path."""
        words = ["ping", "-q", "-c", str(count), "-i", "0.2", "-W", "1", "-s", "1000", FAR[version]]
        return run(["ip", "netns", "exec", self.machine, *words], timeout_s=30).code == 0

    def reaches(self, version: int) -> bool:
        """Whether one of a few packets comes back, the first of which may have to wait for neighbours."""
        return any(self.ping(version, count=1) for _ in range(10))

    def flows(self) -> str:
        """The data path's own flows."""
        return ask(self.bed.switch.sandbox.unixctl, "dpctl/dump-flows")


def _ip(netns: str, *lines: str) -> None:
    check(["ip", "-n", netns, "-batch", "-"], timeout_s=20, input_text="\n".join(lines) + "\n")
