"""Why a function must not be given another driver, and what is worth knowing of those that are."""

from __future__ import annotations

from collections.abc import Iterator

from nfvhost.drivers import driver_of
from nfvhost.errors import Problem
from nfvhost.model.host import Host, Netdev, Nic
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import Plan
from nfvhost.resources import Unmet
from nfvhost.resources.driver_binding.state import DRIVERS, Function, Mate, State
from nfvhost.resources.driver_binding.target import SWITCH_PROCESS, Target, identity, is_vf, is_vfio, targets

# drivers/pci/pci-stub.c and drivers/pci/pcie/portdrv.c: driver_managed_dma, they do no DMA of their own.
_HARMLESS = frozenset({None, "pci-stub", "pcieport"})


def refusals(state: State, plan: Plan, host: Host, *, vfs: bool, resource: str) -> Iterator[Problem]:
    """Problems of the functions that are to be changed, each with its key."""
    pending = [
        (target, function)
        for target in targets(plan, vfs=vfs)
        if (function := state.function(target.key)).driver != target.driver or function.pci is None
    ]
    if pending and state.read_only:
        place = f"this is a {host.container} container, whose /sys is" if host.container is not None else "/sys is"
        yield Problem(
            what=f"{place} mounted read-only: no driver can be bound here",
            where=resource,
            hint="apply the plan on the machine itself",
        )
        return
    for target, function in pending:
        where = f"{resource}: {target.key}"
        if function.pci is None:
            yield _absent(target, plan, where=where)
        else:
            yield from _misplaced(target, function, plan, where=where)
            yield from _in_use(function, function.pci, plan, host, where=where)
        if is_vfio(target.driver):
            yield from _not_for_vfio(target, function, state, plan, host, where=where)
        if target.driver not in state.drivers:
            yield Unmet(
                what=f"the kernel has no PCI driver {target.driver} now",
                where=where,
                hint=f"{DRIVERS}/{target.driver} comes with its module",
                met_by="modules",
            )


def remarks(state: State, plan: Plan, *, vfs: bool, resource: str) -> Iterator[Problem]:
    """What is worth saying of them."""
    given = _given_away(state, plan)
    for target in targets(plan, vfs=vfs):
        function = state.function(target.key)
        if function.up and function.driver != target.driver:
            yield Problem(
                what=f"its interface {', '.join(function.up)} is up, and goes with {function.driver}; a rollback "
                "brings it back without addresses, which are for those to set that had set them",
                where=f"{resource}: {target.key}",
            )
        if function.driverctl not in {None, target.driver}:
            yield Problem(
                what=f"driverctl binds it to {function.driverctl} at each boot, and the plan to {target.driver}",
                where=f"{resource}: {target.key}",
                hint=f"remove /etc/driverctl.d/pci-{function.pci}",
            )
        if is_vfio(target.driver) and function.driver == target.driver:
            yield from _not_viable(target, function, given, {}, where=f"{resource}: {target.key}")


def _absent(target: Target, plan: Plan, *, where: str) -> Problem:
    if target.vf is not None:
        return Unmet(what=f"{target.nic.pci} has no VF {target.vf} yet", where=where, met_by="sriov")
    if is_vf(plan, target.nic.pci) and any(nic.vfs for nic in plan.nics):
        return Unmet(what="there is no function at this address yet; it was a VF", where=where, met_by="sriov")
    return Problem(
        what=f"there is no function at this address any more; planned was {target.nic.name}",
        where=where,
        hint="see whether the card is seated and lspci shows it; where it has moved, make a new plan",
    )


def _misplaced(target: Target, function: Function, plan: Plan, *, where: str) -> Iterator[Problem]:
    """Addresses move when a card is put in or a firmware is updated: it must be the card that was planned."""
    planned = identity(plan, target.nic.pci) if target.vf is None else None
    if planned is not None and function.identity != planned:
        yield Problem(
            what=f"is another card by now: planned is {planned}, there is {function.identity}",
            where=where,
            hint="make a new plan: nfvhost plan",
        )
    elif not function.network:
        yield Problem(what=f"is no network function ({function.identity})", where=where, hint="make a new plan")


