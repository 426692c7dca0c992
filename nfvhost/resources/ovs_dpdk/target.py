"""What the plan wants of the rows, in the words of the Open vSwitch that runs."""

from __future__ import annotations

from dataclasses import dataclass

from nfvhost.access.ovs_rows import Place
from nfvhost.errors import Problem
from nfvhost.model.plan import OvsBridge, OvsPlan, OvsPort, Plan
from nfvhost.resources.ovs_dpdk.keys import translate
from nfvhost.resources.ovs_dpdk.place import ROOT

OTHER_CONFIG = "other_config"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value, and why."""

    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: its type (None for the root row) and its settings by name."""

    type: str | None
    settings: tuple[tuple[str, Setting], ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The wanted rows, in the order in which they are made, and what this version cannot do."""

    rows: tuple[tuple[Place, Row], ...]
    problems: tuple[Problem, ...]


def target_of(plan: Plan, *, version: str) -> Target:
    """The rows for an Open vSwitch of that version; a key that it lacks is translated, or becomes a problem.

    Empty where the plan has nothing for Open vSwitch.
    """
    if plan.ovs is None:
        return Target(rows=(), problems=())
    root, problems = _root_row(plan, plan.ovs, version)
    rows: list[tuple[Place, Row]] = [(ROOT, root)]
    for bridge in plan.ovs.bridges:
        rows.append((Place(bridge.name), _bridge_row(bridge)))
        rows.extend((Place(bridge.name, port.name), _port_row(port)) for port in bridge.ports)
    return Target(rows=tuple(rows), problems=problems)


def other_config(target: Target) -> dict[str, str]:
    """The wanted keys of Open_vSwitch.other_config."""
    prefix = f"{OTHER_CONFIG}:"
    return {
        name.removeprefix(prefix): setting.value
        for place, row in target.rows
        if place == ROOT
        for name, setting in row.settings
    }


def planned_ports(ovs: OvsPlan) -> tuple[tuple[Place, OvsPort], ...]:
    """All planned ports with their places."""
    return tuple((Place(bridge.name, port.name), port) for bridge in ovs.bridges for port in bridge.ports)


def _root_row(plan: Plan, ovs: OvsPlan, version: str) -> tuple[Row, tuple[Problem, ...]]:
    reasons = {decision.subject: decision.reason for decision in plan.decisions}
    settings: dict[str, Setting] = {}
    problems = []
    for key, value in ovs.other_config:
        translation = translate(key, value, version)
        if translation.refusal is not None:
            problems.append(
                Problem(
                    what=translation.refusal,
                    where=f"ovs.otherConfig.{key}",
                    hint=f"plan again for this version (ovs.version: {version.rpartition('.')[0] or version})",
                )
            )
            continue
        reason = reasons.get(f"ovs.{key}", f"planned for Open vSwitch {ovs.version}")
        if translation.key != key:
            reason = f"{reason}; {version} calls {key} so"
        settings[f"{OTHER_CONFIG}:{translation.key}"] = Setting(value=translation.value, reason=reason)
    return Row(type=None, settings=tuple(sorted(settings.items())), reason="settings of Open vSwitch"), tuple(problems)


def _bridge_row(bridge: OvsBridge) -> Row:
    reason = f"carries {bridge.physnet}" if bridge.physnet else "planned bridge of the userspace data path"
    settings = [("fail_mode", bridge.fail_mode)] if bridge.fail_mode is not None else []
    return Row(
        type=bridge.datapath_type,
        settings=tuple((name, Setting(value=value, reason=reason)) for name, value in settings if value),
        reason=reason,
    )


def _port_row(port: OvsPort) -> Row:
    values = {
        **{f"options:{name}": value for name, value in port.options},
        **{f"{OTHER_CONFIG}:{name}": value for name, value in port.other_config},
    }
    if port.mtu is not None:
        values["mtu_request"] = str(port.mtu)
    if port.tag is not None:
        values["tag"] = str(port.tag)
    return Row(
        type=port.type,
        settings=tuple((name, Setting(value=value, reason=port.reason)) for name, value in sorted(values.items())),
        reason=port.reason,
    )
