"""The IOMMU: seen to be on where functions are given away, and vfio's unsafe way without one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.boot import kernel_args
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.access.sysfs import is_read_only, linked_name
from nfvhost.errors import NfvhostError, Problem
from nfvhost.model.change import Activation, Change
from nfvhost.model.host import Host
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import NicPlan, Plan
from nfvhost.model.profile import Role
from nfvhost.model.report import Drift
from nfvhost.resources import Unmet
from nfvhost.resources.own_files import FileImage, Replacement, foreign_files, put_back, read_image, write_out
from nfvhost.resources.settling import settled

RESOURCE: Final = "iommu"
# modprobe.d(5)
OPTIONS_FILE: Final = "/etc/modprobe.d/nfvhost-vfio.conf"
# drivers/vfio/vfio_main.c, module_param_named(enable_unsafe_noiommu_mode, …)
SWITCH: Final = "enable_unsafe_noiommu_mode"
_MODULE: Final = "/sys/module/vfio"
_OPTION: Final = f"options vfio {SWITCH}=1"
_GROUPS: Final = "/sys/kernel/iommu_groups"
# drivers/vfio/group.c, vfio_noiommu_group_alloc: groups that vfio makes itself, which protect nothing.
_PRETENDED: Final = "vfio-noiommu"
# Documentation/admin-guide/kernel-parameters.rst
_ARGUMENTS: Final = frozenset({"intel_iommu", "amd_iommu", "iommu", "iommu.passthrough", "iommu.strict"})
_OFF: Final = frozenset({"intel_iommu=off", "amd_iommu=off", "iommu=off", "iommu=soft"})
# ACPI 6.5, 5.2.6: DMA remapping of Intel, I/O virtualization of AMD, I/O remapping of Arm, VIOT of virtual machines.
_TABLES: Final = ("DMAR", "IVRS", "IORT", "VIOT")
_GROUPS_KEY: Final = "groups"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Whether functions can be kept apart, and vfio's switch for those that cannot."""

    options: FileImage  # /etc/modprobe.d/nfvhost-vfio.conf
    switch: str | None  # /sys/module/vfio/parameters/enable_unsafe_noiommu_mode: Y or N; None where it is not there
    vfio: bool  # whether the module vfio is in the kernel: /sys/module/vfio
    groups: bool  # whether there is an IOMMU group that is not vfio's own: /sys/kernel/iommu_groups/<N>/name
    ungrouped: tuple[PciAddress, ...]  # the plan's NICs that are there and in no such group: their link iommu_group
    tables: tuple[str, ...] | None  # of DMAR, IVRS, IORT, VIOT, those in /sys/firmware/acpi/tables; None without ACPI
    units: tuple[str, ...]  # IOMMUs that the kernel drives: /sys/class/iommu
    active: tuple[str, ...] | None  # what the running kernel was told: /proc/cmdline
    read_only: bool  # whether /sys is mounted so: /proc/self/mounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Iommu:
    """The IOMMU, which keeps a device that is given away from the memory of everyone else.

    It is turned on by the firmware and by arguments of the kernel, which are `kernel_cmdline`'s; here it is seen
    whether that worked. Only where the profile says `unsafeNoIommu: true`, and no IOMMU is there, something is
    written: vfio's mode without one, in which a device may read and write all memory of the machine.

    Configured: /etc/modprobe.d/nfvhost-vfio.conf, as a whole, only for `unsafeNoIommu`.
    Active: the groups in /sys/kernel/iommu_groups; /sys/module/vfio/parameters/enable_unsafe_noiommu_mode.
    Keys: the path of the file; `enable_unsafe_noiommu_mode`; in drifts `groups`, or the address of a function that is
        in none.
    Effect: now; no link goes.
    Refuses: a plan that gives functions away on a machine without groups, unless its arguments wait for a reboot; a
        kernel without the mode, where the profile asks for it; a /sys that is mounted read-only.
    Rollback: the switch and the file as they were.
    Source: Documentation/ABI/testing/sysfs-kernel-iommu_groups, modprobe.d(5), drivers/vfio/group.c.
    """

    settle_s: float = 2.0

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        root = machine.root
        tables = root.list_dir("/sys/firmware/acpi/tables")
        there = (nic.pci for nic in plan.nics if root.exists(f"/sys/bus/pci/devices/{nic.pci}"))
        return State(
            options=read_image(root, OPTIONS_FILE),
            switch=root.read_line(_switch_path()),
            vfio=root.exists(_MODULE),
            groups=has_groups(root),
            ungrouped=tuple(pci for pci in there if iommu_group(root, pci) is None),
            tables=tuple(name for name in _TABLES if name in tables) if tables else None,
            units=root.list_dir("/sys/class/iommu"),
            active=kernel_args(root),
            read_only=is_read_only(root),
        )

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        unsafe, before = _goes_without(state, plan), _option(state.options.content)
        reason = "the profile says unsafeNoIommu" if unsafe else "no function of the plan goes without an IOMMU"
        wanted: tuple[tuple[str, str | None, str | None], ...]
        if unsafe:
            wanted = ((OPTIONS_FILE, before, _OPTION), (SWITCH, state.switch, "Y"))
        else:
            # The file goes last: while it is there, the switch is known to be nfvhost's.
            off = "N" if before is not None and state.switch == "Y" else state.switch
            wanted = ((SWITCH, state.switch, off), (OPTIONS_FILE, before, None))
        return tuple(Change.now(RESOURCE, key, now, after, reason) for key, now, after in wanted if now != after)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        return (*_switch_problems(state, self.diff(state, plan), host), *_group_problems(state, plan, host))

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        found = []
        if _goes_without(state, plan):
            found.append(
                Problem(
                    what="UNSAFE: without an IOMMU each function that vfio-pci takes may read and write all memory of "
                    "this machine, the kernel's and the guests' included; the kernel counts as tainted (U) from then "
                    "on, until the next boot",
                    where=f"{RESOURCE}: {SWITCH}",
                    hint="turn the IOMMU on in the firmware, and take unsafeNoIommu out of the profile",
                )
            )
        if _in_need(plan) and not state.groups and state.tables == ():
            found.append(
                Problem(
                    what="the firmware announces no IOMMU (no DMAR, IVRS or IORT in /sys/firmware/acpi/tables), so a "
                    "reboot alone will not bring the groups",
                    where=f"{RESOURCE}: {_GROUPS_KEY}",
                    hint="turn it on in the firmware on the way through that reboot: VT-d, AMD-Vi or IOMMU, SMMU",
                )
            )
        return tuple(found)

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if change.key == SWITCH:
                machine.root.write_attribute(_switch_path(), change.after or "N")
            else:
                write_out(machine.root, _replacements(state, (change,)))

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        state, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s)
        return (
            *(Drift.of(change) for change in changes),
            *_group_drifts(state, plan),
        )

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        del changes
        return replace(state, ungrouped=(), tables=None, units=(), active=None)

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        return foreign_files(machine.root, RESOURCE, _replacements(before, changes))

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        left: tuple[Problem, ...] = ()
        for change in changes:
            if change.key == SWITCH:
                left = _put_switch_back(machine.root, change.before or "N")
        return (*left, *put_back(machine.root, RESOURCE, _replacements(before, changes), force=force))


