"""Nova's own code on planned hosts: run by a Python that has the package nova, jobs in and answers out as JSON.

A job is a host (its cells), a flavor and a count: so many guests are put on it, one after the other. Its answer: what
each guest got (node, size of pages, numbers of pinned and emulator CPUs, for each of its cells), or None where it did
not fit; or the name of the error that the flavor's extra specs raise.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import warnings
from typing import Any

Json = Any  # whatever the other side sent, or Nova's objects: they have no types


def load(name: str) -> Json:
    """A module of Nova."""
    return importlib.import_module(name)


warnings.simplefilter("ignore")
nova_conf, exception, objects, numa = map(load, ("nova.conf", "nova.exception", "nova.objects", "nova.objects.numa"))
hardware, validators = map(load, ("nova.virt.hardware", "nova.api.validation.extra_specs.validators"))
logging.disable(logging.CRITICAL)


def host_of(cells: Json) -> Json:
    """The host as nova-compute would report it."""
    return numa.NUMATopology(
        cells=[
            numa.NUMACell(
                id=cell["node"],
                cpuset=set(cell["shared"]),
                pcpuset=set(cell["dedicated"]),
                memory=cell["memory"],
                cpu_usage=0,
                memory_usage=0,
                pinned_cpus=set(),
                siblings=[set(core) for core in cell["cores"]],
                socket=None,
                network_metadata=objects.NetworkMetadata(physnets=set(), tunneled=False),
                mempages=[
                    numa.NUMAPagesTopology(size_kb=size, total=total, used=0, reserved=reserved)
                    for size, total, reserved in cell["pages"]
                ],
            )
            for cell in cells
        ]
    )


def answer(job: Json, limits: Json) -> Json:
    """What became of each guest."""
    flavor = objects.Flavor(vcpus=job["vcpus"], memory_mb=job["memory"], root_gb=1, extra_specs=dict(job["extraSpecs"]))
    image = objects.ImageMeta(properties=objects.ImageMetaProps())
    host = host_of(job["cells"])
    found: list[Json] = []
    for _ in range(job["count"]):
        # Each guest anew: Nova writes what it finds into it.
        try:
            wanted = hardware.numa_get_constraints(flavor, image)
        except Exception as error:  # noqa: BLE001 - some contradictions end in errors of Python
            return {"error": type(error).__name__}
        if wanted is None:
            found.append([])
            continue
        got = hardware.numa_fit_instance_to_host(host, wanted, {}, limits)
        if got is None:
            found.append(None)
            break
        found.append(
            [
                [cell.id, cell.pagesize, len(cell.cpu_pinning or {}), len(cell.cpuset_reserved or ())]
                for cell in got.cells
            ]
        )
        host = hardware.numa_usage_from_instance_numa(host, got)
    return {"guests": found}


def validated(specs: Json) -> list[bool]:
    """Whether Nova's API would take each extra spec."""
    taken = []
    for name, value in specs:
        try:
            validators.validate(name, value)
            taken.append(True)
        except exception.ValidationError:
            taken.append(False)
    return taken


def main() -> None:
    """Answer what stdin asks."""
    objects.register_all()
    nova_conf.CONF([], default_config_files=[])
    asked = json.load(sys.stdin)
    limits = objects.NUMATopologyLimits(cpu_allocation_ratio=4.0, ram_allocation_ratio=1.0)
    answers = [answer(job, limits) for job in asked["jobs"]]
    json.dump({"answers": answers, "valid": validated(asked["extraSpecs"])}, sys.stdout)


if __name__ == "__main__":
    main()
