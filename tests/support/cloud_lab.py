"""A cloud, a plan of its compute host, and documents of VNFs for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloud_guest
from cloud import Cloud, nfvhost
from openstack.connection import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """The cloud with a compute host, and a plan of that host."""

    cloud: Cloud
    plan: Path
    api: Connection
    kernel: dict[str, str]  # properties of an image that boots

    def document(self, folder: Path, name: str, **keys: object) -> str:
        """The file of a VNF: one pinned vCPU on a vhost-user port, unless said otherwise."""
        body: dict[str, object] = {
            "apiVersion": "nfvhost/v1",
            "kind": "Vnf",
            "name": name,
            "vcpus": 1,
            "memoryMiB": 256,
            "diskGiB": 0,
            "ports": [{"name": "core", "physnet": "physnet1", "vlan": 101}],
            "image": {"name": f"{name}-image", "file": str(cloud_guest.disk()), "properties": self.kernel},
            **keys,
        }
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps(body))
        return str(path)

    def launch(self, *documents: str, code: int = 0, **environment: str) -> dict[str, Any]:
        """What `nfvhost launch` tells programs of the servers, by their names."""
        done = nfvhost("launch", *documents, "--plan", str(self.plan), "--json", code=code, **environment)
        return {one["name"]: one for one in json.loads(done.stdout)["servers"]}

    def stock(self) -> dict[str, int]:
        """What Placement can give of each resource class; the cloud has one host."""
        rows = self.cloud.query(
            "placement",
            "SELECT c.name, i.total - i.reserved FROM inventories i"
            " JOIN resource_classes c ON c.id = i.resource_class_id",
        )
        return {name: int(amount) for name, amount in (line.split("\t") for line in rows.splitlines())}

    def things(self) -> list[str]:
        """All that is there of what nfvhost makes, whoever made it."""
        api = self.api
        return sorted(
            [
                *(f"server {one.name}" for one in api.compute.servers(all_projects=True)),
                *(f"port {one.name}" for one in api.network.ports()),
                *(f"network {one.name}" for one in api.network.networks()),
                *(f"image {one.name}" for one in api.image.images()),
                *(f"flavor {one.name}" for one in api.compute.flavors()),
                *(f"server group {one.name}" for one in api.compute.server_groups()),
                *(f"QoS policy {one.name}" for one in api.network.qos_policies()),
                *(f"aggregate {one.name}" for one in api.compute.aggregates()),
            ]
        )
