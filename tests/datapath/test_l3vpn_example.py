"""The example of an SRv6 L3VPN runs as its README shows, and leaves nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from nfvhost import sandbox
from nfvhost.access.command import check
from nfvhost.access.hugepages import memory_nodes, read_pool
from nfvhost.model.units import PageSize

EXAMPLE = Path(__file__).parents[2] / "examples/srv6-l3vpn"
# "    t1   west  2 left, to fc00:b1::4    fc00:d::14 …": node, link, segments left, where to, the list.
HOP = re.compile(r" {4}(\w+) +(\w+) +(\d) left, to (\S+) +(.+)")


def namespaces() -> set[str]:
    return {line.split()[0] for line in check(["ip", "netns"], timeout_s=10).stdout.splitlines() if line}


def pages() -> list[int]:
    return [pool.total for node in memory_nodes() if (pool := read_pool(node, PageSize.MIB_2)) is not None]


def test_two_tenants_with_the_same_addresses_ping_over_three_edges_while_the_segments_shrink_hop_by_hop(
    tmp_path: Path,
) -> None:
    before = (namespaces(), pages(), {one.name for one in sandbox.status()})
    nfvhost = tmp_path / "nfvhost"
    nfvhost.write_text(f'#!/bin/sh\nexec {sys.executable} -m nfvhost.cli "$@"\n')
    nfvhost.chmod(0o755)

    done = subprocess.run(
        [EXAMPLE / "run.sh"],
        env={**os.environ, "NFVHOST": str(nfvhost)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout
    # Six ways for each of two tenants.
    assert len(re.findall(r"^ {4}(?:red|blue) +\w+ -> \w+", shown, re.MULTILINE)) == 12
    assert re.findall(r"(\w+)  6 tunnels, (\d+) flows, all as planned", shown) == [("west", "16"), ("east", "16")]
    ways = shown.split("  to ")[1:]
    assert [way.split()[0] for way in ways] == ["10.3.0.2", "fd03::2", "10.2.0.2"]
    for way, sids in zip(ways, (("fc00:b1::4", "fc00:d::14"), ("fc00:b1::6", "fc00:d::16"), None), strict=True):
        hops = [match.groups() for match in HOP.finditer(way)]
        first, last = sids or ("fc00:b1::1", "fc00:c::11")
        path = [first, "fc00:b2::1", last]
        of_red = [hop for hop in hops if hop[4].split()[-1].strip("[]") == last]
        assert [(node, link) for node, link, *_ in of_red] == [
            ("t1", "west"),
            ("t1", "t2"),
            ("t2", "peer" if sids else "east"),
        ]
        assert [(left, to) for _, _, left, to, _ in of_red] == list(zip("210", path, strict=True))
        assert all(hop[4].replace("[", "").replace("]", "").split() == path for hop in of_red)
    # Blue's packet to the same address goes by another last segment.
    assert "fc00:d::24" in ways[0]
    assert (namespaces(), pages(), {one.name for one in sandbox.status()}) == before
    assert not Path("/run/nfvhost-l3vpn").exists()
