"""100 VNFs fitted on paper to 1,000 planned hosts, no two alike; how that grows, and what alike hosts cost.

python benchmarks/fit_many_hosts.py
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from synthetic import host as make_host

from nfvhost.model.profile import CpuPolicy, EmulatorThreads, Profile, SharedPool, ThreadPolicy
from nfvhost.model.vnf import Vnf
from nfvhost.openstack.flavor import Flavor
from nfvhost.openstack.flavors import vnf_offer
from nfvhost.openstack.fleet import ComputeHost, Fleet
from nfvhost.openstack.nova_host import NovaHost, nova_host
from nfvhost.planner import make_plan

HOSTS, VNFS, ROUNDS = 1000, 100, 3
BOUND_S = 60.0


def planned_hosts() -> list[NovaHost]:
    """Two packages of 8 to 32 cores with two threads each; the memory of each host is its own."""
    profile = Profile(name="many", shared=SharedPool(cores=2))
    made = []
    for number in range(HOSTS):
        machine = make_host(
            packages=2, cores=(8, 12, 16, 24, 32)[number % 5], threads=2, node_mib=[65536 + 1024 * number] * 2
        )
        made.append(nova_host(make_plan(machine, profile)))
    assert len(set(made)) == HOSTS
    return made


def flavors() -> list[Flavor]:
    """VNFs of every kind, from two vCPUs to two nodes, some too large for some hosts."""
    chance = random.Random(8)  # noqa: S311 - the same each time
    made = []
    for number in range(VNFS):
        nodes = 2 if number % 10 == 0 else 1
        policy = chance.choice((CpuPolicy.DEDICATED, CpuPolicy.DEDICATED, CpuPolicy.MIXED, CpuPolicy.SHARED))
        vcpus = nodes * chance.choice((2, 4, 8, 16, 32))
        made.append(
            vnf_offer(
                Vnf(
                    name=f"vnf{number}",
                    vcpus=vcpus,
                    memory_mib=nodes * 1024 * chance.choice((2, 8, 32, 128)),
                    numa_nodes=nodes,
                    cpu_policy=policy,
                    dedicated_vcpus=vcpus - 1 if policy is CpuPolicy.MIXED else None,
                    emulator_threads=chance.choice((EmulatorThreads.SHARE, EmulatorThreads.ISOLATE))
                    if policy is CpuPolicy.DEDICATED
                    else EmulatorThreads.SHARE,
                    threads=ThreadPolicy.REQUIRE if policy is CpuPolicy.DEDICATED and number % 7 == 0 else None,
                )
            ).flavor
        )
    return made


def fleet(hosts: Sequence[NovaHost]) -> Fleet:
    """The hosts under names."""
    return Fleet(hosts=tuple(ComputeHost(name=f"n{at}", group="many", host=one) for at, one in enumerate(hosts)))


def seconds(hosts: Sequence[NovaHost], wanted: Sequence[Flavor]) -> tuple[float, int]:
    """CPU seconds, the median of some rounds, and how many pairs fit."""
    spent = []
    fits = 0
    for _ in range(ROUNDS):
        start = time.process_time()
        fits = sum(room.count > 0 for flavor in wanted for room in fleet(hosts).rooms(flavor, most=1))
        spent.append(time.process_time() - start)
    return statistics.median(spent), fits


def main() -> None:
    """Measure, print, and fail where it takes too long or grows faster than the product."""
    start = time.process_time()
    hosts, wanted = planned_hosts(), flavors()
    print(f"{HOSTS} hosts planned in {time.process_time() - start:.1f} s of CPU")
    print("| hosts | VNFs | CPU | a pair | fits |\n| --- | --- | --- | --- | --- |")
    times: dict[tuple[int, int], float] = {}
    for count, vnfs in ((125, 100), (250, 100), (500, 100), (1000, 25), (1000, 50), (1000, 100)):
        spent, fits = seconds(hosts[:count], wanted[:vnfs])
        times[count, vnfs] = spent
        print(f"| {count} | {vnfs} | {spent:.2f} s | {spent / count / vnfs * 1e6:.0f} us | {fits} |")
    alike = [hosts[number % 10] for number in range(HOSTS)]
    spent, fits = seconds(alike, wanted)
    print(f"| {HOSTS}, of 10 kinds | {VNFS} | {spent:.2f} s | {spent / HOSTS / VNFS * 1e6:.0f} us | {fits} |")
    assert times[1000, 100] < BOUND_S
    assert times[1000, 100] < 2 * 8 * times[125, 100], "worse than linear in hosts"


if __name__ == "__main__":
    main()
