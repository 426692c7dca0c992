"""Packages of the distribution: Open vSwitch with DPDK, the DPDK drivers of this plan's ports, and their tools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from os.path import basename
from typing import Final

from nfvhost.access import ovs_client
from nfvhost.access.command import CommandError
from nfvhost.access.machine import Machine
from nfvhost.errors import ApplyError, NfvhostError, Problem
from nfvhost.model.change import Change, Disruption
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.packages import switch
from nfvhost.resources.packages.inventory import Need, asked_for, departure
from nfvhost.resources.packages.manager import MANAGERS, Manager, manager_of
from nfvhost.resources.packages.needs import Needs, needs_of
from nfvhost.resources.packages.state import Build, State, Wanted, forecast_problems
from nfvhost.resources.settling import settled

RESOURCE: Final = "packages"
_DPKG: Final = "dpkg"
_CHOICE: Final = "alternative ovs-vswitchd"
_PROCESS: Final = "ovs-vswitchd"
_OWN_KEYS: Final = frozenset({_DPKG, _CHOICE, _PROCESS})
_WITH: Final = "with DPDK"
_WITHOUT: Final = "without DPDK"
_NO_PACKAGE: Final = "no package of that name is known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """Packages: Open vSwitch built with DPDK, the DPDK drivers that the plan's ports need, the vdpa tool.

    Debian and Ubuntu ship each DPDK driver as a package of its own, numbered by DPDK's ABI, and without the right ones
    a port does not open. They keep the plain build of ovs-vswitchd chosen, too: the one with DPDK is chosen here, and a
    running one of the other build is started anew. Nothing that is there is upgraded, and nothing is removed. What apt
    would do is asked before anything is changed; its lists are fetched only where they are missing or do not know a
    package. A plan without Open vSwitch and vDPA needs nothing.

    Configured: packages of apt; /etc/alternatives/ovs-vswitchd.
    Active: the program that the running ovs-vswitchd was started from.
    Keys: the name of a package without the number of DPDK's ABI (`librte-net-i40e`); `alternative ovs-vswitchd`;
        `ovs-vswitchd`; `dpkg`, where a run of it was cut off.
    Effect: now; where ovs-vswitchd ran without DPDK, it is restarted, and the links of its ports go down for a moment.
    Refuses: what would upgrade or remove a package; a driver that this release's DPDK has not; a restart of the
        ovs-vswitchd that carries management.
    Rollback: the build that was chosen; purges the packages that came with this apply, unless others need them by now
        or Open vSwitch has bridges of others. The database in /var/lib/openvswitch stays where the packages leave it.
    Source: /var/lib/dpkg/status, apt-get(8), update-alternatives(1).
    """

    settle_s: float = 3.0

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        root = machine.root
        needs = needs_of(plan, root)
        name = manager_of(root)
        if name is None or (needs.open_vswitch is None and needs.vdpa_tool is None):
            return State(manager=name, wanted=())
        manager = MANAGERS[name]
        inventory = manager.read_inventory(machine)
        packaged = any(one in inventory.present for one in manager.SWITCHES)
        foreign = switch.foreign_switch(root, packaged=packaged) if needs.open_vswitch is not None else None
        if foreign is not None:
            needs = Needs(open_vswitch=None, libraries=(), vdpa_tool=needs.vdpa_tool)
        wanted, lists = manager.find_wanted(machine, inventory, manager.needs_by_name(root, needs))
        missing = [one.name for one in wanted if not one.installed]
        known = [one for one in missing if one is not None]
        own = needs.open_vswitch is not None
        build = manager.build_with_dpdk(root) if own else None
        systemd = own and root.exists("/run/systemd/system") and machine.find("systemctl") is not None
        return State(
            manager=name,
            wanted=wanted,
            lists=lists,
            forecast=manager.forecast(machine, known) if known and len(known) == len(missing) and lists else None,
            interrupted=bool(missing) and inventory.interrupted,
            foreign=foreign,
            alternative=switch.read_alternative(root, manager.ALTERNATIVES) if build and build.chosen else None,
            build=build,
            running=switch.running_program(root) if own else None,
            service=manager.SERVICE if systemd else None,
            enabled=switch.is_enabled(root, manager.SERVICE),
            present=inventory.present,
            residual=inventory.residual,
        )

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        del plan
        changes = []
        if state.interrupted:
            reason = "a run of dpkg was cut off, and apt installs nothing before it is finished"
            changes.append(Change.now(RESOURCE, _DPKG, "cut off", "finished", reason))
        changes += [
            Change.now(RESOURCE, one.key, None, one.name or "installed", one.reason)
            for one in state.wanted
            if not one.installed
        ]
        if state.build is None:
            return tuple(changes)
        target = None if state.alternative is None else state.alternative.target
        if state.build.chosen and target != state.build.program:
            changes.append(
                Change.now(RESOURCE, _CHOICE, target, state.build.program, "of the two builds, the one that has DPDK")
            )
        if state.service is not None and not _runs(state.running, state.build):
            before = None if state.running is None else _WITHOUT
            disruption = Disruption.NONE if state.running is None else Disruption.LINK
            reason = "it runs what was chosen before" if state.running is not None else "the plan needs the switch"
            changes.append(Change.now(RESOURCE, _PROCESS, before, _WITH, reason, disruption=disruption))
        return tuple(changes)

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        problems = []
        if state.lists:
            problems += [
                Problem(
                    what=_NO_PACKAGE,
                    where=f"{RESOURCE}: {one.key}",
                    hint=_hint(one, state.manager),
                )
                for one in state.wanted
                if one.name is None
            ]
        if state.forecast is not None:
            problems += forecast_problems(state.forecast)
        program = state.build.program if state.build is not None else ""
        restarts = any(change.key == _PROCESS and change.before == _WITHOUT for change in self.diff(state, plan))
        bridges = host.ovs.bridges if host.ovs is not None else ()
        carrying = [netdev for netdev in host.netdevs if netdev.management is not None and netdev.name in bridges]
        if restarts and carrying:
            problems.append(
                Problem(
                    what=f"{carrying[0].name} carries management ({carrying[0].management}), and ovs-vswitchd has to be"
                    " started anew with DPDK",
                    where=f"{RESOURCE}: {_PROCESS}",
                    hint=f"from a console: update-alternatives --set ovs-vswitchd {program} && systemctl restart"
                    " ovs-vswitchd",
                )
            )
        return tuple(problems)

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        found = []
        if state.foreign is not None:
            what = (
                f"Open vSwitch is there ({state.foreign}) and came from no package: its build is its maker's to choose"
            )
            found.append(Problem(what=what, where=RESOURCE, hint="ovs-vswitchd --version tells whether it has DPDK"))
        elif state.manager is None and plan.ovs is not None:
            what = "neither dpkg nor rpm keeps the packages of this machine: nobody looks after Open vSwitch and DPDK"
            found.append(Problem(what=what, where=RESOURCE, hint="install Open vSwitch with DPDK by hand"))
        elif state.service is None and state.running is not None and not _runs(state.running, state.build):
            what = f"ovs-vswitchd runs without DPDK ({state.running}), and no systemd is there to start it anew"
            found.append(Problem(what=what, where=RESOURCE, hint="ovs-ctl restart"))
        if not state.lists:
            what = "apt has no lists of these packages: they are fetched first, and may show that one is missing"
            found.append(Problem(what=what, where=RESOURCE))
        return tuple(found)

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        if state.manager is None:
            return
        keys = {change.key for change in changes}
        manager = MANAGERS[state.manager]
        if _DPKG in keys:
            manager.finish_interrupted(machine)
        missing = tuple(one for one in state.wanted if one.key in keys)
        if missing:
            _install(machine, manager, missing, fresh=state.lists)
        if _CHOICE in keys and state.build is not None:
            # Where the package came just now, its own priority may have chosen it.
            now = switch.read_alternative(machine.root, manager.ALTERNATIVES)
            if now is None or now.target != state.build.program:
                switch.choose(machine, state.build.program)
        if _PROCESS in keys and state.service is not None:
            running = switch.running_program(machine.root)
            if running is None:
                switch.start(machine, state.service)
            elif not _runs(running, state.build):
                switch.restart(machine)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        _, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s, interval_s=0.2)
        return tuple(Drift.of(change) for change in changes)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        """Without packages among the changes, the names of all the others are of no use."""
        kept = replace(state, forecast=None)
        if any(change.key not in _OWN_KEYS for change in changes):
            return kept
        return replace(kept, present=(), residual=())

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        if all(change.key != _CHOICE for change in changes):
            return ()
        now = switch.read_alternative(machine.root, MANAGERS[before.manager or ""].ALTERNATIVES)
        known = {
            before.build and before.build.program,
            None if before.alternative is None else before.alternative.target,
        }
        # A package that this apply installed has a choice of its own before ours is made.
        if now is None or now.target in known or (before.alternative is None and now.automatic):
            return ()
        what = f"is {now.target} by now"
        return (
            Problem(what=what, where=f"{RESOURCE}: {_CHOICE}", hint="someone else chose it; --force overwrites it"),
        )

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        keys = {change.key for change in changes}
        # A switch that did not run before, and that has ports of others by now, takes them down when it goes.
        bridges = _bridges(machine) if before.running is None and before.build is not None and not force else ()
        if bridges:
            what = f"stays: Open vSwitch has the bridges {', '.join(bridges)}, which are somebody else's"
            hint = "--force takes it away nevertheless"
            return tuple(Problem(what=what, where=f"{RESOURCE}: {key}", hint=hint) for key in sorted(keys - {_DPKG}))
        left: list[Problem] = [] if force else list(self.foreign(machine, before, changes))
        if _CHOICE in keys and not left:
            left += _tried(_CHOICE, lambda: _choose_back(machine, before))
        asked = tuple(one for one in before.wanted if one.key in keys and not one.installed)
        if asked:
            left += _depart(machine, before, asked)
        if _PROCESS in keys and before.service is not None:
            left += _tried(_PROCESS, lambda: _process_back(machine, before, before.service or ""))
        return tuple(left)


def _hint(unknown: Wanted, manager: str | None) -> str:
    if unknown.key.startswith("librte-"):
        return "DPDK of this release is built without that driver: take a newer one, or another role"
    return MANAGERS[manager or ""].SOURCES_HINT


def _runs(program: str | None, build: Build | None) -> bool:
    """Whether a process was started from that build; where /usr/sbin is a link, the kernel tells the other path."""
    return program is not None and build is not None and basename(program) == basename(build.program)


def _install(machine: Machine, manager: Manager, missing: tuple[Wanted, ...], *, fresh: bool) -> None:
    """Nothing, once all are installed; the lists are fetched where they are not fresh, or name files that are gone."""
    told = "" if fresh else manager.update(machine)
    try:
        manager.install(machine, _resolved(machine, manager, missing, told))
    except CommandError as error:
        if not fresh or not manager.is_stale(error):
            raise
        told = manager.update(machine)
        manager.install(machine, _resolved(machine, manager, missing, told))


def _resolved(machine: Machine, manager: Manager, missing: tuple[Wanted, ...], told: str) -> tuple[str, ...]:
    """Their names by the lists of now; ApplyError with what the update said where one is in none."""
    needs = tuple(Need(one.bases, one.reason) for one in missing)
    found, _ = manager.find_wanted(machine, manager.read_inventory(machine), needs)
    unknown = tuple(one.key for one in found if one.name is None)
    if unknown:
        unfetched = f", and its lists could not be fetched: {told}" if told else ""
        raise ApplyError.of(
            tuple(
                Problem(
                    what=_NO_PACKAGE + unfetched,
                    where=f"{RESOURCE}: {key}",
                    hint=f"is there a network? {manager.SOURCES_HINT}",
                )
                for key in unknown
            )
        )
    return tuple(one.name for one in found if one.name is not None and not one.installed)


def _choose_back(machine: Machine, before: State) -> None:
    now = switch.read_alternative(machine.root, MANAGERS[before.manager or ""].ALTERNATIVES)
    if now is not None and now != before.alternative:
        switch.choose_again(machine, before.alternative)


def _process_back(machine: Machine, before: State, service: str) -> None:
    if not machine.root.exists("/run/systemd/system"):
        return
    running, enabled = switch.running_program(machine.root), switch.is_enabled(machine.root, service)
    if before.running is None:
        if running is not None or (enabled and not before.enabled):
            switch.stop(machine, service, enabled=before.enabled)
    elif running is not None and running != before.running:
        switch.restart(machine)


def _depart(machine: Machine, before: State, asked: tuple[Wanted, ...]) -> list[Problem]:
    manager = MANAGERS[before.manager or ""]
    inventory = manager.read_inventory(machine, whole=True)
    if inventory.interrupted:
        left = _tried(asked[0].key, lambda: manager.finish_interrupted(machine))
        if left:
            return left
        inventory = manager.read_inventory(machine, whole=True)
    leaving = departure(
        inventory,
        asked=asked_for(inventory, asked) - frozenset(before.present),
        kin=manager.KIN,
        present=before.present,
        residual=before.residual,
        manual=manager.manual_marks(machine, inventory),
    )
    left = _tried(asked[0].key, lambda: manager.depart(machine, leaving))
    left += [
        Problem(what=f"{name} stays: {why}", where=f"{RESOURCE}: {_key_of(name, asked)}") for name, why in leaving.stays
    ]
    return left


def _bridges(machine: Machine) -> tuple[str, ...]:
    database = ovs_client.ask_database(machine.ovsdb_address)
    return database.bridges if database is not None else ()


def _key_of(name: str, asked: tuple[Wanted, ...]) -> str:
    """The change that brought a package."""
    own = (one.key for one in asked if any(name.startswith(base) for base in one.bases))
    return next(own, asked[0].key)


def _tried(key: str, work: Callable[[], None]) -> list[Problem]:
    try:
        work()
    except NfvhostError as error:
        return [Problem(what=one.what, where=f"{RESOURCE}: {key}", hint=one.hint) for one in error.problems]
    return []


__all__ = ["Packages"]
