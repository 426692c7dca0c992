"""Values of Open_vSwitch.other_config that OVS takes in silence, or that make it end at its start."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Final

from nfvhost.errors import Problem
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.resources import Unmet
from nfvhost.resources.ovs_dpdk.keys import KNOWN_KEYS
from nfvhost.resources.ovs_dpdk.state import State, Switch

_HUGEPAGES: Final = "hugepages"
_HEX: Final = re.compile(r"(0[xX])?[0-9a-fA-F]+")
_NUMBER: Final = re.compile(r"\d+")
_SLEEP: Final = re.compile(r"\d+|(\d+,)?(\d+:\d+)(,\d+:\d+)*")
_ASSIGNMENTS: Final = ("cycles", "roundrobin", "group")
# Long options of DPDK's EAL (lib/eal/common/eal_common_options.c, eal_long_options; lib/eal/linux), 20.11 to 25.11;
# EAL ends the process at one that it does not know.
_EAL_LONG: Final = frozenset(
    [
        "allow",
        "base-virtaddr",
        "block",
        "create-uio-dev",
        "file-prefix",
        "force-max-simd-bitwidth",
        "help",
        "huge-dir",
        "huge-unlink",
        "huge-worker-stack",
        "in-memory",
        "iova-mode",
        "legacy-mem",
        "lcores",
        "log-color",
        "log-level",
        "log-timestamp",
        "main-lcore",
        "match-allocations",
        "mbuf-pool-ops-name",
        "no-hpet",
        "no-huge",
        "no-pci",
        "no-shconf",
        "no-telemetry",
        "proc-type",
        "service-corelist",
        "single-file-segments",
        "socket-limit",
        "socket-mem",
        "syslog",
        "telemetry",
        "trace",
        "trace-bufsz",
        "trace-dir",
        "trace-mode",
        "vdev",
        "vfio-intr",
        "vfio-vf-token",
        "vmware-tsc-map",
        "remap-lcore-ids",
        "driver-path",
        "auto-probing",
        "no-auto-probing",
    ]
)
_EAL_SHORT: Final = frozenset("abcdlmnrsShvdR")
# Options whose value may stand in the next word.
_EAL_CPUS: Final = ("-l", "-c")


def key_problems(state: State, switch: Switch, plan: Plan, config: dict[str, str], host: Host) -> Iterator[Problem]:
    """Problems of the wanted keys, in the order of the keys."""
    for key, value in sorted(config.items()):
        where = f"ovs.otherConfig.{key}"
        if key not in KNOWN_KEYS:
            yield Problem(
                what=f"Open vSwitch has no key {key}, and would ignore it in silence", where=where, hint=_nearest(key)
            )
            continue
        problem = next((made for made in (form(value) for form in _forms(key)) if made is not None), None)
        if problem is not None:
            yield Problem(what=f"{value!r} {problem[0]}", where=where, hint=problem[1])
        elif key in {"pmd-cpu-mask", "dpdk-lcore-mask"}:
            yield from _mask_problems(key, value, where, host)
        elif key == "dpdk-socket-mem" and not _same_as_now(state, key, value):
            yield from _memory_problems(state, value, where, plan, host)
        elif key == "dpdk-hugepage-dir" and value not in switch.hugetlbfs:
            yield Problem(
                what=f"{value} is no hugetlbfs as ovs-vswitchd sees it; DPDK would find no pages",
                where=where,
                hint=f"mounted are: {', '.join(switch.hugetlbfs) or 'none'} (mount -t hugetlbfs none {value})",
            )
        elif key == "dpdk-extra":
            yield from _extra_problems(value, where, host)


_Form = Callable[[str], tuple[str, str] | None]


def _forms(key: str) -> tuple[_Form, ...]:
    return _FORMS.get(key, ())


def _boolean(value: str) -> tuple[str, str] | None:
    if value in {"true", "false"}:
        return None
    return "is neither true nor false; Open vSwitch would take it for false in silence", "write 'true' or 'false'"


def _init(value: str) -> tuple[str, str] | None:
    if value in {"true", "try", "false"}:
        return None
    return "does not switch DPDK on; Open vSwitch would ignore it in silence", "write 'true', 'try' or 'false'"


def _mask(value: str) -> tuple[str, str] | None:
    if not _HEX.fullmatch(value):
        return "is no hexadecimal CPU mask", "write it as 0x6 for the CPUs 1 and 2"
    return None


def _count(value: str) -> tuple[str, str] | None:
    return None if _NUMBER.fullmatch(value) else ("is no number", "write decimal digits alone")


def _sleep(value: str) -> tuple[str, str] | None:
    if _SLEEP.fullmatch(value):
        return None
    return "is no sleep in microseconds", "write '50', or from 3.3 '50,3:0' for a core of its own"


def _assignment(value: str) -> tuple[str, str] | None:
    if value in _ASSIGNMENTS:
        return None
    return "is no way to assign queues; Open vSwitch would use cycles in silence", f"one of {', '.join(_ASSIGNMENTS)}"


def _memory(value: str) -> tuple[str, str] | None:
    if all(_NUMBER.fullmatch(part) for part in value.split(",")):
        return None
    return "is no list of MiB per NUMA node; ovs-vswitchd would end at its start", "write '1024,0' for nodes 0 and 1"


def _percent(value: str) -> tuple[str, str] | None:
    return None if _NUMBER.fullmatch(value) and int(value) <= 100 else ("is no percentage", "0 to 100")  # noqa: PLR2004 - a hundredth part


_FORMS: Final[dict[str, tuple[_Form, ...]]] = {
    "dpdk-init": (_init,),
    "dpdk-socket-mem": (_memory,),
    "dpdk-socket-limit": (_memory,),
    "dpdk-alloc-mem": (_count,),
    "dpdk-lcore-mask": (_mask,),
    "pmd-cpu-mask": (_mask,),
    "pmd-rxq-assign": (_assignment,),
    "pmd-rxq-isolate": (_boolean,),
    "pmd-sleep-max": (_sleep,),
    "pmd-maxsleep": (_count,),
    "pmd-auto-lb": (_boolean,),
    "pmd-auto-lb-rebal-interval": (_count,),
    "pmd-auto-lb-load-threshold": (_percent,),
    "pmd-auto-lb-improvement-threshold": (_percent,),
    "n-handler-threads": (_count,),
    "n-revalidator-threads": (_count,),
    "per-port-memory": (_boolean,),
    "userspace-tso-enable": (_boolean,),
    "vhost-iommu-support": (_boolean,),
    "vhost-postcopy-support": (_boolean,),
    "hw-offload": (_boolean,),
    "smc-enable": (_boolean,),
    "pmd-perf-metrics": (_boolean,),
    "tx-flush-interval": (_count,),
    "emc-insert-inv-prob": (_count,),
}


def _mask_problems(key: str, value: str, where: str, host: Host) -> Iterator[Problem]:
    cpus = CpuSet.parse_mask(value)
    absent = cpus - host.online
    if not cpus:
        yield Problem(
            what=f"{value} names no CPU: no queue would be polled, in silence",
            where=where,
            hint="leave the key out for one core per NUMA node, or name the cores",
        )
    elif absent:
        effect = "their queues would not be polled, in silence" if key == "pmd-cpu-mask" else "ovs-vswitchd would end"
        yield Problem(
            what=f"{value} names the CPUs {absent}, which are not online here: {effect}",
            where=where,
            hint=f"online are {host.online}",
        )


def _same_as_now(state: State, key: str, value: str) -> bool:
    return state.database.dpdk_initialized and dict(state.database.other_config).get(key) == value


def _memory_problems(state: State, value: str, where: str, plan: Plan, host: Host) -> Iterator[Problem]:
    """Too little on a node; once DPDK runs, the next start has the pages that it holds now."""
    asked = [int(part) for part in value.split(",")]
    planned = {one.node: sum(pages.count * pages.size_mib for pages in one.pages) for one in plan.memory.nodes}
    nodes = {node.id: node for node in host.nodes}
    for number, mib in enumerate(asked):
        if not mib:
            continue
        node = nodes.get(number)
        if node is None:
            yield Problem(
                what=f"asks {mib} MiB of NUMA node {number}, which is not here; ovs-vswitchd would end",
                where=where,
                hint=f"the nodes are {', '.join(map(str, sorted(nodes)))}",
            )
            continue
        running = state.database.dpdk_initialized
        free = sum(
            pool.size.mib * (pool.total if running or pool.free is None else pool.free) for pool in node.hugepages
        )
        if mib > free:
            what = (
                f"asks {mib} MiB of hugepages on node {number}, where {free} MiB are"
                f" {'reserved' if running else 'free'}; ovs-vswitchd would end"
            )
            hint = (
                "reserve more (/sys/devices/system/node"
                f"/node{number}/hugepages/hugepages-<size>/nr_hugepages), or ask for less"
            )
            if planned.get(number, 0) >= mib:
                yield Unmet(what=what, where=where, hint=hint, met_by=_HUGEPAGES)
            else:
                yield Problem(what=what, where=where, hint=hint)


def _extra_problems(value: str, where: str, host: Host) -> Iterator[Problem]:
    try:
        words = shlex.split(value)
    except ValueError as error:
        yield Problem(what=f"{value!r} cannot be split into words: {error}", where=where, hint="check the quotes")
        return
    for index, word in enumerate(words):
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--"):
            # getopt_long() takes an unambiguous beginning of an option for the whole.
            if name and not any(option.startswith(name) for option in _EAL_LONG):
                yield Problem(
                    what=f"DPDK has no option --{name}; ovs-vswitchd would end at its start",
                    where=where,
                    hint=_option_hint(name),
                )
        elif word.startswith("-") and word[1:2] not in _EAL_SHORT:
            yield Problem(
                what=f"DPDK has no option {word}; ovs-vswitchd would end at its start", where=where, hint="see dpdk(7)"
            )
        elif word.startswith(_EAL_CPUS):
            text = word[2:] or (words[index + 1] if index + 1 < len(words) else "")
            yield from _lcore_problems(word[:2], text, where, host)


def _lcore_problems(option: str, text: str, where: str, host: Host) -> Iterator[Problem]:
    try:
        cpus = CpuSet.parse(text) if option == "-l" else CpuSet.parse_mask(text)
    except ValueError as error:
        yield Problem(what=f"{option} {text}: {error}", where=where, hint="write CPUs as 0-3,8")
        return
    if not cpus or cpus - host.online:
        yield Problem(
            what=f"{option} {text} names CPUs that are not online here; ovs-vswitchd would end at its start",
            where=where,
            hint=f"online are {host.online}",
        )


def _option_hint(name: str) -> str:
    near = get_close_matches(name, sorted(_EAL_LONG), n=1)
    return f"did you mean --{near[0]}?" if near else "the options are in DPDK's Linux guide, EAL parameters"


def _nearest(key: str) -> str:
    near = get_close_matches(key, sorted(KNOWN_KEYS), n=1)
    return f"did you mean {near[0]}?" if near else "the keys are in ovs-vswitchd.conf.db(5)"
