"""What a placement is worth: the same frames by a planned one, a colliding one, no DPDK, and the kernel. Needs root.

    .venv/bin/python benchmarks/placement.py [ROUNDS [TRIAL_S]]

    planned     the poll-mode thread has a CPU, the generator another one
    colliding   both on the poll-mode thread's CPU
    netdev      Open vSwitch in user space without DPDK, on veth
    kernel      the kernel's bridge, on veth

All take turns in each round. The scheduler favours switch and generator over whatever else the machine does (the
autogroups of both get nice -20, proc(5)): it has no cores to isolate. Each is measured by its NDR, its
PDR and what comes through at full speed.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable

from nfvhost.access.root import DirectoryRoot
from nfvhost.bench.frames import parse_frames
from nfvhost.bench.paths import PathKind
from nfvhost.bench.result import Round
from nfvhost.bench.run import Bench, Setup, Wish, generator_cpus, private_sandbox
from nfvhost.inspect import inspect_host
from nfvhost.planfile import load_profile
from nfvhost.planner import make_plan

RATES: dict[str, Callable[[Round], float | None]] = {
    "NDR": lambda one: one.ndr_pps,
    "PDR": lambda one: one.pdr_pps,
    "full speed": lambda one: one.maximum_pps,
}


def main(rounds: int, trial_s: float) -> int:
    """The exit code: 1 where the planned placement is not the fastest at full speed."""
    host = inspect_host(DirectoryRoot("/"))
    plan = make_plan(host, load_profile("sandbox"))
    apart, pmd = generator_cpus(plan, host), plan.cpus.pmd
    setups = (
        Setup(name="planned", plan=plan, path=PathKind.PORT, generator_cpus=apart),
        Setup(name="colliding", plan=plan, path=PathKind.PORT, generator_cpus=pmd),
        Setup(name="netdev", plan=plan, path=PathKind.NETDEV, generator_cpus=apart),
        Setup(name="kernel", plan=plan, path=PathKind.KERNEL, generator_cpus=apart),
    )
    wish = Wish(frames=parse_frames("64"), trial_s=trial_s, rounds=rounds)
    with private_sandbox(f"place{os.getpid()}") as sandbox:
        for pid in (os.getpid(), sandbox.switch_pid):
            favour(pid)
        bench = Bench(sandbox=sandbox, generator=None, host=host, say=lambda text: print(text, file=sys.stderr))
        results = bench.run(setups, wish)
    quiet = results[0].conditions
    print(f"{host.model.name}, {len(host.online)} CPUs, load average {quiet.load_average_before:.1f} to", end=" ")
    print(f"{quiet.load_average_after:.1f}, {rounds} rounds, trials of {trial_s:g} s, {dict(results[0].versions)}")
    made = {one.name: one.points[0].rounds for one in results}
    for name, rate in RATES.items():
        # A round that found no rate without loss counts as none at all.
        rates = {one: [rate(each) or 0.0 for each in found] for one, found in made.items()}
        for one, each in rates.items():
            pairs = zip(each, rates["planned"], strict=True)
            ratios = [pps / planned for pps, planned in pairs if planned]
            ratio = f"{statistics.median(ratios):.3f}" if ratios else "none"
            spread = f"{min(each) / 1e6:.3f} to {max(each) / 1e6:.3f}"
            print(f"{name:>10} {one:>10} {statistics.median(each) / 1e6:8.3f} Mpps ({spread}), {ratio} of planned")
    fastest = {one: statistics.median(each.maximum_pps for each in found) for one, found in made.items()}
    return int(max(fastest, key=lambda one: fastest[one]) != "planned")


def favour(pid: int) -> None:
    """Nothing; on a kernel without autogroups all stay equal."""
    path = f"/proc/{pid}/autogroup"
    if os.path.exists(path):
        with open(path, "w", encoding="ascii") as file:
            file.write("-20")


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(int(given[0]) if given else 5, float(given[1]) if len(given) > 1 else 1.0))
