"""Kernel modules: loaded now, and at each boot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost import drivers
from nfvhost.access.command import CommandError
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Role
from nfvhost.model.report import Drift
from nfvhost.resources.own_files import FileImage, Replacement, foreign_files, put_back, read_image, write_out
from nfvhost.resources.settling import settled

RESOURCE: Final = "modules"
# modules-load.d(5)
LOAD_FILE: Final = "/etc/modules-load.d/nfvhost.conf"
_HEAD: Final = "# Written by nfvhost, as a whole.\n"
_TIMEOUT_S: Final = 60.0
_VDPA: Final = "vhost_vdpa"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The file, and of the modules that matter here those that are in the kernel or could be."""

    load_file: FileImage
    loaded: tuple[str, ...]  # /proc/modules; names with _ for -, sorted, as all here
    built_in: tuple[str, ...]  # /lib/modules/<release>/modules.builtin; /sys/module/<name> of one that was not loaded
    loadable: tuple[str, ...] | None  # /lib/modules/<release>/modules.dep; None where it is not there
    release: str | None  # /proc/sys/kernel/osrelease


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """Kernel modules, loaded now and at each boot.

    One that is built into the kernel needs neither the file nor a load.

    Configured: /etc/modules-load.d/nfvhost.conf, as a whole.
    Active: /proc/modules and /sys/module; `modprobe` loads what is missing.
    Keys: the path of the file; the name of a module.
    Effect: now.
    Refuses: a module that the running kernel has not; a container, which cannot load any.
    Rollback: unloads what this apply has loaded, unless something uses it by now; the file as it was.
    Source: modules-load.d(5), /lib/modules/<release>/modules.builtin, modules.dep.
    """

    settle_s: float = 2.0

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        load_file = read_image(machine.root, LOAD_FILE)
        matter = {*_wanted(plan), *_listed(load_file.content)}
        return _read(machine.root, load_file, frozenset(map(_normal, matter)))

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        reasons = {module: reason for module, reason in _wanted(plan).items() if _normal(module) not in state.built_in}
        before, after = _listed(state.load_file.content), tuple(sorted(reasons))
        changes = []
        if before != after:
            reason = "; ".join(dict.fromkeys(reasons.values())) or "the plan needs none of them any more"
            changes.append(Change.now(RESOURCE, LOAD_FILE, " ".join(before) or None, " ".join(after) or None, reason))
        changes += [
            Change.now(RESOURCE, module, None, "loaded", reason)
            for module, reason in sorted(reasons.items())
            if _normal(module) not in state.loaded
        ]
        return tuple(changes)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        missing = [change.key for change in self.diff(state, plan) if change.key != LOAD_FILE]
        if not missing:
            return ()
        if host.container is not None:
            what = f"this is a {host.container} container, which cannot load kernel modules: {', '.join(missing)}"
            return (Problem(what=what, where=RESOURCE, hint="load them on the machine around it"),)
        if state.loadable is None:
            what = f"/lib/modules/{state.release} is not there, so {', '.join(missing)} cannot be loaded"
            return (Problem(what=what, where=RESOURCE, hint="reboot into the kernel that is installed"),)
        return tuple(
            Problem(
                what=f"the kernel {state.release} has no module {module}",
                where=f"{RESOURCE}: {module}",
                hint="install its further modules (linux-modules-extra, kernel-modules-extra)",
            )
            for module in missing
            if _normal(module) not in state.loadable
        )

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        del state, plan
        return ()

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        write_out(machine.root, _replacements(state, changes))
        for module in _to_load(changes):
            machine.check(("modprobe", module), timeout_s=_TIMEOUT_S)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        _, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s)
        return tuple(Drift.of(change) for change in changes)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        del changes
        return state

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        return foreign_files(machine.root, RESOURCE, _replacements(before, changes))

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        left: list[Problem] = []
        for module in reversed(_to_load(changes)):
            if _normal(module) not in _loaded(machine.root):
                continue
            if bound := _bound(machine.root, module):
                # modprobe -r would take their driver from them, and leave them without any.
                what = f"stays loaded: {', '.join(bound)} is bound to its driver"
                left.append(Problem(what=what, where=f"{RESOURCE}: {module}"))
                continue
            try:
                machine.check(("modprobe", "-r", module), timeout_s=_TIMEOUT_S)
            except CommandError as error:
                what = f"stays loaded: {error.problems[0].what}"
                left.append(Problem(what=what, where=f"{RESOURCE}: {module}", hint="something uses it by now"))
        return (*left, *put_back(machine.root, RESOURCE, _replacements(before, changes), force=force))


