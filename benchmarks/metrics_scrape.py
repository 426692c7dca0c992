"""What a scrape of `nfvhost metrics` costs, on a real ovs-vswitchd with 64 ports. Needs root.

    .venv/bin/python benchmarks/metrics_scrape.py [SCRAPES]

The exporter is a process of its own, asked by HTTP as Prometheus asks; its CPU is utime and stime of its /proc stat,
before and after. That of ovs-vswitchd's main thread, which answers, is told beside it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from nfvhost import sandbox
from nfvhost.access.clock import now_s
from nfvhost.access.command import check

AT_MOST_MS = 30.0
PORTS = 64
# RTE_MAX_ETHPORTS of Debian's DPDK (config/rte_config.h); the other ports are those of guests.
MOST_ETHERNET = 32
QUEUES = 4
PMD_CPU = max(os.sched_getaffinity(0))
# What Prometheus 2.42 sends.
HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}


def main(scrapes: int) -> int:
    """The exit code: 1 where a scrape costs more than it may."""
    made = sandbox.up(name=f"bench{os.getpid()}", memory_mib=512)
    try:
        fill(made)
        return measure(made, scrapes)
    finally:
        sandbox.down(made.name)


def fill(made: sandbox.Sandbox) -> None:
    """Nothing, once the switch has its ports; none of them has packets, so that nothing else needs the CPU."""
    vsctl(
        made,
        *("set", "Open_vSwitch", ".", "other_config:dpdk-init=true", "other_config:dpdk-socket-mem=256"),
        'other_config:dpdk-extra="--no-pci --iova-mode=va"',
        f"other_config:pmd-cpu-mask={1 << PMD_CPU:#x}",
    )
    vsctl(made, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
    for number in range(PORTS):
        name = f"p{number}"
        options = ["type=dpdkvhostuserclient", f"options:vhost-server-path={made.run_dir}/{name}"]
        if number < MOST_ETHERNET:
            options = ["type=dpdk", f"options:dpdk-devargs=net_null{number},no-rx=1", f"options:n_rxq={QUEUES}"]
        vsctl(made, "add-port", "br0", name, "--", "set", "Interface", name, *options)
        error = vsctl(made, "get", "Interface", name, "error")
        assert error == "[]", error


def measure(made: sandbox.Sandbox, scrapes: int) -> int:
    """The exit code, after as many scrapes."""
    argv = [str(Path(sys.executable).with_name("nfvhost")), "metrics", "--ovsdb", made.ovsdb]
    with subprocess.Popen([*argv, "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True) as exporter:
        assert exporter.stderr is not None
        url = exporter.stderr.readline().split()[-1]
        size = len(scrape(url))
        samples = sum(not line.startswith(b"#") for line in scrape(url, compressed=False).splitlines())
        before, before_switch, began = cpu_s(exporter.pid), cpu_s(made.switch_pid, thread=True), now_s()
        for _ in range(scrapes):
            scrape(url)
        wall_ms = (now_s() - began) * 1000 / scrapes
        cpu_ms = (cpu_s(exporter.pid) - before) * 1000 / scrapes
        switch_ms = (cpu_s(made.switch_pid, thread=True) - before_switch) * 1000 / scrapes
        exporter.send_signal(signal.SIGINT)
    print(f"{PORTS} ports: {samples} samples, {size} bytes compressed")
    print(f"a scrape, mean of {scrapes}: {cpu_ms:.1f} ms of CPU (wanted: less than {AT_MOST_MS:g}), {wall_ms:.1f} ms")
    print(f"the main thread of ovs-vswitchd: {switch_ms:.1f} ms of CPU")
    return 0 if cpu_ms < AT_MOST_MS else 1


def scrape(url: str, *, compressed: bool = True) -> bytes:
    """The answer."""
    headers = HEADERS if compressed else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as reply:  # noqa: S310 - our own URL
        content: bytes = reply.read()
    return content


def cpu_s(pid: int, *, thread: bool = False) -> float:
    """Seconds of CPU that a process, or its main thread alone, has used (proc(5), utime and stime)."""
    path = f"/proc/{pid}/task/{pid}/stat" if thread else f"/proc/{pid}/stat"
    fields = Path(path).read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def vsctl(made: sandbox.Sandbox, *words: str) -> str:
    """What it prints, once the switch has taken the change."""
    return check(["ovs-vsctl", f"--db={made.ovsdb}", "--timeout=30", *words], timeout_s=40).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
