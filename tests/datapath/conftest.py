"""A private Open vSwitch of Debian 13, or 14, whatever this machine has, with real packets.

A machine that cannot run it skips the tier; with NFVHOST_REQUIRE_TIERS=1, as in CI, that is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ovs_tree import ovs_folder, schema_folder
from tiers import demand

from nfvhost import sandbox
from nfvhost.access.hugepages import memory_nodes, read_pool
from nfvhost.model.units import PageSize
from tests.ovs.conftest import MEMORY_MIB, Bed, Switch

# NFVHOST_DATAPATH_SUITE=forky takes Open vSwitch 4.0.
SUITE = os.environ.get("NFVHOST_DATAPATH_SUITE", "trixie")


@pytest.fixture(scope="session", autouse=True)
def ovs_programs() -> Iterator[Path]:
    """The folder of the Open vSwitch under test, which nfvhost and these tests find first."""
    demand(_missing(), "the tier datapath")
    folder = ovs_folder(SUITE)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        environment.setenv("OVS_PKGDATADIR", str(schema_folder(folder)))
        yield folder


@pytest.fixture
def bed() -> Iterator[Bed]:
    name = f"d{os.getpid()}"
    try:
        up = sandbox.up(name=name, memory_mib=MEMORY_MIB)
        yield Bed(switch=Switch(sandbox=up), cpu=max(os.sched_getaffinity(0)))
    finally:
        sandbox.down(name)


def _missing() -> str | None:
    """Why this machine cannot run the tier; None where it can."""
    if os.geteuid() != 0:
        return "it needs root"
    if shutil.which("mmdebstrap") is None:
        return "mmdebstrap is not installed"
    if any(read_pool(node, PageSize.MIB_2) is None for node in memory_nodes()):
        return "the kernel has no hugepages of 2 MiB"
    return None
