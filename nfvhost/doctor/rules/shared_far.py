"""Nodes with CPUs for pinned guests, and none for their emulator threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import NOVA_CPUS, Rule, Severity, Sign, need
from nfvhost.model.cpuset import CpuSet


def _look(evidence: Evidence) -> Iterator[Sign]:
    nova = need(evidence.nova, NOVA_CPUS)
    dedicated, shared = need(nova.dedicated, NOVA_CPUS), need(nova.shared, NOVA_CPUS)
    nodes = {cpu.id: cpu.node for cpu in evidence.host.cpus}
    of_guests, of_emulators = (
        {node for cpu in cpus if (node := nodes.get(cpu)) is not None} for cpus in (dedicated, shared)
    )
    if of_emulators and (far := of_guests - of_emulators):
        named = CpuSet(cpu for cpu in dedicated if nodes.get(cpu) in far)
        yield Sign(
            evidence=f"cpu_dedicated_set has {named.named} of node {CpuSet(far)}, and cpu_shared_set, {shared}, none "
            f"there ({nova.path})"
        )


RULE: Final = Rule(
    name="shared-cpus-far",
    severity=Severity.WARNING,
    sees="cpu_dedicated_set has CPUs of a node where cpu_shared_set has none",
    why="QEMU's own threads work across the interconnect, and libvirt 9.0 (Debian 12) starts no guest with hugepages "
    "of such a node: Setting CPU affinity failed",
    hint="put a core of each node with guests into cpu_shared_set (host.everyNode in a profile), or give those guests "
    "hw:emulator_threads_policy=isolate",
    look=_look,
)
