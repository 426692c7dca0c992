"""Arguments of the kernel: for the next boot by the boot loader's files, for this one as /proc/cmdline says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.boot import boot_loader, kernel_args
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.errors import ApplyError, NfvhostError, PreconditionError, Problem
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.kernel_cmdline import entries, grub
from nfvhost.resources.kernel_cmdline.argument import contradictions, is_harmless, missing, name_of
from nfvhost.resources.kernel_cmdline.state import BootLine, State
from nfvhost.resources.own_files import Replacement, foreign_files, put_back, read_image, write_out

RESOURCE: Final = "kernel_cmdline"
_MENU: Final = "boot entries"
# A machine with many kernels and slow disks takes its time in os-prober.
_TIMEOUT_S: Final = 300.0
_NO_ENTRIES: Final = (
    "there are no entries in loader/entries; kernels that are one file each (UKI) have tools of their own"
)
_REASON: Final = "isolation, hugepages and the IOMMU are the kernel's own from its start"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCmdline:
    """Arguments of the kernel, for isolation, hugepages at boot and the IOMMU.

    The boot loader that the machine really uses is asked: GRUB with a drop-in that is read last, entries of the Boot
    Loader Specification by grubby, systemd-boot by kernel-install. Everyone else's arguments stay. grubby is told to
    leave /etc/default/grub alone, where it knows how: it would write over GRUB_CMDLINE_LINUX_DEFAULT as well.

    Configured: /etc/default/grub.d/zz-nfvhost.cfg and the menu that update-grub makes of it; or the entries of the
        menu, with /etc/nfvhost/kernel-arguments to note which arguments are nfvhost's; /etc/kernel/cmdline, which
        the next kernel takes its arguments from.
    Active: /proc/cmdline.
    Keys: the path of the file; `boot entries` where the files are right and the menu is not.
    Effect: at the next reboot.
    Refuses: an argument of someone else's that contradicts, by file and value; a file that drops the drop-in; any
        argument but those that a plan holds, and any value that a shell or boot loader would expand; a container; a
        boot loader that nfvhost does not know.
    Rollback: the files as they were, and the menu made again of them.
    Source: GRUB's manual, 6.1; grubby(8); kernel-install(8); Documentation/admin-guide/kernel-parameters.rst.
    """

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        loader = boot_loader(machine.root)
        by_entries = loader in {"bls", "systemd-boot"}
        own = read_image(machine.root, entries.NOTE if by_entries else grub.DROP_IN)
        state = State(
            loader=loader,
            own=own,
            ours=entries.noted(own.content) if by_entries else grub.own_arguments(own.content),
            shared=None,
            foreign=(),
            unknown=(),
            overrider=None,
            lines=(),
            command=(),
            obstacle=None,
            active=kernel_args(machine.root),
        )
        # Without a wish, files that only root may read are none of its business.
        if not plan.kernel_args and own.content is None:
            return state
        return _read_entries(machine, state) if by_entries else _read_grub(machine, state)

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        wanted = missing(plan.kernel_args, tuple(word.text for word in state.foreign))
        if wanted != state.ours:
            return (_change(state.own.path, state.ours, wanted, state.active),)
        stale = _stale(state, wanted)
        return (_change(_MENU, (), wanted, state.active),) if stale else ()

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        changes = self.diff(state, plan)
        if not changes:
            return ()
        wanted = _arguments(changes[0].after)
        found = [
            Problem(
                what=f"nfvhost sets no {name_of(argument)} for the kernel, or not to such a value: {argument!r}",
                where=f"{RESOURCE}: {name_of(argument)}",
                hint="make a new plan: nfvhost plan",
            )
            for argument in wanted
            if not is_harmless(argument)
        ]
        found += [
            Problem(
                what=f"{word.where} says {word.text}, planned is {_of_name(plan.kernel_args, word.text)}",
                where=f"{RESOURCE}: {name_of(word.text)}",
                hint=f"take it out of {word.where}",
            )
            for word in contradictions(wanted, state.foreign)
        ]
        if state.overrider is not None:
            found.append(
                Problem(
                    what=f"{state.overrider} is read after it and drops what it says",
                    where=f"{RESOURCE}: {state.own.path}",
                    hint='let it keep what was there: GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT …"',
                )
            )
        return (*found, *_obstacles(state, host))

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        if not plan.kernel_args:
            return ()
        return tuple(
            Problem(
                what="what it says can only be known by running it; the menu that it leads to is checked instead",
                where=f"{RESOURCE}: {path}",
            )
            for path in state.unknown
        )

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        wanted = _arguments(changes[0].after) if changes else state.ours
        if not all(map(is_harmless, wanted)):
            raise PreconditionError("holds what nfvhost does not set", where=f"{RESOURCE}: {' '.join(wanted)}")
        if not changes:
            return
        write_out(machine.root, _replacements(state, changes))
        _make_lines(machine, state, old=state.ours, new=wanted)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        state = self.read(machine, plan) if seen is None else seen
        by_hand = _hint(state) if state.obstacle is not None or not state.command else None
        drifts = [Drift.of(change, hint=by_hand) for change in self.diff(state, plan)]
        if drifts:
            return tuple(drifts)
        active = state.active or ()
        return tuple(
            Drift(
                resource=RESOURCE,
                key=name_of(argument),
                planned=argument,
                actual=_of_name(active, argument) or None,
                pending=Activation.REBOOT,
            )
            for argument in missing(plan.kernel_args, active)
        )

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        # Other people's arguments may hold secrets; they are needed where nfvhost makes the file that holds them all.
        del changes
        words = state.next_words if _makes_shared(state) else ()
        return replace(state, foreign=(), next_words=words, unknown=(), overrider=None, lines=(), active=None)

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        return foreign_files(machine.root, RESOURCE, _replacements(before, changes))

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        if not changes:
            return ()
        where = f"{RESOURCE}: {changes[0].key}"
        left = put_back(machine.root, RESOURCE, _replacements(before, changes), force=force)
        if left or changes[0].key == _MENU:
            return left  # a menu that does not follow its files is nobody's wish
        new = _arguments(changes[0].after)
        if not _differs(_lines(machine.root, before.loader), before.ours, new):
            return _drop_shared(machine.root, before, where=where)
        try:
            _make_lines(machine, before, old=new, new=before.ours)
        except NfvhostError as error:
            return tuple(Problem(what=one.what, where=where, hint=one.hint) for one in error.problems)
        left = _drop_shared(machine.root, before, where=where)
        return left or tuple(
            Problem(what=f"{line.where} is not as before", where=where, hint=_hint(before))
            for line in _differs(_lines(machine.root, before.loader), before.ours, new)
        )


def _read_grub(machine: Machine, state: State) -> State:
    root = machine.root
    foreign, unknown, overrider = grub.others(root)
    return replace(
        state,
        foreign=foreign,
        unknown=unknown,
        overrider=overrider,
        lines=grub.lines(root),
        command=grub.command(machine),
        obstacle=grub.obstacle(root) if state.loader == "grub" else "no boot loader is seen here that nfvhost knows",
    )


def _read_entries(machine: Machine, state: State) -> State:
    root = machine.root
    found = entries.lines(root)
    by_kernel_install = state.loader == "systemd-boot"
    shared = read_image(root, entries.SHARED)
    next_kernel = entries.shared_line(shared.content)
    next_words = entries.shared_words(root, state.ours)
    program = "kernel-install" if by_kernel_install else "grubby"
    return replace(
        state,
        shared=shared,
        foreign=next_words if by_kernel_install else entries.others(found, state.ours),
        next_words=next_words,
        lines=(*found, *((next_kernel,) if next_kernel is not None else ())),
        command=(program,) if machine.find(program) is not None else (),
        obstacle=None if found else _NO_ENTRIES,
    )


def _lines(root: Root, loader: str | None) -> tuple[BootLine, ...]:
    return entries.lines(root) if loader in {"bls", "systemd-boot"} else grub.lines(root)


def _stale(state: State, wanted: tuple[str, ...]) -> tuple[BootLine, ...]:
    """Entries of the menu that do not hold what the files say; nfvhost's own alone count."""
    return tuple(line for line in state.lines if missing(wanted, line.arguments))


