"""Why a server does not run, as Nova's and Placement's answers tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from openstack.compute.v2.server import Server
from openstack.network.v2.port import Port
from small_cloud import SmallCloud

from nfvhost.model.profile import CpuPolicy, PortType
from nfvhost.model.vnf import GuestPages, ServerGroup, Vnf, VnfPort
from nfvhost.openstack.causes import Stock, causes, fault, resources
from nfvhost.openstack.connect import connect
from nfvhost.openstack.flavors import vnf_offer

pytestmark = [
    pytest.mark.outside("a server of the test's own on the loopback"),
    # openstacksdk warns of what its next release drops, and calls itself so.
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning"),
]

VNF: Final = Vnf(name="router", vcpus=4, memory_mib=4096)
NO_HOST: Final = "No valid host was found. There are not enough hosts available."
ACTIONS: Final = "/servers/7/os-instance-actions"


def server(status: str = "ERROR", message: str | None = NO_HOST, power_state: int = 0) -> Server:
    told = None if message is None else {"message": message, "code": 500}
    return Server(id="7", name="router", status=status, fault=told, power_state=power_state)


def told(cloud: SmallCloud, failed: Server, vnf: Vnf = VNF) -> tuple[str, ...]:
    cloud.said.setdefault(ACTIONS, (200, {"instanceActions": []}))
    return causes(connect(), failed, vnf, vnf_offer(vnf).flavor, [])


def stock(cloud: SmallCloud, classes: Mapping[str, tuple[int, int, int]], *, fits: bool = False) -> None:
    """One host, with (total, reserved, used) of each resource class."""
    cloud.said["/resource_providers"] = (200, {"resource_providers": [{"uuid": "u", "name": "node7"}]})
    cloud.said["/resource_providers/u/usages"] = (200, {"usages": {name: c[2] for name, c in classes.items()}})
    inventories = {
        name: {"total": total, "reserved": reserved, "allocation_ratio": 1.0, "max_unit": total}
        for name, (total, reserved, _) in classes.items()
    }
    cloud.said["/resource_providers/u/inventories"] = (200, {"inventories": inventories})
    # Since 1.29 the whole tree of a provider is there: a host, and the bandwidth of its switch.
    found: dict[str, Any] = {one: {"root_provider_uuid": "u"} for one in ("u", "b")} if fits else {}
    cloud.said["/allocation_candidates"] = (200, {"provider_summaries": found, "allocation_requests": []})


def test_a_server_that_nova_calls_active_and_that_stands_still_is_a_fault() -> None:
    assert "its power state is paused: the hypervisor has stopped it" in fault(server("ACTIVE", None, 3))
    assert fault(server("BUILD", None)) == "still BUILD when its time was up"
    assert fault(server("ERROR", None)) == "ERROR, and Nova says no reason"
    assert fault(server()) == NO_HOST


@pytest.mark.parametrize(
    ("policy", "cpus"),
    [
        (CpuPolicy.DEDICATED, {"PCPU": 4}),
        (CpuPolicy.MIXED, {"PCPU": 1, "VCPU": 3}),
        (CpuPolicy.SHARED, {"VCPU": 4}),
    ],
)
def test_a_flavor_takes_what_placement_will_be_asked_for(policy: CpuPolicy, cpus: dict[str, int]) -> None:
    pinned = 1 if policy is CpuPolicy.MIXED else None
    vnf = Vnf(name="any", vcpus=4, memory_mib=4096, disk_gib=0, cpu_policy=policy, dedicated_vcpus=pinned)
    assert resources(vnf_offer(vnf).flavor) == {**cpus, "MEMORY_MB": 4096}


def test_overcommitted_stock_is_counted_as_placement_does() -> None:
    one = Stock(host="node7", total=8, reserved=2, used=20, ratio=4.0, most=8)
    assert one.free == 4
    assert Stock(host="node7", total=8, reserved=2, used=0, ratio=4.0, most=8).free == 8
    assert Stock(host="node7", total=8, reserved=2, used=99, ratio=4.0, most=8).free == 0


def test_what_placement_is_short_of_is_told_with_its_numbers(cloud: SmallCloud) -> None:
    stock(cloud, {"PCPU": (8, 1, 5), "MEMORY_MB": (65536, 0, 0)})
    assert told(cloud, server()) == (
        "Placement: PCPU is short on node7: 4 asked for, 2 free (5 of 7 used, 1 reserved)",
        "Placement: no host has any DISK_GB, and 10 is asked for",
    )


def test_where_placement_has_room_the_filters_are_named(cloud: SmallCloud) -> None:
    stock(cloud, {}, fits=True)
    vf = VnfPort(type=PortType.SRIOV, physnet="physnet2")
    vnf = Vnf(name="router", vcpus=2, memory_mib=4096, page_size=GuestPages.GIB_1, ports=(vf,))
    room, card, node = told(cloud, server(), vnf)
    assert room == (
        "Placement has room for PCPU 2, MEMORY_MB 4096, DISK_GB 10 on node7: a filter of Nova's scheduler refuses them"
    )
    assert card.startswith("PciPassthroughFilter: no host offers a function for sriov on physnet2")
    assert node.startswith("NUMATopologyFilter: no NUMA node has it all free: 4096 MiB, hw:cpu_policy=dedicated")


def test_bandwidth_that_is_short_is_told_before_any_filter(cloud: SmallCloud) -> None:
    way = "NET_BW_IGR_KILOBIT_PER_SEC"
    stock(cloud, {"NET_BW_EGR_KILOBIT_PER_SEC": (900_000, 0, 0), way: (900_000, 0, 500_000)}, fits=True)
    port = VnfPort(name="core", network="core", min_mbps=500)
    assert told(cloud, server(), replace(VNF, ports=(port, port))) == (
        f"Placement: {way} is short on node7: 500000 asked for, 400000 free (500000 of 900000 used)",
    )


def test_a_group_that_wants_more_hosts_than_there_are_is_the_reason(cloud: SmallCloud) -> None:
    stock(cloud, {}, fits=True)
    vnf = replace(VNF, count=3, server_group=ServerGroup(max_servers_per_host=2))
    told_of = told(cloud, server(), vnf)
    assert told_of[1:] == ("ServerGroupAntiAffinityFilter: 3 servers, at most 2 on a host, and 1 host has room",)
    assert "NUMATopologyFilter" in told(cloud, server(), replace(vnf, count=2))[1]


def test_a_group_that_nova_compute_refused_in_its_turn_is_the_reason_too(cloud: SmallCloud) -> None:
    stock(cloud, {"PCPU": (8, 0, 0)}, fits=True)
    apart = replace(VNF, count=2, server_group=ServerGroup())
    failed = server(message="Exceeded maximum number of retries. Exhausted all hosts available for retrying")
    assert "ServerGroupAntiAffinityFilter: 2 servers, at most 1 on a host, and 1 host has room" in told(
        cloud, failed, apart
    )


def test_the_step_that_failed_is_told_as_nova_tells_it_to_administrators(cloud: SmallCloud) -> None:
    cloud.said[ACTIONS] = (200, {"instanceActions": [{"request_id": "req-1"}]})
    events: list[dict[str, Any]] = [
        {"event": "conductor_schedule", "result": "Success", "host": "control"},
        {"event": "compute__do_build", "result": "Error", "host": "node7", "details": "no room for a disk"},
        {"event": "compute_plug", "result": "Error", "host": "node7", "traceback": "Traceback:\n  x\nOSError: full\n"},
    ]
    cloud.said[f"{ACTIONS}/req-1"] = (200, {"instanceAction": {"events": events}})
    assert told(cloud, server(message="no luck")) == (
        "Nova, compute__do_build on node7: no room for a disk",
        "Nova, compute_plug on node7: OSError: full",
    )


def test_hosts_that_have_all_failed_are_named_where_nova_tells_no_more(cloud: SmallCloud) -> None:
    cloud.said[ACTIONS] = (200, {"instanceActions": [{"request_id": "req-1"}]})
    events = [{"event": "compute__do_build", "result": "Success", "host": host} for host in ("node8", "node7")]
    cloud.said[f"{ACTIONS}/req-1"] = (200, {"instanceAction": {"events": events}})
    assert told(cloud, server(message="Exceeded maximum number of retries. Exhausted all hosts available")) == (
        "Nova failed to build it on node7, node8: nova-compute's log there says why",
    )


def test_what_a_user_may_not_ask_is_told_as_not_told(cloud: SmallCloud) -> None:
    cloud.said[ACTIONS] = (403, {"forbidden": {"message": "Policy doesn't allow it", "code": 403}})
    cloud.said["/resource_providers"] = (403, {"errors": [{"detail": "forbidden"}]})
    cloud.said["/allocation_candidates"] = (403, {"errors": [{"detail": "forbidden"}]})
    nova, placement = told(cloud, server())
    assert nova.startswith("not told: Nova does not allow it: Policy doesn't allow it")
    assert placement.startswith("not told: Placement does not allow it")


def bound(cloud: SmallCloud, kind: str, vif: str, mappings: Mapping[str, str], data_path: str) -> tuple[str, ...]:
    """What is told of one port, and the agent of one host."""
    port = {"id": "p", "name": "fast", "network_id": "n", "binding:vnic_type": kind, "binding:vif_type": vif}
    settings = {"bridge_mappings": mappings, "datapath_type": data_path}
    cloud.said["/ports/p"] = (200, {"port": port})
    cloud.said["/networks/n"] = (200, {"network": {"id": "n", "provider:physical_network": "physnet3"}})
    cloud.said["/agents"] = (200, {"agents": [{"host": "node7", "alive": True, "configurations": settings}]})
    cloud.said[ACTIONS] = (200, {"instanceActions": []})
    return causes(connect(), server(message="no luck"), VNF, vnf_offer(VNF).flavor, [Port(id="p")])


def test_a_physical_network_that_no_bridge_has_is_told(cloud: SmallCloud) -> None:
    lost = ("Neutron: no agent maps the physical network physnet3 to a bridge (bridge_mappings)",)
    assert bound(cloud, "normal", "unbound", {"physnet1": "br-phy"}, "netdev") == lost
    assert bound(cloud, "vdpa", "unbound", {}, "netdev") == lost
    assert bound(cloud, "direct", "unbound", {}, "netdev") == ()
    assert bound(cloud, "normal", "vhostuser", {}, "netdev") == ()


@pytest.mark.parametrize("vif", ["unbound", "vhostuser"])
def test_a_port_of_vdpa_beside_the_userspace_data_path_is_told(cloud: SmallCloud, vif: str) -> None:
    (told,) = bound(cloud, "vdpa", vif, {"physnet3": "br-phy"}, "netdev")
    assert told.startswith("Neutron binds a port of vDPA as vhost-user where Open vSwitch has the userspace data path")
    assert "as on node7, and libvirt refuses the guest" in told
    assert bound(cloud, "vdpa", vif, {"physnet3": "br-phy"}, "system") == ()
    assert bound(cloud, "normal", "unbound", {"physnet3": "br-phy"}, "netdev") == ()
