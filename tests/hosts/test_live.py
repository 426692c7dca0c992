"""The machine that runs the tests, whatever it is, by root and by a user who may read little."""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from nfvhost.access.archive import open_root
from nfvhost.access.command import run
from nfvhost.access.sessions import interface_addresses
from nfvhost.errors import PreconditionError
from nfvhost.inspect import inspect_host
from nfvhost.inspect.capture import write_capture
from nfvhost.model.host import Host

_NOBODY: Final = 65534


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who may read little, where that is not so already; whatever is imported must be so before."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def settled(host: Host) -> Host:
    """The machine without what changes from one moment to the next, and without what no capture has."""
    return replace(
        host,
        available_kib=None,
        nodes=tuple(replace(node, free_kib=None, hugepages=()) for node in host.nodes),
        hugepages=(),
        kernel_args=None,
        nics=tuple(replace(nic, mac=None) for nic in host.nics),
        netdevs=tuple(replace(one, mac=None, addresses=()) for one in host.netdevs),
        warnings=(),
    )


def test_this_machine_is_inspected() -> None:
    host = inspect_host(open_root())
    assert host.online
    assert host.model.architecture == os.uname().machine
    assert host.kernel_version == os.uname().release
    loopback = next(one for one in host.netdevs if one.kind == "loopback")
    assert "127.0.0.1/8" in loopback.addresses


def test_addresses_are_those_of_the_kernel() -> None:
    assert dict(interface_addresses())["lo"][0] == "127.0.0.1/8"


def test_a_capture_of_this_machine_is_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "host.tar.xz"
    there = inspect_host(open_root())
    write_capture(open_root(), str(path))
    assert settled(inspect_host(open_root(str(path)))) == settled(there)


def test_a_capture_of_this_machine_holds_no_address_of_it(tmp_path: Path) -> None:
    path = tmp_path / "host.tar.xz"
    write_capture(open_root(), str(path))
    with tarfile.open(path) as tar:
        content = b"\n".join(file.read() for one in tar if (file := tar.extractfile(one)))
    own = {text.partition("/")[0] for _, texts in interface_addresses() for text in texts} - {"127.0.0.1", "::1"}
    own.update(one.mac for one in inspect_host(open_root()).netdevs if one.mac is not None)
    assert [word for word in own if word.encode() in content] == []


def test_a_user_without_rights_inspects_this_machine() -> None:
    host = inspect_host(open_root())
    with without_rights():
        again = inspect_host(open_root())
    assert (again.cpus, again.netdevs, again.iommu) == (host.cpus, host.netdevs, host.iommu)
    assert [nic.pci for nic in again.nics] == [nic.pci for nic in host.nics]


@pytest.mark.parametrize("kind", ["file", "folder", "folder of the file"])
def test_no_permission_is_told_from_a_bad_capture(tmp_path: Path, kind: str) -> None:
    closed = tmp_path / "closed"
    (closed / "sys").mkdir(parents=True)
    (closed / "host.tar").write_text("x")
    (closed / "host.tar").chmod(0o000)
    path = {"file": closed / "host.tar", "folder": closed, "folder of the file": closed / "host.tar"}[kind]
    closed.chmod(0o755 if kind == "file" else 0o000)
    with without_rights(), pytest.raises(PreconditionError) as caught:
        open_root(str(path))
    closed.chmod(0o755)
    (problem,) = caught.value.problems
    assert problem.where == str(path)
    assert problem.hint
    assert "may not be read by this user" in problem.what


# In a network of its own, with a view of /sys of its own: what a real kernel shows, whatever this machine has.
_NETWORK: Final = """
set -e
ip link set lo up
ip link add veth0 type veth peer name veth1
ip link add br0 type bridge
ip link set veth0 master br0
ip link add macvlan0 link br0 type macvlan
ip tuntap add tap0 mode tap
ip link add vxlan0 type vxlan id 7 dstport 4789
ip link set veth0 up; ip link set veth1 up; ip link set br0 up; ip link set macvlan0 up
ip -6 address add 2001:db8::5/64 dev macvlan0 nodad
ip -6 route add default via 2001:db8::1 dev macvlan0
mount -t sysfs none /sys
exec "$0" -c "$1"
"""
_TELL: Final = """
import json
from nfvhost.access.archive import open_root
from nfvhost.inspect import inspect_host
host = inspect_host(open_root())
print(json.dumps({one.name: [one.kind, list(one.lowers), one.management] for one in host.netdevs}))
print(json.dumps({one.name: list(one.addresses) for one in host.netdevs}))
"""


def test_a_real_kernels_interfaces_are_of_their_kind_and_walked_down() -> None:
    # Root needs no user namespace of its own, and gets none in a chroot.
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    words = ["unshare", *as_root, "--net", "--mount", "sh", "-c", _NETWORK, sys.executable, _TELL]
    done = run(words, timeout_s=60)
    if done.code != 0 and "Operation not permitted" in done.stderr and os.environ.get("NFVHOST_REQUIRE_TIERS") != "1":
        pytest.skip(f"this user may not make a network namespace: {done.stderr.strip()}")
    assert done.code == 0, done.stderr
    interfaces, addresses = map(json.loads, done.stdout.splitlines())
    interfaces = {name: told for name, told in interfaces.items() if name != "lo" and not name.startswith("ifb")}
    route = "carries the default route of IPv6 (macvlan0"
    assert interfaces == {
        "br0": ["bridge", ["veth0"], f"{route} over br0)"],
        "macvlan0": ["virtual", ["br0"], f"{route})"],
        "tap0": ["tun", [], None],
        "veth0": ["veth", [], f"{route} over br0 over veth0)"],
        "veth1": ["veth", [], None],
        "vxlan0": ["virtual", [], None],
    }
    assert "2001:db8::5/64" in addresses["macvlan0"]
