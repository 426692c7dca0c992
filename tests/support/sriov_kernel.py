"""What a kernel does when VFs are asked for: drivers/pci/iov.c, net/core/rtnetlink.c, drivers/vdpa/vdpa.c.

All that changes is in the tree, so that a process that was killed leaves it to the next one.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import synthetic
from pci_kernel import PciFunction, PciKernel
from scratch import ScratchMachine, ScratchRoot

from nfvhost.access.vdpa_netlink import VdpaConfig
from nfvhost.access.vf_settings import VfAttributes, VfSetting, refusal
from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress

X710: Final = "0000:21:00.0"
BNXT: Final = "0000:41:00.0"
MLX5: Final = "0000:61:00.0"
FORGOTTEN: Final = "0000:81:00.0"  # an X710 that somebody gave to vfio-pci
_IDS: Final = {X710: "8086:1572", BNXT: "14e4:16d7", MLX5: "15b3:1019", FORGOTTEN: "8086:1572"}
_DRIVERS: Final = {X710: "i40e", BNXT: "bnxt_en", MLX5: "mlx5_core", FORGOTTEN: "vfio-pci"}
_VF_IDS: Final = {"8086:1572": "8086:154c", "14e4:16d7": "14e4:16dc", "15b3:1019": "15b3:101a"}
_TOTAL: Final = 64
_DEVICES: Final = "sys/bus/pci/devices"
_NET: Final = "sys/class/net"
_VDPA: Final = "sys/bus/vdpa"
_ATTRIBUTES: Final = "attributes"  # stands for what the driver of the PF keeps of a VF
_CONFIG: Final = "config"  # stands for what a vDPA device tells
_NEW: Final = {"mac": "00:00:00:00:00:00", "vlan": "0", "trust": "off", "spoofchk": "on", "state": "auto"}
_NO_RATE: Final = {"max_tx_rate": "0"}
# drivers/net/ethernet/broadcom/bnxt/bnxt_sriov.c, bnxt_sriov_configure
_NEED_LINK: Final = frozenset({"bnxt_en"})
HOST: Final[Host] = synthetic.host(
    packages=2,
    cores=4,
    node_mib=8192,
    nics=[
        synthetic.nic(pci, vendor=ids[:4], device=ids[5:], driver=_DRIVERS[pci], total_vfs=_TOTAL)
        for pci, ids in _IDS.items()
    ],
)


@dataclass
class SriovKernel:
    """Ports that make VFs, and what is to go wrong."""

    pci: PciKernel
    grants: dict[str, int] = field(default_factory=dict)  # port -> the most VFs that its driver makes
    refuses: dict[str, int] = field(default_factory=dict)  # port -> errno of its sriov_configure
    refused: dict[str, int] = field(default_factory=dict)  # "enp33s0f0 vf 0 trust" -> errno of the PF's driver
    vdpa_driver: str | None = "vhost_vdpa"  # what takes a new vDPA device; None: nothing is loaded
    makes_vdpa: tuple[str, ...] = ("mlx5_core",)  # drivers whose vDPA modules are loaded
    vdpa_macs: bool = True  # whether they take VDPA_ATTR_DEV_NET_CFG_MACADDR

    def __call__(self, tree: Path, path: str, text: str, before: str | None) -> None:
        """The reaction to a write."""
        _, _, name = path.rpartition("/")
        place = Path(os.path.realpath(tree / path.strip("/")))
        if name == "sriov_numvfs":
            place.write_text(before or "")
            self._recount(tree, place.parent.name, int(text), before=int(before or 0))
        elif name == "sriov_drivers_autoprobe":
            place.write_text(f"{text.strip()}\n")
        elif f"/{_VDPA}/devices/" in path and name == "driver_override":
            place.write_text(f"{text.strip()}\n" if text.strip() else "(null)\n")
        elif f"/{_VDPA}/drivers/" in path:
            place.write_text(before or "")
            _rebind_vdpa(tree, place.parent.name, name, text)

    def _recount(self, tree: Path, pf: str, count: int, *, before: int) -> None:
        """As sriov_numvfs_store."""
        place = tree / _DEVICES / pf
        if count > int((place / "sriov_totalvfs").read_text()):
            raise _error(errno.ERANGE)
        if count == before:
            return
        if not (place / "driver").is_symlink() or (place / "driver").resolve().name == "vfio-pci":
            raise _error(errno.ENOENT)
        if not count:
            for link in place.glob("virtfn*"):
                self._remove_vf(tree, link.resolve())
        elif before:
            raise _error(errno.EBUSY)
        elif refused := self._refusal(place):
            raise _error(refused)
        made = min(count, self.grants.get(pf, count))
        for number in range(made):
            self.add_vf(tree, pf, number)
        (place / "sriov_numvfs").write_text(f"{made}\n")

    def add_vf(self, tree: Path, pf: str, number: int) -> str:
        """The address of a new VF, as pci_iov_add_virtfn makes it; the drivers are offered it."""
        place = tree / _DEVICES / pf
        ids = ":".join((place / name).read_text().strip().removeprefix("0x") for name in ("vendor", "device"))
        vf = vf_of(pf, number)
        group = 1000 * PciAddress.parse(pf).bus + number
        self.pci.add(tree, PciFunction(pci=vf, ids=_VF_IDS[ids], group=group), physfn=pf, number=number)
        (tree / _DEVICES / vf / _ATTRIBUTES).write_text(json.dumps(_NEW | _NO_RATE))
        self.pci.probe(tree, vf)
        return vf

    def _remove_vf(self, tree: Path, place: Path) -> None:
        """As pci_iov_remove_virtfn; its IOMMU group goes with the last function of it."""
        group = (place / "iommu_group").resolve()
        _remove_vdpa(tree, place.name)
        self.pci.remove(tree, place.name)
        if not any((group / "devices").iterdir()):
            shutil.rmtree(group)

    def _refusal(self, place: Path) -> int | None:
        """The errno of the driver's sriov_configure."""
        if (place / "driver").resolve().name in _NEED_LINK:
            flags = next(place.glob("net/*/flags")).read_text()
            if not int(flags, 16) & 1:
                return errno.ENETDOWN
        return self.refuses.get(place.name)