def _wanted(plan: Plan) -> dict[str, str]:
    """The modules that the plan needs, and why."""
    wanted: dict[str, str] = {}
    for nic in plan.nics:
        for driver in (nic.driver, nic.vf_driver):
            if driver is not None:
                wanted.setdefault(driver, f"{nic.pci} or its VFs are bound to it")
        if nic.role is Role.VDPA:
            wanted.setdefault(_VDPA, f"the vDPA devices of {nic.pci} are bound to it")
            for one in drivers.DRIVERS:
                if one.vdpa is None or nic.current_driver not in one.kernel:
                    continue
                # Where the VFs are bound to its driver, it is wanted by that name already.
                if _normal(one.vdpa) not in map(_normal, wanted):
                    wanted[one.vdpa] = f"it makes the vDPA devices of {nic.pci}"
    return wanted


def _read(root: Root, load_file: FileImage, matter: frozenset[str]) -> State:
    release = root.read_line("/proc/sys/kernel/osrelease")
    folder = f"/lib/modules/{release}"
    built_in, loadable = _in_list(root, f"{folder}/modules.builtin"), _in_list(root, f"{folder}/modules.dep")
    loaded, known = _loaded(root), _known(root)
    # A module in the kernel itself has a folder where it has parameters (kernel/params.c, param_sysfs_builtin).
    in_kernel = {module for module in matter - known if root.exists(f"/sys/module/{module}")}
    return State(
        load_file=load_file,
        loaded=tuple(sorted(loaded & matter)),
        built_in=tuple(sorted(((built_in or frozenset()) & matter) | in_kernel)),
        loadable=None if loadable is None else tuple(sorted(loadable & matter)),
        release=release,
    )


def _loaded(root: Root) -> frozenset[str]:
    """Those that can be used: `Live` in the fifth field; `Loading` and `Unloading` are not there yet or any more."""
    return frozenset(fields[0] for fields in _lines(root) if "Live" in fields[4:5])


def _known(root: Root) -> frozenset[str]:
    return frozenset(fields[0] for fields in _lines(root) if fields)


def _lines(root: Root) -> list[list[str]]:
    """Source: /proc/modules."""
    return [line.split() for line in (root.read_text("/proc/modules") or "").splitlines()]


def _bound(root: Root, module: str) -> tuple[str, ...]:
    """The devices that drivers of the module have. Source: /sys/module/<name>/drivers (kernel/module/sysfs.c)."""
    folder = f"/sys/module/{_normal(module)}/drivers"
    return tuple(
        name
        for driver in root.list_dir(folder)
        for name in root.list_dir(f"{folder}/{driver}")
        if name != "module" and root.read_link(f"{folder}/{driver}/{name}") is not None
    )


def _in_list(root: Root, path: str) -> frozenset[str] | None:
    """The names in a file that has `kernel/drivers/vfio/pci/vfio-pci.ko[.xz][: …]` in each line."""
    text = root.read_text(path)
    if text is None:
        return None
    files = (line.partition(":")[0].rpartition("/")[2] for line in text.splitlines())
    return frozenset(_normal(name.partition(".ko")[0]) for name in files)


def _listed(content: bytes | None) -> tuple[str, ...]:
    lines = (content or b"").decode(errors="replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith(("#", ";")))


def _normal(module: str) -> str:
    """The name as the kernel writes it; files and people use either form."""
    return module.replace("-", "_")


def _to_load(changes: tuple[Change, ...]) -> tuple[str, ...]:
    return tuple(change.key for change in changes if change.key != LOAD_FILE)


def _replacements(state: State, changes: tuple[Change, ...]) -> tuple[Replacement, ...]:
    for change in changes:
        if change.key == LOAD_FILE:
            content = None
            if change.after is not None:
                content = (_HEAD + "".join(f"{module}\n" for module in change.after.split())).encode()
            return (Replacement(before=state.load_file, content=content, keys=(LOAD_FILE,)),)
    return ()


__all__ = ["Modules"]
