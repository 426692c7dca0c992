"""Each captured machine's Host against what lscpu, lstopo, numactl, cadvisor and upstream's tests say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from nfvhost.model.cpuset import CpuSet, union
from nfvhost.model.host import Cpu, CpuKind, Host, cores, l3_groups

if TYPE_CHECKING:
    from tests.conftest import Captured, Machine
    from tests.hosts.conftest import Disagreement


def by(host: Host, key: Callable[[Cpu], object]) -> list[str]:
    """The CPU lists of the online CPUs with equal keys, sorted as texts."""
    groups: dict[object, list[int]] = {}
    for cpu in host.cpus:
        if cpu.online and key(cpu) is not None:
            groups.setdefault(key(cpu), []).append(cpu.id)
    return sorted(str(CpuSet(group)) for group in groups.values())


def texts(groups: Iterable[CpuSet]) -> list[str]:
    return sorted(map(str, groups))


def kinds(host: Host) -> list[str]:
    """The CPU lists of each kind; all in one where there is only one."""
    return by(host, lambda cpu: cpu.kind or "one")


def of_kind(host: Host, kind: CpuKind) -> str:
    return str(CpuSet(cpu.id for cpu in host.cpus if cpu.kind is kind))


def clusters(host: Host) -> list[str]:
    return by(host, lambda cpu: (cpu.package, cpu.die, cpu.cluster))


def distances(host: Host) -> dict[str, dict[str, int]]:
    ids = [str(node.id) for node in host.nodes]
    return {str(node.id): dict(zip(ids, node.distances, strict=True)) for node in host.nodes}


def packages(host: Host) -> list[str]:
    return by(host, lambda cpu: cpu.package)


def most_cores_of_a_package(host: Host) -> int:
    return max(Counter(host.cpu(core.first).package for core in cores(host)).values())


# Fact of NAME.expect.json -> the same from Host.
FACTS: Final[Mapping[str, Callable[[Host], object]]] = {
    "allowed_cpus": lambda host: str(host.allowed),
    "allowed_numa_nodes": lambda host: list(host.allowed_nodes or ()),
    "cluster_cpulists": clusters,
    "cores_per_socket": most_cores_of_a_package,
    "cores_total": lambda host: len(cores(host)),
    "cpu_kinds": kinds,
    "e_cores": lambda host: of_kind(host, CpuKind.EFFICIENCY),
    "l3_count": lambda host: len(l3_groups(host)),
    "l3_groups": lambda host: texts(l3_groups(host)),
    "numa_cpulists_nonempty": lambda host: {str(node.id): str(node.cpus) for node in host.nodes if node.cpus},
    "numa_distances": distances,
    "numa_locality_hwloc": lambda host: {str(node.id): str(node.cpus) for node in host.nodes if node.cpus},
    "numa_node_count": lambda host: len(host.nodes),
    "numa_node_ids": lambda host: [node.id for node in host.nodes],
    "offline_cpus": lambda host: str(CpuSet(cpu.id for cpu in host.cpus if not cpu.online)),
    "online_cpus": lambda host: str(host.online),
    "p_cores": lambda host: of_kind(host, CpuKind.PERFORMANCE),
    "smt_groups": lambda host: texts(cores(host)),
    "socket_cpulists": packages,
    "sockets": lambda host: len(packages(host)),
    "threads_per_core": lambda host: max(map(len, cores(host))),
}


def comparable(fact: str, value: Any, host: Host) -> object:  # noqa: ANN401 - as JSON has it
    """An oracle's value in the shape of ours."""
    if fact == "cpu_kinds":
        return sorted(kind["cpus"] for kind in value)
    if fact == "numa_locality_hwloc":
        # Where memory without CPUs is near to is hwloc's guess from distances; the kernel names no CPUs for it.
        with_cpus = {str(node.id) for node in host.nodes if node.cpus}
        return {node: cpus for node, cpus in value.items() if node in with_cpus}
    return sorted(value) if fact in {"l3_groups", "smt_groups", "socket_cpulists", "cluster_cpulists"} else value


def test_facts_are_those_of_the_oracles_but_for_the_known_disagreements(
    machine: Machine, disagreements: Mapping[str, Any]
) -> None:
    host = machine.host
    differing: dict[str, object] = {}
    for fact, oracle in machine.expected["facts"].items():
        ours = FACTS[fact](host)
        if oracle["value"] is not None and ours != comparable(fact, oracle["value"], host):
            differing[fact] = ours

    assert differing == {fact: ours for fact, ours in disagreements.items() if not fact.startswith("nics")}


def test_each_known_disagreement_is_of_a_captured_machine(
    all_disagreements: tuple[Disagreement, ...], captured: Captured
) -> None:
    for row in all_disagreements:
        machine = captured(row.machine)
        assert row.why
        assert row.fact.partition(".")[0] in {*machine.expected["facts"], "nics"}


def test_cores_caches_and_packages_divide_the_online_cpus(machine: Machine) -> None:
    host = machine.host
    online = [cpu for cpu in host.cpus if cpu.online]

    for cpu in online:
        assert cpu.id in cpu.thread_siblings
        for group in (cpu.l2, cpu.l3):
            assert group is None or cpu.id in group
    for groups in (cores(host), l3_groups(host), tuple({cpu.l2 for cpu in online if cpu.l2})):
        assert sum(map(len, groups)) == len(union(groups))
        assert union(groups) <= host.online
    assert union(cores(host)) == host.online


def test_a_core_lies_in_one_package_and_one_node(machine: Machine) -> None:
    host = machine.host
    for core in cores(host):
        assert len({host.cpu(thread).package for thread in core}) == 1
        assert len({host.cpu(thread).node for thread in core}) == 1


def test_offline_cpus_have_no_topology(machine: Machine) -> None:
    for cpu in machine.host.cpus:
        if not cpu.online:
            assert (cpu.thread_siblings, cpu.package, cpu.core, cpu.l2, cpu.l3) == (CpuSet(), None, None, None, None)


def test_numbers_are_facts_or_none(machine: Machine) -> None:
    host = machine.host
    assert host.online
    assert host.allowed
    assert host.allowed <= host.online
    assert host.isolated <= host.online
    assert [cpu.id for cpu in host.cpus] == sorted({cpu.id for cpu in host.cpus})
    assert [node.id for node in host.nodes] == sorted({node.id for node in host.nodes})
    for cpu in host.cpus:
        for number in (cpu.package, cpu.die, cpu.cluster, cpu.core, cpu.node):
            assert number is None or number >= 0
    for node in host.nodes:
        assert node.cpus <= host.online
        assert len(node.distances) in {0, len(host.nodes)}