@dataclass
class SimulatedLinks:
    """The door by netlink to such a kernel."""

    root: ScratchRoot
    kernel: SriovKernel

    @property
    def tree(self) -> Path:
        """Where all is."""
        return self.root.directory

    def read_vfs(self, netdevs: Iterable[str]) -> dict[str, tuple[VfAttributes, ...]]:
        found = {}
        for netdev in netdevs:
            device = self.tree / _NET / netdev / "device"
            if device.exists():
                numbers = sorted(int(link.name.removeprefix("virtfn")) for link in device.glob("virtfn*"))
                found[netdev] = tuple(_attributes(device / f"virtfn{number}", number) for number in numbers)
        return found

    def write_vf(self, netdev: str, *, vf: int, setting: VfSetting, text: str) -> None:
        where = f"{netdev} vf {vf} {setting.value}"
        self._changing(f"{where} {text}")
        file = self.tree / _NET / netdev / "device" / f"virtfn{vf}" / _ATTRIBUTES
        if where in self.kernel.refused:
            raise refusal(self.kernel.refused[where], where)
        if not file.exists():
            raise refusal(errno.EINVAL, where)
        file.write_text(json.dumps(json.loads(file.read_text()) | {setting.value: text}))

    def set_up(self, netdev: str, *, up: bool) -> None:
        self._changing(f"{netdev} {'up' if up else 'down'}")
        (self.tree / _NET / netdev / "flags").write_text("0x1003\n" if up else "0x1002\n")

    def vdpa_management_devices(self) -> tuple[str, ...]:
        places = sorted((self.tree / _DEVICES).iterdir())
        return tuple(
            f"pci/{one.name}"
            for one in places
            if (one / "physfn").is_symlink() and (one / "driver").resolve().name in self.kernel.makes_vdpa
        )

    def vdpa_configs(self) -> tuple[VdpaConfig, ...]:
        folder = self.tree / _VDPA / "devices"
        found = []
        for one in sorted(folder.iterdir()) if folder.is_dir() else ():
            config = json.loads((one / _CONFIG).read_text())
            found.append(
                VdpaConfig(name=one.name, mac=config["mac"], queue_pairs=config["queue_pairs"], mtu=config["mtu"])
            )
        return tuple(found)

    def add_vdpa(
        self, name: str, *, management: str, mac: str | None, queue_pairs: int | None, mtu: int | None
    ) -> None:
        self._changing(f"vdpa dev add name {name} mgmtdev {management}")
        if management not in self.vdpa_management_devices():
            raise refusal(errno.ENODEV, name)
        if mac is not None and not self.kernel.vdpa_macs:
            raise refusal(errno.EOPNOTSUPP, name)
        place = Path(os.path.realpath(self.tree / _DEVICES / management.removeprefix("pci/"))) / name
        if place.exists() or any(one.name.startswith("vdpa") for one in place.parent.iterdir()):
            raise refusal(errno.ENOSPC, name)
        add_vdpa(self.tree, place, driver=self.kernel.vdpa_driver, mac=mac, queue_pairs=queue_pairs, mtu=mtu)

    def remove_vdpa(self, name: str) -> None:
        self._changing(f"vdpa dev del {name}")
        link = self.tree / _VDPA / "devices" / name
        if not link.is_symlink():
            raise refusal(errno.ENODEV, name)
        _take_vdpa(self.tree, link)

    def _changing(self, what: str) -> None:
        try:
            self.root.changing("netlink", what)
        except OSError as error:
            raise refusal(error.errno or 0, what) from error


