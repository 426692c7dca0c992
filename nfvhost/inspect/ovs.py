"""The Open vSwitch of the running machine."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access import ovs_client
from nfvhost.access.root import Root
from nfvhost.inspect.pci import parse_address
from nfvhost.model.host import OvsInstall
from nfvhost.model.live import BridgePort
from nfvhost.model.pci import PciAddress

# ovs-vswitchd(8): the run directory of packages, and of a build from source.
_RUN_DIRECTORIES: Final = ("/run/openvswitch", "/var/run/openvswitch", "/usr/local/var/run/openvswitch")
_PCI: Final = re.compile(r"(?:class=eth,)?([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7])(?:,.*)?")


def open_vswitch(root: Root) -> tuple[OvsInstall | None, tuple[BridgePort, ...]]:
    """The installed or running Open vSwitch, and the ports of its bridges; None and nothing without one.

    Of a running one, the versions are its own. `dpdk_version` is that of any installed build with DPDK where none
    runs. Source: `ovs-vswitchd --version`, and the tables of ovs-vswitchd.conf.db(5).
    """
    directory = next((path for path in _RUN_DIRECTORIES if root.exists(f"{path}/db.sock")), None)
    database = ovs_client.ask_database(f"unix:{directory}/db.sock") if directory is not None else None
    running = any(_runs(root, path) for path in _RUN_DIRECTORIES)
    stated: ovs_client.Versions | None = None
    if database is not None and database.ovs_version is not None:
        stated = ovs_client.Versions(ovs=database.ovs_version, dpdk=database.dpdk_version)
    # A database keeps the versions of the last run; the programs may be in a container, out of sight.
    versions = stated if running and stated is not None else ovs_client.installed_versions() or stated
    if versions is None:
        return None, ()
    install = OvsInstall(
        version=versions.ovs,
        dpdk_version=versions.dpdk,
        running=running,
        database=database.address if database is not None else None,
        bridges=database.bridges if database is not None else (),
        other_config=database.other_config if database is not None else (),
    )
    ports = database.ports if database is not None else ()
    return install, tuple(
        BridgePort(bridge=port.bridge, interface=port.interface, pci=_function(port.devargs)) for port in ports
    )


def _runs(root: Root, directory: str) -> bool:
    """Whether the daemon that wrote its process id there is alive."""
    pid = root.read_int(f"{directory}/ovs-vswitchd.pid")
    return pid is not None and (root.read_line(f"/proc/{pid}/comm") or "").startswith("ovs-vswitchd")


def _function(devargs: str | None) -> PciAddress | None:
    match = _PCI.fullmatch(devargs or "")
    return parse_address(match[1]) if match is not None else None
