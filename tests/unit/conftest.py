"""Network hardware of a machine, as its kernel would show it in /sys and /proc; a cloud of a few answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from small_cloud import SmallCloud

from nfvhost.access.root import DirectoryRoot
from nfvhost.inspect.iommu import iommu
from nfvhost.inspect.netdev import netdevs
from nfvhost.inspect.nic import nics
from nfvhost.inspect.pci import pci_functions
from nfvhost.model.host import Netdev, Nic
from nfvhost.model.live import LiveFacts

_ZERO_IPV6 = "0" * 32


class Network:
    """Each method adds to a tree in `top`; `netdevs()` and `nics()` say what the product makes of it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.facts = LiveFacts()
        self._folders: dict[str, str] = {}
        (top / "sys").mkdir(parents=True)

    def write(self, path: str, content: str | bytes) -> None:
        """A file."""
        place = self.top / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        place = self.top / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def function(self, pci: str, *, class_code: str = "0x020000", ids: str = "8086:1572", **files: str) -> None:
        """A PCI function without an interface; of `driver`, `iommu_group`, `physfn` and `virtfn<N>` the link's end."""
        folder = f"/sys/devices/pci{pci[:-5]}/{pci}"
        vendor, device = ids.split(":")
        self.link(f"/sys/bus/pci/devices/{pci}", f"../../../devices/pci{pci[:-5]}/{pci}")
        for name, content in {"class": class_code, "vendor": f"0x{vendor}", "device": f"0x{device}", **files}.items():
            if name in {"driver", "iommu_group", "physfn"} or name.startswith("virtfn"):
                self.link(f"{folder}/{name}", f"../{content}")
            else:
                self.write(f"{folder}/{name}", f"{content}\n")

    def port(self, pci: str, name: str, *, between: str = "", driver: str = "i40e", **files: str) -> None:
        """A PCI function with an interface, through `between` (`/virtio0`) where it is given."""
        if not (self.top / f"sys/bus/pci/devices/{pci}").exists():
            self.function(pci, driver=driver)
        parent = f"/sys/devices/pci{pci[:-5]}/{pci}{between}"
        self._interface(name, parent, files)
        self.link(f"{parent}/net/{name}/device", f"../../../{between.rpartition('/')[2] or pci}")

    def virtual(self, name: str, *, over: tuple[str, ...] = (), master_of: tuple[str, ...] = (), **files: str) -> None:
        """An interface without hardware that stands on `over`; it is the master of `master_of`, and stands on it."""
        self._interface(name, "/sys/devices/virtual", files)
        for lower in (*over, *master_of):
            self.link(f"/sys/devices/virtual/net/{name}/lower_{lower}", f"../{lower}")
        for lower in master_of:
            self.link(f"{self._folders[lower]}/master", f"../{name}")

    def _interface(self, name: str, parent: str, files: Mapping[str, str]) -> None:
        self._folders[name] = f"{parent}/net/{name}"
        index = str(len(self._folders))
        self.link(f"/sys/class/net/{name}", f"../..{parent.removeprefix('/sys')}/net/{name}")
        given = {"type": "1", "ifindex": index, "iflink": index, "operstate": "up", **files}
        for attribute, content in given.items():
            self.write(f"{parent}/net/{name}/{attribute.replace('__', '/')}", f"{content}\n")

    def bond(self, name: str, *slaves: str) -> None:
        """A bond."""
        self.virtual(name, master_of=slaves, uevent="DEVTYPE=bond", bonding__slaves=" ".join(slaves))

    def bridge(self, name: str, *ports: str) -> None:
        """A bridge."""
        self.virtual(name, master_of=ports, uevent="DEVTYPE=bridge", bridge__bridge_id="8000.000000000000")

    def vlan(self, name: str, parent: str) -> None:
        """A VLAN."""
        self.virtual(name, over=(parent,), uevent="DEVTYPE=vlan")

    def ipv4_route(self, name: str, *, destination: str = "00000000", mask: str = "00000000", flags: str = "3") -> None:
        """A line of /proc/net/route; addresses as the kernel prints them on x86."""
        line = f"{name}\t{destination}\t010200C0\t{flags:0>4}\t0\t0\t0\t{mask}\t0\t0\t0\n"
        self._append("/proc/net/route", "Iface\tDestination\tGateway\tFlags\n", line)

    def ipv6_route(self, name: str, *, destination: str = _ZERO_IPV6, prefix: str = "00", flags: str = "3") -> None:
        """A line of /proc/net/ipv6_route."""
        numbers = f"00000400 00000001 00000000 {flags:0>8}"
        self._append(
            "/proc/net/ipv6_route", "", f"{destination} {prefix} {_ZERO_IPV6} 00 {_ZERO_IPV6} {numbers} {name:>8}\n"
        )

    def _append(self, path: str, head: str, line: str) -> None:
        place = self.top / path.lstrip("/")
        self.write(path, (place.read_text() if place.exists() else head) + line)

    def address(self, name: str, *addresses: str) -> None:
        """Addresses that a live machine states."""
        self.facts = replace(self.facts, addresses=(*self.facts.addresses, (name, addresses)))

    @property
    def root(self) -> DirectoryRoot:
        """The tree, read afresh."""
        return DirectoryRoot(str(self.top))

    def netdevs(self) -> dict[str, Netdev]:
        """Its interfaces by name."""
        return {one.name: one for one in netdevs(self.root, self.facts)}

    def nics(self) -> dict[str, Nic]:
        """Its NICs by address."""
        root = self.root
        functions = pci_functions(root)
        found = nics(
            root,
            functions=functions,
            remapping=iommu(root, functions),
            interfaces=netdevs(root, self.facts),
            facts=self.facts,
        )
        return {str(nic.pci): nic for nic in found}

    def managing(self) -> dict[str, str]:
        """The NICs that carry management, and why."""
        return {pci: nic.management for pci, nic in self.nics().items() if nic.management is not None}


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """A machine without any network hardware yet."""
    return Network(tmp_path / "machine")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SmallCloud]:
    """It, named by the variables and by nothing else; for tests that are marked `outside`."""
    made = SmallCloud()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for key, said in made.environment.items():
        monkeypatch.setenv(key, said)
    monkeypatch.delenv("OS_CLOUD", raising=False)
    yield made
    made.close()