def _makes_shared(state: State) -> bool:
    """Whether nfvhost makes the shared file; grubby makes it by itself, of an entry."""
    return state.loader == "systemd-boot" and state.shared is not None and state.shared.content is None


def _drop_shared(root: Root, before: State, *, where: str) -> tuple[Problem, ...]:
    """What keeps the shared file that grubby has made from going again; one that says something else is another's."""
    shared = before.shared
    if before.loader != "bls" or shared is None or shared.content is not None:
        return ()
    now = entries.shared_line(root.read_bytes(shared.path))
    if now is None and not any(map(root.exists, shared.absent_folders)):
        return ()
    if now is not None and not any(now.arguments == line.arguments for line in entries.lines(root)):
        return ()
    try:
        root.remove_file(shared.path, folders=shared.absent_folders)
    except NfvhostError as error:
        return tuple(Problem(what=one.what, where=where, hint=one.hint) for one in error.problems)
    return ()


def _differs(lines: tuple[BootLine, ...], ours: tuple[str, ...], gone: tuple[str, ...]) -> tuple[BootLine, ...]:
    """Entries that lack one of ours, or hold one that is gone."""
    return tuple(
        line
        for line in lines
        if missing(ours, line.arguments) or any(one in line.arguments for one in gone if one not in ours)
    )


