"""Settings of Open vSwitch: keys for the release that the plan is for, bridges and ports."""

from __future__ import annotations

from typing import Final

from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import Host
from nfvhost.model.ovs_keys import key_known, option_known, release
from nfvhost.model.plan import CpuPools, MemoryPlan, NicPlan, OvsBridge, OvsPlan, OvsPort
from nfvhost.model.profile import Isolation, Profile
from nfvhost.planner.dpdk_ports import INTEGRATION_BRIDGE, SOCKET_DIR, dpdk_ports, queues
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.packet_buffers import MAX_NODES
from nfvhost.planner.ports import DpdkPort
from nfvhost.planner.releases import Releases, planned_releases

__all__ = ["dpdk_ports", "plan_ovs", "queues"]

# RTE_MAX_LCORE of DPDK's default builds: config/{x86,arm,ppc,loongarch,riscv}/meson.build.
_LCORES: Final = 128
_ARCHITECTURES: Final = frozenset({*MAX_NODES, "i686", "armv7l", "armv8l"})
# The first OVS that gives the mask to DPDK as --lcores, which numbers lcores anew; -c before it cannot name a CPU
# beyond RTE_MAX_LCORE, and ovs-vswitchd then exits (lib/dpdk.c, construct_dpdk_options).
_LCORES_SINCE: Final = (3, 7)
# The first OVS that probes no device at its start by itself (NEWS, v4.0.0).
_NO_PROBE_SINCE: Final = (4, 0)
# vswitch.xml: pmd-sleep-max goes up to 10000.
_MOST_SLEEP_US: Final = 10_000
_ASSIGN: Final = ("cycles", "roundrobin", "group")
# NEWS, v2.16.0.
_GROUP_SINCE: Final = (2, 16)
# vswitch.xml: the defaults of OVS itself, written down so that a plan says what is meant.
_AUTO_LB: Final = (
    ("pmd-auto-lb-rebal-interval", "1"),
    ("pmd-auto-lb-load-threshold", "95"),
    ("pmd-auto-lb-improvement-threshold", "25"),
)


def plan_ovs(
    host: Host,
    profile: Profile,
    nics: tuple[NicPlan, ...],
    ports: tuple[DpdkPort, ...],
    pools: CpuPools,
    memory: MemoryPlan,
    notes: Notebook,
) -> OvsPlan | None:
    """Keys, bridges and ports of OVS-DPDK; None where there is nothing to switch and nobody to poll."""
    if not ports and not pools.pmd:
        notes.decide("ovs", "none", "no port is planned and no CPU polls: nothing here needs OVS-DPDK")
        return None
    releases = planned_releases(host, profile)
    notes.decide("ovs.version", releases.ovs_text, f"{releases.reason}; built with DPDK {releases.dpdk_text}")
    _warn_of_installed(host, releases, notes)
    if host.model.architecture == "unknown":
        notes.warn("the architecture of this machine is not known: whether DPDK is built for it has to be seen")
    elif host.model.architecture not in _ARCHITECTURES:
        notes.warn(f"DPDK is not built for {host.model.architecture}: OVS-DPDK will not run on this machine")
    bridges = _bridges(profile, nics, ports, releases.ovs, notes)
    directory = profile.ovs.socket_dir or SOCKET_DIR
    notes.decide(
        "ovs.socketDir",
        directory,
        "named by the profile"
        if profile.ovs.socket_dir
        else "QEMU makes the sockets of vhost-user ports there and OVS connects to them as a client: `nfvhost apply` "
        "gives the folder to QEMU's user and to the group that both reach the sockets by",
    )
    return OvsPlan(
        version=releases.ovs_text,
        other_config=tuple(sorted(_keys(host, profile, ports, pools, memory, releases, notes).items())),
        socket_dir=directory,
        bridges=bridges,
    )


def _warn_of_installed(host: Host, releases: Releases, notes: Notebook) -> None:
    if host.ovs is None:
        return
    if host.ovs.dpdk_version is None:
        notes.warn(
            f"the installed OVS {host.ovs.version} is built without DPDK: install the distribution's build with it "
            "(openvswitch-switch-dpdk on Debian and Ubuntu) before you apply"
        )
    if release(host.ovs.version) != releases.ovs:
        notes.warn(
            f"the plan is for OVS {releases.ovs_text} and {host.ovs.version} is installed: change one of them before "
            "you apply"
        )


