"""What an apply would change."""

from __future__ import annotations

from collections.abc import Collection

from nfvhost.access.machine import Machine
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.model.plan import Plan
from nfvhost.resources.order import resources_for


def diff(plan: Plan, machine: Machine, *, only: Collection[str] = (), skip: Collection[str] = ()) -> tuple[Change, ...]:
    """The changes of all resources, in the order of an apply; PreconditionError where one cannot be read.

    What waits for a reboot, or for another resource, is among them.
    """
    resources = resources_for(machine, only=only, skip=skip)
    return tuple(change for resource in resources for change in resource.diff(resource.read(machine, plan), plan))


def findings(plan: Plan, machine: Machine) -> tuple[Problem, ...]:
    """What is worth saying about the machine and stops nothing; PreconditionError as for `diff`."""
    resources = resources_for(machine)
    return tuple(found for resource in resources for found in resource.findings(resource.read(machine, plan), plan))
