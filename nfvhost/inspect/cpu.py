"""Logical CPUs: which there are, and how they share cores, caches and packages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.cpulist import cpu_list, folder_cpus, stated_cpus
from nfvhost.access.root import Root
from nfvhost.inspect.cpuinfo import Processor
from nfvhost.inspect.devicetree import TreeCpu, tree_cpus
from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import Cpu, CpuKind

SYSTEM: Final = "/sys/devices/system/cpu"
_INDEX: Final = re.compile(r"index(\d{1,5})")
# In a tree without `level` files: the order in which CPUID leaf 4 lists the caches of every x86 (L1d, L1i, L2, L3).
_LEVELS: Final = (1, 1, 2, 3)
# Where the firmware gives no id the kernel writes -1, on x86 also this (arch/x86/include/asm/apicdef.h, BAD_APICID).
_BAD_APICID: Final = 65535
# Of the largest; below it, a core is a little one. Documentation/devicetree/bindings/cpu/cpu-capacity.txt
_LITTLE: Final = 0.5
_LEVEL_2: Final = 2
_LEVEL_3: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """What one running CPU's files state, before they are held against those of the other CPUs."""

    package: int | None  # topology/physical_package_id
    book: int | None  # topology/book_id; s390 only
    drawer: int | None  # topology/drawer_id; s390 only
    die: int | None  # topology/die_id
    cluster: int | None  # topology/cluster_id
    core: int | None  # topology/core_id
    threads: CpuSet | None  # topology/core_cpus_list, before 5.4 thread_siblings_list
    package_cpus: CpuSet | None  # topology/package_cpus_list, before 5.4 core_siblings_list; only without a package id
    l1: CpuSet | None  # cache/index*/shared_cpu_list of the data cache of level 1; only without `threads`
    l2: CpuSet | None  # empty where there is such a cache, and its map is zero (ia64)
    l3: CpuSet | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """The CPUs of a machine."""

    present: CpuSet
    online: CpuSet


def presence(root: Root, running: Iterable[Processor], *, warn: Callable[[str], None]) -> Presence:
    """The CPUs that are there, and those that run.

    Source: `online` and `present` in /sys/devices/system/cpu; where they are missing, the folders cpu<N> and their
    `online`, and the running CPUs of /proc/cpuinfo. `offline` is not asked: it lists CPUs that may never come.
    """
    folders = folder_cpus(root.list_dir(SYSTEM))
    listed = CpuSet(processor.id for processor in running)
    online = cpu_list(root, f"{SYSTEM}/online")
    present = cpu_list(root, f"{SYSTEM}/present")
    if online and present and (unseen := online - present - folders - listed):
        warn(f"CPUs {unseen} are listed as online, and not as present: they are left out")
        online -= unseen
    if not online:
        off = (cpu_list(root, f"{SYSTEM}/offline") or EMPTY) | CpuSet(
            cpu for cpu in folders if root.read_int(f"{SYSTEM}/cpu{cpu}/online") == 0
        )
        online = (listed or folders) - off
    return Presence(present=online | (folders & present if present else folders), online=online)


def isolated_cpus(root: Root) -> CpuSet | None:
    """The CPUs outside the scheduler's domains; None where the kernel does not say.

    Source: /sys/devices/system/cpu/isolated, since Linux 4.2.
    """
    return cpu_list(root, f"{SYSTEM}/isolated")


def stated_kinds(root: Root, online: CpuSet) -> dict[int, CpuKind]:
    """The kind of each CPU where the kernel knows more than one; empty elsewhere.

    Source: the CPUs of the PMUs of Intel's hybrid processors, /sys/devices/cpu_core, cpu_atom and cpu_lowpower; on
    others /sys/devices/system/cpu/cpu<N>/cpu_capacity, where a core below half of the largest is an efficiency core.
    """
    performance = cpu_list(root, "/sys/devices/cpu_core/cpus") or EMPTY
    efficiency = (cpu_list(root, "/sys/devices/cpu_atom/cpus") or EMPTY) | (
        cpu_list(root, "/sys/devices/cpu_lowpower/cpus") or EMPTY
    )
    if performance and efficiency:
        return _kinds(performance, efficiency)
    if not online or root.read_int(f"{SYSTEM}/cpu{online.first}/cpu_capacity") is None:
        return {}
    capacities = {cpu: root.read_int(f"{SYSTEM}/cpu{cpu}/cpu_capacity") or 0 for cpu in online}
    largest = max(capacities.values())
    little = CpuSet(cpu for cpu, capacity in capacities.items() if capacity < _LITTLE * largest)
    return _kinds(online - little, little) if little else {}