def has_groups(root: Root) -> bool:
    """Whether an IOMMU keeps functions apart. Source: /sys/kernel/iommu_groups."""
    return any(not _pretended(root, name) for name in root.list_dir(_GROUPS) if name.isdecimal())


def iommu_group(root: Root, pci: PciAddress) -> int | None:
    """The number of its group; None where it has none, or one that vfio made for want of an IOMMU."""
    name = linked_name(root, f"/sys/bus/pci/devices/{pci}/iommu_group") or ""
    return int(name) if name.isdecimal() and not _pretended(root, name) else None


def awaits_boot(active: tuple[str, ...] | None, plan: Plan) -> bool:
    """Whether the plan tells the kernel something of the IOMMU that the running one was not told."""
    wanted = {argument for argument in plan.kernel_args if argument.partition("=")[0] in _ARGUMENTS}
    return not wanted <= set(active or ())


def _pretended(root: Root, group: str) -> bool:
    return root.read_line(f"{_GROUPS}/{group}/name") == _PRETENDED


def _switch_path() -> str:
    return f"{_MODULE}/parameters/{SWITCH}"


def _in_need(plan: Plan) -> tuple[NicPlan, ...]:
    """The NICs that go to vfio, they or their VFs, now or when a guest takes them, and need an IOMMU for that."""
    return tuple(
        nic
        for nic in plan.nics
        if _is_vfio(nic.vf_driver) or nic.role is Role.SRIOV or (_is_vfio(nic.driver) and not plan.unsafe_no_iommu)
    )


def _is_vfio(driver: str | None) -> bool:
    # vfio-pci, and drivers of one card each: mlx5_vfio_pci, hisi-acc-vfio-pci (drivers/vfio/pci).
    return driver is not None and "vfio" in driver


def _goes_without(state: State, plan: Plan) -> bool:
    """Whether a planned function needs vfio's unsafe mode; one that has a group never does.

    Source: drivers/vfio/group.c, vfio_group_find_or_alloc.
    """
    taken = {nic.pci for nic in plan.nics if _is_vfio(nic.driver)}
    return plan.unsafe_no_iommu and bool(taken) and (not state.groups or not taken.isdisjoint(state.ungrouped))


