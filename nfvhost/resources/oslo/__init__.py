"""Settings of OpenStack's services: a drop-in of nfvhost's own, and the value that oslo.config makes of all files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.errors import PreconditionError, Problem
from nfvhost.model.change import Activation, Change, Disruption
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.oslo.ini import Option, parse
from nfvhost.resources.oslo.service import Reading, Service, reading_of
from nfvhost.resources.own_files import FileImage, Replacement, foreign_files, put_back, read_image, write_out

_HEAD: Final = "# Written by nfvhost, as a whole.\n"
# No line ends, and nothing that oslo would expand ($name) or take off (quotes around the whole).
_SAFE: Final = re.compile(r"[^\x00-\x1f\x7f$]+")
_KEY: Final = re.compile(r"\[(\S+)\] (\S+)(?: (.+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value of one option; several of an option that may be given several times have labels."""

    section: str
    name: str
    label: str | None
    value: str

    @property
    def key(self) -> str:
        """How changes name it: `[pci] device_spec 0000:10:00.0`."""
        return f"[{self.section}] {self.name}" + (f" {self.label}" if self.label is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The drop-in, and what everyone else says of the same options."""

    own: FileImage
    ours: tuple[Setting, ...]
    weaker: tuple[Option, ...]  # in files that are read before the drop-in, in order
    stronger: tuple[Option, ...]  # in files that are read after it, in order
    broken: tuple[tuple[str, str], ...]  # file -> what oslo would refuse it for
    installed: bool
    running: bool
    contained: bool

    def effective(self, section: str, name: str) -> str | None:
        """What everyone else's files make of an option with one value."""
        same = [one for one in (*self.weaker, *self.stronger) if (one.section, one.name) == (section, name)]
        return same[-1].value if same else None


Wanted = Callable[[Plan, State], tuple[Setting, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OsloConf:
    """The resource of one service's settings.

    Source: the files that the service reads, by its command line; oslo.config's rules of precedence.
    """

    resource: str
    service: Service
    settings: Wanted  # in the plan's terms; empty where the plan leaves the service out
    options: frozenset[tuple[str, str]]  # section and name of what may be set; all others of a file stay unread
    labels: Mapping[tuple[str, str], Callable[[str], str]]  # options that may be given several times: a value's label
    excluded: tuple[tuple[str, str, str], ...] = ()  # section, option, why it must not be set besides

    @property
    def name(self) -> str:
        return self.resource

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        reading = reading_of(machine.root, self.service)
        own = read_image(machine.root, reading.own)
        state = State(
            own=own,
            ours=self._own_settings(own),
            weaker=(),
            stronger=(),
            broken=(),
            installed=reading.installed,
            running=reading.running,
            contained=reading.contained,
        )
        # Without a wish, other people's files, which only they and root may read, are none of its business.
        return self._with_others(machine.root, state, reading) if self.settings(plan, state) else state

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        wanted = {setting.key: setting for setting in self.settings(plan, state)}
        ours = {setting.key: setting for setting in state.ours}
        return tuple(
            Change(
                resource=self.resource,
                key=key,
                before=ours[key].value if key in ours else None,
                after=wanted[key].value if key in wanted else None,
                activation=Activation.RESTART if state.running else Activation.NOW,
                disruption=Disruption.NONE,
                reason=f"{self.service.program} takes it from {state.own.path}"
                if key in wanted
                else "the plan does not set it any more",
            )
            for key in dict.fromkeys([*wanted, *ours])
            if (wanted[key].value if key in wanted else None) != (ours[key].value if key in ours else None)
        )

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        del host
        changes = self.diff(state, plan)
        if not changes:
            return ()
        found = [
            Problem(what=f"oslo.config refuses it: {refusal}", where=f"{self.resource}: {path}")
            for path, refusal in state.broken
        ]
        if state.contained:
            found.append(
                Problem(
                    what=f"{self.service.program} runs in a container, with files of its own",
                    where=self.resource,
                    hint="give its deployer the settings: docs/openstack.md says which and where",
                )
            )
        found += [
            Problem(what=f"cannot be written to a file: {change.after!r}", where=change.where)
            for change in changes
            if change.after is not None and _SAFE.fullmatch(change.after) is None
        ]
        return (*found, *self._overruled(state, plan), *self._excluded(state, plan))

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        wanted = self.settings(plan, state)
        if not wanted:
            return ()
        found = [
            Problem(
                what=f"{option.where} says {option.value}, which {state.own.path} replaces",
                where=f"{self.resource}: {setting.key}",
            )
            for setting in wanted
            for option in state.weaker
            if setting.label is None
            and (option.section, option.name) == (setting.section, setting.name)
            and option.value != setting.value
        ]
        if not state.installed:
            what = f"{self.service.program} is not installed; {state.own.path} is there for when it is"
            found.append(Problem(what=what, where=self.resource))
        return tuple(found)

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if change.after is not None and _SAFE.fullmatch(change.after) is None:
                raise PreconditionError("cannot be written to a file", where=change.where)
        write_out(machine.root, self._replacements(state, changes))

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        state = self.read(machine, plan) if seen is None else seen
        drifts = [Drift.of(change) for change in self.diff(state, plan)]
        drifts += [
            Drift(
                resource=self.resource,
                key=problem.where.partition(": ")[2] if problem.where is not None else self.resource,
                planned=None,
                actual=problem.what,
                hint=problem.hint,
            )
            for problem in (*self._overruled(state, plan), *self._excluded(state, plan))
        ]
        return tuple(drifts)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        # Rollback needs nothing of what others have set.
        del changes
        return replace(state, weaker=(), stronger=(), broken=())

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        return foreign_files(machine.root, self.resource, self._replacements(before, changes))

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        return put_back(machine.root, self.resource, self._replacements(before, changes), force=force)

    def _with_others(self, root: Root, state: State, reading: Reading) -> State:
        before, after, broken = list[Option](), list[Option](), list[tuple[str, str]]()
        found = before
        for path in reading.files:
            if path == reading.own:
                found = after
                continue
            options, refusal = parse(root.read_text(path) or "", path)
            found += [option for option in options if self._concerns(option)]
            if refusal is not None:
                broken.append((path, refusal))
        return replace(state, weaker=tuple(before), stronger=tuple(after), broken=tuple(broken))

    def _concerns(self, option: Option) -> bool:
        """Whether the option is one that nfvhost may set, or one that must not be set besides; no other is kept."""
        names = {(section, name) for section, name, _ in self.excluded}
        return (option.section, option.name) in names | self.options

    def _own_settings(self, own: FileImage) -> tuple[Setting, ...]:
        options, _ = parse((own.content or b"").decode(errors="replace"), own.path)
        settings = []
        for option in options:
            label = self.labels.get((option.section, option.name))
            settings.append(
                Setting(
                    section=option.section,
                    name=option.name,
                    label=label(option.value) if label is not None else None,
                    value=option.value,
                )
            )
        return tuple(settings)

    def _overruled(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        """What a file that is read after the drop-in says otherwise; of options with several values, the same one."""
        found = []
        for setting in self.settings(plan, state):
            label = self.labels.get((setting.section, setting.name))
            for option in state.stronger if label is None else (*state.weaker, *state.stronger):
                same = (option.section, option.name) == (setting.section, setting.name)
                if not same or option.value == setting.value or (label and label(option.value) != setting.label):
                    continue
                found.append(
                    Problem(
                        what=f"{option.where} says {option.value}, and "
                        + (
                            f"{self.service.program} reads it after {state.own.path}" if label is None else "both count"
                        ),
                        where=f"{self.resource}: {setting.key}",
                        hint=f"take it out of {option.where}",
                    )
                )
        return tuple(found)

    def _excluded(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        if not self.settings(plan, state):
            return ()
        return tuple(
            Problem(
                what=f"{option.where} says {option.value}: {why}",
                where=f"{self.resource}: [{section}] {name}",
                hint=f"take it out of {option.where}",
            )
            for section, name, why in self.excluded
            for option in (*state.weaker, *state.stronger)
            if (option.section, option.name) == (section, name)
        )

    def _replacements(self, state: State, changes: tuple[Change, ...]) -> tuple[Replacement, ...]:
        if not changes:
            return ()
        settings = {setting.key: setting for setting in state.ours}
        for change in changes:
            if change.after is None:
                settings.pop(change.key, None)
            elif match := _KEY.fullmatch(change.key):
                settings[change.key] = Setting(section=match[1], name=match[2], label=match[3], value=change.after)
        content = _render(tuple(settings.values())) if settings else None
        return (Replacement(before=state.own, content=content, keys=tuple(change.key for change in changes)),)


def _render(settings: tuple[Setting, ...]) -> bytes:
    text = _HEAD
    for section in dict.fromkeys(setting.section for setting in settings):
        text += f"\n[{section}]\n"
        text += "".join(f"{one.name} = {one.value}\n" for one in settings if one.section == section)
    return text.encode()


__all__ = ["OsloConf", "Setting", "State"]
