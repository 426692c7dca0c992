"""Flavors on paper: their extra specs, whether they fit, what is short, and many hosts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from synthetic import host as make_host

from nfvhost.errors import DocumentError
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.plan import Plan
from nfvhost.model.profile import CpuPolicy, EmulatorThreads, NovaWish, PortType, Profile, SharedPool, ThreadPolicy
from nfvhost.model.vnf import GuestPages, PciAffinity, Vnf, VnfNode, VnfPort
from nfvhost.openstack.extra_specs import wrong_with
from nfvhost.openstack.fit import capacity, fit, take
from nfvhost.openstack.flavor import MARK, Flavor, guest_of
from nfvhost.openstack.flavors import group_trait, invalid_specs, useful_offers, vnf_offer
from nfvhost.openstack.fleet import ComputeHost, Fleet
from nfvhost.openstack.nova_host import NovaHost, nova_host
from nfvhost.openstack.shortage import shortage
from nfvhost.planfile import load_vnf
from nfvhost.planner import make_plan

CHECKOUT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "flavors-v1.json"


def plan(profile: Profile | None = None, **shape: Any) -> Plan:  # noqa: ANN401 - as make_host takes them
    # Host 0 and PMD 1 with their siblings; 2-7,10-15 are dedicated.
    return make_plan(make_host(**{"cores": 8, "threads": 2} | shape), profile or Profile(name="flavors"))


def planned(profile: Profile | None = None, **shape: Any) -> NovaHost:  # noqa: ANN401 - the same
    return nova_host(plan(profile, **shape))


def vnf(**more: Any) -> Vnf:  # noqa: ANN401 - any field
    return dataclasses.replace(Vnf(name="router", vcpus=4, memory_mib=4096), **more)


def specs(one: Vnf) -> dict[str, str]:
    return dict(vnf_offer(one).flavor.extra_specs)


def why_not(host: NovaHost, **more: Any) -> tuple[str, str]:  # noqa: ANN401 - any field
    found = shortage(host, guest_of(vnf_offer(vnf(**more)).flavor))
    assert found is not None
    return found.what, found.hint


def test_the_extra_specs_of_the_examples_are_the_golden_ones() -> None:
    made = {path.stem: specs(load_vnf(str(path))) for path in (CHECKOUT / "examples" / "vnfs").glob("*.yaml")}
    assert made == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_every_choice_of_a_vnf_is_in_an_extra_spec_that_nova_takes() -> None:
    one = vnf(
        cpu_policy=CpuPolicy.MIXED,
        pinned_vcpus=CpuSet([1, 3]),
        emulator_threads=EmulatorThreads.ISOLATE,
        threads=ThreadPolicy.PREFER,
        page_size=GuestPages.GIB_1,
        nodes=(VnfNode(vcpus=CpuSet([0, 1]), memory_mib=1024), VnfNode(vcpus=CpuSet([2, 3]), memory_mib=3072)),
        pci_affinity=PciAffinity.SOCKET,
        ports=(VnfPort(type=PortType.SRIOV, network="a"), VnfPort(network="b", queues=4)),
    )
    offer = vnf_offer(one, group="edge-1")
    assert dict(offer.flavor.extra_specs) == {
        "hw:cpu_dedicated_mask": "1,3",
        "hw:cpu_policy": "mixed",
        "hw:cpu_thread_policy": "prefer",
        "hw:emulator_threads_policy": "isolate",
        "hw:mem_page_size": "1GB",
        "hw:numa_cpus.0": "0-1",
        "hw:numa_cpus.1": "2-3",
        "hw:numa_mem.0": "1024",
        "hw:numa_mem.1": "3072",
        "hw:numa_nodes": "2",
        "hw:pci_numa_affinity_policy": "socket",
        "hw:vif_multiqueue_enabled": "true",
        "nfvhost:mark": "nfvhost/v1",
        "trait:CUSTOM_NFVHOST_EDGE_1": "required",
    }
    assert invalid_specs(offer.flavor) == ()
    assert {one.subject.removeprefix("nfvhost.router.") for one in offer.reasons} | {MARK[0]} == set(
        dict(offer.flavor.extra_specs)
    )


def test_a_floating_guest_has_neither_emulator_nor_thread_policy() -> None:
    assert specs(vnf(cpu_policy=CpuPolicy.SHARED)) == {
        "hw:cpu_policy": "shared",
        "hw:mem_page_size": "large",
        "hw:numa_nodes": "1",
        "nfvhost:mark": "nfvhost/v1",
    }


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("hw:cpu_polcy", "dedicated", "hw:cpu_polcy is no extra spec of Nova 34.0.0"),
        ("hw:cpu_policy", "dedicate", "expects one of dedicated, shared, mixed"),
        ("hw:numa_nodes", "0", "expects 1 or more"),
        ("hw:numa_nodes", "two", "expects a whole number"),
        ("hw:vif_multiqueue_enabled", "maybe", "expects true or false"),
        ("hw:mem_page_size", "huge", "expects something like"),
    ],
)
def test_what_nova_would_refuse_is_told_before(name: str, value: str, told: str) -> None:
    assert told in str(wrong_with(name, value))


def test_keys_of_others_are_theirs_to_judge() -> None:
    assert wrong_with("nfvhost:mark", "anything") is None
    assert wrong_with("plain", "anything") is None


def test_a_planned_host_is_what_nova_will_report() -> None:
    found = planned()
    (cell,) = found.cells
    assert (str(cell.shared), str(cell.dedicated)) == ("0,8", "2-7,10-15")
    assert [str(core) for core in cell.cores] == ["0,8", "2,10", "3,11", "4,12", "5,13", "6,14", "7,15"]
    small, huge = cell.pages
    # OVS's pages are reserved.
    assert small.size_kib == 4
    assert huge.size_kib == 1024 * 1024
    assert huge.reserved > 0
    assert (found.pcpus, found.vcpus, found.vcpus_at_once) == (12, 8, 2)
    assert found.memory_mib == huge.free * 1024


def test_a_plan_without_nova_or_without_cores_gives_no_host() -> None:
    with pytest.raises(DocumentError, match="leaves Nova out"):
        planned(Profile(name="bare", nova=NovaWish(enabled=False)))
    made = plan()
    with pytest.raises(DocumentError, match="which CPUs share a core"):
        nova_host(dataclasses.replace(made, host=dataclasses.replace(made.host, nodes=())))


def test_guests_take_whole_cores_until_none_is_left() -> None:
    host, guest = planned(), guest_of(vnf_offer(vnf()).flavor)
    taken = fit(host, guest)
    assert taken is not None
    assert [str(one.pinned) for one in taken] == ["2-3,10-11"]
    assert capacity(host, guest) == 3
    assert capacity(take(host, guest, taken), guest) == 2


def test_isolated_emulator_threads_cost_a_cpu() -> None:
    host = planned()
    assert fit(host, guest_of(vnf_offer(vnf(vcpus=12)).flavor)) is not None
    assert fit(host, guest_of(vnf_offer(vnf(vcpus=12, emulator_threads=EmulatorThreads.ISOLATE)).flavor)) is None


def test_what_is_short_is_told_with_what_would_fit() -> None:
    assert why_not(planned(), vcpus=14) == (
        "PCPU: 14 needed, 12 there, 2 short; node 0: 14 dedicated CPUs needed, 12 free, 2 short",
        "vcpus: 12 would fit",
    )
    what, hint = why_not(planned(), memory_mib=1024 * 1024)
    assert "MiB of hugepages needed" in what
    room = planned().memory_mib
    assert hint == f"memoryMiB: {room} would fit"
    assert why_not(planned(), memory_mib=4000)[0] == "node 0: 4000 MiB is no multiple of its pages of 1024 MiB"
    assert why_not(planned(), memory_mib=4000)[1] == "memoryMiB: 3072 would fit"


def test_thread_policies_that_a_host_never_gives_are_told() -> None:
    isolated = why_not(planned(), threads=ThreadPolicy.ISOLATE)
    assert isolated == ("node 0: threads: isolate is given on hosts without SMT alone", "without threads it would fit")
    required = why_not(planned(threads=1), threads=ThreadPolicy.REQUIRE, vcpus=2)
    assert required[0] == "node 0: threads: require is given on hosts with SMT alone"


def test_floating_vcpus_need_as_many_shared_cpus_on_their_node() -> None:
    what, hint = why_not(planned(), cpu_policy=CpuPolicy.SHARED)
    assert "node 0: 4 shared CPUs needed for its floating vCPUs, 2 there, 2 short" in what
    assert hint == "vcpus: 2 would fit"
    more = planned(Profile(name="more", shared=SharedPool(cores=2)))
    assert fit(more, guest_of(vnf_offer(vnf(cpu_policy=CpuPolicy.SHARED)).flavor)) is not None


def test_more_nodes_than_there_are_is_told() -> None:
    assert "NUMA nodes: 2 needed, 1 there" in why_not(planned(), numa_nodes=2)[0]


def test_a_guest_of_two_nodes_has_its_share_of_each() -> None:
    host = planned(packages=2)
    taken = fit(host, guest_of(vnf_offer(vnf(numa_nodes=2)).flavor))
    assert taken is not None
    assert sorted((one.node, len(one.pinned)) for one in taken) == [(0, 2), (1, 2)]


def test_useful_sizes_are_whole_cores_and_fill_the_node() -> None:
    host = planned()
    offers = useful_offers(host)
    assert [offer.flavor.vcpus for offer in offers] == [2, 4, 8, 12, 1]
    assert [capacity(host, guest_of(offer.flavor)) for offer in offers] == [6, 3, 1, 1, 8]
    assert all(invalid_specs(offer.flavor) == () for offer in offers)


def test_a_contradicting_flavor_is_no_guest() -> None:
    flavor = Flavor(name="a", vcpus=4, memory_mib=1024, disk_gib=1, extra_specs=(("hw:cpu_policy", "mixed"),))
    with pytest.raises(ValueError, match="go together"):
        guest_of(flavor)


def fleet() -> Fleet:
    small, large = planned(), planned(cores=16)
    return Fleet(
        hosts=(
            ComputeHost(name="a1", group="small", host=small),
            ComputeHost(name="a2", group="small", host=small),
            ComputeHost(name="b1", group="large", host=large),
        )
    )


def test_a_vnf_that_fits_all_hosts_asks_for_no_group() -> None:
    (offer,) = fleet().vnf_offers([vnf()])
    assert "trait" not in str(offer.flavor.extra_specs)
    assert [(room.host, room.count) for room in fleet().rooms(offer.flavor)] == [("a1", 3), ("a2", 3), ("b1", 6)]


def test_a_vnf_that_fits_one_group_alone_asks_for_its_trait() -> None:
    (offer,) = fleet().vnf_offers([vnf(vcpus=14)])
    assert (f"trait:{group_trait('large')}", "required") in offer.flavor.extra_specs
    assert [room.host for room in fleet().rooms(offer.flavor)] == ["b1"]


def test_flavors_of_a_group_are_offered_to_its_hosts_alone() -> None:
    for offer in fleet().useful_offers():
        rooms = fleet().rooms(offer.flavor)
        assert {f"trait:{group_trait(room.group)}" for room in rooms} <= set(dict(offer.flavor.extra_specs))
        assert all(room.count for room in rooms)
