"""What libvirt made of a server, where it runs on this machine.

Source: `virsh dumpxml` of the domain, whose UUID is the server's; libvirt.org/formatdomain.html.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Final

from nfvhost.access.command import CommandError, run
from nfvhost.model.cpuset import CpuSet

_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """How a guest runs."""

    kind: str  # "kvm", or "qemu" where it is emulated
    pinned: tuple[tuple[int, CpuSet], ...]  # vCPU -> host CPUs, ascending
    emulator: CpuSet | None
    page_size_kib: int | None  # None: ordinary pages
    interfaces: tuple[tuple[str, str], ...]  # MAC address -> "vhostuser"
    queues: tuple[tuple[str, int], ...]  # MAC address -> queue pairs; without an entry it has one


def read_domain(server: str) -> Domain | None:
    """The domain of a server; None where it is not on this machine, or libvirt's tools are not."""
    uri = os.environ.get("LIBVIRT_DEFAULT_URI", "qemu:///system")
    try:
        said = run(["virsh", "-c", uri, "dumpxml", server], timeout_s=_TIMEOUT_S)
    except CommandError:
        return None
    return parse_domain(said.stdout) if said.code == 0 else None


def parse_domain(text: str) -> Domain:
    """The domain of an XML document of libvirt's."""
    root = ET.fromstring(text)  # noqa: S314 - libvirt's own words about its own guest
    pins = {int(one.get("vcpu", "0")): CpuSet.parse(one.get("cpuset", "")) for one in root.iter("vcpupin")}
    emulator = root.find("./cputune/emulatorpin")
    page = root.find("./memoryBacking/hugepages/page")
    interfaces, queues = {}, {}
    for one in root.findall("./devices/interface"):
        mac, driver = one.find("mac"), one.find("driver")
        address = mac.get("address", "") if mac is not None else ""
        interfaces[address] = one.get("type", "")
        if driver is not None and driver.get("queues") is not None:
            queues[address] = int(driver.get("queues", "1"))
    return Domain(
        kind=root.get("type", ""),
        pinned=tuple(sorted(pins.items())),
        emulator=None if emulator is None else CpuSet.parse(emulator.get("cpuset", "")),
        page_size_kib=None if page is None else int(page.get("size", "0")),
        interfaces=tuple(sorted(interfaces.items())),
        queues=tuple(sorted(queues.items())),
    )