# The keys.


def _keys(
    host: Host,
    profile: Profile,
    ports: tuple[DpdkPort, ...],
    pools: CpuPools,
    memory: MemoryPlan,
    releases: Releases,
    notes: Notebook,
) -> dict[str, str]:
    keys = {"dpdk-init": "true", **_extra(ports, profile, releases, notes)}
    if pools.pmd:
        keys["pmd-cpu-mask"] = pools.pmd.mask
        notes.decide("ovs.pmd-cpu-mask", pools.pmd.mask, f"the PMD threads run on {pools.pmd.named}")
    else:
        notes.warn("no CPU is left for PMD threads: OVS will start one on each node, on a CPU of its own choice")
    keys |= _lcore(host, profile, pools, releases, notes)
    keys |= _socket_mem(memory, notes)
    keys |= _threads(notes)
    keys |= _assignment(profile, releases, notes)
    keys |= _sleep(profile, releases, notes)
    if profile.memory.per_port:
        keys["per-port-memory"] = "true"
    return {name: value for name, value in keys.items() if key_known(name, releases.ovs)}


def _extra(ports: tuple[DpdkPort, ...], profile: Profile, releases: Releases, notes: Notebook) -> dict[str, str]:
    """dpdk-extra: which PCI functions DPDK may touch."""
    functions = sorted({port.pci for port in ports if port.pci is not None and port.devargs == str(port.pci)})
    if profile.ovs.no_pci or not functions:
        why = "as the profile asks" if profile.ovs.no_pci else "no port is a PCI function"
        # Without a PCI bus nothing asks for physical addresses, which only root may know.
        value = "--no-pci --iova-mode=va"
        notes.decide("ovs.dpdk-extra", value, f"{why}: DPDK leaves the PCI bus alone and uses virtual addresses")
        return {"dpdk-extra": value}
    if releases.ovs >= _NO_PROBE_SINCE:
        notes.decide("ovs.dpdk-extra", "none", f"OVS {releases.ovs_text} probes no device before a port names it")
        return {}
    value = " ".join(f"-a {pci}" for pci in functions)
    notes.decide(
        "ovs.dpdk-extra",
        value,
        "DPDK probes these at its start and nothing else: not the VFs of guests, and no port with a bifurcated driver "
        "that the host uses; a port that is added later is probed when it is added",
    )
    return {"dpdk-extra": value}


def _lcore(host: Host, profile: Profile, pools: CpuPools, releases: Releases, notes: Notebook) -> dict[str, str]:
    """dpdk-lcore-mask: one CPU of the host pool, where OVS's own threads run; in a partition, of the shared pool."""
    # A partition takes whole processes: what OVS runs on must be in it, and none of the host's CPUs is.
    inside = pools.shared - pools.host if profile.isolation is Isolation.PARTITION else EMPTY
    name, pool = ("shared", inside) if inside else ("host", pools.host)
    able = [cpu for cpu in (pool - pools.pmd or pool) if cpu < _LCORES or releases.ovs >= _LCORES_SINCE]
    if not able:
        notes.decide(
            "ovs.dpdk-lcore-mask",
            "none",
            f"no CPU of the {name} pool {pool} is below {_LCORES}, where this release's mask ends: OVS's own "
            "threads run where systemd lets them",
        )
        return {}
    # The last thread of the pool's first core rather than CPU 0 itself, which has the timers and the boot's interrupts.
    siblings = host.cpu(able[0]).thread_siblings & CpuSet(able)
    chosen = CpuSet((max(siblings, default=able[0]),))
    notes.decide(
        "ovs.dpdk-lcore-mask",
        chosen.mask,
        f"CPU {chosen} of the {name} pool: OVS pins its main, handler and revalidator threads there, so that they stay "
        "off the PMD's and the guests' CPUs whatever the isolation is",
    )
    return {"dpdk-lcore-mask": chosen.mask}


