"""One resource as it is at this moment, compared with the plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nfvhost.access.interrupts import COUNTERS
from nfvhost.access.kept import KeptRoot
from nfvhost.access.machine import Machine
from nfvhost.engine.outlook import Prospect
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Isolation
from nfvhost.resources import Resource


@dataclass(frozen=True, slots=True)
class Seen:
    """Its state, what the plan would change, and what is in the way."""

    # Each resource has a state type of its own, which nobody but itself looks into.
    resource: Resource[Any]
    state: Any
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]

    @property
    def name(self) -> str:
        """The name of the resource."""
        return self.resource.name

    def prospect(self, *, pending: bool) -> Prospect:
        """The same without its state."""
        return Prospect(name=self.name, changes=self.changes, problems=self.problems, pending=pending)


def kept(machine: Machine, plan: Plan) -> tuple[Machine, KeptRoot]:
    """The machine with a tree that is read once in a moment, and that tree; interrupts are counted from here on."""
    root = KeptRoot.around(machine.root)
    if plan.isolation is not Isolation.NONE:
        root.first_look(COUNTERS)
    return replace(machine, root=root), root


def see(resource: Resource[Any], machine: Machine, plan: Plan, host: Host) -> Seen:
    """The resource, read now; PreconditionError where it cannot be read."""
    state = resource.read(machine, plan)
    return Seen(resource, state, resource.diff(state, plan), resource.check(state, plan, host))
