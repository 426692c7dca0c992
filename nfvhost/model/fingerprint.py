"""Which machine a plan is for: facts that applying the plan does not change."""

from __future__ import annotations

import hashlib
from typing import Final

from nfvhost.model.host import Host, cores

# MemTotal moves a little with the kernel's version, its crash kernel and its command line.
MEMORY_SLACK_PERCENT: Final = 2
ABSENT: Final = "absent"


def fingerprint(host: Host) -> tuple[tuple[str, str], ...]:
    """(fact, value), sorted: CPUs, nodes, memory and NICs, each readable by people.

    Drivers, VFs, hugepages, isolated CPUs and the cgroup are left out: the plan itself changes them.
    """
    siblings = ";".join(str(core) for core in cores(host))
    facts = {
        "cpus": str(host.online),
        "cpuModel": host.model.name or "unknown",
        "threadSiblings": f"{len(cores(host))} cores, {hashlib.sha256(siblings.encode()).hexdigest()[:12]}",
    }
    for node in host.nodes:
        facts[f"nodes.{node.id}.cpus"] = str(node.cpus) or "none"
        if node.memory_kib is not None:
            facts[f"nodes.{node.id}.memoryMiB"] = str(node.memory_kib // 1024)
    if host.memory_kib is not None:
        facts["memoryMiB"] = str(host.memory_kib // 1024)
    for nic in host.nics:
        # VFs come and go with the plan; a VF whose PF is elsewhere (in a guest) is a NIC like any other.
        if nic.physfn is None:
            facts[f"nics.{nic.pci}"] = f"{nic.vendor}:{nic.device}"
    return tuple(sorted(facts.items()))


def stale_facts(planned: tuple[tuple[str, str], ...], host: Host) -> tuple[tuple[str, str, str], ...]:
    """(fact, planned, actual) for each fact that differs on this machine; `absent` where one side lacks it.

    Memory counts as the same within 2 %.
    """
    before, now = dict(planned), dict(fingerprint(host))
    return tuple(
        (fact, before.get(fact, ABSENT), now.get(fact, ABSENT))
        for fact in sorted({*before, *now})
        if not _same(fact, before.get(fact), now.get(fact))
    )


def _same(fact: str, before: str | None, now: str | None) -> bool:
    """Whether two values of a fact mean the same machine."""
    if before == now:
        return True
    if before is None or now is None or not fact.endswith("emoryMiB") or not (before + now).isdecimal():
        return False
    return abs(int(before) - int(now)) * 100 <= MEMORY_SLACK_PERCENT * max(int(before), int(now))
