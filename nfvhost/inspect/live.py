"""Facts that no file of /sys or /proc states: asked of the running machine, or read from a capture."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from nfvhost.access.hardware import names_from_hwdb
from nfvhost.access.lenient import LenientRoot
from nfvhost.access.root import Root
from nfvhost.access.sessions import interface_addresses, ssh_connections
from nfvhost.access.vdpa_tool import management_devices
from nfvhost.errors import DocumentError
from nfvhost.inspect.management import address_of_words
from nfvhost.inspect.ovs import open_vswitch
from nfvhost.inspect.pci import pci_functions
from nfvhost.model.host import OvsInstall
from nfvhost.model.live import Conclusion, HardwareName, LiveFacts

PATH: Final = "/nfvhost/live.json"
_SSH_PORT: Final = "22"
_ESTABLISHED: Final = "01"  # include/net/tcp_states.h
_HINT: Final = "make the capture again with `nfvhost capture`"


def live_facts(root: Root) -> LiveFacts:
    """What the machine was asked; a tree that is no capture of nfvhost has none. DocumentError for a damaged one.

    Source: of a capture /nfvhost/live.json, live the machine itself.
    """
    if not root.live:
        text = root.read_text(PATH)
        return LiveFacts() if text is None else parse_live_facts(text)
    ovs, ports = open_vswitch(root)
    addresses = interface_addresses()
    network = tuple(str(one.pci) for one in pci_functions(root) if one.is_network)
    return LiveFacts(
        architecture=os.uname().machine,
        container=_container(root),
        ovs=ovs,
        ovs_ports=ports,
        vdpa_management_devices=management_devices() if root.exists("/sys/bus/vdpa") else None,
        hardware_names=names_from_hwdb(network) if network else (),
        addresses=addresses,
        ssh_netdevs=ssh_netdevs(root, addresses=addresses, connections=ssh_connections()),
    )


def _container(root: Root) -> str | None:
    """The container manager in the environment of process 1, where this user may read it. Source: systemd-nspawn(1)."""
    for assignment in (LenientRoot(root).read_text("/proc/1/environ") or "").split("\0"):
        if assignment.startswith("container="):
            return assignment.removeprefix("container=") or None
    return None


def ssh_netdevs(
    root: Root, *, addresses: tuple[tuple[str, tuple[str, ...]], ...], connections: tuple[str, ...]
) -> tuple[str, ...]:
    """The interfaces that SSH sessions into this machine come in by, loopback included.

    `connections` are SSH_CONNECTION's values. Source: besides them /proc/net/tcp and tcp6, with the ports of
    /etc/ssh/sshd_config: a session may be seen by none of its variables.
    """
    own: set[str] = set()
    ports = {_SSH_PORT, *re.findall(r"(?mi)^\s*Port\s+(\d+)", root.read_text("/etc/ssh/sshd_config") or "")}
    for connection in connections:
        fields = connection.split()
        if len(fields) == 4:  # noqa: PLR2004 - sshd(8): peer, its port, own address, own port
            own.add(_plain(fields[2]))
            ports.add(fields[3])
    own.update(_established(root, frozenset(map(int, filter(str.isdecimal, ports)))))
    return tuple(name for name, texts in addresses if any(text.partition("/")[0] in own for text in texts))


def _established(root: Root, ports: frozenset[int]) -> Iterator[str]:
    """Own addresses of established TCP connections into these ports."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (root.read_text(table) or "").splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == _ESTABLISHED and int(port, 16) in ports:
                yield _plain(str(address_of_words(address)))


def _plain(address: str) -> str:
    """The address without a scope, and as IPv4 where it is a mapped one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def captured_facts(facts: LiveFacts) -> str:
    """The JSON document that a capture carries: without addresses, sessions and ports, whose conclusions it states."""
    ovs = facts.ovs
    document = {
        "apiVersion": "nfvhost/v1",
        "kind": "LiveFacts",
        "architecture": facts.architecture,
        "container": facts.container,
        "hardwareNames": [
            {"vendor": one.vendor, "device": one.device, "vendorName": one.vendor_name, "deviceName": one.device_name}
            for one in facts.hardware_names
        ],
        "management": None
        if facts.management is None
        else [{"subject": one.subject, "reason": one.reason} for one in facts.management],
        "ovs": None
        if ovs is None
        else {
            "version": ovs.version,
            "dpdkVersion": ovs.dpdk_version,
            "running": ovs.running,
            "database": ovs.database,
            "bridges": list(ovs.bridges),
            "otherConfig": dict(ovs.other_config),
        },
        "vdpaManagementDevices": facts.vdpa_management_devices,
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def parse_live_facts(text: str) -> LiveFacts:
    """What `captured_facts` wrote; DocumentError for anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"is not JSON: {error}", where=PATH, hint=_HINT) from error
    if not isinstance(document, dict) or document.get("kind") != "LiveFacts":
        raise DocumentError("is not a document of kind LiveFacts", where=PATH, hint=_HINT)
    if document.get("apiVersion") != "nfvhost/v1":
        raise DocumentError(
            f"has apiVersion {document.get('apiVersion')!r}, and this nfvhost reads nfvhost/v1",
            where=PATH,
            hint="use the nfvhost that made the capture, or a later one",
        )
    try:
        return _facts(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DocumentError(f"lacks something or has it in another form: {error}", where=PATH, hint=_HINT) from error


def _facts(document: Mapping[str, Any]) -> LiveFacts:
    ovs, management, devices = document["ovs"], document["management"], document["vdpaManagementDevices"]
    return LiveFacts(
        architecture=_optional(document["architecture"]),
        container=_optional(document["container"]),
        ovs=None if ovs is None else _ovs(ovs),
        vdpa_management_devices=None if devices is None else tuple(map(_text, devices)),
        hardware_names=tuple(
            HardwareName(
                vendor=_text(one["vendor"]),
                device=_text(one["device"]),
                vendor_name=_optional(one["vendorName"]),
                device_name=_optional(one["deviceName"]),
            )
            for one in document["hardwareNames"]
        ),
        management=None
        if management is None
        else tuple(Conclusion(subject=_text(one["subject"]), reason=_text(one["reason"])) for one in management),
    )


def _ovs(document: Mapping[str, Any]) -> OvsInstall:
    return OvsInstall(
        version=_text(document["version"]),
        dpdk_version=_optional(document["dpdkVersion"]),
        running=document["running"] is True,
        database=_optional(document["database"]),
        bridges=tuple(map(_text, document["bridges"])),
        other_config=tuple(sorted((key, _text(value)) for key, value in document["otherConfig"].items())),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _optional(value: object) -> str | None:
    return None if value is None else _text(value)
