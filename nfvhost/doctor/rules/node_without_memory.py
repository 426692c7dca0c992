"""DPDK ports beside no memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence, user_space_nics
from nfvhost.doctor.finding import Rule, Severity, Sign, UnseenError


def _look(evidence: Evidence) -> Iterator[Sign]:
    memory = {node.id: node.memory_kib for node in evidence.host.nodes}
    if not any(memory.values()):
        raise UnseenError("the memory of no node is to be seen")
    for nic in user_space_nics(evidence):
        if nic.node in memory and memory[nic.node] == 0:
            yield Sign(evidence=f"{nic.pci} is of node {nic.node}, which has no memory")


RULE: Final = Rule(
    name="node-without-memory",
    severity=Severity.WARNING,
    sees="a port for DPDK on a node that has no memory",
    why="its packet buffers come from another node: each packet crosses between the sockets",
    hint="put memory into the slots of that socket, or the card into a slot of the other",
    look=_look,
)
