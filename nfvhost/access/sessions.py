"""Who is logged in from elsewhere, and the addresses of this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket


def ssh_connections() -> tuple[str, ...]:
    """What SSH_CONNECTION says in this process or above it, each once: `<peer> <port> <own address> <port>`.

    sudo and su drop the variable, so the processes above are asked as well, as far as this user may look.
    Source: sshd(8).
    """
    import psutil  # noqa: PLC0415 - costs 12 ms, and only the live machine needs it

    found = [os.environ.get("SSH_CONNECTION", "")]
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().parents():
            with contextlib.suppress(psutil.Error):
                found.append(process.environ().get("SSH_CONNECTION", ""))
    return tuple(dict.fromkeys(filter(None, found)))


def interface_addresses() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each interface that has IP addresses, with them: `192.0.2.1/24`, without scopes; sorted."""
    import psutil  # noqa: PLC0415 - as above

    found: list[tuple[str, tuple[str, ...]]] = []
    for name, addresses in psutil.net_if_addrs().items():
        texts = {
            f"{address.address.partition('%')[0]}{_prefix(address.netmask)}"
            for address in addresses
            if address.family in {socket.AF_INET, socket.AF_INET6}
        }
        if texts:
            found.append((name, tuple(sorted(texts))))
    return tuple(sorted(found))


def _prefix(netmask: str | None) -> str:
    """`/24` of 255.255.255.0, `/64` of ffff:ffff:ffff:ffff::; empty without a mask."""
    if netmask is None:
        return ""
    return f"/{int(ipaddress.ip_address(netmask)).bit_count()}"