def _socket_mem(memory: MemoryPlan, notes: Notebook) -> dict[str, str]:
    """dpdk-socket-mem: a list by node, up to the highest one that OVS has memory on."""
    asked = {node.node: node.ovs_mib for node in memory.nodes if node.ovs_mib}
    if not asked:
        return {}
    value = ",".join(str(asked.get(node, 0)) for node in range(max(asked) + 1))
    notes.decide(
        "ovs.dpdk-socket-mem",
        value,
        "MiB by node, up to the highest node that OVS has buffers on; taken at its start, so that a lack of pages "
        "shows then and not with the first port",
    )
    return {"dpdk-socket-mem": value}


def _threads(notes: Notebook) -> dict[str, str]:
    notes.decide(
        "ovs.threads",
        "1 handler, 1 revalidator",
        "PMD threads handle the upcalls of a netdev bridge themselves, and OVS's other threads share the one CPU "
        "of dpdk-lcore-mask: OVS's default, by the number of all CPUs, would crowd it",
    )
    return {"n-handler-threads": "1", "n-revalidator-threads": "1"}


def _assignment(profile: Profile, releases: Releases, notes: Notebook) -> dict[str, str]:
    keys: dict[str, str] = {}
    asked = profile.ovs.rxq_assign
    if asked is not None and asked not in _ASSIGN:
        notes.refuse(
            f"{asked!r} is no way to assign queues", where="ovs.rxqAssign", hint=f"one of {', '.join(_ASSIGN)}"
        )
    elif asked == "group" and releases.ovs < _GROUP_SINCE:
        notes.warn(f"ovs.rxqAssign: group came with OVS 2.16, the plan is for {releases.ovs_text}: cycles is used")
        keys["pmd-rxq-assign"] = "cycles"
    elif asked is not None:
        keys["pmd-rxq-assign"] = asked
        notes.decide("ovs.pmd-rxq-assign", asked, "as the profile asks")
    keys["pmd-auto-lb"] = str(profile.ovs.auto_lb).lower()
    if profile.ovs.auto_lb:
        keys |= dict(_AUTO_LB)
        if asked == "roundrobin":
            notes.warn("ovs.autoLb does nothing with rxqAssign: roundrobin: it works with cycles and group")
        notes.decide("ovs.pmd-auto-lb", "true", "the profile asks OVS to move queues from loaded PMD threads to others")
    return keys


def _sleep(profile: Profile, releases: Releases, notes: Notebook) -> dict[str, str]:
    asked = profile.ovs.sleep_max_us or 0
    if asked > _MOST_SLEEP_US:
        notes.refuse(
            f"PMD threads sleep {_MOST_SLEEP_US} us at most, not {asked}", where="ovs.sleepMaxUs", hint="try 100"
        )
    name = next((key for key in ("pmd-sleep-max", "pmd-maxsleep") if key_known(key, releases.ovs)), None)
    if name is None:
        if asked:
            why = f"OVS {releases.ovs_text} cannot do what ovs.sleepMaxUs asks: its PMD threads poll at all times"
            notes.decide("ovs.pmd-sleep-max", "none", f"{why} (3.1 and later can sleep)")
        return {}
    why = "an idle PMD thread sleeps up to so many us, which saves power and costs latency" if asked else "never sleep"
    notes.decide(f"ovs.{name}", str(asked), why)
    return {name: str(asked)}


# Bridges and ports.


def _bridges(
    profile: Profile,
    nics: tuple[NicPlan, ...],
    ports: tuple[DpdkPort, ...],
    version: tuple[int, int],
    notes: Notebook,
) -> tuple[OvsBridge, ...]:
    integration = profile.ovs.integration_bridge or INTEGRATION_BRIDGE
    by_name: dict[str, list[OvsPort]] = {}
    if profile.nova.enabled:
        by_name[integration] = []
    for port in ports:
        by_name.setdefault(port.bridge, []).append(_ovs_port(profile, port, version))
    _check_ports(by_name, notes)
    _add_patches(profile, by_name, notes)
    notes.decide(
        "ovs.bridges",
        ", ".join(sorted(by_name)) or "none",
        f"all with the data path netdev; {integration} is Neutron's, which ties the others to it by its own patch ports"
        if profile.nova.enabled
        else "all with the data path netdev; they learn addresses like a switch where no controller comes",
    )
    physnets = _physnets(nics, ports)
    _warn_of_loops(ports, notes)
    return tuple(
        OvsBridge(
            name=name,
            datapath_type="netdev",
            # Neutron's agent fills br-int with flows; until then nothing may pass from guest to guest.
            fail_mode="secure" if profile.nova.enabled and name == integration else None,
            physnet=physnets.get(name),
            ports=tuple(members),
        )
        for name, members in sorted(by_name.items())
    )


