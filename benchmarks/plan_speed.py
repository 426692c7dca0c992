"""Cost of `nfvhost plan --host` as a whole process: against lstopo on the same tree, and against machine size.

python benchmarks/plan_speed.py [TREE]    TREE: a folder holding sys/ and proc/; without it, growth alone
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import machines

ROUNDS = 9
# As after an installation: compiled modules are there, whatever the environment says.
CACHE = tempfile.TemporaryDirectory()
NFVHOST = str(Path(sys.executable).with_name("nfvhost"))


def run(argv: list[str], **env: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of one process; its output is thrown away."""
    start = time.perf_counter()
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, stream) for stream in (0, 1, 2)]
    child = os.posix_spawnp(argv[0], argv, {**os.environ, **env}, file_actions=actions)
    os.close(null)
    _, status, usage = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, argv
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def plan(tree: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of a plan of the tree, with its screen."""
    return run(
        [NFVHOST, "plan", "--host", str(tree), "-o", os.devnull],
        PYTHONDONTWRITEBYTECODE="",
        PYTHONPYCACHEPREFIX=CACHE.name,
    )


def against_lstopo(tree: Path) -> None:
    """Print the medians of interleaved runs of both, and their ratio."""
    plan(tree)
    rows = [
        (
            plan(tree),
            run(["lstopo-no-graphics", "--of", "console"], HWLOC_FSROOT=str(tree), HWLOC_COMPONENTS="linux,stop"),
        )
        for _ in range(ROUNDS)
    ]
    ours = statistics.median(row[0][0] for row in rows)
    theirs = statistics.median(row[1][0] for row in rows)
    busy = statistics.median(row[0][1] for row in rows)
    peak = max(row[0][2] for row in rows)
    print(
        f"plan {ours:.3f} s ({busy:.3f} s of CPU, {peak:.0f} MiB), lstopo {theirs:.3f} s: {ours / theirs:.1f} times, "
        f"wanted at most {max(6 * theirs, 0.35):.2f} s"
    )


def growth() -> None:
    """Print seconds and MiB by number of CPUs and of PCI functions; the first row of each is Python's start."""
    with tempfile.TemporaryDirectory() as work:
        for cpus, functions in ((2, 10), (32, 10), (128, 10), (512, 10), (2, 100), (2, 1000), (2, 4000)):
            tree = Path(work, f"{cpus}-{functions}")
            machines.machine(tree, cpus=cpus, functions=functions)
            runs = [plan(tree) for _ in range(ROUNDS)]
            print(
                f"{cpus:4} CPUs {functions:5} PCI functions: {statistics.median(run[0] for run in runs):.3f} s, "
                f"{statistics.median(run[1] for run in runs):.3f} s of CPU, {max(run[2] for run in runs):.0f} MiB"
            )


if __name__ == "__main__":
    for argument in sys.argv[1:2]:
        against_lstopo(Path(argument))
    growth()
