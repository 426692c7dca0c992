"""Whether the machine is what the plan says."""

from __future__ import annotations

from nfvhost.access.machine import Machine
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.order import ORDER


def verify(plan: Plan, machine: Machine) -> tuple[Drift, ...]:
    """What is not as planned, read again until each resource's deadline; empty where all is so.

    PreconditionError where a resource cannot be read.
    """
    return tuple(drift for resource in ORDER for drift in resource.verify(machine, plan))
