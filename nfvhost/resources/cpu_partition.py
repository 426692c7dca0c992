"""Isolation without a reboot: a cpuset partition for the switch and the guests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.cpulist import cpu_list, cpu_mask, grouped_mask, parse_cpu_mask
from nfvhost.access.machine import Machine
from nfvhost.access.process import pids_by_name
from nfvhost.access.root import Root
from nfvhost.errors import NfvhostError, Problem
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import Host
from nfvhost.model.ovs_keys import release
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Isolation
from nfvhost.model.report import Drift
from nfvhost.resources.own_files import FileImage, Replacement, foreign_files, put_back, read_image, write_out
from nfvhost.resources.settling import settled

RESOURCE: Final = "cpu_partition"
SLICE_DROP_IN: Final = "/etc/systemd/system/machine.slice.d/zz-nfvhost.conf"
SWITCH_DROP_IN: Final = "/etc/systemd/system/ovs-vswitchd.service.d/zz-nfvhost.conf"
_SLICE: Final = "machine.slice"
_SWITCH: Final = "ovs-vswitchd.service"
_PARTITION: Final = "partition"
_WORKQUEUES: Final = "workqueues"
_CGROUP: Final = "/sys/fs/cgroup"
_FOLDER: Final = f"{_CGROUP}/{_SLICE}"
_WORKQUEUE_MASK: Final = "/sys/devices/virtual/workqueue/cpumask"
# A cpuset that changes forgets what its threads were pinned to before Linux 6.2 (kernel/sched/core.c, user_cpus_ptr).
_KEEPS_PINNING: Final = (6, 2)
# The kernel balances load within it: threads that are not pinned share the CPUs meant for them. In a partition of type
# `isolated` all of them stay on the CPU where they began.
_ROOT: Final = "root"
_MEMBER: Final = "member"
_HEAD: Final = "# Written by nfvhost, as a whole.\n"
_TIMEOUT_S: Final = 60.0
_BOOT_HINT: Final = "`isolation: boot` in the profile, which takes a reboot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The running ovs-vswitchd."""

    pid: int
    group: str  # /proc/<pid>/cgroup: "/system.slice/ovs-vswitchd.service"

    @property
    def inside(self) -> bool:
        """Whether it may use the partition's CPUs."""
        return self.group.startswith(f"/{_SLICE}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The control group of guests, who is in it, and what stands in its way."""

    cpus: CpuSet  # what the partition is to have; empty where the plan wants none
    keepers: CpuSet  # all others
    slice_drop_in: FileImage
    switch_drop_in: FileImage
    systemd: bool = False  # /run/systemd/system
    controllers: tuple[str, ...] | None = None  # /sys/fs/cgroup/cgroup.controllers; None: no cgroup v2 there
    keeps_pinning: bool = False  # /sys/fs/cgroup/cpuset.cpus.isolated is there, as since Linux 6.7
    slice_cpus: str | None = None  # /sys/fs/cgroup/machine.slice/cpuset.cpus; None: not there
    partition: str | None = None  # …/cpuset.cpus.partition: "member", "root", "root invalid (why)"
    rivals: tuple[tuple[str, CpuSet], ...] = ()  # control groups beside it that have claimed some of these CPUs
    workqueues: CpuSet | None = None  # /sys/devices/virtual/workqueue/cpumask
    switch: Switch | None = None  # None: it does not run, or nothing depends on it


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuPartition:
    """Isolation without a reboot, where the profile says `isolation: partition`: a cpuset partition of cgroup v2.

    `machine.slice`, where libvirt keeps its guests, becomes a partition of type `root` with the CPUs of PMD threads,
    guests and the shared pool, and ovs-vswitchd moves into it. The kernel then keeps all other tasks off these CPUs.
    A partition takes whole processes: threads of Open vSwitch and QEMU that do not poll need the shared pool's CPUs.

    Configured: drop-ins of machine.slice (AllowedCPUs) and of ovs-vswitchd.service (Slice, CPUAffinity).
    Active: /sys/fs/cgroup/machine.slice/cpuset.cpus and cpuset.cpus.partition,
        /sys/devices/virtual/workqueue/cpumask; a boot forgets them, and `nfvhost.service` makes them again.
    Keys: `machine.slice`; `ovs-vswitchd.service`; `partition`; `workqueues`.
    Effect: now where ovs-vswitchd does not run or is in machine.slice; else at its next start, which nfvhost leaves to
        you: `systemctl restart ovs-vswitchd` stops its ports for a moment.
    Refuses: without systemd or cgroup v2 with cpusets; a kernel before 6.2; a plan whose shared pool is the host's; a
        control group that claims some of the CPUs; an ovs-vswitchd in a container.
    Rollback: the kernel's settings as before, and the files; ovs-vswitchd moves back at its next start.
    Source: Documentation/admin-guide/cgroup-v2.rst, systemd.resource-control(5).
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
        wanted = plan.isolation is Isolation.PARTITION
        cpus = plan.cpus.isolated | plan.cpus.shared if wanted and plan.cpus.isolated else EMPTY
        switch_drop_in = read_image(root, SWITCH_DROP_IN)
        controllers = root.read_line(f"{_CGROUP}/cgroup.controllers")
        return State(
            cpus=cpus,
            keepers=(plan.cpus.host | plan.cpus.shared) if cpus else EMPTY,
            slice_drop_in=read_image(root, SLICE_DROP_IN),
            switch_drop_in=switch_drop_in,
            systemd=root.exists("/run/systemd/system"),
            controllers=None if controllers is None else tuple(controllers.split()),
            keeps_pinning=root.exists(f"{_CGROUP}/cpuset.cpus.isolated"),
            slice_cpus=root.read_text(f"{_FOLDER}/cpuset.cpus"),
            partition=root.read_line(f"{_FOLDER}/cpuset.cpus.partition"),
            rivals=tuple(_rivals(root, cpus)),
            workqueues=cpu_mask(root, _WORKQUEUE_MASK),
            # Where its unit is not ours to change, it does not matter where it runs.
            switch=_switch(root) if plan.ovs is not None and (cpus or switch_drop_in.content is not None) else None,
        )

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        wanted = _contents(state, plan)
        late = state.switch is not None and not state.switch.inside
        changes = []
        for key, image in ((_SLICE, state.slice_drop_in), (_SWITCH, state.switch_drop_in)):
            content = wanted[key]
            if image.content != content:
                then = Activation.RESTART if late and key == _SWITCH else Activation.NOW
                changes.append(_change(key, _settings(image.content), _settings(content), then, state))
        if not state.cpus:
            # Only what nfvhost made is taken back.
            if changes and (state.partition or "").startswith(_ROOT):
                changes.append(_change(_PARTITION, state.partition, _MEMBER, Activation.NOW, state))
            return tuple(changes)
        after = f"{_ROOT} {state.cpus}"
        if _text(state) != after and (changes or not late):
            # Before ovs-vswitchd is inside, its PMD threads would lose their CPUs.
            then = Activation.RESTART if late else Activation.NOW
            changes.append(_change(_PARTITION, _text(state), after, then, state))
        if state.workqueues is not None and not state.workqueues <= state.keepers:
            before, wished = str(state.workqueues), str(state.keepers)
            changes.append(_change(_WORKQUEUES, before, wished, Activation.NOW, state))
        return tuple(changes)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        if not self.diff(state, plan):
            return ()
        if host.container is not None:
            what = f"this is a {host.container} container: cpusets are the machine's around it"
            return (Problem(what=what, where=RESOURCE, hint="apply the plan on that machine"),)
        if not state.systemd:
            what = "without systemd nobody keeps the control groups of services and guests"
            return (Problem(what=what, where=RESOURCE, hint=_BOOT_HINT),)
        if not state.cpus:
            return ()
        if "cpuset" not in (state.controllers or ()):
            what = (
                "the kernel's cpusets are not in cgroup v2 here" if state.controllers else "there is no cgroup v2 here"
            )
            hint = f"systemd.unified_cgroup_hierarchy=1 on the kernel's command line; or {_BOOT_HINT}"
            return (Problem(what=what, where=RESOURCE, hint=hint),)
        return tuple(_problems(state, plan, host))

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del plan
        if not state.cpus or state.switch is None or state.switch.inside:
            return ()
        return (
            Problem(
                what=f"ovs-vswitchd runs in {state.switch.group}; the partition is made once it runs in {_SLICE}",
                where=f"{RESOURCE}: {_PARTITION}",
                hint="when its ports may stop for a moment: systemctl restart ovs-vswitchd",
            ),
        )

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        root, keys = machine.root, {change.key for change in changes}
        files = _replacements(state, changes)
        if files:
            write_out(root, files)
            machine.check(("systemctl", "daemon-reload"), timeout_s=_TIMEOUT_S)
        for change in changes:
            if change.key == _PARTITION and change.after == _MEMBER:
                _unmake(root, cpus="")
            elif change.key == _PARTITION and change.activation is Activation.NOW:
                self._make(machine, state.cpus)
        if _WORKQUEUES in keys:
            root.write_attribute(_WORKQUEUE_MASK, grouped_mask(state.keepers))

    @staticmethod
    def _make(machine: Machine, cpus: CpuSet, *, kind: str = _ROOT) -> None:
        root = machine.root
        if not root.exists(_FOLDER):
            machine.check(("systemctl", "start", _SLICE), timeout_s=_TIMEOUT_S)
        if root.read_text(f"{_FOLDER}/cpuset.cpus") is None:
            root.write_attribute(f"{_CGROUP}/cgroup.subtree_control", "+cpuset")
        if cpu_list(root, f"{_FOLDER}/cpuset.cpus") != cpus:
            root.write_attribute(f"{_FOLDER}/cpuset.cpus", str(cpus))
        if root.read_line(f"{_FOLDER}/cpuset.cpus.partition") != kind:
            root.write_attribute(f"{_FOLDER}/cpuset.cpus.partition", kind)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        state, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s)
        drifts = [
            Drift.of(change, hint=_rivals_named(state) if change.key == _PARTITION else None) for change in changes
        ]
        if not drifts and state.cpus and _text(state) != f"{_ROOT} {state.cpus}":
            drifts.append(
                Drift(
                    resource=RESOURCE,
                    key=_PARTITION,
                    planned=f"{_ROOT} {state.cpus}",
                    actual=_text(state),
                    hint="when its ports may stop for a moment: systemctl restart ovs-vswitchd",
                    pending=Activation.RESTART,
                )
            )
        return tuple(drifts)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        del changes
        return replace(state, controllers=None, rivals=(), switch=None)

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        root = machine.root
        found = list(foreign_files(root, RESOURCE, _replacements(before, changes)))
        for change in changes:
            now: str | None
            if change.key == _WORKQUEUES:
                mask = cpu_mask(root, _WORKQUEUE_MASK)
                now, known = str(mask), mask in {before.workqueues, before.keepers, None}
            elif change.key == _PARTITION:
                now = _kind(root.read_line(f"{_FOLDER}/cpuset.cpus.partition"))
                known = now in {None, _kind(before.partition), _MEMBER, _ROOT}
            else:
                continue
            if not known:
                what = f"is {now} by now, which someone else has set"
                found.append(Problem(what=what, where=change.where, hint="--force overwrites it"))
        return tuple(found)

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        root, files = machine.root, _replacements(before, changes)
        left = [] if force else [one for one in self.foreign(machine, before, changes) if _of_kernel(one.where)]
        theirs = {problem.where for problem in left}
        for change in reversed(changes):
            where = change.where
            if where in theirs:
                continue
            try:
                if change.key == _WORKQUEUES:
                    _restore_workqueues(root, before)
                elif change.key == _PARTITION:
                    self._restore(machine, before)
            except NfvhostError as error:
                left += [Problem(what=f"{one.where}: {one.what}", where=where, hint=one.hint) for one in error.problems]
        if files:
            left += put_back(root, RESOURCE, files, force=force)
            try:
                # Whether systemd has read the files that a killed process left is not to be seen.
                machine.check(("systemctl", "daemon-reload"), timeout_s=_TIMEOUT_S)
            except NfvhostError as error:
                where = f"{RESOURCE}: {files[0].keys[0]}"
                left += [Problem(what=one.what, where=where, hint=one.hint) for one in error.problems]
        return tuple(left)

    def _restore(self, machine: Machine, before: State) -> None:
        """Nothing, once the slice is what it was; one that was not there stays, since guests may be in it by now."""
        kind = _kind(before.partition)
        if kind in {None, _MEMBER}:
            _unmake(machine.root, cpus=(before.slice_cpus or "").strip())
        elif kind is not None:
            self._make(machine, CpuSet.parse(before.slice_cpus or ""), kind=kind)


def _contents(state: State, plan: Plan) -> dict[str, bytes | None]:
    """What the drop-ins are to hold."""
    wanted: dict[str, bytes | None] = {_SLICE: None, _SWITCH: None}
    if state.cpus:
        wanted[_SLICE] = f"{_HEAD}[Slice]\nAllowedCPUs={state.cpus}\n".encode()
        if plan.ovs is not None:
            # An empty CPUAffinity= forgets what other files say. PMD threads pin themselves, all others stay there.
            affinity = f"CPUAffinity=\nCPUAffinity={plan.cpus.shared}\n"
            wanted[_SWITCH] = f"{_HEAD}[Service]\nSlice={_SLICE}\n{affinity}".encode()
    return wanted


def _settings(content: bytes | None) -> str | None:
    """The assignments of a drop-in, in one line."""
    lines = (content or b"").decode(errors="replace").splitlines()
    return " ".join(line for line in lines if "=" in line and not line.endswith("=")) or None


def _content(change: Change) -> bytes | None:
    """The drop-in whose assignments a change has."""
    if change.after is None:
        return None
    lines = change.after.replace("CPUAffinity=", "CPUAffinity=\nCPUAffinity=").replace(" ", "\n")
    section = {_SLICE: "Slice", _SWITCH: "Service"}[change.key]
    return f"{_HEAD}[{section}]\n{lines}\n".encode()


def _replacements(state: State, changes: tuple[Change, ...]) -> tuple[Replacement, ...]:
    images = {_SLICE: state.slice_drop_in, _SWITCH: state.switch_drop_in}
    return tuple(
        Replacement(before=images[change.key], content=_content(change), keys=(change.key,))
        for change in changes
        if change.key in images
    )


def _problems(state: State, plan: Plan, host: Host) -> Iterator[Problem]:
    kernel = release(host.kernel_version or "")
    if not state.keeps_pinning and kernel is not None and kernel < _KEEPS_PINNING:
        yield Problem(
            what=f"Linux {host.kernel_version} forgets what threads are pinned to when a cpuset changes; 6.2 does not",
            where=RESOURCE,
            hint=_BOOT_HINT,
        )
    if not plan.cpus.shared.isdisjoint(plan.cpus.host) or not plan.cpus.shared:
        yield Problem(
            what="the shared pool has no CPUs of its own: a partition takes whole processes, and the threads of Open"
            " vSwitch and QEMU that do not poll would be on the CPUs of those that do",
            where=RESOURCE,
            hint=f"`shared: {{cores: 1}}` in the profile; or {_BOOT_HINT}",
        )
    else:
        mask = parse_cpu_mask(dict(plan.ovs.other_config).get("dpdk-lcore-mask", "")) if plan.ovs is not None else None
        if mask is not None and not mask <= state.cpus:
            yield Problem(
                what=f"dpdk-lcore-mask names {(mask - state.cpus).named}, outside of the partition: ovs-vswitchd could"
                " not start",
                where=RESOURCE,
                hint="make a new plan: nfvhost plan",
            )
    for group, cpus in state.rivals:
        yield Problem(
            what=f"{group} has claimed CPUs {cpus}: a partition shares with none",
            where=f"{RESOURCE}: {_PARTITION}",
            hint=f"take AllowedCPUs= out of it (systemctl show -p AllowedCPUs {group}), and clear"
            f" {_CGROUP}/{group}/cpuset.cpus",
        )
    if state.switch is not None and not state.switch.group.endswith(f"/{_SWITCH}"):
        yield Problem(
            what=f"ovs-vswitchd (pid {state.switch.pid}) runs in {state.switch.group}, and not as {_SWITCH}",
            where=f"{RESOURCE}: {_SWITCH}",
            hint=_BOOT_HINT,
        )


def _rivals(root: Root, cpus: CpuSet) -> Iterator[tuple[str, CpuSet]]:
    """Other groups at the top whose cpuset.cpus has some of these; a partition is exclusive among its siblings."""
    for name in root.list_dir(_CGROUP) if cpus else ():
        claimed = cpu_list(root, f"{_CGROUP}/{name}/cpuset.cpus") or EMPTY
        if name != _SLICE and not claimed.isdisjoint(cpus):
            yield name, claimed


def _rivals_named(state: State) -> str | None:
    told = ", ".join(f"{name} has claimed CPUs {cpus}" for name, cpus in state.rivals)
    return told or None


def _switch(root: Root) -> Switch | None:
    """The ovs-vswitchd of the unit; else any, which is then in a container or somebody's own."""
    found = []
    for pid in pids_by_name(root, ("ovs-vswitchd",)).get("ovs-vswitchd", ()):
        lines = (root.read_text(f"/proc/{pid}/cgroup") or "").splitlines()
        found += [Switch(pid=pid, group=line[3:]) for line in lines if line.startswith("0::")]
    return next((one for one in found if one.group.endswith(f"/{_SWITCH}")), found[0] if found else None)


def _kind(partition: str | None) -> str | None:
    """`root` of `root invalid (Cpu list in cpuset.cpus not exclusive)`."""
    return None if partition is None else partition.partition(" ")[0]


def _text(state: State) -> str | None:
    """`root 2-7`, where it is valid; else what the kernel says of it."""
    if state.partition != _ROOT:
        return state.partition
    return f"{_ROOT} {(state.slice_cpus or '').strip()}"


def _unmake(root: Root, *, cpus: str) -> None:
    """Nothing, once the slice is no partition and its CPUs are these; what is not there is as before already."""
    if _kind(root.read_line(f"{_FOLDER}/cpuset.cpus.partition")) not in {None, _MEMBER}:
        root.write_attribute(f"{_FOLDER}/cpuset.cpus.partition", _MEMBER)
    now = root.read_text(f"{_FOLDER}/cpuset.cpus")
    if now is not None and now.strip() != cpus:
        # Nothing written is no write: a line end alone clears it.
        root.write_attribute(f"{_FOLDER}/cpuset.cpus", cpus or "\n")


def _restore_workqueues(root: Root, before: State) -> None:
    now = cpu_mask(root, _WORKQUEUE_MASK)
    if before.workqueues is not None and now is not None and now != before.workqueues:
        root.write_attribute(_WORKQUEUE_MASK, grouped_mask(before.workqueues))


def _of_kernel(where: str | None) -> bool:
    return where in {f"{RESOURCE}: {_PARTITION}", f"{RESOURCE}: {_WORKQUEUES}"}


def _change(key: str, before: str | None, after: str | None, activation: Activation, state: State) -> Change:
    reasons = {
        _SLICE: "guests and the switch use these CPUs, and leave the others to the host",
        _SWITCH: "its PMD threads need CPUs of the partition, and its other threads some beside them",
        _PARTITION: "the kernel keeps everything else off these CPUs, without a reboot",
        _WORKQUEUES: "work of the kernel that may run anywhere stays off isolated CPUs",
    }
    return Change(
        resource=RESOURCE,
        key=key,
        before=before,
        after=after,
        activation=activation,
        disruption=Disruption.NONE,
        reason=reasons[key] if state.cpus else "the plan wants no partition any more",
    )


__all__ = ["CpuPartition"]
