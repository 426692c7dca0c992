"""A machine of which only a part is ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import Rule, Severity, Sign


def _look(evidence: Evidence) -> Iterator[Sign]:
    host = evidence.host
    if host.container is not None:
        yield Sign(
            evidence=f"this is a {host.container} container: boot arguments, hugepages and drivers are the host's"
        )
    if missing := host.online - host.allowed:
        yield Sign(evidence=f"the control group allows CPUs {host.allowed}; online are {missing} as well")
    nodes = {node.id for node in host.nodes if node.memory_kib}
    if host.allowed_nodes is not None and (closed := sorted(nodes - set(host.allowed_nodes))):
        yield Sign(evidence=f"the control group allows no memory of {', '.join(f'node {node}' for node in closed)}")


RULE: Final = Rule(
    name="confined",
    severity=Severity.NOTE,
    sees="a container, or a control group that is smaller than the machine",
    why="what is pinned outside of it fails with EINVAL, and what is seen here is not all that there is",
    hint="run nfvhost on the host itself, outside of slices with AllowedCPUs=",
    look=_look,
)
