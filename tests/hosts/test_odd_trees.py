"""Captured machines that broke other readers, each by the oddity that did it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import CpuKind, cores

if TYPE_CHECKING:
    from tests.conftest import Captured


@pytest.mark.field_failure(34)
def test_a_cpuset_smaller_than_the_machine_is_what_may_be_used(captured: Captured) -> None:
    host = captured("hwloc-16em64t-4s2ca2c-cpusetreorder").host

    assert (str(host.online), str(host.usable)) == ("0-15", "2-11,13")
    assert host.allowed_nodes == (0,)


def test_a_cpuset_of_one_socket_of_a_large_machine_is_honoured(captured: Captured) -> None:
    host = captured("hwloc-nvidiagpunumanodes").host

    assert (str(host.online), str(host.allowed)) == ("0-15,88-103", "0-15")


def test_packages_of_a_mainframe_are_not_its_books(captured: Captured) -> None:
    host = captured("hwloc-20s390-2g6s4c").host

    assert [cpu.package for cpu in host.cpus] == [0] * 3 + [1] * 4 + [2] * 3 + [3] * 3 + [4] * 2 + [5, 6] + [7] * 3


def test_lists_that_end_in_nul_bytes_group_128_cpus(captured: Captured) -> None:
    host = captured("hwloc-128arm-2pa2n8cluster4co").host

    assert [str(node.cpus) for node in host.nodes] == ["0-31", "32-63", "64-95", "96-127"]
    assert host.model.vendor == "HiSilicon"


def test_threads_that_are_switched_off_leave_cores_of_one(captured: Captured) -> None:
    host = captured("hwlocold-32ppc-4n4c2c").host

    assert str(host.online) == str(CpuSet(range(0, 64, 2)))
    assert all(len(core) == 1 for core in cores(host))
    assert [cpu.id for cpu in host.cpus if not cpu.online] == list(range(1, 64, 2))


def test_two_machines_of_one_system_image_are_two_packages(captured: Captured) -> None:
    host = captured("hwlocold-16em64t-2m4c2t").host

    assert {str(CpuSet(cpu.id for cpu in host.cpus if cpu.package == package)) for package in (0, 1)} == {
        "16-23",
        "24-31",
    }
    assert all(len(core) == 2 for core in cores(host))


@pytest.mark.field_failure(33)
def test_a_node_that_is_offline_is_left_out_and_the_other_keeps_its_number(captured: Captured) -> None:
    host = captured("hwloc-offline-cpu0-node0").host

    assert [node.id for node in host.nodes] == [1]
    assert {cpu.node for cpu in host.cpus if cpu.id % 2 == 0} == {None}


def test_a_hybrid_whose_pmus_were_not_captured_still_has_two_kinds(captured: Captured) -> None:
    host = captured("ghw-intel-i7-1270P").host

    assert str(CpuSet(cpu.id for cpu in host.cpus if cpu.kind is CpuKind.PERFORMANCE)) == "0-7"
    assert str(CpuSet(cpu.id for cpu in host.cpus if cpu.kind is CpuKind.EFFICIENCY)) == "8-15"


def test_folders_of_cpus_that_are_not_present_are_no_cpus(captured: Captured) -> None:
    host = captured("ulold-sparc64-UltraSparc-T1").host

    assert [cpu.id for cpu in host.cpus] == list(range(24))
