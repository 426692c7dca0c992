"""vDPA devices: made on VFs, and bound to vhost_vdpa for guests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from nfvhost import drivers
from nfvhost.access.clock import wait_for
from nfvhost.access.machine import Machine
from nfvhost.access.memory_lock import ShortLock, short_locks
from nfvhost.access.root import Root
from nfvhost.access.sysfs import linked_name
from nfvhost.access.vf_users import PCI, VDPA, file_holders, vdpa_devices, vhost_files
from nfvhost.errors import ApplyError, NfvhostError, PreconditionError, Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import NicPlan, Plan
from nfvhost.model.report import Drift
from nfvhost.resources import Unmet
from nfvhost.resources.settling import settled

RESOURCE: Final = "vdpa"
_DRIVERS: Final = "/sys/bus/vdpa/drivers"
_VHOST: Final = "vhost_vdpa"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One vDPA device."""

    name: str
    driver: str | None  # vhost_vdpa, or virtio_vdpa: an interface of this host
    driver_override: str | None  # what alone may be bound to it; None: whatever comes first
    mac: str | None = None  # this and the rest are asked for where the plan may change the device
    queue_pairs: int | None = None
    mtu: int | None = None
    holders: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """How changes show it: `vhost_vdpa mac 52:54:00:00:00:01 mtu 1500`."""
        return _shown(self.driver or "unbound", mac=self.mac, mtu=self.mtu)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A function that is to have a device."""

    key: str  # "0000:61:00.0 vf 0 vdpa"
    function: PciAddress | None  # None: that VF is not there
    driver: str | None  # what is bound to the function
    device: Device | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is there on the functions of the plan."""

    slots: tuple[Slot, ...]
    management: tuple[str, ...] | None  # what can make devices; asked for where one is missing
    vhost: bool  # vhost_vdpa is there
    locks: tuple[ShortLock, ...]  # who has one of these devices and may not pin enough memory

    def slot(self, key: str) -> Slot | None:
        """The slot of a change."""
        return next((slot for slot in self.slots if slot.key == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vdpa:
    """vDPA devices on VFs, for guests that speak virtio and get the card's own queues.

    One device on each VF, bound to vhost_vdpa, which gives the guest /dev/vhost-vdpa-N. A device that is there already
    is taken as it is where its driver, MAC and MTU are as planned. No unit gets a LimitMEMLOCK: the limit that counts
    is that of each QEMU, and libvirt sets it from the guest's memory and its number of vDPA and VFIO devices
    (qemuDomainGetMemLockLimitBytes), whatever its own unit says; a process that has a device and a limit below what
    that pins is told.

    Configured: nothing; the devices are made again at boot by nfvhost-devices.service.
    Active: /sys/bus/vdpa/devices; the generic netlink family vdpa makes devices and tells their MAC and MTU.
    Keys: `0000:61:00.0 vf 0 vdpa`, by the port and the number of its VF; `0000:61:00.2 vdpa` of a VF that is planned by
    itself. The device is called after its function: `vdpa-0000:61:00.2`.
    Effect: now.
    Refuses: to change a device that a guest has open; a VF that is not there or has no driver that makes vDPA devices,
    unless another resource is about to mend that.
    Rollback: removes what this apply made, unless somebody has it open by now; a device that was replaced comes back by
    its name, with its driver, MAC, queues and MTU.
    Source: vdpa-dev(8), include/uapi/linux/vdpa.h, drivers/vdpa/vdpa.c, drivers/vhost/vdpa.c.
    """

    settle_s: float = 2.0

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        return _read(machine, plan)

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        changes = []
        for key, (nic, number) in _planned(plan).items():
            slot, wanted = state.slot(key), _wanted(nic, number)
            device = slot.device if slot is not None else None
            if device is None or not _is_so(device, wanted):
                changes.append(
                    Change.now(RESOURCE, key, device.text if device is not None else None, wanted, nic.reason)
                )
        return tuple(changes)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del host
        return tuple(
            problem
            for change in self.diff(state, plan)
            if (slot := state.slot(change.key)) is not None
            and (problem := _obstacle(state, slot, wanted_driver=_driver(plan, change.key))) is not None
        )

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del plan
        return tuple(
            Problem(
                what=f"{lock.name} (pid {lock.pid}) may lock {lock.limit_mib} MiB and needs {lock.needed_mib} MiB for "
                f"{', '.join(lock.files)}",
                where=RESOURCE,
                hint="a guest of libvirt: <memtune><hard_limit>; another process: LimitMEMLOCK=infinity in its unit",
            )
            for lock in state.locks
        )

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        del state
        for change in changes:
            try:
                self._make(machine, change)
            except NfvhostError as error:
                raise _placed(error, change.key) from error

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        _, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s, interval_s=0.1)
        return tuple(Drift.of(change) for change in changes)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        keys = {change.key for change in changes}
        return replace(
            state,
            slots=tuple(_image(slot) for slot in state.slots if slot.key in keys),
            management=None,
            locks=(),
        )

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        return tuple(
            Problem(
                what=f"{now.name} ({now.text}) is there by now, asked for was {change.after}",
                where=change.where,
                hint="someone else made or changed it since; --force overwrites it",
            )
            for change in changes
            if (now := _now(machine, change.key)) is not None and not _explained(now, before, change, machine.root)
        )

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        left = [] if force else list(self.foreign(machine, before, changes))
        theirs = {problem.where for problem in left}
        for change in reversed(changes):
            where = change.where
            if where in theirs:
                continue
            slot = before.slot(change.key)
            try:
                self._put_back(machine, change.key, slot.device if slot is not None else None)
            except NfvhostError as error:
                left += [
                    Problem(what=f"could not be put back: {one.what}", where=where, hint=one.hint)
                    for one in error.problems
                ]
        return tuple(left)

    def _make(self, machine: Machine, change: Change) -> None:
        function = _function(machine.root, change.key)
        if function is None:
            raise ApplyError("that VF is not there", hint="is `sriov` part of this apply?")
        driver, mac, mtu = _parsed(change.after or _VHOST)
        now = _now(machine, change.key)
        if now is not None and not _is_so(replace(now, driver=driver), change.after or _VHOST):
            _remove(machine, now)
            now = None
        name = now.name if now is not None else _name(function)
        if now is None:
            machine.links.add_vdpa(name, management=f"pci/{function}", mac=mac, queue_pairs=None, mtu=mtu)
        self._bind(machine.root, name, driver)

    def _put_back(self, machine: Machine, key: str, before: Device | None) -> None:
        """Nothing, once the function has that device again, or none."""
        function, now = _function(machine.root, key), _now(machine, key)
        if function is None or (now is None and before is None):
            return
        if now is not None and (before is None or _configured(now) != _configured(before)):
            _remove(machine, now)
            now = None
        if before is None:
            return
        if now is None:
            machine.links.add_vdpa(
                before.name,
                management=f"pci/{function}",
                mac=before.mac,
                queue_pairs=before.queue_pairs,
                mtu=before.mtu,
            )
        self._bind(machine.root, before.name, before.driver)
        _set_override(machine.root, before.name, before.driver_override)

    def _bind(self, root: Root, name: str, driver: str | None) -> None:
        """Nothing, once the device has that driver; whichever came first took it when it was made."""
        folder = f"{VDPA}/{name}"
        # The bus has offered it to its drivers before the kernel answered (vdpa_register_device).
        wait_for(lambda: root.exists(folder), timeout_s=self.settle_s)
        now = linked_name(root, f"{folder}/driver")
        if now == driver:
            return
        if driver is not None:
            _set_override(root, name, driver)
        if now is not None:
            root.write_attribute(f"{_DRIVERS}/{now}/unbind", name)
        if driver is not None:
            root.write_attribute(f"{_DRIVERS}/{driver}/bind", name)
        if not wait_for(lambda: linked_name(root, f"{folder}/driver") == driver, timeout_s=self.settle_s):
            bound = linked_name(root, f"{folder}/driver")
            raise ApplyError(f"{name} is bound to {bound or 'nothing'} and not to {driver}", hint="dmesg may say more")


def _planned(plan: Plan) -> dict[str, tuple[NicPlan, int]]:
    """Key -> the NIC, and which of its VFs."""
    found = {}
    for nic in plan.nics:
        for number in range(nic.vdpa_devices or 0):
            found[f"{nic.pci} vf {number} vdpa" if nic.vfs is not None else f"{nic.pci} vdpa"] = (nic, number)
    return found


def _wanted(nic: NicPlan, number: int) -> str:
    macs = nic.vf_settings.macs
    return _shown(_VHOST, mac=macs[number].lower() if number < len(macs) else None, mtu=nic.mtu)


def _read(machine: Machine, plan: Plan) -> State:
    root = machine.root
    planned = _planned(plan)
    below = vdpa_devices(root) if planned else {}
    slots = [_slot(root, key, below) for key in planned]
    wanted = {key: _wanted(*one) for key, one in planned.items()}
    if any(slot.device is not None and not _is_so(slot.device, wanted[slot.key]) for slot in slots):
        slots = _with_configs(machine, slots)
    changed = [slot.device for slot in slots if slot.device is not None and not _is_so(slot.device, wanted[slot.key])]
    holders = _holders(root, changed)
    files = {file for slot in slots if slot.device is not None for file in vhost_files(root, slot.device.name)}
    return State(
        slots=tuple(
            replace(slot, device=replace(slot.device, holders=holders[slot.device.name]))
            if slot.device is not None and slot.device.name in holders
            else slot
            for slot in slots
        ),
        management=machine.links.vdpa_management_devices() if any(slot.device is None for slot in slots) else None,
        vhost=root.exists(f"{_DRIVERS}/{_VHOST}"),
        locks=short_locks(root, files),
    )


def _slot(root: Root, key: str, below: dict[PciAddress, tuple[str, ...]]) -> Slot:
    function = _function(root, key)
    names = below.get(function, ()) if function is not None else ()
    return Slot(
        key=key,
        function=function,
        driver=linked_name(root, f"{PCI}/{function}/driver") if function is not None else None,
        device=_device(root, names[0]) if names else None,
    )


def _device(root: Root, name: str) -> Device:
    """Source: /sys/bus/vdpa/devices/<name>."""
    override = root.read_line(f"{VDPA}/{name}/driver_override")
    return Device(
        name=name,
        driver=linked_name(root, f"{VDPA}/{name}/driver"),
        # drivers/vdpa/vdpa.c, driver_override_show
        driver_override=override if override != "(null)" else None,
    )


def _with_configs(machine: Machine, slots: list[Slot]) -> list[Slot]:
    configs = {config.name: config for config in machine.links.vdpa_configs()}
    found = []
    for slot in slots:
        config = configs.get(slot.device.name) if slot.device is not None else None
        if slot.device is not None and config is not None:
            device = replace(slot.device, mac=config.mac, queue_pairs=config.queue_pairs, mtu=config.mtu)
            found.append(replace(slot, device=device))
        else:
            found.append(slot)
    return found


def _holders(root: Root, devices: list[Device]) -> dict[str, tuple[str, ...]]:
    files = {file: device.name for device in devices for file in vhost_files(root, device.name)}
    found: dict[str, list[str]] = {}
    for name, holder in file_holders(root, files):
        found.setdefault(name, []).append(holder)
    return {name: tuple(holders) for name, holders in found.items()}


def _now(machine: Machine, key: str) -> Device | None:
    """The device on that function, with its configuration and holders."""
    slot = _slot(machine.root, key, vdpa_devices(machine.root))
    if slot.device is None:
        return None
    (whole,) = _with_configs(machine, [slot])
    if whole.device is None:
        return None
    return replace(whole.device, holders=_holders(machine.root, [whole.device]).get(whole.device.name, ()))


def _function(root: Root, key: str) -> PciAddress | None:
    """The function that a key names; None where it is not there. Source: the link virtfn<N> of the port."""
    words = key.split()
    port = f"{PCI}/{PciAddress.parse(words[0])}"
    if words[1] != "vf":
        return PciAddress.parse(words[0]) if root.exists(port) else None
    target = linked_name(root, f"{port}/virtfn{words[2]}")
    return PciAddress.parse(target) if target is not None else None


def _driver(plan: Plan, key: str) -> str | None:
    """The driver that another resource gives the function of that key; None where it keeps its own."""
    nic, _ = _planned(plan)[key]
    return nic.vf_driver if nic.vfs is not None else nic.driver


def _obstacle(state: State, slot: Slot, *, wanted_driver: str | None) -> Problem | None:
    where = f"{RESOURCE}: {slot.key}"
    if slot.function is None:
        return Unmet(what="that VF is not there", where=where, hint="sriov makes it", met_by="sriov")
    if slot.device is not None and slot.device.holders:
        return Problem(
            what=f"{slot.device.name} is in use: {', '.join(slot.device.holders)}",
            where=where,
            hint="end or migrate that guest first",
        )
    if (misbound := _misbound(slot, wanted_driver, where=where)) is not None:
        return misbound
    if not state.vhost:
        return Unmet(what=f"{_VHOST} is not loaded", where=where, met_by="modules")
    if state.management is not None and f"pci/{slot.function}" not in state.management and slot.device is None:
        return Unmet(
            what=f"nothing makes vDPA devices of {slot.function} ({slot.driver}): `vdpa mgmtdev show` has it not",
            where=where,
            hint="load the card's vDPA module (mlx5_vdpa, pds_vdpa…); some want it turned on in their firmware",
            met_by="modules",
        )
    return None


def _misbound(slot: Slot, wanted: str | None, *, where: str) -> Problem | None:
    """Why the driver of the function makes no vDPA devices; None where it may."""
    if wanted is not None and slot.driver != wanted:
        # A VF that is planned by itself is bound by the resource of VFs as well (driver_binding/target.py).
        what = f"{slot.driver or 'no driver'} is bound to {slot.function}, and {wanted} makes vDPA devices of it"
        return Unmet(what=what, where=where, met_by="vf_driver_binding")
    if wanted is None and (slot.driver is None or slot.driver in drivers.USERSPACE_DRIVERS):
        return Problem(
            what=f"{slot.driver or 'no driver'} is bound to {slot.function}, and its vendor's makes vDPA devices",
            where=where,
            hint=f"clear its driver_override, unbind it and write {slot.function} to /sys/bus/pci/drivers_probe",
        )
    return None


def _is_so(device: Device, wanted: str) -> bool:
    """Whether the device is as the text says, of what it speaks of."""
    driver, mac, mtu = _parsed(wanted)
    return device.driver == driver and mac in {None, device.mac} and mtu in {None, device.mtu}


def _explained(now: Device, before: State, change: Change, root: Root) -> bool:
    """Whether the device is as before, or this change made it, or half of it."""
    slot = before.slot(change.key)
    image = slot.device if slot is not None else None
    drivers_of_both = {image.driver if image is not None else None, _parsed(change.after or _VHOST)[0], None}
    if image is not None and _configured(now) == _configured(image) and now.driver in drivers_of_both:
        return True
    function = _function(root, change.key)
    names = {_name(function) if function is not None else "", image.name if image is not None else ""}
    # What is bound comes last.
    return now.name in names and _is_so(replace(now, driver=_parsed(change.after or _VHOST)[0]), change.after or _VHOST)


def _configured(device: Device) -> tuple[object, ...]:
    """What only making it anew would change."""
    return device.name, device.mac, device.queue_pairs, device.mtu


def _remove(machine: Machine, device: Device) -> None:
    if device.holders:
        raise PreconditionError(f"{device.name} is in use: {', '.join(device.holders)}", hint="end that guest first")
    machine.links.remove_vdpa(device.name)


def _set_override(root: Root, name: str, driver: str | None) -> None:
    path = f"{VDPA}/{name}/driver_override"
    # Since Linux 5.17; without it `bind` takes any device of the bus.
    now = root.read_line(path)
    if now is not None and now != (driver or "(null)"):
        root.write_attribute(path, driver or "\n")


def _name(function: PciAddress) -> str:
    return f"vdpa-{function}"


def _shown(driver: str, *, mac: str | None, mtu: int | None) -> str:
    return driver + (f" mac {mac}" if mac is not None else "") + (f" mtu {mtu}" if mtu is not None else "")


def _parsed(text: str) -> tuple[str, str | None, int | None]:
    """Driver, MAC and MTU of such a text."""
    driver, *rest = text.split()
    facts = dict(zip(rest[::2], rest[1::2], strict=True))
    return driver, facts.get("mac"), int(facts["mtu"]) if "mtu" in facts else None


def _image(slot: Slot) -> Slot:
    return replace(slot, device=replace(slot.device, holders=()) if slot.device is not None else None)


def _placed(error: NfvhostError, key: str) -> NfvhostError:
    first, *rest = error.problems
    what = first.what if first.where is None else f"{first.where}: {first.what}"
    return type(error)(what, where=f"{RESOURCE}: {key}", hint=first.hint, also=tuple(rest))


VDPA_DEVICES: Final = Vdpa()

__all__ = ["VDPA_DEVICES", "Vdpa"]
