"""Changes and drifts, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nfvhost.model.change import Activation, Disruption

if TYPE_CHECKING:
    from nfvhost.model.change import Change
    from nfvhost.model.report import Drift


def change_line(change: Change) -> str:
    """`+ resource: key: after`, `-` with before or `~` with both, and when it takes effect where that is not now."""
    notes = []
    if change.activation is not Activation.NOW:
        notes.append(f"after a {change.activation}")
    if change.disruption is not Disruption.NONE:
        notes.append(f"interrupts the {change.disruption}")
    note = f"  ({', '.join(notes)})" if notes else ""
    return f"{_difference(_place(change), change.before, change.after)}{note}"


def _place(one: Change | Drift) -> str:
    """What it is about, as problems name it: `ovs_dpdk: port br-phy/dpdk0`."""
    return f"{one.resource}: {one.key}"


def drift_line(drift: Drift) -> str:
    """The same for what the plan says and what is so."""
    where = _place(drift)
    if drift.pending is not None:
        return f"! {where}: {drift.planned or drift.actual or 'set'}, waits for a {drift.pending}"
    if drift.planned is not None and drift.actual is not None:
        return f"~ {where}: planned {drift.planned}, is {drift.actual}"
    if drift.planned is not None:
        return f"- {where}: planned {drift.planned}, is not there"
    return f"+ {where}: {drift.actual or 'not as planned'}"


def _difference(where: str, before: str | None, after: str | None) -> str:
    if before is None:
        return f"+ {where}" + (f": {after}" if after else "")
    if after is None:
        return f"- {where}" + (f": {before}" if before else "")
    return f"~ {where}: {before} -> {after}"
