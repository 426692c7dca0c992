"""A resource that is read until it is as planned."""

from __future__ import annotations

from typing import TypeVar

from nfvhost.access.clock import wait_for
from nfvhost.access.machine import Machine
from nfvhost.model.change import Change
from nfvhost.model.plan import Plan
from nfvhost.resources import Resource

S = TypeVar("S")


def settled(
    resource: Resource[S],
    machine: Machine,
    plan: Plan,
    *,
    seen: S | None,
    timeout_s: float,
    interval_s: float = 0.02,
) -> tuple[S, tuple[Change, ...]]:
    """Its state, and what is still to be changed: read again until that is nothing, or for `timeout_s`.

    `seen` is its state where that has been read just now.
    """
    state = resource.read(machine, plan) if seen is None else seen
    changes = resource.diff(state, plan)

    def as_planned() -> bool:
        nonlocal state, changes
        state = resource.read(machine, plan)
        changes = resource.diff(state, plan)
        return not changes

    if changes:
        wait_for(as_planned, timeout_s=timeout_s, interval_s=interval_s)
    return state, changes
