"""Two VFs for the path through a NIC, and the CPUs that are near them."""

from __future__ import annotations

from typing import Final

from nfvhost.access.root import DirectoryRoot, Root
from nfvhost.access.vfio_holders import vfio_holders
from nfvhost.errors import PreconditionError
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Role

_ROOT: Final = DirectoryRoot("/")
_VFIO: Final = "vfio-pci"
_PAIR: Final = 2


def free_vfs(
    plan: Plan, host: Host, asked: tuple[PciAddress, ...] = (), *, root: Root = _ROOT
) -> tuple[PciAddress, ...]:
    """The two functions that are asked for; of none, two VFs that the plan has for guests.

    PreconditionError where they are not there, not bound to vfio-pci, or in use.
    """
    return _checked(asked, host, root) if asked else _planned(plan, host, root)


def near(vfs: tuple[PciAddress, ...], cpus: CpuSet, host: Host) -> CpuSet:
    """Those of the CPUs that are on the node of the first function; all of them where none is, or it has none."""
    nodes = {nic.node for nic in host.nics if nic.pci == vfs[0]}
    return CpuSet(cpu.id for cpu in host.cpus if cpu.id in cpus and cpu.node in nodes) or cpus


def _checked(asked: tuple[PciAddress, ...], host: Host, root: Root) -> tuple[PciAddress, ...]:
    drivers = {nic.pci: nic.driver for nic in host.nics}
    holders = vfio_holders(root, asked)
    for pci in asked:
        if pci not in drivers:
            raise PreconditionError("there is no such NIC", where=str(pci), hint="nfvhost inspect lists them")
        if drivers[pci] != _VFIO:
            raise PreconditionError(
                f"it is bound to {drivers[pci] or 'no driver'}",
                where=str(pci),
                hint=f"a plan that gives it to SR-IOV binds it to {_VFIO}",
            )
        if pci in holders:
            raise PreconditionError(f"it is in use by {', '.join(holders[pci])}", where=str(pci), hint="another VF")
    return asked


def _planned(plan: Plan, host: Host, root: Root) -> tuple[PciAddress, ...]:
    ports = [nic.pci for nic in plan.nics if nic.role is Role.SRIOV]
    if not ports:
        raise PreconditionError(
            "the plan gives no NIC to SR-IOV", where=f"plan {plan.profile}", hint="--vfs names two functions"
        )
    bound = {nic.pci for nic in host.nics if nic.driver == _VFIO}
    for port in ports:
        vfs = [vf for nic in host.nics if nic.pci == port for vf in nic.vfs if vf in bound]
        holders = vfio_holders(root, vfs)
        free = tuple(vf for vf in vfs if vf not in holders)
        if len(free) >= _PAIR:
            return free[:_PAIR]
    raise PreconditionError(
        f"no two VFs are bound to {_VFIO} and free",
        where=", ".join(map(str, ports)),
        hint="nfvhost apply makes them; a guest may have them",
    )