def built_kinds(cores: Mapping[int, CpuSet], l2: Mapping[int, CpuSet]) -> dict[int, CpuKind]:
    """The kinds of a hybrid processor whose PMUs are not to be seen, as in a guest or in a capture; empty elsewhere.

    Intel builds its hybrids from cores of two threads with an L2 of their own, and from modules of several
    single-threaded cores around one L2. No other processor has both.
    """
    performance = CpuSet(cpu for cpu, core in cores.items() if len(core) > 1 and l2.get(cpu) == core)
    efficiency = CpuSet(cpu for cpu, core in cores.items() if len(core) == 1 and len(l2.get(cpu, core)) > 1)
    both = performance and efficiency and performance | efficiency == CpuSet(cores)
    return _kinds(performance, efficiency) if both else {}


def _kinds(performance: CpuSet, efficiency: CpuSet) -> dict[int, CpuKind]:
    return {
        **dict.fromkeys(performance, CpuKind.PERFORMANCE),
        **dict.fromkeys(efficiency, CpuKind.EFFICIENCY),
    }


def cpus(
    root: Root,
    there: Presence,
    *,
    running: Iterable[Processor],
    nodes: Mapping[int, int],
    warn: Callable[[str], None],
) -> tuple[Cpu, ...]:
    """The present CPUs, ascending. `nodes` has each CPU's NUMA node; `warn` gets each contradiction of the files.

    thread_siblings, l2, l3 and package each divide the online CPUs into disjoint sets, whatever the files say.
    """
    online = there.online
    listed = {processor.id: processor for processor in running}
    books = bool(online) and root.exists(f"{SYSTEM}/cpu{online.first}/topology/book_id")
    stated = {cpu: topology(root, cpu, books=books) for cpu in online}
    if all(one.threads is None for one in stated.values()):
        tree = tree_cpus(root)
        stated = {cpu: _completed(one, tree[cpu]) if cpu in tree else one for cpu, one in stated.items()}
    cores = _cores(stated, listed, warn)
    packages = _packages(stated, listed)
    l2 = _groups({cpu: _sharers(one.l2, cores[cpu]) for cpu, one in stated.items()}, "L2 caches", warn)
    l3 = _groups({cpu: _sharers(one.l3, cores[cpu]) for cpu, one in stated.items()}, "L3 caches", warn)
    kinds = stated_kinds(root, online) or built_kinds(cores, l2)
    found: list[Cpu] = []
    for cpu in there.present:
        one = stated.get(cpu)
        processor = listed.get(cpu)
        found.append(
            Cpu(
                id=cpu,
                online=one is not None,
                package=packages.get(cpu),
                die=one.die if one else None,
                cluster=one.cluster if one else None,
                core=one.core if one and one.core is not None else processor.core if one and processor else None,
                node=nodes.get(cpu),
                thread_siblings=cores.get(cpu, EMPTY),
                l2=l2.get(cpu),
                l3=l3.get(cpu),
                kind=kinds.get(cpu),
            )
        )
    return tuple(found)


def topology(root: Root, cpu: int, *, books: bool) -> Topology:
    """What the files of one running CPU state; `books` asks for the levels that only s390 has.

    Source: /sys/devices/system/cpu/cpu<N>/topology and cache.
    """
    folder = f"{SYSTEM}/cpu{cpu}/topology"
    package = _id(root, f"{folder}/physical_package_id")
    threads = stated_cpus(
        root,
        lists=(f"{folder}/core_cpus_list", f"{folder}/thread_siblings_list"),
        masks=(f"{folder}/core_cpus", f"{folder}/thread_siblings"),
    )
    shared = shared_caches(root, cpu, first_level=threads is None)
    return Topology(
        package=package,
        book=_id(root, f"{folder}/book_id") if books else None,
        drawer=_id(root, f"{folder}/drawer_id") if books else None,
        die=_id(root, f"{folder}/die_id"),
        cluster=_id(root, f"{folder}/cluster_id"),
        core=_id(root, f"{folder}/core_id"),
        threads=threads,
        package_cpus=stated_cpus(
            root,
            lists=(f"{folder}/package_cpus_list", f"{folder}/core_siblings_list"),
            masks=(f"{folder}/package_cpus", f"{folder}/core_siblings"),
        )
        if package is None
        else None,
        l1=shared.get(1),
        l2=shared.get(_LEVEL_2),
        l3=shared.get(_LEVEL_3),
    )


def shared_caches(root: Root, cpu: int, *, first_level: bool) -> dict[int, CpuSet]:
    """Level -> the CPUs that share this CPU's unified or data cache of that level; empty where the files name none.

    Source: /sys/devices/system/cpu/cpu<N>/cache/index*/{level,type,shared_cpu_list,shared_cpu_map}.
    """
    folder = f"{SYSTEM}/cpu{cpu}/cache"
    indexes: dict[int, list[str]] = {}
    for name in root.list_dir(folder):
        match = _INDEX.fullmatch(name)
        if match is None:
            continue
        level = root.read_int(f"{folder}/{name}/level")
        if level is None:
            number = int(match[1])
            level = _LEVELS[number] if number < len(_LEVELS) else None
        if level in {_LEVEL_2, _LEVEL_3} or (first_level and level == 1):
            indexes.setdefault(level, []).append(f"{folder}/{name}")
    shared: dict[int, CpuSet] = {}
    for level, places in indexes.items():
        # s390 and ia64 have a level 2 of data and one of instructions.
        data = [place for place in places if len(places) == 1 or root.read_line(f"{place}/type") != "Instruction"]
        for place in data:
            cpus = stated_cpus(root, lists=(f"{place}/shared_cpu_list",), masks=(f"{place}/shared_cpu_map",))
            shared.setdefault(level, cpus or EMPTY)
    return shared


