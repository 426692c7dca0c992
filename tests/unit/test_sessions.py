"""The interfaces that SSH sessions come in by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nfvhost.access.root import DirectoryRoot
from nfvhost.inspect.live import ssh_netdevs

MakeTree = Callable[[Mapping[str, Any]], DirectoryRoot]

ADDRESSES = (
    ("eth0", ("192.0.2.5/24", "fe80::1/64")),
    ("eth1", ("198.51.100.7/24", "2001:db8::7/64")),
    ("lo", ("127.0.0.1/8", "::1/128")),
)
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue\n"
# 192.0.2.5:22, 198.51.100.7:22 and :2222 as a little-endian kernel prints them, from 192.0.2.9:40000.
SESSION = "   0: 050200C0:0016 090200C0:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1\n"
OTHER_PORT = "   1: 076433C6:08AE 090200C0:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2\n"
LISTENING = "   2: 076433C6:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3\n"
OUTWARD = "   3: 076433C6:9C40 090200C0:0016 01 00000000:00000000 00:00000000 00000000     0        0 4\n"
# 2001:db8::7 and the mapped 192.0.2.5, port 22
SIX = "   0: B80D0120000000000000000007000000:0016 B80D0120000000000000000009000000:9C40 01 0 0 0 0 0\n"
MAPPED = "   1: 0000000000000000FFFF0000050200C0:0016 0000000000000000FFFF0000090200C0:9C40 01 0 0 0 0 0\n"


@pytest.mark.parametrize(
    ("files", "netdevs"),
    [
        ({}, ()),
        ({"/proc/net/tcp": HEAD + SESSION}, ("eth0",)),
        ({"/proc/net/tcp": HEAD + OTHER_PORT + LISTENING + OUTWARD}, ()),
        ({"/proc/net/tcp": HEAD + OTHER_PORT, "/etc/ssh/sshd_config": "#Port 22\n  Port 2222\n"}, ("eth1",)),
        ({"/proc/net/tcp6": HEAD + SIX}, ("eth1",)),
        ({"/proc/net/tcp6": HEAD + MAPPED}, ("eth0",)),
        ({"/proc/net/tcp": HEAD + SESSION, "/proc/net/tcp6": HEAD + SIX}, ("eth0", "eth1")),
    ],
)
def test_an_established_session_is_found_in_the_tables_of_the_kernel(
    make_tree: MakeTree, files: dict[str, str], netdevs: tuple[str, ...]
) -> None:
    assert ssh_netdevs(make_tree(files), addresses=ADDRESSES, connections=()) == netdevs


@pytest.mark.parametrize(
    ("connection", "netdevs"),
    [
        ("192.0.2.9 40000 192.0.2.5 22", ("eth0",)),
        ("fe80::9%eth0 40000 fe80::1%eth0 22", ("eth0",)),
        ("::ffff:192.0.2.9 40000 ::ffff:198.51.100.7 22", ("eth1",)),
        ("127.0.0.1 40000 127.0.0.1 22", ("lo",)),
        ("192.0.2.9 40000 203.0.113.1 22", ()),
        ("nonsense", ()),
        ("a b c d", ()),
    ],
)
def test_the_variable_of_a_session_names_its_own_address(
    make_tree: MakeTree, connection: str, netdevs: tuple[str, ...]
) -> None:
    assert ssh_netdevs(make_tree({}), addresses=ADDRESSES, connections=(connection,)) == netdevs


def test_the_port_of_the_own_session_finds_the_sessions_of_others(make_tree: MakeTree) -> None:
    root = make_tree({"/proc/net/tcp": HEAD + OTHER_PORT})
    connections = ("192.0.2.9 40000 192.0.2.5 2222",)
    assert ssh_netdevs(root, addresses=ADDRESSES, connections=connections) == ("eth0", "eth1")
