"""Guests that a plan holds are guests that Nova takes: each is put on the planned host by Nova's rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from nfvhost.access.archive import open_root
from nfvhost.errors import DocumentError
from nfvhost.inspect import inspect_host
from nfvhost.model.plan import Plan
from nfvhost.model.profile import (
    CpuPolicy,
    EmulatorThreads,
    GuestWish,
    MemoryWish,
    PageChoice,
    Profile,
    SharedPool,
    ThreadPolicy,
)
from nfvhost.model.vnf import Vnf
from nfvhost.openstack.fit import fit, take
from nfvhost.openstack.flavor import guest_of
from nfvhost.openstack.flavors import vnf_offer
from nfvhost.openstack.nova_host import nova_host
from nfvhost.openstack.shortage import shortage
from nfvhost.planner import make_plan

CAPTURES: Final = sorted((Path(__file__).parent / "captures").glob("*.tar.xz"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A guest, and how many vCPUs are the host's shared ones."""

    vnf: GuestWish
    shared_cores: int = 0


def shapes() -> list[Shape]:
    base = GuestWish(name="guest", vcpus=2, memory_mib=64)
    floating = replace(base, cpu_policy=CpuPolicy.SHARED)
    kinds = (
        base,
        floating,
        replace(base, cpu_policy=CpuPolicy.MIXED, dedicated_vcpus=1),
        replace(base, emulator_threads=EmulatorThreads.ISOLATE),
        replace(base, threads=ThreadPolicy.ISOLATE),
        replace(base, threads=ThreadPolicy.REQUIRE),
        replace(floating, threads=ThreadPolicy.PREFER),
        replace(base, numa_nodes=2),
        replace(floating, numa_nodes=2),
    )
    return [
        Shape(vnf=replace(kind, vcpus=vcpus, count=count), shared_cores=shared)
        for kind, vcpus, count, shared in product(kinds, (1, 2, 3, 6), (1, 3), (0, 1))
        if vcpus > (kind.dedicated_vcpus or 0)
    ]


def refused(plan: Plan, vnf: GuestWish) -> list[str]:
    """What Nova lacks for the guests of this plan, one after the other."""
    host = nova_host(plan)
    told = []
    for placed in plan.guests:
        wanted = Vnf(
            name=placed.name,
            vcpus=vnf.vcpus,
            memory_mib=placed.memory_mib,
            cpu_policy=vnf.cpu_policy,
            dedicated_vcpus=vnf.dedicated_vcpus,
            emulator_threads=vnf.emulator_threads,
            threads=vnf.threads,
            numa_nodes=vnf.numa_nodes,
        )
        guest = guest_of(vnf_offer(wanted).flavor)
        taken = fit(host, guest)
        if taken is None:
            told.append(f"{placed.name}: {shortage(host, guest)}")
        else:
            host = take(host, guest, taken)
    return told


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_nova_takes_every_guest_that_a_plan_holds(capture: Path) -> None:
    host, tried = inspect_host(open_root(str(capture))), 0
    for shape in shapes():
        profile = Profile(
            name="guests",
            shared=SharedPool(cores=shape.shared_cores),
            memory=MemoryWish(page_size=PageChoice.MIB_2),
            vnfs=(shape.vnf,),
        )
        try:
            plan = make_plan(host, profile)
        except DocumentError:
            continue
        tried += 1
        assert refused(plan, shape.vnf) == [], shape
    assert tried > 10