def _sharers(claim: CpuSet | None, core: CpuSet) -> CpuSet | None:
    """The claim; a cache that names no CPU is at least its own core's."""
    return core if claim is not None and not claim else claim


def _completed(one: Topology, tree: TreeCpu) -> Topology:
    return replace(one, threads=tree.threads, l2=one.l2 or tree.l2, l3=one.l3 or tree.l3)


def _cores(
    stated: Mapping[int, Topology], listed: Mapping[int, Processor], warn: Callable[[str], None]
) -> dict[int, CpuSet]:
    """Each online CPU's core. Cores that overlap become one: a core that is split would be the worse mistake."""
    online = CpuSet(stated)
    claims = _listed_cores(stated, listed)
    for cpu, one in stated.items():
        own = CpuSet((cpu,))
        if one.threads is not None:
            claims[cpu] = one.threads & online | own
        elif cpu not in claims:
            claims[cpu] = (one.l1 & online if one.l1 else EMPTY) | own
    cores: dict[int, CpuSet] = {}
    for cpu, claim in claims.items():
        if cores.get(cpu) == claim:
            continue
        core = claim
        for thread in claim:
            core |= cores.get(thread, EMPTY)
        cores.update(dict.fromkeys(core, core))
    if wrong := CpuSet(cpu for cpu, claim in claims.items() if claim != cores[cpu]):
        warn(f"the thread siblings of CPUs {wrong} contradict each other; cores that overlap are taken as one")
    return cores


def _listed_cores(stated: Mapping[int, Topology], listed: Mapping[int, Processor]) -> dict[int, CpuSet]:
    """The cores that /proc/cpuinfo knows among the CPUs without thread siblings in sysfs."""
    members: dict[tuple[int, int | None, int | None, int], list[int]] = {}
    for cpu, one in stated.items():
        processor = listed.get(cpu)
        if one.threads is None and processor is not None and processor.core is not None:
            key = (processor.machine, processor.package, one.die, processor.core)
            members.setdefault(key, []).append(cpu)
    return {cpu: core for core in map(CpuSet, members.values()) for cpu in core}


def _packages(stated: Mapping[int, Topology], listed: Mapping[int, Processor]) -> dict[int, int]:
    """Each online CPU's package: the kernel's ids where each is that of one package, else numbers from 0.

    On s390 the ids start again in each book and drawer. Where there is no id, the CPUs of one package state the same
    package_cpus.
    """
    keys: dict[int, tuple[object, ...]] = {}
    ids: dict[tuple[object, ...], int | None] = {}
    key: tuple[object, ...]
    for cpu, one in stated.items():
        processor = listed.get(cpu)
        if one.package is not None:
            key, number = ("id", one.drawer, one.book, one.package), one.package
        elif one.package_cpus is not None:
            key, number = ("cpus", one.package_cpus), None
        elif processor is not None and processor.package is not None:
            key, number = ("listed", processor.machine, processor.package), processor.package
        else:
            continue
        keys[cpu] = key
        ids[key] = number
    numbers = list(ids.values())
    if None in numbers or len(set(numbers)) < len(numbers):
        ids = {key: number for number, key in enumerate(ids)}
    return {cpu: number for cpu, key in keys.items() if (number := ids[key]) is not None}


def _groups(claims: Mapping[int, CpuSet | None], what: str, warn: Callable[[str], None]) -> dict[int, CpuSet]:
    """Each online CPU's group: those that state the same set, which is that set unless the files contradict."""
    online = CpuSet(claims)
    members: dict[CpuSet, list[int]] = {}
    for cpu, claim in claims.items():
        if claim is not None:
            members.setdefault(claim & online, []).append(cpu)
    groups: dict[int, CpuSet] = {}
    wrong = EMPTY
    for claim, agreed in members.items():
        group = CpuSet(agreed)
        groups.update(dict.fromkeys(agreed, group))
        if group != claim:
            wrong |= group
    if wrong:
        warn(f"the {what} of CPUs {wrong} contradict each other; those that name the same CPUs are taken as a group")
    return groups


def _id(root: Root, path: str) -> int | None:
    number = root.read_int(path)
    return None if number is None or number < 0 or number == _BAD_APICID else number
