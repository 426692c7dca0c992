"""What a running Open vSwitch does that the plan does not say, and the other way round."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from nfvhost.access.ovs_rows import Place, Port
from nfvhost.model.change import Activation
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.plan import OvsPort, Plan
from nfvhost.model.report import Drift
from nfvhost.resources.ovs_dpdk import mark
from nfvhost.resources.ovs_dpdk.check_ports import device_of, rxq_affinity
from nfvhost.resources.ovs_dpdk.difference import RESOURCE, differences, find_port, running_version
from nfvhost.resources.ovs_dpdk.place import key_of
from nfvhost.resources.ovs_dpdk.state import Activity, State
from nfvhost.resources.ovs_dpdk.target import OTHER_CONFIG, other_config, planned_ports, target_of

# The EAL option that a key becomes (lib/dpdk.c, construct_dpdk_options and construct_dpdk_mutex_options).
_EAL_OPTIONS = {
    "dpdk-lcore-mask": "-c",
    "dpdk-hugepage-dir": "--huge-dir",
    "dpdk-socket-limit": "--socket-limit",
    "dpdk-socket-mem": "--socket-mem",
    "dpdk-alloc-mem": "-m",
}
# Types whose queues PMD threads poll.
_POLLED = frozenset({"dpdk", "dpdkvhostuserclient", "afxdp"})
_RESTART_HINT = "restart it when its ports may stop for a moment: systemctl restart openvswitch-switch"
_LOG_LINES = 3


def drifts(state: State, activity: Activity | None, plan: Plan) -> tuple[Drift, ...]:
    """Everything that is not as planned, in the order database, process, ports, queues; pure."""
    if plan.ovs is None:
        return ()
    if activity is None:
        return (
            Drift(
                resource=RESOURCE,
                key="ovs-vswitchd",
                planned="running",
                actual=state.absent,
                hint="start it (systemctl start openvswitch-switch); its log says why it ended",
            ),
        )
    config = other_config(target_of(plan, version=running_version(state, plan)))
    return (
        *_written(state, plan),
        *_dpdk(state, activity, config),
        *(drift for place, port in planned_ports(plan.ovs) for drift in _port(state, activity, place, port)),
        *_polling(state, activity, plan, config),
    )


def _written(state: State, plan: Plan) -> Iterator[Drift]:
    for change in differences(state, plan):
        if not change.key.endswith(mark.SETTING):
            yield Drift.of(change)


def _dpdk(state: State, activity: Activity, config: dict[str, str]) -> Iterator[Drift]:
    wanted = config.get("dpdk-init")
    running = state.database.dpdk_initialized
    if wanted in {"true", "try"} and not running:
        yield Drift(
            resource=RESOURCE,
            key="dpdk_initialized",
            planned="true",
            actual="false",
            hint=_said(activity, "EAL", "DPDK") or "see the log of ovs-vswitchd",
        )
    if wanted == "false" and running:
        yield _waiting("dpdk-init", "false", "true")
    if not running or activity.eal is None:
        return
    extra = config.get("dpdk-extra", "")
    for key, option in _EAL_OPTIONS.items():
        value = config.get(key)
        active = _argument(activity.eal, option)
        if value is None or active == value or option in _words(extra):
            continue
        # 3.7 hands dpdk-lcore-mask over as a list, --lcores.
        if key != "dpdk-lcore-mask" or active is not None or _argument(activity.eal, "--lcores") is None:
            yield _waiting(key, value, active)
    if not _follows(activity.eal, _words(extra)):
        yield _waiting("dpdk-extra", extra, " ".join(activity.eal[1:]))


def _waiting(key: str, planned: str, active: str | None) -> Drift:
    return Drift(
        resource=RESOURCE,
        key=f"{OTHER_CONFIG}:{key}",
        planned=planned,
        actual=active,
        hint=f"ovs-vswitchd reads this at its start alone; {_RESTART_HINT}",
        pending=Activation.RESTART,
    )


def _port(state: State, activity: Activity, place: Place, port: OvsPort) -> Iterator[Drift]:
    there = find_port(state.database, place)
    if there is None:
        return  # already said: the row is missing
    interface = there.interfaces[0]
    key = key_of(place, None)
    names = (port.name, *(device_of(value) for name, value in port.options if name == "dpdk-devargs"))
    if interface.error is not None or interface.ofport is None or interface.ofport < 1:
        said = _said(activity, *names)
        yield Drift(
            resource=RESOURCE,
            key=f"{key} error",
            planned=None,
            actual=interface.error or said or "could not be opened, and Open vSwitch does not say why",
            hint=said if interface.error is not None else "see the log of ovs-vswitchd",
        )
    elif port.mtu is not None and interface.mtu != port.mtu and not _awaits_peer(there):
        yield Drift(
            resource=RESOURCE,
            key=f"{key} mtu",
            planned=str(port.mtu),
            actual=None if interface.mtu is None else str(interface.mtu),
            hint=_said(activity, *names) or "the device refuses this MTU, or has no memory for it",
        )


def _polling(state: State, activity: Activity, plan: Plan, config: dict[str, str]) -> Iterator[Drift]:
    if plan.ovs is None or not state.database.dpdk_initialized:
        return
    mask = config.get("pmd-cpu-mask")
    pmd_cpus = CpuSet.parse_mask(mask) if mask is not None else None
    polled = False
    for place, port in planned_ports(plan.ovs):
        there = find_port(state.database, place)
        if port.type in _POLLED and there is not None and _is_open(there):
            polled = True
            yield from _queues(activity, place, port, pmd_cpus)
    yield from _threads(activity, pmd_cpus if polled else None)


def _queues(activity: Activity, place: Place, port: OvsPort, pmd_cpus: CpuSet | None) -> Iterator[Drift]:
    cores = {one.queue: one.core for one in activity.rx_queues if one.port == port.name}
    # A vhost-user port has as many queues as its guest asks for, one until it comes.
    count = 1 if port.type == "dpdkvhostuserclient" else int(dict(port.options).get("n_rxq", "1"))
    fixed = dict(rxq_affinity(dict(port.other_config).get("pmd-rxq-affinity", "") or "0:-1"))
    for queue in range(count):
        core = cores.get(queue)
        wanted = fixed.get(queue, -1)
        key = f"{key_of(place, None)} queue {queue}"
        if core is None:
            yield Drift(
                resource=RESOURCE,
                key=key,
                planned=f"polled by a core of {pmd_cpus}" if pmd_cpus is not None else "polled",
                actual="not polled",
                hint=_said(activity, f"'{port.name}'", port.name) or "has the device that many queues?",
            )
        elif (wanted >= 0 and core != wanted) or (pmd_cpus is not None and core not in pmd_cpus):
            planned = f"core {wanted}" if wanted >= 0 else f"a core of {pmd_cpus}"
            yield Drift(resource=RESOURCE, key=key, planned=f"polled by {planned}", actual=f"polled by core {core}")


def _threads(activity: Activity, pmd_cpus: CpuSet | None) -> Iterator[Drift]:
    for thread in activity.pmd_threads:
        own = CpuSet([thread.core])
        if thread.cpus != own:
            yield Drift(
                resource=RESOURCE,
                key=f"pmd thread of core {thread.core}",
                planned=f"runs on CPU {own}",
                actual=f"may run on CPUs {thread.cpus}",
                hint="another program has set its affinity: look for tuned, a cgroup or an orchestrator's CPU manager",
            )
    if pmd_cpus is None:
        return
    for core in pmd_cpus - CpuSet(thread.core for thread in activity.pmd_threads):
        yield Drift(resource=RESOURCE, key=f"pmd thread of core {core}", planned="runs", actual="is not there")
    for core in CpuSet(thread.core for thread in activity.pmd_threads) - pmd_cpus:
        yield Drift(resource=RESOURCE, key=f"pmd thread of core {core}", planned="is not there", actual="runs")


def _awaits_peer(port: Port) -> bool:
    """Whether a vhost-user port has no guest yet: it has no MTU and no link until then."""
    interface = port.interfaces[0]
    return interface.type == "dpdkvhostuserclient" and dict(interface.status).get("status") != "connected"


def _is_open(port: Port) -> bool:
    interface = port.interfaces[0]
    return interface.error is None and interface.ofport is not None and interface.ofport > 0


def _said(activity: Activity, *names: str) -> str | None:
    """The last lines of the log that name one of these."""
    lines = [line for line in activity.complaints if any(name in line for name in names)][-_LOG_LINES:]
    return f"its log says: {'; '.join(lines)}" if lines else None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _argument(arguments: tuple[str, ...], option: str) -> str | None:
    for index, word in enumerate(arguments):
        if word == option and index + 1 < len(arguments):
            return arguments[index + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _follows(arguments: tuple[str, ...], words: list[str]) -> bool:
    """Whether the words stand in the arguments one after the other."""
    return any(list(arguments[start : start + len(words)]) == words for start in range(len(arguments)))
