"""Drivers of PCI functions: vfio-pci for DPDK and guests, the kernel's own for those that make VFs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.clock import wait_for
from nfvhost.access.machine import Machine
from nfvhost.errors import ApplyError, NfvhostError, Problem
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.driver_binding.binding import bind_driver, put_driver_back
from nfvhost.resources.driver_binding.guards import refusals, remarks
from nfvhost.resources.driver_binding.state import Function, State, is_vf_key, read_function, read_state
from nfvhost.resources.driver_binding.target import Target, is_vfio, targets
from nfvhost.resources.iommu import awaits_boot


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverBinding:
    """Drivers of PCI network functions: `driver_binding` for ports, `vf_driver_binding` for their VFs.

    A port that DPDK drives goes to vfio-pci, one that is to make VFs to its kernel driver; that comes before `sriov`,
    and the drivers of the VFs after it. A function whose new driver refuses it gets its old one back at once.

    Configured: nothing; a boot forgets it, and the boot units bind again.
    Active: the link /sys/bus/pci/devices/<address>/driver; /sys/bus/pci/devices/<address>/driver_override keeps naming
        the driver, as driverctl(8) does.
    Keys: the address of the function, or that of the PF with the number of the VF: `0000:21:00.0 vf 0`.
    Effect: now; an interface of the function that is up goes (link).
    Refuses: a function that carries management, or that is in use and was not when it was planned; one that a guest
        or program holds; one that has VFs; another card at that address; vfio for a card whose DPDK driver works
        through the kernel's (mlx4, mlx5, mana); an IOMMU group of which the kernel keeps a part; a /sys that is mounted
        read-only.
    Rollback: the old driver and the old override, the VF of a PF wherever it is by then; a VF that is gone needs none.
    Source: Documentation/ABI/testing/sysfs-bus-pci, drivers/base/bus.c, drivers/pci/pci-driver.c.
    """

    name: str
    vfs: bool  # those of the plan's functions that are VFs
    settle_s: float = 2.0

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        return read_state(machine.root, plan, vfs=self.vfs)

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        return tuple(
            self._change(target, function)
            for target in targets(plan, vfs=self.vfs)
            if (function := state.function(target.key)).driver != target.driver
        )

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        return tuple(refusals(state, plan, host, vfs=self.vfs, resource=self.name))

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        return tuple(remarks(state, plan, vfs=self.vfs, resource=self.name))

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        del state
        for change in changes:
            self._bind(machine, change)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        found = self._drifts(self.read(machine, plan) if seen is None else seen, plan)

        def as_planned() -> bool:
            nonlocal found
            found = self._drifts(self.read(machine, plan), plan)
            return not _wrong(found)

        if _wrong(found):
            wait_for(as_planned, timeout_s=self.settle_s)
        return found

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        keys = {change.key for change in changes}
        functions = tuple(
            Function(key=one.key, pci=one.pci, identity=one.identity, driver=one.driver, override=one.override)
            for one in state.functions
            if one.key in keys
        )
        return replace(state, functions=functions, drivers=(), active=None)

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        return tuple(
            Problem(what=f"{what} by now, which is neither as before nor as planned", where=where, hint="--force")
            for change in changes
            if (what := _strange(before.function(change.key), read_function(machine.root, change.key), change))
            for where in (change.where,)
        )

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        left: list[Problem] = []
        for change in reversed(changes):
            left += self._put_back(machine, before.function(change.key), change, force=force)
        return tuple(left)

    def _drifts(self, state: State, plan: Plan) -> tuple[Drift, ...]:
        return tuple(
            Drift(
                resource=self.name,
                key=target.key,
                planned=target.driver,
                actual=function.driver,
                hint=None if function.pci is not None else "there is no such function",
                pending=Activation.REBOOT if _waits(target, state, plan) else None,
            )
            for target in targets(plan, vfs=self.vfs)
            if (function := state.function(target.key)).driver != target.driver
        )

    def _change(self, target: Target, function: Function) -> Change:
        goes = f"; its interface {', '.join(function.up)}, which is up, goes" if function.up else ""
        return Change(
            resource=self.name,
            key=target.key,
            before=function.driver,
            after=target.driver,
            activation=Activation.NOW,
            disruption=Disruption.LINK if function.up else Disruption.NONE,
            reason=f"{target.reason}{goes}",
        )

    def _bind(self, machine: Machine, change: Change) -> None:
        """Nothing, once the driver is bound; where it is refused, ApplyError after the old one is back."""
        now = read_function(machine.root, change.key)
        where = change.where
        if now.pci is None or change.after is None:
            raise ApplyError("there is no such function", where=where)
        if now.driver == change.after:
            return
        try:
            bind_driver(machine.root, now.pci, change.after, settle_s=self.settle_s)
        except NfvhostError as error:
            left = put_driver_back(
                machine.root, now.pci, driver=now.driver, override=now.override, settle_s=self.settle_s
            )
            end = read_function(machine.root, change.key).driver
            causes = "; ".join(problem.what for problem in error.problems)
            raise ApplyError(
                f"{change.after} was not bound ({causes}); {end or 'no driver'} has it now",
                where=where,
                hint="dmesg says why a driver refuses a function",
                also=tuple(Problem(what=f"not put back: {one.what}", where=where, hint=one.hint) for one in left),
            ) from error

    def _put_back(self, machine: Machine, before: Function, change: Change, *, force: bool) -> tuple[Problem, ...]:
        where = change.where
        now = read_function(machine.root, change.key)
        if before.pci is None:
            return ()  # it was not there, or it came with its VFs, and goes with them
        if now.pci is None:
            if is_vf_key(change.key):
                return ()
            return (Problem(what="is not there any more, so it was not given its old driver", where=where),)
        strange = _strange(before, now, change)
        if strange and (not force or now.identity != before.identity):
            return (Problem(what=f"{strange} by now, and stays so", where=where, hint="--force"),)
        left = put_driver_back(
            machine.root, now.pci, driver=before.driver, override=before.override, settle_s=self.settle_s
        )
        end = read_function(machine.root, change.key).driver or "no driver"
        return tuple(
            Problem(what=f"{end} has it instead of {before.driver or 'none'}: {one.what}", where=where, hint=one.hint)
            for one in left
        )


def _wrong(drifts: tuple[Drift, ...]) -> bool:
    """Whether there are some that no reboot would mend."""
    return any(drift.pending is None for drift in drifts)


def _strange(before: Function, now: Function, change: Change) -> str | None:
    """What of the function is somebody else's doing; None where all may be nfvhost's own, cut off anywhere.

    Without a driver, and with an override of either driver, a killed apply or rollback leaves it on its way.
    """
    if before.pci is None or now.pci is None:
        return None
    if now.identity != before.identity:
        return f"it is another card ({now.identity})"
    if now.driver not in {None, before.driver, change.after}:
        return f"{now.driver} has it"
    if now.override not in {None, before.override, before.driver, change.after}:
        return f"its driver_override is {now.override}"
    return None


def _waits(target: Target, state: State, plan: Plan) -> bool:
    """Whether only the reboot is missing that turns the IOMMU on."""
    return is_vfio(target.driver) and not state.groups and not plan.unsafe_no_iommu and awaits_boot(state.active, plan)


DRIVER_BINDING: Final = DriverBinding(name="driver_binding", vfs=False)
"""Drivers of ports: vfio-pci for those that DPDK drives, the kernel's own for those that are to make VFs.

