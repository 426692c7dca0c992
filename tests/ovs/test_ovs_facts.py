"""What an inspection learns of a real Open vSwitch."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nfvhost.access.command import check, find
from nfvhost.access.ovs_client import Port, ask_database, installed_versions

if TYPE_CHECKING:
    from collections.abc import Callable

# Fixtures of tests/ovs/conftest.py have no importable type.
Switch = Any


def test_a_running_switch_says_what_it_holds(new_switch: Callable[[], Switch], pmd_cpu: int) -> None:
    switch = new_switch()
    switch.start_dpdk(pmd_cpu)
    switch.add_bridge("br-phy")
    switch.add_port("br-phy", "null0", "type=dpdk", "options:dpdk-devargs=net_null0")
    switch.add_bridge("br-int")
    found = ask_database(switch.sandbox.ovsdb)
    assert found is not None
    assert found.bridges == ("br-int", "br-phy")
    assert found.ports == (
        Port(bridge="br-int", interface="br-int", devargs=None),
        Port(bridge="br-phy", interface="br-phy", devargs=None),
        Port(bridge="br-phy", interface="null0", devargs="net_null0"),
    )
    assert dict(found.other_config)["dpdk-init"] == "true"
    version = switch.vsctl("get", "Open_vSwitch", ".", "ovs_version").strip('"')
    assert found.ovs_version == version
    assert f"DPDK {found.dpdk_version}" == switch.vsctl("get", "Open_vSwitch", ".", "dpdk_version").strip('"')


def test_the_installed_build_with_dpdk_is_found_even_where_another_is_the_default() -> None:
    versions = installed_versions()
    assert versions is not None
    assert versions.dpdk is not None
    assert versions.ovs in check(["ovs-vsctl", "--version"], timeout_s=10).stdout


def test_a_database_that_is_not_there_does_not_answer(tmp_path: Path) -> None:
    assert ask_database(f"unix:{tmp_path}/db.sock") is None


def test_a_socket_that_nobody_serves_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(tmp_path / "db.sock"))
    assert ask_database(f"unix:{tmp_path}/db.sock") is None


@pytest.mark.parametrize("columns", [{}, {"Open_vSwitch": {"columns": {"other_config": {"type": "string"}}}}])
def test_a_database_of_another_kind_cannot_be_asked(tmp_path: Path, columns: dict[str, Any]) -> None:
    program = find("ovsdb-server")
    assert program is not None
    schema = {"name": "Open_vSwitch", "version": "1.0.0", "tables": columns}
    (tmp_path / "schema").write_text(json.dumps(schema))
    check(["ovsdb-tool", "create", str(tmp_path / "conf.db"), str(tmp_path / "schema")], timeout_s=10)
    arguments = [
        "--no-chdir",
        f"--remote=punix:{tmp_path}/db.sock",
        f"--unixctl={tmp_path}/ctl",
        str(tmp_path / "conf.db"),
    ]
    with subprocess.Popen([program, *arguments], stderr=subprocess.DEVNULL) as server:
        try:
            while not (tmp_path / "ctl").exists():
                assert server.poll() is None
            assert ask_database(f"unix:{tmp_path}/db.sock") is None
        finally:
            server.terminate()
