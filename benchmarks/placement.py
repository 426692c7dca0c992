"""What a placement is worth: the same frames by a planned one, a colliding one, no DPDK, and the kernel. Needs root.

    PYTHONPATH=tests/support .venv/bin/python benchmarks/placement.py [--rounds 5] [--trial 1.0] [--frames 64]
        [--setups planned,colliding,…] [-o FOLDER]

    planned     the poll-mode thread has a CPU, the generator another one
    colliding   both on the poll-mode thread's CPU
    netdev      Open vSwitch in user space without DPDK, on veth
    kernel      the kernel's bridge, on veth

The first two also with `-encap` and `-decap`: into SRv6, and out of it. Open vSwitch is that of Debian 13, from the
cache of the tests. All take turns in each round. The scheduler favours switch and generator over whatever else the
machine does (the autogroups of both get nice -20, proc(5)): it has no cores to isolate. Each is measured by its NDR,
its PDR and what comes through at full speed. FOLDER gets the results for `nfvhost bench plot` and `compare`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from ovs_tree import ovs_folder, schema_folder

from nfvhost.access.root import DirectoryRoot
from nfvhost.bench.document import result_document
from nfvhost.bench.frames import parse_frames
from nfvhost.bench.paths import PathKind
from nfvhost.bench.result import BenchResult, Round
from nfvhost.bench.run import Bench, Setup, Wish, generator_cpus, private_sandbox
from nfvhost.inspect import inspect_host
from nfvhost.planfile import load_profile, to_json
from nfvhost.planner import make_plan

PATHS = {"": PathKind.PORT, "-encap": PathKind.SRV6_ENCAP, "-decap": PathKind.SRV6_DECAP}
RATES: dict[str, Callable[[Round], float | None]] = {
    "NDR": lambda one: one.ndr_pps,
    "PDR": lambda one: one.pdr_pps,
    "full speed": lambda one: one.maximum_pps,
}


def main(wish: Wish, names: list[str], folder: Path | None) -> int:
    """The exit code: 1 where the planned placement is not the fastest at full speed."""
    tree = ovs_folder("trixie")
    os.environ["PATH"] = f"{tree / 'bin'}:{os.environ['PATH']}"
    os.environ["OVS_PKGDATADIR"] = str(schema_folder(tree))
    host = inspect_host(DirectoryRoot("/"))
    plan = make_plan(host, load_profile("sandbox"))
    apart, pmd = generator_cpus(plan, host), plan.cpus.pmd
    known = [
        *(Setup(name=f"planned{end}", plan=plan, path=path, generator_cpus=apart) for end, path in PATHS.items()),
        *(Setup(name=f"colliding{end}", plan=plan, path=path, generator_cpus=pmd) for end, path in PATHS.items()),
        Setup(name="netdev", plan=plan, path=PathKind.NETDEV, generator_cpus=apart),
        Setup(name="kernel", plan=plan, path=PathKind.KERNEL, generator_cpus=apart),
    ]
    setups = tuple(one for one in known if not names or one.name in names)
    with private_sandbox(f"place{os.getpid()}") as sandbox:
        for pid in (os.getpid(), sandbox.switch_pid):
            favour(pid)
        bench = Bench(sandbox=sandbox, generator=None, host=host, say=lambda text: print(text, file=sys.stderr))
        results = bench.run(setups, wish)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for one in results:
            (folder / f"{one.name}.json").write_text(to_json(result_document(one)), encoding="utf-8")
    quiet = results[0].conditions
    print(f"{host.model.name}, {len(host.online)} CPUs, load average {quiet.load_average_before:.1f} to", end=" ")
    print(f"{quiet.load_average_after:.1f}, {wish.rounds} rounds, trials of {wish.trial_s:g} s", end=", ")
    print(dict(results[0].versions))
    for number in range(len(results[0].points)):
        show(results, number)
    fastest = {one.name: statistics.median(each.maximum_pps for each in one.points[0].rounds) for one in results}
    return int("planned" in fastest and max(fastest, key=lambda one: fastest[one]) != "planned")


def show(results: tuple[BenchResult, ...], number: int) -> None:
    """One point: each rate of each setup, and of the first one's."""
    made = {one.name: one.points[number].rounds for one in results}
    first = results[0].name
    print(f"{results[0].points[number].frames} bytes")
    for name, rate in RATES.items():
        # A round that found no rate without loss counts as none at all.
        rates = {one: [rate(each) or 0.0 for each in found] for one, found in made.items()}
        for one, each in rates.items():
            ratios = [pps / other for pps, other in zip(each, rates[first], strict=True) if other]
            ratio = f"{statistics.median(ratios):.3f}" if ratios else "none"
            spread = f"{min(each) / 1e6:.3f} to {max(each) / 1e6:.3f}"
            print(f"{name:>10} {one:>15} {statistics.median(each) / 1e6:8.3f} Mpps ({spread}), {ratio} of {first}")
    for one, found in made.items():
        cycles = [each.cycles_per_packet for each in found if each.cycles_per_packet is not None]
        if cycles:
            print(f"    cycles {one:>15} {statistics.median(cycles):8.0f} a packet at the NDR")


def favour(pid: int) -> None:
    """Nothing; on a kernel without autogroups all stay equal."""
    path = f"/proc/{pid}/autogroup"
    if os.path.exists(path):
        with open(path, "w", encoding="ascii") as file:
            file.write("-20")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trial", type=float, default=1.0)
    parser.add_argument("--frames", default="64")
    parser.add_argument("--setups", default="")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    sizes = parse_frames(asked.frames)
    chosen = [one for one in asked.setups.split(",") if one]
    sys.exit(main(Wish(frames=sizes, trial_s=asked.trial, rounds=asked.rounds), chosen, asked.output))