A port that has to leave vfio-pci before it can make VFs does so here: `sriov` comes next. One whose new driver refuses
it gets its old one back at once.

Configured: nothing; a boot forgets it, and the boot units bind again.
Active: the link /sys/bus/pci/devices/<address>/driver; /sys/bus/pci/devices/<address>/driver_override keeps naming the
    driver, as driverctl(8) does.
Keys: the address of the function, `0000:21:00.0`.
Effect: now; an interface of the function that is up goes (link).
Refuses: a function that carries management, or that is in use and was not when it was planned; one that a guest or
    program holds; one that has VFs; another card at that address; vfio for a card whose DPDK driver works through the
    kernel's (mlx4, mlx5, mana); an IOMMU group of which the kernel keeps a part; a /sys that is mounted read-only.
Rollback: the old driver and the old override; where the old driver refuses, any driver of the kernel, which is told.
Source: Documentation/ABI/testing/sysfs-bus-pci, drivers/base/bus.c, drivers/pci/pci-driver.c.
"""
VF_DRIVER_BINDING: Final = DriverBinding(name="vf_driver_binding", vfs=True)
"""Drivers of VFs: vfio-pci for those that guests or DPDK get.

It comes after `sriov`, which makes them without a driver. They are found by their PF and their number, so another
address of a VF after a boot changes nothing.

Configured: nothing; a boot forgets it, and the boot units bind again.
Active: the link /sys/bus/pci/devices/<address>/driver of the function that the PF's link virtfn<N> leads to.
Keys: the address of the PF with the number of the VF, `0000:21:00.0 vf 0`; its own address, where the plan has an
    entry for the VF itself.
Effect: now; an interface of the VF that is up goes (link).
Refuses: as `driver_binding`; a VF that is not there, unless `sriov` is about to make it.
Rollback: the old driver and the old override; a VF that is gone by then needs none.
Source: Documentation/ABI/testing/sysfs-bus-pci, drivers/pci/iov.c, drivers/pci/pci-driver.c.
"""

__all__ = ["DRIVER_BINDING", "VF_DRIVER_BINDING", "DriverBinding"]
