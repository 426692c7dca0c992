"""What an apply would change."""

from __future__ import annotations

from nfvhost.access.machine import Machine
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.model.plan import Plan
from nfvhost.resources.order import ORDER


def diff(plan: Plan, machine: Machine) -> tuple[Change, ...]:
    """The changes of all resources, in the order of an apply; PreconditionError where one cannot be read."""
    return tuple(change for resource in ORDER for change in resource.diff(resource.read(machine, plan), plan))


def findings(plan: Plan, machine: Machine) -> tuple[Problem, ...]:
    """What is worth saying about the machine and stops nothing; PreconditionError as for `diff`."""
    return tuple(found for resource in ORDER for found in resource.findings(resource.read(machine, plan), plan))
