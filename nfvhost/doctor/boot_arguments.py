"""Which boot arguments matter to an NFV host."""

from __future__ import annotations

from typing import Final

_NAMES: Final = frozenset(
    {
        *("isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity", "skew_tick", "nosmt", "mitigations"),
        *("hugepages", "hugepagesz", "default_hugepagesz", "transparent_hugepage"),
        *("iommu", "intel_iommu", "amd_iommu", "iommu.passthrough", "vfio-pci.ids", "pci"),
        *("processor.max_cstate", "intel_idle.max_cstate", "intel_pstate", "cpuidle.off"),
        "systemd.unified_cgroup_hierarchy",
    }
)


def matters(arg: str) -> bool:
    """Whether it bears on isolation, pages, the IOMMU, VFs or power."""
    return arg.partition("=")[0] in _NAMES
