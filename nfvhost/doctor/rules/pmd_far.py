"""Ports that a PMD thread of another node polls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence, ovs_nics
from nfvhost.doctor.finding import DAEMON, DATABASE, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    queues = need(evidence.switch, DAEMON).rx_queues
    need(evidence.database, DATABASE)
    nodes = {cpu.id: cpu.node for cpu in evidence.host.cpus}
    for name, nic in ovs_nics(evidence):
        cores = sorted({queue.core for queue in queues if queue.port == name})
        far = [core for core in cores if nodes.get(core) is not None and nodes[core] != nic.node]
        if nic.node is not None and far:
            told = ", ".join(f"CPU {core} of node {nodes[core]}" for core in far)
            yield Sign(evidence=f"port {name} ({nic.pci}) is on node {nic.node}, and polled by {told}")


RULE: Final = Rule(
    name="pmd-far-from-port",
    severity=Severity.WARNING,
    sees="a DPDK port whose queues a CPU of another node polls",
    why="each packet crosses between the sockets, at a third less throughput and more latency",
    hint="put CPUs of the port's node into pmd-cpu-mask, with whole cores",
    look=_look,
)
