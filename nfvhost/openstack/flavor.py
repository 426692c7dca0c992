"""A flavor, and the guest that Nova makes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.profile import CpuPolicy, EmulatorThreads, ThreadPolicy

# What says "made by nfvhost": only such flavors are changed or deleted. Nova's filters leave keys of a namespace that
# they do not know alone (nova/scheduler/filters/extra_specs_ops.py).
MARK: Final = ("nfvhost:mark", "nfvhost/v1")

# nova/virt/hardware.py, MEMPAGES_SMALL, MEMPAGES_LARGE, MEMPAGES_ANY.
SMALL: Final = -1
LARGE: Final = -2
ANY: Final = -3
_PAGES: Final = {"small": SMALL, "large": LARGE, "any": ANY}
_SIZE: Final = re.compile(r"(\d+)([kKMGT]?)i?[bB]")
_KIB: Final = {"": 1 / 1024, "k": 1, "K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavor:
    """What `openstack flavor show` shows."""

    name: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    extra_specs: tuple[tuple[str, str], ...]  # sorted
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCell:
    """What a guest takes of one NUMA node; which vCPU is which does not matter for the fit."""

    pinned: int
    shared: int
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A server of a flavor (nova/objects/instance_numa.py, InstanceNUMATopology)."""

    vcpus: int
    memory_mib: int
    cells: tuple[GuestCell, ...]  # none: Nova does not mind nodes
    page: int | None  # KiB, or SMALL, LARGE, ANY; None: not said
    policy: CpuPolicy
    threads: ThreadPolicy | None
    isolated_emulator: bool

    @property
    def pinned(self) -> int:
        """Its vCPUs with a host CPU of their own."""
        return sum(cell.pinned for cell in self.cells) if self.policy is not CpuPolicy.SHARED else 0

    @property
    def pcpus(self) -> int:
        """What it takes of Placement's PCPU (nova/scheduler/utils.py, _translate_pinning_policies)."""
        return self.pinned + self.isolated_emulator

    @property
    def shared(self) -> int:
        """What it takes of Placement's VCPU."""
        return self.vcpus - self.pinned


def guest_of(flavor: Flavor) -> Guest:
    """The guest that Nova makes of a flavor; ValueError where its extra specs contradict themselves.

    Source: nova/virt/hardware.py, numa_get_constraints.
    """
    specs = dict(flavor.extra_specs)
    policy = CpuPolicy(specs.get("hw:cpu_policy", "shared"))
    threads = specs.get("hw:cpu_thread_policy")
    emulator = specs.get("hw:emulator_threads_policy")
    mask = _dedicated(specs.get("hw:cpu_dedicated_mask"), flavor.vcpus)
    if policy is CpuPolicy.SHARED and threads:
        raise ValueError("hw:cpu_thread_policy is for pinned vCPUs")
    if policy is CpuPolicy.SHARED and emulator == EmulatorThreads.ISOLATE:
        raise ValueError("hw:emulator_threads_policy=isolate is for pinned vCPUs")
    if (mask is None) == (policy is CpuPolicy.MIXED):
        raise ValueError("hw:cpu_dedicated_mask and hw:cpu_policy=mixed go together")
    page = _page(specs.get("hw:mem_page_size"))
    cells: tuple[GuestCell, ...] = ()
    if "hw:numa_nodes" in specs or page is not None or policy is not CpuPolicy.SHARED:
        everyone = CpuSet(range(flavor.vcpus))
        pinned = everyone if policy is CpuPolicy.DEDICATED else (mask or CpuSet())
        cells = _cells(flavor, specs, pinned)
    return Guest(
        vcpus=flavor.vcpus,
        memory_mib=flavor.memory_mib,
        cells=cells,
        page=page,
        policy=policy,
        threads=ThreadPolicy(threads) if threads else None,
        isolated_emulator=emulator == EmulatorThreads.ISOLATE,
    )


def _dedicated(mask: str | None, vcpus: int) -> CpuSet | None:
    """The pinned vCPUs of a mixed guest."""
    if not mask:
        return None
    everyone = CpuSet(range(vcpus))
    parts = mask.split(",")
    without = CpuSet.parse(",".join(part.strip()[1:] for part in parts if part.strip().startswith("^")))
    named = CpuSet.parse(",".join(part for part in parts if not part.strip().startswith("^")))
    pinned = (everyone | named if mask.strip().startswith("^") else named) - without
    if not pinned or not pinned <= everyone or pinned == everyone:
        raise ValueError(f"hw:cpu_dedicated_mask={mask} pins none or all of {vcpus} vCPUs, or others")
    return pinned


def _page(text: str | None) -> int | None:
    """The page size as Nova reads it, in KiB."""
    if not text or text in _PAGES:
        return _PAGES[text] if text else None
    if text.isdigit():
        return int(text)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"hw:mem_page_size={text} is no size of pages")
    return int(int(match[1]) * _KIB[match[2]])


def _cells(flavor: Flavor, specs: Mapping[str, str], pinned: CpuSet) -> tuple[GuestCell, ...]:
    """The guest's nodes, divided evenly or as the flavor says."""
    nodes = int(specs.get("hw:numa_nodes", "1"))
    cpus = [CpuSet.parse(specs[f"hw:numa_cpus.{at}"]) for at in range(nodes) if f"hw:numa_cpus.{at}" in specs]
    memory = [int(specs[f"hw:numa_mem.{at}"]) for at in range(nodes) if f"hw:numa_mem.{at}" in specs]
    if not cpus and not memory:
        if flavor.vcpus % nodes or flavor.memory_mib % nodes:
            raise ValueError(f"{flavor.vcpus} vCPUs and {flavor.memory_mib} MiB do not divide over {nodes} nodes")
        each = flavor.vcpus // nodes
        cpus = [CpuSet(range(at * each, (at + 1) * each)) for at in range(nodes)]
        memory = [flavor.memory_mib // nodes] * nodes
    if not len(cpus) == len(memory) == nodes:
        raise ValueError("hw:numa_cpus and hw:numa_mem do not name each node")
    if sum(map(len, cpus)) != flavor.vcpus or sum(memory) != flavor.memory_mib:
        raise ValueError("hw:numa_cpus and hw:numa_mem are not the flavor's vCPUs and memory")
    return tuple(
        GuestCell(pinned=len(mine & pinned), shared=len(mine - pinned), memory_mib=mib)
        for mine, mib in zip(cpus, memory, strict=True)
    )