def booted(scratch: ScratchMachine) -> SriovKernel:
    """The kernel of a machine with these ports, none of which has VFs."""
    made = SriovKernel(
        PciKernel(
            drivers={
                "i40e": ("8086:1572",),
                "iavf": ("8086:154c",),
                "bnxt_en": ("14e4:16d7", "14e4:16dc"),
                "mlx5_core": ("15b3:1019", "15b3:101a"),
                "vfio-pci": (),
            }
        )
    )
    functions = [
        PciFunction(
            pci=pci,
            ids=ids,
            driver=_DRIVERS[pci],
            override="vfio-pci" if _DRIVERS[pci] == "vfio-pci" else None,
            group=10 + number,
            total_vfs=_TOTAL,
            up=pci in {X710, MLX5},
        )
        for number, (pci, ids) in enumerate(_IDS.items())
    ]
    made.pci.make(scratch, *functions)
    for driver in ("vhost_vdpa", "virtio_vdpa"):
        for name in ("bind", "unbind"):
            scratch.put(f"/{_VDPA}/drivers/{driver}/{name}", "")
    scratch.put(f"/{_VDPA}/devices/", "")
    scratch.kernel.reactions.append(made)
    scratch.kernel.links = lambda root: SimulatedLinks(root, made)
    return made


def kernel_of(scratch: ScratchMachine) -> SriovKernel:
    """The kernel of such a machine."""
    return next(one for one in scratch.kernel.reactions if isinstance(one, SriovKernel))


def with_vfs(scratch: ScratchMachine, pf: str, count: int, **settings: str) -> SriovKernel:
    """The same, where a port has VFs that somebody made and set up."""
    made = booted(scratch)
    for number in range(count):
        vf = made.add_vf(scratch.tree, pf, number)
        file = scratch.tree / _DEVICES / vf / _ATTRIBUTES
        file.write_text(json.dumps(json.loads(file.read_text()) | {"mac": f"52:54:00:00:00:{number:02x}"} | settings))
    scratch.put(f"/{_DEVICES}/{pf}/sriov_numvfs", f"{count}\n")
    return made


def give_to_vfio(scratch: ScratchMachine, vf: str) -> None:
    """Nothing, once that VF is bound to vfio-pci, as driverctl(8) does it."""
    root = scratch.machine().root
    bound = scratch.tree / _DEVICES / vf / "driver"
    root.write_attribute(f"/{_DEVICES}/{vf}/driver_override", "vfio-pci")
    if bound.is_symlink():
        root.write_attribute(f"/sys/bus/pci/drivers/{bound.resolve().name}/unbind", vf)
    root.write_attribute("/sys/bus/pci/drivers_probe", vf)
    scratch.kernel.calls.clear()


def with_vdpa(scratch: ScratchMachine, vf: str, name: str, *, driver: str = "virtio_vdpa", **config: int | str) -> None:
    """Nothing, once somebody has made that vDPA device."""
    known: dict[str, Any] = {"mac": "52:54:00:99:00:00", "queue_pairs": 4, "mtu": 9000}
    place = Path(os.path.realpath(scratch.tree / _DEVICES / vf)) / name
    add_vdpa(scratch.tree, place, driver=driver, **(known | config))


def vdpa_driver(scratch: ScratchMachine, name: str) -> str | None:
    """What is bound to that device; None where nothing is, or it is not there."""
    link = scratch.tree / _VDPA / "devices" / name / "driver"
    return link.resolve().name if link.is_symlink() else None


def vf_of(pf: str, number: int) -> str:
    """The address of a VF: First VF Offset 128, VF Stride 2, as an 82576 has it (pci_iov_virtfn_devfn)."""
    at = PciAddress.parse(pf)
    number = (at.device << 3) + at.function + 128 + 2 * number
    return str(PciAddress(at.domain, at.bus, number >> 3, number & 7))


def attribute(scratch: ScratchMachine, vf: str, setting: str) -> str:
    """What is set for a VF."""
    value: str = json.loads(scratch.read(f"/{_DEVICES}/{vf}/{_ATTRIBUTES}"))[setting]
    return value


def set_attribute(scratch: ScratchMachine, vf: str, setting: str, text: str) -> None:
    """Nothing, once somebody else has set it so."""
    file = scratch.tree / _DEVICES / vf / _ATTRIBUTES
    file.write_text(json.dumps(json.loads(file.read_text()) | {setting: text}))


