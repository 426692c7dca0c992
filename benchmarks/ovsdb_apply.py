"""One apply of 4 ports and 10 keys by nfvhost's engine against the same by single ovs-vsctl calls. Needs root.

    .venv/bin/python benchmarks/ovsdb_apply.py [ROUNDS]

Both work on the same sandbox, in turns, from the same state: DPDK runs, a bridge is there, no port. Both wait until
the switch has taken what they wrote. The engine's time is a whole apply: connect, read, check each precondition, one
transaction, wait, re-read, verify down to the threads' CPUs. Neither includes the start of a Python interpreter.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable

from nfvhost import sandbox
from nfvhost.access.clock import now_s
from nfvhost.access.command import check
from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.engine import apply
from nfvhost.inspect import inspect_host
from nfvhost.model.cpuset import EMPTY
from nfvhost.model.host import Host
from nfvhost.model.plan import CpuPools, MemoryPlan, OvsBridge, OvsPlan, OvsPort, Plan
from nfvhost.model.profile import Isolation
from nfvhost.planner.planned_host import planned_host

AT_LEAST = 8.0
PORTS = 4
PMD_CPU = max(os.sched_getaffinity(0))
# What DPDK needs to start; set before the first round.
START = {
    "dpdk-init": "true",
    "dpdk-extra": "--no-pci --iova-mode=va",
    "pmd-cpu-mask": f"{1 << PMD_CPU:#x}",
}
KEYS = {
    "n-handler-threads": "1",
    "n-revalidator-threads": "1",
    "pmd-auto-lb": "false",
    "pmd-auto-lb-improvement-threshold": "30",
    "pmd-auto-lb-load-threshold": "90",
    "pmd-auto-lb-rebal-interval": "2",
    "pmd-rxq-assign": "roundrobin",
    "pmd-rxq-isolate": "true",
    "tx-flush-interval": "0",
    "vhost-iommu-support": "false",
}
OPTIONS = {"n_rxq": "1", "n_rxq_desc": "1024", "n_txq_desc": "1024"}
MTU = 1500


def main(rounds: int) -> int:
    """The exit code: 1 where the engine is not as many times faster as it shall be."""
    made = sandbox.up(name=f"bench{os.getpid()}", memory_mib=1024)
    try:
        return measure(made, rounds)
    finally:
        sandbox.down(made.name)


def measure(made: sandbox.Sandbox, rounds: int) -> int:
    """The exit code, after as many rounds, each of both in turn."""
    host = inspect_host(DirectoryRoot("/"))
    machine = Machine(root=DirectoryRoot("/"), ovsdb=made.ovsdb)
    apply(plan(host, with_all=False), machine, host)

    def by_engine() -> None:
        assert apply(plan(host, with_all=True), machine, host).results

    def by_vsctl() -> None:
        for words in single_calls():
            vsctl(made, *words)

    # The first one of each pays for imports and for files that are not yet in memory.
    took_ms: dict[Callable[[], None], list[float]] = {by_engine: [], by_vsctl: []}
    for number in range(rounds + 1):
        for change, times in took_ms.items():
            began = now_s()
            change()
            times.append((now_s() - began) * 1000)
            reset(made)
        if number:
            print(f"round {number}: engine {took_ms[by_engine][-1]:.1f} ms, ovs-vsctl {took_ms[by_vsctl][-1]:.1f} ms")
    engine, single = took_ms[by_engine][1:], took_ms[by_vsctl][1:]
    ratio = statistics.median(slow / fast for slow, fast in zip(single, engine, strict=True))
    print(f"median of one apply: {statistics.median(engine):.1f} ms")
    print(f"median of {len(single_calls())} ovs-vsctl calls: {statistics.median(single):.1f} ms")
    print(f"ratio, median of {rounds} rounds: {ratio:.1f} (wanted: at least {AT_LEAST:g})")
    return 0 if ratio >= AT_LEAST else 1


def single_calls() -> list[list[str]]:
    """What a person types after the manual (Documentation/howto/dpdk.rst, topics/dpdk/phy.rst): a setting a call."""
    calls = [["set", "Open_vSwitch", ".", f"other_config:{key}={value}"] for key, value in KEYS.items()]
    for number in range(PORTS):
        name = f"dpdk{number}"
        calls.append(
            [
                "add-port",
                "br0",
                name,
                "--",
                "set",
                "Interface",
                name,
                "type=dpdk",
                f"options:dpdk-devargs=net_null{number}",
            ]
        )
        calls += [["set", "Interface", name, f"options:{key}={value}"] for key, value in OPTIONS.items()]
        calls.append(["set", "Interface", name, f"mtu_request={MTU}"])
    return calls


def reset(made: sandbox.Sandbox) -> None:
    """Nothing of either is left: no port, none of the keys."""
    words = ["remove", "Open_vSwitch", ".", "other_config", *KEYS]
    for number in range(PORTS):
        words += ["--", "--if-exists", "del-port", "br0", f"dpdk{number}"]
    vsctl(made, *words)


def vsctl(made: sandbox.Sandbox, *words: str) -> None:
    """Nothing, once the switch has taken the change."""
    check(["ovs-vsctl", f"--db={made.ovsdb}", "--timeout=30", *words], timeout_s=40)


def plan(host: Host, *, with_all: bool) -> Plan:
    """The 10 keys and the 4 ports, or only what is there before."""
    ports = tuple(
        OvsPort(
            name=f"dpdk{number}",
            type="dpdk",
            options=tuple(sorted({"dpdk-devargs": f"net_null{number}", **OPTIONS}.items())),
            other_config=(),
            mtu=MTU,
            tag=None,
            node=None,
            reason="to be measured",
        )
        for number in range(PORTS if with_all else 0)
    )
    bridge = OvsBridge(name="br0", datapath_type="netdev", fail_mode=None, physnet=None, ports=ports)
    keys = tuple(sorted({**START, **(KEYS if with_all else {})}.items()))
    return Plan(
        profile="benchmark",
        host=planned_host(host),
        cpus=CpuPools(host=EMPTY, shared=EMPTY, pmd=EMPTY, dedicated=EMPTY, idle=EMPTY, isolated=EMPTY),
        memory=MemoryPlan(nodes=()),
        isolation=Isolation.NONE,
        kernel_args=(),
        nics=(),
        ovs=OvsPlan(version="3.1", other_config=keys, socket_dir="/run/vhost", bridges=(bridge,)),
        tunnels=(),
        nova=None,
        neutron=None,
        guests=(),
        decisions=(),
        warnings=(),
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
