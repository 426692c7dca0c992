"""Captured machines are the same machine once nfvhost has captured them again."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nfvhost.access.archive import open_root
from nfvhost.inspect import inspect_host
from nfvhost.inspect.capture import write_capture
from nfvhost.model.host import Host
from nfvhost.planfile import default_profile
from nfvhost.planner import make_plan

if TYPE_CHECKING:
    from tests.conftest import Machine


def without_macs(host: Host) -> Host:
    return replace(
        host,
        nics=tuple(replace(nic, mac=None) for nic in host.nics),
        netdevs=tuple(replace(one, mac=None) for one in host.netdevs),
    )


def test_the_archive_reads_like_the_folder(machine: Machine) -> None:
    assert inspect_host(open_root(str(machine.archive))) == machine.host


def test_a_capture_is_the_same_machine(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "host.tar.xz"
    written = write_capture(machine.root, str(path))
    again = inspect_host(open_root(str(path)))
    assert again == without_macs(machine.host)
    assert make_plan(again, default_profile()) == make_plan(machine.host, default_profile())
    assert written.size == path.stat().st_size
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    assert all(one.isreg() or one.isdir() for one in members)
    assert not any(one.name.startswith("/") or ".." in one.name.split("/") for one in members)


def test_a_capture_with_macs_is_the_same_machine_in_full(captured: Callable[[str], Machine], tmp_path: Path) -> None:
    machine = captured("hwloc-40intel64-2g2n4c_pcilocality")
    assert any(nic.mac for nic in machine.host.nics)
    write_capture(machine.root, str(tmp_path / "host.tar.xz"), with_macs=True)
    assert inspect_host(open_root(str(tmp_path / "host.tar.xz"))) == machine.host
