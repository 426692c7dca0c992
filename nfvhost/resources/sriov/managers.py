"""Files that tell NetworkManager and systemd-networkd to leave VFs alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.model.pci import PciAddress

# udev(7). Both managers go by what udev says of an interface: NetworkManager(8) by NM_UNMANAGED, systemd-networkd by
# ID_NET_MANAGED_BY since 255 (systemd.network(5)), before that by a file that matches a property of our own.
RULES: Final = "/etc/udev/rules.d/90-nfvhost-vfs.rules"
# The first file that matches an interface is the only one: before netplan's and cloud-init's 10-*.network.
NETWORK: Final = "/etc/systemd/network/00-nfvhost-vfs.network"
FILES: Final = (RULES, NETWORK)
_HEAD: Final = "# Written by nfvhost, as a whole.\n"
_SLOT: Final = re.compile(r"PCI_SLOT_NAME=([0-9a-f:.]+)\*")
# `physfn` leads from a VF to its PF from the moment that the VF is there, whatever its interface is called; the uevent
# of the PF names its address (drivers/pci/pci-driver.c, pci_uevent). Without `move` a VF that comes back from another
# network namespace under a new name is taken (openshift/sriov-network-operator#414).
_RULE: Final = (
    'SUBSYSTEM=="net", ACTION=="add|change|move", ATTR{{device/physfn/uevent}}=="*PCI_SLOT_NAME={pci}*", '
    'ENV{{NFVHOST_VF}}="1", ENV{{NM_UNMANAGED}}="1", ENV{{ID_NET_MANAGED_BY}}="unmanaged"\n'
)
_UNMANAGED: Final = "[Match]\nProperty=NFVHOST_VF=1\n\n[Link]\nUnmanaged=yes\n"
_UDEV: Final = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd", "/usr/bin/udevadm", "/sbin/udevadm")
_NETWORK_MANAGER: Final = ("/usr/sbin/NetworkManager", "/usr/bin/NetworkManager")
_NETWORKD: Final = ("/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd")
_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Managers:
    """Which of them is installed."""

    udev: bool
    network_manager: bool
    networkd: bool


def read_managers(root: Root) -> Managers:
    """Source: the places of their programs."""
    return Managers(
        udev=any(map(root.exists, _UDEV)),
        network_manager=any(map(root.exists, _NETWORK_MANAGER)),
        networkd=any(map(root.exists, _NETWORKD)),
    )


def wanted_texts(managers: Managers, pfs: tuple[PciAddress, ...]) -> dict[str, str | None]:
    """Path -> the ports that it is to name, `0000:21:00.0 0000:41:00.0`; None where it is not to be there."""
    named = " ".join(map(str, sorted(pfs))) or None
    managed = managers.udev and (managers.network_manager or managers.networkd)
    return {
        RULES: named if managed else None,
        NETWORK: named if managed and managers.networkd else None,
    }


def content_of(path: str, text: str | None) -> bytes | None:
    """What the file holds that names these ports; None where it is not to be there."""
    if text is None:
        return None
    ports = "".join(_RULE.format(pci=pci) for pci in text.split())
    # All VFs of ours have the property; the ports are named for people, and so that a change is one of this file too.
    return (_HEAD + (ports if path == RULES else f"# VFs of {text}\n{_UNMANAGED}")).encode()


def text_of(path: str, content: bytes | None) -> str | None:
    """The ports that a file names, and whether somebody edited it; None where there is none."""
    if content is None:
        return None
    text = content.decode(errors="replace")
    named = " ".join(_SLOT.findall(text) or re.findall(r"(?m)^# VFs of (.*)$", text))
    return named if named and content_of(path, named) == content else f"{named or 'something else'}, edited"


def reload(machine: Machine, *, interfaces: tuple[str, ...] = ()) -> None:
    """Nothing, once those that run have read their files; then udev looks at these interfaces again."""
    root = machine.root
    if root.exists("/run/udev/control") and machine.find("udevadm") is not None:
        machine.check(("udevadm", "control", "--reload"), timeout_s=_TIMEOUT_S)
        if interfaces:
            folders = (f"/sys/class/net/{name}" for name in interfaces)
            machine.check(("udevadm", "trigger", "--action=change", *folders), timeout_s=_TIMEOUT_S)
    if root.exists("/run/systemd/netif/state") and machine.find("networkctl") is not None:
        machine.check(("networkctl", "reload"), timeout_s=_TIMEOUT_S)
