"""A node whose hugepages do not suffice for what runs there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence, user_space_nics
from nfvhost.doctor.finding import Rule, Severity, Sign, UnseenError

_ASKED: Final = frozenset({"true", "try"})


def _look(evidence: Evidence) -> Iterator[Sign]:
    nodes = {
        node.id: sum(pool.total * pool.size.kib for pool in node.hugepages) // 1024 for node in evidence.host.nodes
    }
    if not any(node.hugepages for node in evidence.host.nodes):
        raise UnseenError("no pools of hugepages are to be seen")
    keys = dict(evidence.other_config or ())
    if keys.get("dpdk-init", "").lower() in _ASKED:
        for node, text in enumerate(keys.get("dpdk-socket-mem", "").split(",")):
            if text.isdecimal() and int(text) > nodes.get(node, 0):
                yield Sign(
                    evidence=f"dpdk-socket-mem asks {text} MiB of node {node}; its pages are {nodes.get(node, 0)} MiB",
                    severity=Severity.ERROR,
                )
    ports: dict[int, list[str]] = {}
    for nic in user_space_nics(evidence):
        if nic.node is not None and any(nodes.values()) and not nodes.get(nic.node, 0):
            ports.setdefault(nic.node, []).append(str(nic.pci))
    for node, addresses in sorted(ports.items()):
        yield Sign(
            evidence=f"node {node} has no hugepages, other nodes have; of node {node} are {', '.join(addresses)}"
        )


RULE: Final = Rule(
    name="pages-missing-on-node",
    severity=Severity.WARNING,
    sees="a node with fewer hugepages than DPDK asks there, or none beside its DPDK ports",
    why="the sum over all nodes does not help: DPDK does not start, or packets cross to another node's memory",
    hint="reserve by node: hugepages=<node>:<count>,… since Linux 5.16, or nr_hugepages of"
    " /sys/devices/system/node/node<N>/hugepages",
    look=_look,
)
