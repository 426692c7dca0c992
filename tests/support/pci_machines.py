"""A machine with ports of several kinds, for what is done to their drivers."""

from __future__ import annotations

from typing import Final

import synthetic
from pci_kernel import BRIDGE, PciFunction, PciKernel
from scratch import ScratchMachine

from nfvhost.model.host import Host

X710: Final = "0000:10:00.0"
X710_TWIN: Final = "0000:10:00.1"
IGB: Final = "0000:21:00.0"  # with SR-IOV
IGB_VFS: Final = ("0000:21:10.0", "0000:21:10.2")
FORGOTTEN: Final = "0000:22:00.0"  # a port that somebody gave to vfio-pci, and that is to make VFs
MLX5: Final = "0000:41:00.0"
ROOT_PORT: Final = "0000:00:01.0"

_IDS: Final = {X710: "8086:1572", X710_TWIN: "8086:1572", IGB: "8086:10c9", FORGOTTEN: "8086:10c9", MLX5: "15b3:1019"}
_KERNEL_DRIVERS: Final = {X710: "i40e", X710_TWIN: "i40e", IGB: "igb", FORGOTTEN: "igb", MLX5: "mlx5_core"}
_GROUPS: Final = {X710: 11, X710_TWIN: 12, IGB: 13, FORGOTTEN: 14, MLX5: 15}
HOST: Final[Host] = synthetic.host(
    packages=2,
    cores=4,
    node_mib=8192,
    nics=[
        synthetic.nic(pci, vendor=ids[:4], device=ids[5:], driver=_KERNEL_DRIVERS[pci], iommu_group=_GROUPS[pci])
        for pci, ids in _IDS.items()
    ],
)


def kernel() -> PciKernel:
    """A kernel with the drivers of these ports, and vfio-pci."""
    return PciKernel(
        drivers={
            "pcieport": (),
            "i40e": ("8086:1572",),
            "igb": ("8086:10c9",),
            "igbvf": ("8086:10ca",),
            "mlx5_core": ("15b3:1019", "15b3:101a"),
            "vfio-pci": (),
        }
    )


def booted(scratch: ScratchMachine) -> PciKernel:
    """The kernel of the machine, once it has booted with an IOMMU."""
    made = kernel()
    made.make(scratch, *functions())
    return made


def functions(*, iommu: bool = True) -> tuple[PciFunction, ...]:
    """Its functions as they are then."""
    ports = [
        PciFunction(
            pci=pci,
            ids=ids,
            driver="vfio-pci" if pci == FORGOTTEN and iommu else _KERNEL_DRIVERS[pci],
            override="vfio-pci" if pci == FORGOTTEN and iommu else None,
            group=_GROUPS[pci] if iommu else None,
            total_vfs=7 if _KERNEL_DRIVERS[pci] == "igb" else None,
        )
        for pci, ids in _IDS.items()
    ]
    port = PciFunction(
        pci=ROOT_PORT, ids="8086:1901", class_code=BRIDGE, driver="pcieport", group=_GROUPS[X710] if iommu else None
    )
    return (port, *ports)


def booted_with_vfs(scratch: ScratchMachine) -> PciKernel:
    """The same with two VFs, as `sriov` leaves them; the first has been given to a kernel driver."""
    made = booted(scratch)
    add_vfs(scratch, made)
    made.probe(scratch.tree, IGB_VFS[0])
    scratch.put(f"/sys/bus/pci/devices/{IGB}/sriov_drivers_autoprobe", "0\n")
    return made


def add_vfs(scratch: ScratchMachine, made: PciKernel) -> None:
    """Two VFs without a driver, each in a group of its own."""
    for number, pci in enumerate(IGB_VFS):
        made.add(scratch.tree, PciFunction(pci=pci, ids="8086:10ca", group=20 + number), physfn=IGB, number=number)
    scratch.put(f"/sys/bus/pci/devices/{IGB}/sriov_numvfs", f"{len(IGB_VFS)}\n")


def booted_without_iommu(scratch: ScratchMachine) -> PciKernel:
    """The same machine without an IOMMU, with the module vfio in its kernel."""
    made = kernel()
    made.make(scratch, *functions(iommu=False))
    scratch.put("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n")
    scratch.put("/sys/kernel/iommu_groups/", "")
    return made