def _obstacles(state: State, host: Host) -> tuple[Problem, ...]:
    """What keeps nfvhost from writing them at all."""
    if host.container is not None:
        return (
            Problem(
                what=f"this is a {host.container} container: the kernel's arguments are the machine's around it",
                where=RESOURCE,
                hint="apply the plan on that machine",
            ),
        )
    found = []
    if state.obstacle is not None:
        found.append(Problem(what=state.obstacle, where=RESOURCE, hint=_hint(state)))
    elif not state.command:
        program = {"bls": "grubby", "systemd-boot": "kernel-install"}.get(state.loader or "", "update-grub")
        found.append(Problem(what=f"{program} is not installed", where=RESOURCE, hint=_hint(state)))
    return tuple(found)


def _hint(state: State) -> str:
    places = {"bls": "with grubby --update-kernel=ALL --args=…", "systemd-boot": f"in {entries.SHARED}"}
    place = places.get(state.loader or "", "in GRUB_CMDLINE_LINUX_DEFAULT of /etc/default/grub, then grub-mkconfig")
    return f"set them by hand {place}; nfvhost takes them as they are"


def _change(key: str, before: tuple[str, ...], after: tuple[str, ...], active: tuple[str, ...] | None) -> Change:
    gone = [argument for argument in before if argument not in after]
    now = not missing(after, active or ()) and not any(argument in (active or ()) for argument in gone)
    return Change(
        resource=RESOURCE,
        key=key,
        before=" ".join(before) or None,
        after=" ".join(after) or None,
        activation=Activation.NOW if now else Activation.REBOOT,
        disruption=Disruption.NONE,
        reason=_REASON if after else "the plan needs none of them any more",
    )


def _arguments(text: str | None) -> tuple[str, ...]:
    return tuple((text or "").split())


def _of_name(arguments: tuple[str, ...], like: str) -> str:
    """Those of the same name, as one text."""
    return " ".join(argument for argument in arguments if name_of(argument) == name_of(like))


def _replacements(state: State, changes: tuple[Change, ...]) -> tuple[Replacement, ...]:
    """The files that the changes write, the note before what it is about."""
    found: list[Replacement] = []
    for change in changes:
        new, keys = _arguments(change.after), (change.key,)
        if change.key == state.own.path:
            render = grub.render if state.own.path == grub.DROP_IN else entries.render_note
            found.append(Replacement(before=state.own, content=render(new) if new else None, keys=keys))
        if state.shared is not None and (state.shared.content is not None or _makes_shared(state)):
            content = entries.with_arguments(state.shared.content, state.next_words, old=state.ours, new=new)
            found.append(Replacement(before=state.shared, content=content, keys=keys))
    return tuple(found)


def _make_lines(machine: Machine, state: State, *, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    """Nothing, once the boot loader's own files say `new` in place of `old`; CommandError where that fails."""
    if state.loader == "bls":
        gone = [argument for argument in old if argument not in new]
        argv = ["grubby", "--update-kernel=ALL"]
        if entries.grubby_spares_defaults(machine.root):
            argv.append(entries.SPARE_DEFAULTS)
        argv += [f"--remove-args={' '.join(gone)}"] if gone else []
        argv += [f"--args={' '.join(new)}"] if new else []
        machine.check(argv, timeout_s=_TIMEOUT_S)
    elif state.loader == "systemd-boot":
        for version, image in entries.kernels(machine.root):
            machine.check(("kernel-install", "add", version, image), timeout_s=_TIMEOUT_S)
    elif state.command:
        machine.check(state.command, timeout_s=_TIMEOUT_S)
    else:
        raise ApplyError("update-grub is not installed", where=RESOURCE)


__all__ = ["KernelCmdline"]
