"""20 floating servers on six hosts of Nova's fake driver: several at a time, against one after the other.

One after the other twice: as a script of openstacksdk does it, which makes a server and waits for it as the SDK waits,
and as nfvhost does it one at a time.

In a room of its own, whose Nova, Placement, Neutron and Keystone are real; only the hypervisor is not:
    sudo tests/support/cloud_room.sh env PYTHONPATH=tests/support .venv/bin/python benchmarks/launch_many.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Final

import cloud_conf
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
# On a single one, all claims in Placement are against the same provider, and wait for each other or are made again.
HOSTS: Final = ("fake", *(f"fake{number}" for number in range(2, 7)))
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
    """The way to a cloud whose compute hosts are of Nova's fake driver."""
    cloud.start_control()
    cloud.stop("nova-scheduler")
    settings = Path("/etc/nova/nova.conf")
    text = settings.read_text()
    assert FILTER in text
    settings.write_text(text.replace(FILTER, ""))
    cloud.start("nova-scheduler")
    for name in HOSTS:
        folder, state = Path("/etc/nova", name), cloud.state / name
        for one in (folder, state):
            one.mkdir(exist_ok=True)
        (folder / "10-fake.conf").write_text(cloud_conf.fake_host(name, state))
        cloud.start(f"nova-compute-{name}")

    def all_in(database: str, statement: str) -> None:
        wait_until(lambda: len(cloud.query(database, statement).split()) == len(HOSTS), f"all hosts in {database}")

    all_in("placement", "SELECT DISTINCT resource_provider_id FROM inventories")
    all_in("nova_api", "SELECT host FROM host_mappings")
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


def scripted(connection: Connection) -> float:
    """What it takes with the SDK alone; all is gone afterwards."""
    begun = time.monotonic()
    image = connection.image.create_image(
        name="scripted", filename=str(cloud_guest.disk()), disk_format="raw", container_format="bare", wait=True
    )
    flavor = connection.compute.create_flavor(name="scripted", vcpus=VNF.vcpus, ram=VNF.memory_mib, disk=VNF.disk_gib)
    servers = []
    for number in range(SERVERS):
        server = connection.compute.create_server(
            name=f"scripted-{number}", image_id=image.id, flavor_id=flavor.id, networks="none"
        )
        servers.append(connection.compute.wait_for_server(server))
    took = time.monotonic() - begun
    for server in servers:
        connection.compute.delete_server(server)
    for server in servers:
        connection.compute.wait_for_delete(server)
    connection.compute.delete_flavor(flavor)
    connection.image.delete_image(image.id)
    return took


def main() -> int:
    """0 where it is as fast as wanted."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    cloud = Cloud()
    ratios: dict[str, list[float]] = {"a script": [], "one at a time": []}
    try:
        with step("a cloud without a hypervisor"):
            connection = start(cloud)
        for _ in range(rounds):
            taken = {"a script": scripted(connection), "one at a time": seconds(connection, 1)}
            together = seconds(connection, AT_ONCE)
            for name, took in taken.items():
                ratios[name].append(took / together)
            told = ", ".join(f"{name} {took:.1f} s" for name, took in taken.items())
            print(f"{told}, {AT_ONCE} at a time {together:.1f} s", flush=True)
    finally:
        cloud.stop_all()
    medians = {name: statistics.median(found) for name, found in ratios.items()}
    told = ", ".join(f"{ratio:.2f} times as fast as {name}" for name, ratio in medians.items())
    print(f"{SERVERS} servers: {told}; wanted: {WANTED:.0f}")
    return 0 if medians["a script"] >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