def _in_use(function: Function, pci: PciAddress, plan: Plan, host: Host, *, where: str) -> Iterator[Problem]:
    """What would stop working, and that nobody agreed to."""
    nic = host.nic(pci)
    if nic is not None and nic.management is not None:
        yield Problem(
            what=f"carries management now: {nic.management}; another driver would cut this host off",
            where=where,
            hint="move the address to another port first, or make a new plan",
        )
        return
    if function.holders:
        what = f"is held by {', '.join(function.holders)}"
        hint = "stop that guest or program, or take the port from it, then apply again"
        if all(who.startswith(SWITCH_PROCESS) for who in function.holders):
            yield Unmet(what=what, where=where, hint=hint, met_by="departing_ports")
        else:
            yield Problem(what=what, where=where, hint=hint)
    if function.vfs:
        yield Problem(
            what=f"has {function.vfs} VFs, which would go with its driver {function.driver or '(none)'}",
            where=where,
            hint=f"end their use, then write 0 to /sys/bus/pci/devices/{pci}/sriov_numvfs",
        )
    busy = next(filter(None, (_business(one, host) for one in host.netdevs if _is_of(one, nic, pci))), None)
    # The planner asks for no agreement but says so (planner/nics.py, _serve_named).
    agreed = any(warning.startswith(f"{pci} is in use (") for warning in plan.warnings)
    if busy is not None and not agreed:
        yield Problem(
            what=f"is in use, which it was not when it was planned: {busy}",
            where=where,
            hint="end that use, or make a new plan that names this port",
        )


def _is_of(netdev: Netdev, nic: Nic | None, pci: PciAddress) -> bool:
    return netdev.pci == pci or (nic is not None and netdev.name in nic.netdevs)


def _business(netdev: Netdev, host: Host) -> str | None:
    upper = next((one.name for one in host.netdevs if netdev.name in one.lowers), None)
    if upper is not None:
        return f"{netdev.name} is a part of {upper}"
    # Each interface that is up has a link-local address of its own making: that is no use of it.
    address = next((one for one in netdev.addresses if not one.lower().startswith("fe80:")), None)
    return f"{netdev.name} has the address {address}" if address is not None else None


def _not_for_vfio(
    target: Target, function: Function, state: State, plan: Plan, host: Host, *, where: str
) -> Iterator[Problem]:
    nics = filter(None, (host.nic(pci) for pci in (function.pci, target.nic.pci) if pci is not None))
    row = next(filter(None, map(driver_of, nics)), None)
    if row is not None and row.bifurcated:
        yield Problem(
            what=f"{row.family} works through its kernel driver {row.kernel[0]} (bifurcated): on {target.driver}, DPDK "
            "does not see it",
            where=where,
            hint="leave it with its kernel driver; libvirt binds a VF to vfio-pci when a guest gets it, and back",
        )
    if plan.unsafe_no_iommu and target.vf is None:
        return
    if not state.groups or (function.pci is not None and function.group is None):
        yield Unmet(what="is in no IOMMU group: vfio would not take it", where=where, met_by="iommu")
    else:
        managed = {nic.pci: nic.management for nic in host.nics if nic.management is not None}
        yield from _not_viable(target, function, _given_away(state, plan), managed, where=where)


def _not_viable(
    target: Target, function: Function, given: frozenset[PciAddress], managed: dict[PciAddress, str], *, where: str
) -> Iterator[Problem]:
    """The mates that keep VFIO from opening the group; the bind itself would be taken.

    Source: drivers/iommu/iommu.c, iommu_group_claim_dma_owner; drivers/vfio/vfio.c of Linux 5.x, vfio_dev_viable.
    """
    strangers = [
        mate
        for mate in function.mates
        if not (mate.bridge or mate.driver in _HARMLESS or is_vfio(mate.driver) or mate.pci in given)
    ]
    if strangers:
        named = ", ".join(_named(mate, managed) for mate in strangers)
        yield Problem(
            what=f"shares IOMMU group {function.group} with {named}: {target.driver} opens a group only where all "
            "of it is given away",
            where=where,
            hint="plan these for vfio-pci too, where the host can do without them, or put the card into another slot",
        )


def _given_away(state: State, plan: Plan) -> frozenset[PciAddress]:
    """The functions that the plan gives to vfio, VFs among them as far as this resource knows their addresses."""
    ports = {nic.pci for nic in plan.nics if is_vfio(nic.driver)}
    addresses = {one.key: one.pci for one in state.functions}
    vfs = {addresses.get(target.key) for target in targets(plan, vfs=True) if is_vfio(target.driver)}
    return frozenset(ports | {pci for pci in vfs if pci is not None})


def _named(mate: Mate, managed: dict[PciAddress, str]) -> str:
    carries = f", which {managed[mate.pci]}" if mate.pci in managed else ""
    return f"{mate.pci} ({mate.driver}{carries})"
