from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nfvhost.inspect import inspect_host

if TYPE_CHECKING:
    from tests.conftest import MakeTree

ONLINE = {"/sys/devices/system/cpu/online": "0-7\n"}
UNIFIED = {"/proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"}
LEGACY = {
    "/proc/mounts": "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
    "cgroup /sys/fs/cgroup/cpuset cgroup rw,nosuid,cpuset 0 0\n"
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
}
SESSION = "/user.slice/session-1.scope"


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        pytest.param(
            UNIFIED
            | {"/proc/self/cgroup": f"0::{SESSION}\n", f"/sys/fs/cgroup{SESSION}/cpuset.cpus.effective": "2-3\n"},
            "2-3",
            id="version 2",
        ),
        pytest.param(
            UNIFIED
            | {
                "/proc/self/cgroup": f"0::{SESSION}\n",
                "/sys/fs/cgroup/user.slice/cpuset.cpus.effective": "0-5\n",
                "/sys/fs/cgroup/cpuset.cpus.effective": "0-7\n",
            },
            "0-5",
            id="version 2, the parent's, since its own group has no cpuset",
        ),
        pytest.param(
            UNIFIED
            | {
                "/proc/self/cgroup": f"0::{SESSION}\n",
                f"/sys/fs/cgroup{SESSION}/cpuset.cpus.effective": "\n",
                "/sys/fs/cgroup/cpuset.cpus.effective": "0-3\n",
            },
            "0-3",
            id="version 2, an empty list says nothing",
        ),
        pytest.param(
            LEGACY
            | {
                "/proc/self/cgroup": "5:memory:/\n4:cpuset:/docker/1\n0::/other\n",
                "/sys/fs/cgroup/cpuset/docker/1/cpuset.cpus": "1-4\n",
                "/sys/fs/cgroup/cpuset/docker/1/cpuset.effective_cpus": "1-2\n",
                "/sys/fs/cgroup/unified/other/cpuset.cpus.effective": "7\n",
            },
            "1-2",
            id="version 1 beside version 2, what is in effect first",
        ),
        pytest.param(
            LEGACY | {"/proc/self/cgroup": "4:cpu,cpuset:/docker/1\n", "/sys/fs/cgroup/cpuset/cpuset.cpus": "1-4\n"},
            "1-4",
            id="version 1 in a container, whose own group is the top that it sees",
        ),
        pytest.param(
            {
                "/proc/mounts": "none /dev/cpuset cpuset rw 0 0\n",
                "/proc/self/cpuset": "/batch\n",
                "/dev/cpuset/batch/cpus": "4-15\n",
            },
            "4-7",
            id="without prefix, offline CPUs left out",
        ),
        pytest.param(
            {"/proc/self/status": "Name:\tcat\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n"}, "0-1", id="status"
        ),
        pytest.param(
            {
                "/proc/self/status": "Cpus_allowed_list:\t0-1\n",
                "/sys/devices/system/cpu/isolated": "6-7\n",
            },
            "0-1,6-7",
            id="status of a process that isolcpus keeps off",
        ),
        pytest.param({}, "0-7", id="nothing says less than the online ones"),
    ],
)
def test_allowed_are_the_cpus_of_this_processs_group(make_tree: MakeTree, files: dict[str, str], allowed: str) -> None:
    host = inspect_host(make_tree(ONLINE | files))

    assert str(host.allowed) == allowed
    assert str(host.usable) == allowed


def test_a_group_of_offline_cpus_is_ignored_with_a_warning(make_tree: MakeTree) -> None:
    host = inspect_host(make_tree(ONLINE | UNIFIED | {"/sys/fs/cgroup/cpuset.cpus.effective": "64-65"}))

    assert str(host.allowed) == "0-7"
    assert any("allows CPUs 64-65" in warning for warning in host.warnings)


def test_a_path_that_leads_above_the_top_stays_inside(make_tree: MakeTree) -> None:
    files = {"/proc/self/cgroup": "0::/../../etc\n", "/sys/fs/cgroup/cpuset.cpus.effective": "0-1\n"}

    assert str(inspect_host(make_tree(ONLINE | UNIFIED | files)).allowed) == "0-1"


def test_nodes_may_be_limited_as_well(make_tree: MakeTree) -> None:
    files = {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpuset.mems.effective": "1,3\n"}

    assert inspect_host(make_tree(ONLINE | UNIFIED | files)).allowed_nodes == (1, 3)


def test_without_a_group_no_node_is_said_to_be_allowed(make_tree: MakeTree) -> None:
    assert inspect_host(make_tree(ONLINE)).allowed_nodes is None
