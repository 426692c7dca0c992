"""Any machine, any wish: a plan that breaks no rule, or a refusal that says where and what to do."""

from __future__ import annotations

import dataclasses

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan_rules import broken_rules
from synthetic import host as make_host
from synthetic import nic as make_nic

from nfvhost.errors import DocumentError, PreconditionError
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host, Iommu
from nfvhost.model.profile import (
    CpuGovernor,
    CpuPolicy,
    EmulatorThreads,
    GuestPortWish,
    GuestWish,
    HostPool,
    MemoryWish,
    NicWish,
    NovaWish,
    OvsWish,
    PageChoice,
    PmdPool,
    PortType,
    PowerWish,
    Profile,
    Role,
    SharedPool,
    ThreadPolicy,
    VhostPort,
    VirtualPort,
)
from nfvhost.planner import make_plan

MANY = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    """Machines of 1 to 192 CPUs with holes, cgroups, memory and NICs of all kinds."""
    packages, nodes = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    groups, cores, threads = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 4]))
    count = packages * nodes * groups * cores * threads
    cpus = st.integers(0, count - 1)
    offline = CpuSet(draw(st.sets(cpus, max_size=min(count - 1, 6))))
    online = [cpu for cpu in range(count) if cpu not in offline]
    allowed = draw(st.one_of(st.none(), st.sets(st.sampled_from(online), min_size=1)))
    slow_groups = draw(st.sets(st.integers(0, groups - 1)))
    slow = CpuSet(cpu for cpu in range(count) if cpu % (count // threads) // cores % groups in slow_groups)
    memory = st.one_of(st.none(), st.integers(0, 4000), st.integers(4000, 400_000))
    some_nics = [
        make_nic(
            f"0000:{bus + 1:02x}:00.0",
            node=draw(st.one_of(st.none(), st.integers(0, packages * nodes))),
            speed_mbps=draw(st.sampled_from([None, 1000, 10_000, 25_000, 100_000])),
            management="default route by ens1f0" if bus == 0 and draw(st.booleans()) else None,
            driver=draw(st.sampled_from(["i40e", "ice", "r8169", "mlx5_core", "vfio-pci", None])),
            total_vfs=draw(st.sampled_from([None, 0, 8, 64])),
        )
        for bus in range(draw(st.integers(0, 4)))
    ]
    return make_host(
        packages=packages,
        nodes=nodes,
        groups=groups,
        cores=cores,
        threads=threads,
        node_mib=[draw(memory) for _ in range(packages * nodes)],
        nics=some_nics,
        offline=str(offline),
        allowed=None if allowed is None else str(CpuSet(allowed)),
        efficiency=str(slow),
        pages=draw(st.sampled_from([(), (2,), (2, 1024), (16,), (1,), (512, 16384)])),
        flags=draw(st.sampled_from([(), ("pse",), ("pse", "pdpe1gb")])),
        **draw(st.sampled_from([{}, {"iommu": Iommu(enabled=False, groups=())}])),
    )


@st.composite
def guests(draw: st.DrawFn) -> GuestWish:
    """VNFs from tiny to impossible."""
    vcpus = draw(st.integers(1, 12))
    return GuestWish(
        name=draw(st.sampled_from(["router", "firewall", "probe"])) + str(draw(st.integers(0, 999))),
        vcpus=vcpus,
        memory_mib=draw(st.integers(1, 20_000)),
        count=draw(st.integers(1, 3)),
        cpu_policy=draw(st.sampled_from(CpuPolicy)),
        dedicated_vcpus=draw(st.one_of(st.none(), st.integers(0, 12))),
        emulator_threads=draw(st.sampled_from(EmulatorThreads)),
        threads=draw(st.sampled_from([None, *ThreadPolicy])),
        numa_nodes=draw(st.integers(1, 3)),
        node=draw(st.one_of(st.none(), st.integers(0, 9))),
        ports=tuple(GuestPortWish(type=kind) for kind in draw(st.lists(st.sampled_from(PortType), max_size=3))),
    )


@st.composite
def small_guests(draw: st.DrawFn) -> GuestWish:
    """VNFs that many machines can hold."""
    return GuestWish(
        name=f"small{draw(st.integers(0, 999))}",
        vcpus=draw(st.integers(1, 3)),
        memory_mib=draw(st.integers(1, 1500)),
        count=draw(st.integers(1, 2)),
        cpu_policy=draw(st.sampled_from([CpuPolicy.DEDICATED, CpuPolicy.SHARED])),
        emulator_threads=draw(st.sampled_from(EmulatorThreads)),
        threads=draw(st.sampled_from([None, ThreadPolicy.ISOLATE])),
        ports=draw(st.sampled_from([(), (GuestPortWish(),)])),
    )


@st.composite
def modest_profiles(draw: st.DrawFn) -> Profile:
    """Wishes that most machines can meet."""
    return Profile(
        name="modest",
        host=HostPool(every_node=draw(st.booleans())),
        pmd=PmdPool(one_thread_per_core=draw(st.booleans()), every_node=draw(st.booleans())),
        memory=MemoryWish(page_size=draw(st.sampled_from([PageChoice.AUTO, PageChoice.MIB_2]))),
        ovs=OvsWish(vhost_ports=(VhostPort(name="vhost0"),) if draw(st.booleans()) else ()),
        vnfs=tuple(draw(st.lists(small_guests(), max_size=3, unique_by=lambda one: one.name))),
    )


@st.composite
def greedy_profiles(draw: st.DrawFn) -> Profile:
    """Wishes, many of them beyond the machine."""
    few = st.one_of(st.none(), st.integers(0, 6))
    ports = draw(st.integers(0, 2))
    return Profile(
        name="any",
        host=HostPool(cores=draw(few), every_node=draw(st.booleans())),
        shared=SharedPool(cores=draw(st.integers(0, 3))),
        pmd=PmdPool(cores=draw(few), one_thread_per_core=draw(st.booleans()), every_node=draw(st.booleans())),
        memory=MemoryWish(
            page_size=draw(st.sampled_from(PageChoice)),
            host_mib=draw(st.one_of(st.none(), st.integers(0, 9000))),
            guest_mib=draw(st.one_of(st.none(), st.integers(0, 50_000))),
            per_port=draw(st.booleans()),
        ),
        ovs=OvsWish(
            mtu=draw(st.sampled_from([None, 1500, 9000])),
            virtual_ports=tuple(VirtualPort(name=f"v{one}", devargs=f"net_null{one}") for one in range(ports)),
            vhost_ports=(VhostPort(name="vhost0"),) if draw(st.booleans()) else (),
        ),
        nics=draw(st.sampled_from([(), (NicWish(role=Role.SRIOV, vfs=3, vlan=7, trusted=True), NicWish())])),
        nova=NovaWish(enabled=draw(st.booleans())),
        power=PowerWish(
            governor=draw(st.sampled_from([None, *CpuGovernor])),
            max_idle_latency_us=draw(st.sampled_from([None, 0, 10])),
        ),
        unsafe_no_iommu=draw(st.booleans()),
        vnfs=tuple(draw(st.lists(guests(), max_size=3, unique_by=lambda one: one.name))),
    )


@MANY
@given(hosts(), st.booleans())
def test_a_profile_that_asks_for_nothing_special_is_planned_on_every_machine(machine: Host, nova: bool) -> None:  # noqa: FBT001 - drawn
    plan = make_plan(machine, Profile(name="plain", nova=NovaWish(enabled=nova)))
    assert broken_rules(machine, plan) == []


@MANY
@given(hosts(), st.one_of(modest_profiles(), greedy_profiles()))
def test_any_wish_is_planned_by_the_rules_or_refused_with_its_place_and_a_way_out(
    machine: Host, profile: Profile
) -> None:
    try:
        plan = make_plan(machine, profile)
    except (DocumentError, PreconditionError) as refusal:
        for problem in refusal.problems:
            assert problem.where, problem
            assert problem.hint, problem
        return
    assert broken_rules(machine, plan) == []


@MANY
@given(hosts(), st.one_of(modest_profiles(), greedy_profiles()))
def test_the_same_machine_and_wish_give_the_same_plan_or_the_same_refusal(machine: Host, profile: Profile) -> None:
    def answer() -> str:
        try:
            return repr(make_plan(machine, profile))
        except (DocumentError, PreconditionError) as refusal:
            return str(refusal)

    assert answer() == answer()


@MANY
@given(hosts())
def test_what_the_plan_itself_changes_does_not_change_the_plan_of_cores_and_memory(machine: Host) -> None:
    profile = Profile(name="plain")
    applied = dataclasses.replace(
        machine,
        isolated=machine.online,
        kernel_args=("isolcpus=1",),
        hugepages=tuple(dataclasses.replace(pool, total=7, free=7) for pool in machine.hugepages),
    )
    before, after = make_plan(machine, profile), make_plan(applied, profile)
    assert (after.cpus, after.memory, after.host) == (before.cpus, before.memory, before.host)