def _physnets(nics: tuple[NicPlan, ...], ports: tuple[DpdkPort, ...]) -> dict[str, str]:
    """The physnet of each bridge that has one; the first in order of address where NICs of several meet."""
    of_nic = {nic.pci: nic.physnet for nic in nics}
    found: dict[str, str] = {}
    for port in ports:
        physnet = of_nic.get(port.pci) if port.pci is not None else None
        if physnet is not None:
            found.setdefault(port.bridge, physnet)
    return found


def _warn_of_loops(ports: tuple[DpdkPort, ...], notes: Notebook) -> None:
    outside: dict[str, list[str]] = {}
    for port in ports:
        if port.pci is not None:
            outside.setdefault(port.bridge, []).append(port.name)
    for name, members in sorted(outside.items()):
        if len(members) > 1:
            notes.warn(
                f"{', '.join(members)} are all in {name}: where they end in one network, packets go round in it for "
                "ever; make a bond of them, or give each a physnet or bridge of its own"
            )


def _ovs_port(profile: Profile, port: DpdkPort, version: tuple[int, int]) -> OvsPort:
    if port.vhost:
        kind, options = "dpdkvhostuserclient", {"vhost-server-path": port.socket or ""}
    elif port.xdp:
        kind, options = "afxdp", {"n_rxq": str(port.rx_queues or 1), "xdp-mode": "best-effort"}
        if option_known(kind, "use-need-wakeup", version):
            options["use-need-wakeup"] = "true"
    else:
        kind, options = "dpdk", {"dpdk-devargs": port.devargs or ""}
        options["n_rxq"] = str(port.rx_queues or 1)
        if profile.ovs.rx_descriptors is not None:
            options["n_rxq_desc"] = str(profile.ovs.rx_descriptors)
        if profile.ovs.tx_descriptors is not None:
            options["n_txq_desc"] = str(profile.ovs.tx_descriptors)
    return OvsPort(
        name=port.name,
        type=kind,
        options=tuple(sorted(options.items())),
        other_config=(),
        mtu=port.mtu,
        tag=port.vlan,
        node=port.node,
        reason=port.reason,
    )


def _check_ports(by_name: dict[str, list[OvsPort]], notes: Notebook) -> None:
    seen: set[str] = set()
    for port in (port for members in by_name.values() for port in members):
        if port.name in seen or port.name in by_name:
            other = "a bridge" if port.name in by_name else "another port"
            notes.refuse(
                f"{port.name} is the name of {other} already",
                where="ovs",
                hint="give each port and bridge its own name",
            )
        seen.add(port.name)


def _add_patches(profile: Profile, by_name: dict[str, list[OvsPort]], notes: Notebook) -> None:
    for index, patch in enumerate(profile.ovs.patches):
        missing = [bridge for bridge in patch.bridges if bridge not in by_name]
        if missing or patch.bridges[0] == patch.bridges[1]:
            what = f"there is no bridge {missing[0]} in this plan" if missing else "a bridge cannot be tied to itself"
            notes.refuse(
                what,
                where=f"ovs.patches[{index}].bridges",
                hint=f"there are {', '.join(sorted(by_name))}"
                if by_name
                else "no bridge is planned: name a port first",
            )
            continue
        ends = (f"patch{index}a", f"patch{index}b")
        for bridge, name, peer in zip(patch.bridges, ends, reversed(ends), strict=True):
            by_name[bridge].append(
                OvsPort(
                    name=name,
                    type="patch",
                    options=(("peer", peer),),
                    other_config=(),
                    mtu=None,
                    tag=None,
                    node=None,
                    reason=f"ties {patch.bridges[0]} and {patch.bridges[1]} together, as the profile asks",
                )
            )
