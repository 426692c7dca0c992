"""What a kernel does when drivers are bound: drivers/base/{bus,dd}.c, drivers/pci/pci-driver.c, drivers/vfio.

All that changes is in the tree, so that a process that was killed leaves it to the next one.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scratch import ScratchMachine

NETWORK: Final = "0x020000"
BRIDGE: Final = "0x060400"
_DEVICES: Final = "sys/devices/pci0000:00"
_BUS: Final = "sys/bus/pci"
_GROUPS: Final = "sys/kernel/iommu_groups"
_SWITCH: Final = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
_NO_OVERRIDE: Final = "(null)\n"
# They take nothing by an id of its own, and make no interface.
_STUBS: Final = frozenset({"vfio-pci", "pci-stub", "uio_pci_generic"})
_HEADER_TYPE: Final = 0x0E


@dataclass(frozen=True, kw_only=True)
class PciFunction:
    """One function as it is when the machine has booted."""

    pci: str
    ids: str = "8086:1572"
    class_code: str = NETWORK
    driver: str | None = None
    group: int | None = None
    override: str | None = None
    total_vfs: int | None = None  # None: it has no SR-IOV
    up: bool = False  # its interface


@dataclass
class PciKernel:
    """The drivers with the ids that they take, in order of their registration, and what is to go wrong."""

    drivers: Mapping[str, tuple[str, ...]]
    refuses: dict[tuple[str, str], int] = field(default_factory=dict)  # (driver, function) -> errno of its probe
    held: set[str] = field(default_factory=set)  # functions whose unbind would not come to an end

    def make(self, scratch: ScratchMachine, *functions: PciFunction) -> None:
        """Nothing, once the machine has this bus, these functions, and reacts."""
        tree = scratch.tree
        for path in ("drivers_probe", "drivers_autoprobe"):
            _write(tree / _BUS / path, "1\n" if path == "drivers_autoprobe" else "")
        (tree / _BUS / "devices").mkdir(parents=True, exist_ok=True)
        (tree / "sys/class/net").mkdir(parents=True, exist_ok=True)
        for driver in self.drivers:
            self.register(scratch, driver)
        for function in functions:
            self.add(tree, function)
        scratch.kernel.reactions.append(self)

    def register(self, scratch: ScratchMachine, driver: str) -> None:
        """Nothing, once that driver is there, as after modprobe; of a function that it takes nothing happens."""
        for name in ("bind", "unbind"):
            _write(scratch.tree / _BUS / "drivers" / driver / name, "")

    def add(self, tree: Path, function: PciFunction, *, physfn: str | None = None, number: int = 0) -> None:
        """Nothing, once the function is there and bound as it says; a VF is that `number` of its `physfn`."""
        place = tree / _DEVICES / function.pci
        vendor, _, device = function.ids.partition(":")
        config = bytearray(64)
        config[_HEADER_TYPE] = 0x81 if function.class_code == BRIDGE else 0x80
        for name, text in (
            ("vendor", f"0x{vendor}\n"),
            ("device", f"0x{device}\n"),
            ("class", f"{function.class_code}\n"),
            ("numa_node", "0\n"),
            ("driver_override", f"{function.override}\n" if function.override else _NO_OVERRIDE),
        ):
            _write(place / name, text)
        (place / "config").write_bytes(bytes(config))
        if function.total_vfs is not None:
            _write(place / "sriov_totalvfs", f"{function.total_vfs}\n")
            _write(place / "sriov_numvfs", "0\n")
            _write(place / "sriov_drivers_autoprobe", "1\n")
        _link(tree / _BUS / "devices" / function.pci, place)
        if function.group is not None:
            _join_group(tree, function.pci, function.group)
        if physfn is not None:
            _link(place / "physfn", tree / _DEVICES / physfn)
            _link(tree / _DEVICES / physfn / f"virtfn{number}", place)
        if function.driver is not None:
            self._attach(tree, function.driver, function.pci)
        if function.up:
            _write(place / "net" / netdev_of(function.pci) / "flags", "0x1003\n")

    def remove(self, tree: Path, pci: str) -> None:
        """Nothing, once the function is gone, as when a card is pulled or a VF is taken away."""
        place = tree / _DEVICES / pci
        if (place / "driver").is_symlink():
            self._detach(tree, pci)
        group = place / "iommu_group"
        if group.is_symlink():
            (group.resolve() / "devices" / pci).unlink()
        physfn = place / "physfn"
        if physfn.is_symlink():
            for one in physfn.resolve().glob("virtfn*"):
                if one.resolve() == place:
                    one.unlink()
        (tree / _BUS / "devices" / pci).unlink()
        shutil.rmtree(place)

    def probe(self, tree: Path, pci: str) -> None:
        """Nothing; the function has the first driver that takes it, where it has none (dd.c, __device_attach).

        A probe that fails is passed over in silence.
        """
        if (tree / _DEVICES / pci / "driver").is_symlink():
            return
        for driver in self.drivers:
            if self._matches(tree, driver, pci) and not self._refusal(tree, driver, pci):
                self._attach(tree, driver, pci)
                return

    def reboot(self, tree: Path) -> None:
        """Nothing, once all VFs are gone, overrides forgotten, and each function has the driver of its ids."""
        functions = _functions(tree)
        for pci in functions:
            if (tree / _DEVICES / pci / "physfn").is_symlink():
                self.remove(tree, pci)
        for pci in _functions(tree):
            if (tree / _DEVICES / pci / "driver").is_symlink():
                self._detach(tree, pci)
            (tree / _DEVICES / pci / "driver_override").write_text(_NO_OVERRIDE)
            if (tree / _DEVICES / pci / "sriov_numvfs").exists():
                (tree / _DEVICES / pci / "sriov_numvfs").write_text("0\n")
            self.probe(tree, pci)

    def __call__(self, tree: Path, path: str, text: str, before: str | None) -> None:
        """The reaction to a write."""
        place = Path(os.path.realpath(tree / path.strip("/")))
        inside = place.relative_to(os.path.realpath(tree))
        if inside == Path(_SWITCH):
            # kernel/params.c, param_set_bool
            place.write_text("Y\n" if text.strip()[:1] in {"1", "y", "Y"} else "N\n")
        elif inside.name == "driver_override" and inside.is_relative_to(_DEVICES):
            # drivers/base/driver.c, driver_set_override
            place.write_text(f"{text.partition(chr(10))[0]}\n" if text.partition("\n")[0] else _NO_OVERRIDE)
        elif inside == Path(_BUS) / "drivers_probe":
            place.write_text(before or "")
            _demand(tree, text)
            self.probe(tree, text)
        elif inside.parent.parent == Path(_BUS) / "drivers":
            place.write_text(before or "")
            if inside.name == "bind":
                self._bind(tree, inside.parent.name, text)
            elif inside.name == "unbind":
                self._unbind(tree, inside.parent.name, text)

    def _bind(self, tree: Path, driver: str, pci: str) -> None:
        """As bus.c, bind_store; dd.c, device_driver_attach."""
        _demand(tree, pci)
        if not self._matches(tree, driver, pci):
            raise _error(errno.ENODEV)
        if (tree / _DEVICES / pci / "driver").is_symlink():
            raise _error(errno.EBUSY)
        if refusal := self._refusal(tree, driver, pci):
            raise _error(refusal)
        self._attach(tree, driver, pci)

    def _unbind(self, tree: Path, driver: str, pci: str) -> None:
        """As bus.c, unbind_store."""
        _demand(tree, pci)
        if _bound(tree, pci) != driver:
            raise _error(errno.ENODEV)
        assert pci not in self.held, f"the kernel would wait for the user of {pci} without an end"
        self._detach(tree, pci)

    def _matches(self, tree: Path, driver: str, pci: str) -> bool:
        """As pci-driver.c, pci_match_device."""
        place = tree / _DEVICES / pci
        override = (place / "driver_override").read_text()
        if override != _NO_OVERRIDE:
            return override.strip() == driver
        return _ids(place) in self.drivers[driver]

    def _refusal(self, tree: Path, driver: str, pci: str) -> int | None:
        """The errno of its probe; None where it takes the function."""
        place = tree / _DEVICES / pci
        physfn = place / "physfn"
        # pci-driver.c, pci_device_can_probe
        if physfn.is_symlink() and (place / "driver_override").read_text() == _NO_OVERRIDE:
            autoprobe = physfn.resolve() / "sriov_drivers_autoprobe"
            if autoprobe.read_text().strip() == "0":
                return errno.ENODEV
        if "vfio" in driver:
            # vfio_pci_core.c, vfio_pci_core_register_device
            vfs = place / "sriov_numvfs"
            if vfs.exists() and int(vfs.read_text()):
                return errno.EBUSY
            # group.c, vfio_group_find_or_alloc
            if not (place / "iommu_group").is_symlink() and not _goes_without(tree):
                return errno.EINVAL
        return self.refuses.get((driver, pci))

    def _attach(self, tree: Path, driver: str, pci: str) -> None:
        place = tree / _DEVICES / pci
        _link(place / "driver", tree / _BUS / "drivers" / driver)
        _link(tree / _BUS / "drivers" / driver / pci, place)
        if "vfio" in driver and not (place / "iommu_group").is_symlink():
            # group.c, vfio_noiommu_group_alloc
            number = max((int(one.name) for one in (tree / _GROUPS).glob("*")), default=-1) + 1
            _join_group(tree, pci, number)
            _write(tree / _GROUPS / str(number) / "name", "vfio-noiommu\n")
        if driver not in _STUBS and (place / "class").read_text().strip() == NETWORK:
            name = netdev_of(pci)
            for file, text in (("flags", "0x1002\n"), ("operstate", "down\n"), ("mtu", "1500\n")):
                _write(place / "net" / name / file, text)
            _link(place / "net" / name / "device", place)
            _link(tree / "sys/class/net" / name, place / "net" / name)

    def _detach(self, tree: Path, pci: str) -> None:
        place = tree / _DEVICES / pci
        driver = _bound(tree, pci)
        vfs = place / "sriov_numvfs"
        if vfs.exists() and int(vfs.read_text()):
            # What drivers do in their remove: pci_disable_sriov.
            for one in [link.resolve().name for link in place.glob("virtfn*")]:
                self.remove(tree, one)
            vfs.write_text("0\n")
        (tree / _BUS / "drivers" / driver / pci).unlink()
        (place / "driver").unlink()
        group = place / "iommu_group"
        if group.is_symlink() and (group.resolve() / "name").exists():
            shutil.rmtree(group.resolve())
            group.unlink()
        if (place / "net").is_dir():
            shutil.rmtree(place / "net")
            (tree / "sys/class/net" / netdev_of(pci)).unlink()


def netdev_of(pci: str) -> str:
    """The name of its interface, as systemd makes it of the address (systemd.net-naming-scheme(7))."""
    _, bus, rest = pci.split(":")
    device, _, function = rest.partition(".")
    return f"enp{int(bus, 16)}s{int(device, 16)}f{function}"


def _functions(tree: Path) -> list[str]:
    return sorted(one.name for one in (tree / _BUS / "devices").iterdir())


def _demand(tree: Path, pci: str) -> None:
    """As bus.c, bus_find_device_by_name."""
    if not (tree / _BUS / "devices" / pci).exists():
        raise _error(errno.ENODEV)


def _bound(tree: Path, pci: str) -> str:
    link = tree / _DEVICES / pci / "driver"
    return link.resolve().name if link.is_symlink() else ""


def _ids(place: Path) -> str:
    parts: Iterator[str] = ((place / name).read_text().strip().removeprefix("0x") for name in ("vendor", "device"))
    return ":".join(parts)


def _goes_without(tree: Path) -> bool:
    switch = tree / _SWITCH
    return switch.exists() and switch.read_text() == "Y\n"


def _join_group(tree: Path, pci: str, group: int) -> None:
    _link(tree / _GROUPS / str(group) / "devices" / pci, tree / _DEVICES / pci)
    _link(tree / _DEVICES / pci / "iommu_group", tree / _GROUPS / str(group))


def _write(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(target, place.parent))


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
