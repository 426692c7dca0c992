"""20 floating servers through Nova's fake driver: several at a time, against one after the other.

In a room of its own, whose Nova, Placement, Neutron and Keystone are real; only the hypervisor is not:
    sudo tests/support/cloud_room.sh env PYTHONPATH=tests/support .venv/bin/python benchmarks/launch_many.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Final

import cloud_guest
from cloud import Cloud, step, wait_until
from openstack.connection import Connection
from openstack.exceptions import raise_from_response

from nfvhost.model.profile import CpuPolicy
from nfvhost.model.vnf import GuestPages, Vnf, VnfImage
from nfvhost.openstack.connect import connect
from nfvhost.openstack.launch import AT_ONCE, launch, remove
from nfvhost.openstack.servers import servers_of

SERVERS: Final = 20
WANTED: Final = 3.0
VNF: Final = Vnf(
    name="many",
    count=SERVERS,
    vcpus=1,
    memory_mib=64,
    disk_gib=0,
    cpu_policy=CpuPolicy.SHARED,
    page_size=GuestPages.SMALL,
    image=VnfImage(name="nothing", file=str(cloud_guest.disk())),
)
# The fake driver knows no NUMA nodes, and this filter refuses it guests that have one.
FILTER: Final = ",NUMATopologyFilter"


def start(cloud: Cloud) -> Connection:
    """The way to a cloud whose one compute host is of Nova's fake driver."""
    cloud.start_control()
    cloud.stop("nova-scheduler")
    settings = Path("/etc/nova/nova.conf")
    text = settings.read_text()
    assert FILTER in text
    settings.write_text(text.replace(FILTER, ""))
    cloud.start("nova-scheduler")
    cloud.start("nova-compute-fake")
    wait_until(lambda: cloud.query("placement", "SELECT id FROM inventories") != "", "an inventory in Placement")
    wait_until(lambda: cloud.query("nova_api", "SELECT host FROM host_mappings") != "", "a host of the cell")
    connection = connect("lab")
    quota = {"quota_set": {"instances": 2 * SERVERS, "cores": 2 * SERVERS}}
    raise_from_response(connection.compute.put(f"/os-quota-sets/{connection.current_project_id}", json=quota))
    return connection


def seconds(connection: Connection, at_once: int) -> float:
    """What it takes until all of them run; they are gone afterwards."""
    begun = time.monotonic()
    made = launch(connection, [VNF], at_once=at_once)
    took = time.monotonic() - begun
    assert len(made) == SERVERS
    remove(connection, VNF.name, servers_of(connection, VNF.name))
    return took


def main() -> int:
    """0 where it is as fast as wanted."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    cloud = Cloud()
    ratios = []
    try:
        with step("a cloud without a hypervisor"):
            connection = start(cloud)
        for _ in range(rounds):
            singly, together = seconds(connection, 1), seconds(connection, AT_ONCE)
            ratios.append(singly / together)
            print(
                f"one by one {singly:.1f} s, {AT_ONCE} at a time {together:.1f} s: {ratios[-1]:.2f} times", flush=True
            )
    finally:
        cloud.stop_all()
    ratio = statistics.median(ratios)
    print(f"{SERVERS} servers: {ratio:.2f} times as fast; wanted: {WANTED:.0f}")
    return 0 if ratio >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
