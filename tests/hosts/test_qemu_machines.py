"""Machines of other shapes, captured by nfvhost while a real kernel ran on them, and their plans as a whole.

tests/vm/captures.py makes the captures. Where a plan is meant to be another, NFVHOST_WRITE_GOLDEN=1 writes it anew.
"""

from __future__ import annotations

import io
import os
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from plan_rules import broken_rules

from nfvhost.access.archive import open_root
from nfvhost.inspect import inspect_host
from nfvhost.model.host import Host, cores, l3_groups
from nfvhost.model.profile import Profile
from nfvhost.planfile import dump_plan, load_plan_text, load_profile, shipped_profiles
from nfvhost.planner import make_plan
from nfvhost.render import print_plan

CAPTURES: Final = Path(__file__).parent / "captures"
GOLDEN: Final = Path(__file__).parent / "golden"
NAMES: Final = sorted(path.name.removesuffix(".tar.xz") for path in CAPTURES.glob("*.tar.xz"))
SHOWN: Final = ("home", "srv6-edge")


@cache
def machine(name: str) -> Host:
    return inspect_host(open_root(str(CAPTURES / f"qemu-{name}.tar.xz")))


@cache
def profiles() -> dict[str, Profile]:
    return {name: load_profile(str(path)) for name, path in sorted(shipped_profiles().items())}


def nodes(host: Host) -> list[str]:
    return [str(node.cpus) for node in host.nodes]


def test_a_server_has_two_packages_two_nodes_and_threads_side_by_side() -> None:
    host = machine("server")
    assert [str(core) for core in cores(host)] == ["0-1", "2-3", "4-5", "6-7"]
    assert nodes(host) == [str(group) for group in l3_groups(host)] == ["0-3", "4-7"]
    assert host.iommu.enabled
    assert [(nic.driver, nic.total_vfs) for nic in host.nics] == [
        ("virtio-pci", None),
        ("igb", 7),
        ("e1000e", None),
        ("igb", 7),
        ("vmxnet3", None),
        ("8139cp", None),
        ("virtio-pci", 2),
    ]


def test_a_plan_for_vdpa_on_a_card_that_speaks_virtio_survives_its_file() -> None:
    plan = make_plan(machine("server"), profiles()["vdpa"])
    assert [(str(nic.pci), nic.vf_driver) for nic in plan.nics if nic.vdpa_devices] == [("0000:65:00.0", "vp-vdpa")]
    assert load_plan_text(dump_plan(plan), "plan.yaml") == plan


def test_one_node_without_threads_and_without_iommu() -> None:
    host = machine("one-node")
    assert [str(core) for core in cores(host)] == ["0", "1", "2", "3"]
    assert nodes(host) == ["0-3"]
    assert host.iommu.enabled is False
    assert all(nic.iommu_group is None for nic in host.nics)


def test_two_nodes_without_threads() -> None:
    host = machine("two-nodes-no-smt")
    assert [len(core) for core in cores(host)] == [1] * 8
    assert nodes(host) == ["0-3", "4-7"]
    assert host.iommu.enabled is False
    assert [nic.node for nic in host.nics] == [None, 0, 1]


def test_one_package_has_four_caches() -> None:
    host = machine("four-caches")
    assert {cpu.package for cpu in host.cpus} == {0}
    assert [str(group) for group in l3_groups(host)] == ["0-3", "4-7", "8-11", "12-15"]
    assert host.iommu.enabled


def test_a_node_of_an_amd_server_is_a_die() -> None:
    host = machine("amd-four-nodes")
    assert {cpu.package for cpu in host.cpus} == {0, 1}
    assert nodes(host) == [str(group) for group in l3_groups(host)] == ["0-3", "4-7", "8-11", "12-15"]
    assert [nic.node for nic in host.nics if nic.driver == "igb"] == [0, 2]
    assert (host.model.vendor, host.iommu.enabled) == ("AuthenticAMD", True)


def test_each_of_many_nics_is_in_a_group_of_its_own() -> None:
    host = machine("many-nics")
    assert len(host.nics) == 11
    groups = {nic.iommu_group for nic in host.nics}
    assert None not in groups
    assert len(groups) == len(host.nics)
    assert [nic.node for nic in host.nics] == [None, *([0] * 5), *([1] * 5)]


def test_a_node_may_have_memory_and_no_cpus() -> None:
    host = machine("memory-only-node")
    assert nodes(host) == ["0-3", "4-7", ""]
    assert (host.nodes[2].memory_kib or 0) > 2_000_000


def test_numbers_have_holes_where_cpus_have_gone() -> None:
    host = machine("holes")
    assert str(host.online) == "0,2-3,6-7"
    assert [str(core) for core in cores(host)] == ["0", "2-3", "6-7"]
    assert nodes(host) == ["0,2-3", "6-7"]


@pytest.mark.parametrize("name", NAMES)
def test_a_capture_is_small_and_names_nobody(name: str) -> None:
    assert (CAPTURES / f"{name}.tar.xz").stat().st_size < 32 << 10
    host = machine(name.removeprefix("qemu-"))
    assert all(nic.mac is None for nic in host.nics)
    assert host.warnings == ()


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_is_planned_on_it_and_breaks_no_rule(name: str) -> None:
    host = machine(name.removeprefix("qemu-"))
    broken = {title: broken_rules(host, make_plan(host, profile)) for title, profile in profiles().items()}
    assert broken == {title: [] for title in broken}


@pytest.mark.parametrize("title", SHOWN)
@pytest.mark.parametrize("name", NAMES)
def test_its_plan_is_the_one_that_was_read_by_a_person(name: str, title: str) -> None:
    host = machine(name.removeprefix("qemu-"))
    screen = io.StringIO()
    print_plan(host, make_plan(host, profiles()[title]), file=screen, width=100, color=False)
    place = GOLDEN / f"{name}.{title}.txt"
    if os.environ.get("NFVHOST_WRITE_GOLDEN") == "1":
        place.parent.mkdir(exist_ok=True)
        place.write_text(screen.getvalue(), encoding="utf-8")
        pytest.skip(f"{place} was written")
    assert screen.getvalue() == place.read_text(encoding="utf-8")