def _switch_problems(state: State, changes: tuple[Change, ...], host: Host) -> tuple[Problem, ...]:
    where = f"{RESOURCE}: {SWITCH}"
    if not any(change.key == SWITCH for change in changes):
        return ()
    if state.read_only:
        container = f" of this {host.container} container" if host.container is not None else ""
        return (Problem(what=f"the /sys{container} is read-only", where=where, hint="apply on the machine itself"),)
    if state.switch is not None:
        return ()
    if not state.vfio:
        return (Unmet(what="the module vfio is not loaded", where=where, met_by="modules"),)
    return (
        Problem(
            what="this kernel's vfio has no mode without an IOMMU (CONFIG_VFIO_NOIOMMU is off)",
            where=where,
            hint="use a kernel that has it, or turn an IOMMU on",
        ),
    )


def _group_problems(state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
    needing = _in_need(plan)
    if not needing:
        return ()
    if state.groups:
        return tuple(
            Problem(
                what="is in no IOMMU group, while other functions are: this IOMMU does not reach it",
                where=f"{RESOURCE}: {nic.pci}",
                hint="put the card into another slot; dmesg | grep -i iommu says how far it reaches",
            )
            for nic in needing
            if nic.pci in state.ungrouped
        )
    where = f"{RESOURCE}: {_GROUPS_KEY}"
    what = f"the kernel has no IOMMU groups, and {', '.join(str(nic.pci) for nic in needing)} cannot be given away so"
    if awaits_boot(state.active, plan):
        return (Unmet(what=what, where=where, hint="they come with the reboot", met_by="kernel_cmdline"),)
    return (Problem(what=what, where=where, hint=_way_on(state, host)),)


def _group_drifts(state: State, plan: Plan) -> tuple[Drift, ...]:
    needing = _in_need(plan)
    if not needing:
        return ()
    if state.groups:
        return tuple(
            Drift(resource=RESOURCE, key=str(nic.pci), planned="in an IOMMU group", actual=None)
            for nic in needing
            if nic.pci in state.ungrouped
        )
    waits = awaits_boot(state.active, plan)
    return (
        Drift(
            resource=RESOURCE,
            key=_GROUPS_KEY,
            planned="present",
            actual=None,
            hint=None if waits else "VT-d or AMD-Vi may be off in the firmware; dmesg | grep -i iommu",
            pending=Activation.REBOOT if waits else None,
        ),
    )


def _way_on(state: State, host: Host) -> str:
    """What brings groups to a machine that has none although its kernel was told what the plan says."""
    off = [argument for argument in state.active or () if argument in _OFF]
    if off:
        return f"this kernel was told {' '.join(off)}: take it out of the boot loader's files, and reboot"
    if state.units:
        return f"the kernel drives {', '.join(state.units)} and makes no groups: dmesg | grep -i iommu says why"
    if state.tables:
        announced = f"the firmware announces it ({', '.join(state.tables)})"
        if "DMAR" in state.tables and "intel_iommu=on" not in (state.active or ()):
            return f"{announced}: boot with intel_iommu=on"
        return f"{announced}: dmesg | grep -i -e iommu -e dmar says what fails"
    if host.virtualization is not None:
        return (
            f"give this virtual machine ({host.virtualization}) a virtual IOMMU, in QEMU by -device "
            "intel-iommu,intremap=on,caching-mode=on or -device virtio-iommu-pci"
        )
    return "turn it on in the firmware: VT-d (Intel), AMD-Vi or IOMMU besides SVM (AMD), SMMU (Arm)"


def _option(content: bytes | None) -> str | None:
    lines = (content or b"").decode(errors="replace").splitlines()
    return "; ".join(line.strip() for line in lines if line.strip() and not line.startswith("#")) or None


def _replacements(state: State, changes: tuple[Change, ...]) -> tuple[Replacement, ...]:
    for change in changes:
        if change.key == OPTIONS_FILE:
            content = None
            if change.after is not None:
                content = f"# Written by nfvhost, as a whole. UNSAFE, as the profile says.\n{change.after}\n".encode()
            return (Replacement(before=state.options, content=content, keys=(OPTIONS_FILE,)),)
    return ()


def _put_switch_back(root: Root, value: str) -> tuple[Problem, ...]:
    """Empty as well where the module has gone, and its switch with it."""
    where = f"{RESOURCE}: {SWITCH}"
    if root.read_line(_switch_path()) in {None, value}:
        return ()
    try:
        root.write_attribute(_switch_path(), value)
    except NfvhostError as error:
        return tuple(Problem(what=f"could not be put back: {one.what}", where=where) for one in error.problems)
    now = root.read_line(_switch_path())
    return () if now == value else (Problem(what=f"is {now} after {value} was written", where=where),)


__all__ = ["Iommu"]