def hold(scratch: ScratchMachine, file: str, *, pid: int = 4711, guest: str | None = "vnf-1") -> None:
    """Nothing, once a QEMU has that file open."""
    scratch.put(f"/proc/{pid}/comm", "qemu-system-x86\n")
    name = f"-name\0guest={guest},debug-threads=on\0" if guest is not None else ""
    scratch.put(f"/proc/{pid}/cmdline", f"/usr/bin/qemu-system-x86_64\0{name}-m\0004096\0")
    scratch.put(f"/proc/{pid}/fd/", "")
    (scratch.tree / f"proc/{pid}/fd/33").symlink_to(file)


def add_vdpa(
    tree: Path, place: Path, *, driver: str | None, mac: str | None, queue_pairs: int | None, mtu: int | None
) -> None:
    """Nothing, once a vDPA device is there, as vdpa_nl_cmd_dev_add_set_doit and the bus make it."""
    place.mkdir()
    config = {"mac": mac or "00:00:00:00:00:00", "queue_pairs": queue_pairs or 1, "mtu": mtu or 1500}
    (place / _CONFIG).write_text(json.dumps(config))
    (place / "driver_override").write_text("(null)\n")
    _link(tree / _VDPA / "devices" / place.name, place)
    if driver is not None:
        _attach_vdpa(tree, place, driver)


def _rebind_vdpa(tree: Path, driver: str, verb: str, name: str) -> None:
    link = tree / _VDPA / "devices" / name
    if not link.is_symlink():
        raise _error(errno.ENODEV)
    place = link.resolve()
    override = (place / "driver_override").read_text().strip()
    bound = (place / "driver").resolve().name if (place / "driver").is_symlink() else None
    if verb == "unbind" and bound == driver:
        _detach_vdpa(tree, place)
    elif verb == "bind" and bound is None and override in {"(null)", driver}:
        _attach_vdpa(tree, place, driver)
    else:
        raise _error(errno.ENODEV)


def _attach_vdpa(tree: Path, place: Path, driver: str) -> None:
    _link(place / "driver", tree / _VDPA / "drivers" / driver)
    if driver == "vhost_vdpa":
        # drivers/vhost/vdpa.c, vhost_vdpa_probe: the lowest number that is free
        taken = {one.name for one in (tree / _VDPA / "devices").glob("*/vhost-vdpa-*")}
        number = next(number for number in range(len(taken) + 1) if f"vhost-vdpa-{number}" not in taken)
        (place / f"vhost-vdpa-{number}").mkdir()


def _detach_vdpa(tree: Path, place: Path) -> None:
    del tree
    (place / "driver").unlink()
    for one in place.glob("vhost-vdpa-*"):
        one.rmdir()


def _take_vdpa(tree: Path, link: Path) -> None:
    place = link.resolve()
    if (place / "driver").is_symlink():
        _detach_vdpa(tree, place)
    link.unlink()
    shutil.rmtree(place)


def _remove_vdpa(tree: Path, vf: str) -> None:
    folder = tree / _VDPA / "devices"
    for link in sorted(folder.iterdir()) if folder.is_dir() else ():
        if link.resolve().parent.name == vf:
            _take_vdpa(tree, link)


def _attributes(vf: Path, number: int) -> VfAttributes:
    kept: Mapping[str, str] = json.loads((vf / _ATTRIBUTES).read_text())
    return VfAttributes(vf=number, **{setting.name.lower(): kept.get(setting.value) for setting in VfSetting})


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(target, place.parent))


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


# What runs of udev and networkd: they have read what was there at their last reload.
UDEVADM: Final = r"""
[ "$1" = control ] || exit 0
rm -f "$tree/run/udev/has-read"
cp "$tree"/etc/udev/rules.d/*.rules "$tree/run/udev/has-read" 2>/dev/null || :
"""
NETWORKCTL: Final = r"""
[ "$1" = reload ]
rm -f "$tree/run/systemd/netif/has-read"
cp "$tree"/etc/systemd/network/*.network "$tree/run/systemd/netif/has-read" 2>/dev/null || :
"""
PROGRAMS: Final = {"udevadm": UDEVADM, "networkctl": NETWORKCTL}
# Debian with NetworkManager, systemd-networkd running as well.
MANAGED: Final = {
    "/usr/lib/systemd/systemd-udevd": "",
    "/usr/lib/systemd/systemd-networkd": "",
    "/usr/sbin/NetworkManager": "",
    "/run/udev/control": "",
    "/run/systemd/netif/state": "OPER_STATE=routable\n",
}
