"""Whether the machine is what the plan says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfvhost.access.machine import Machine
from nfvhost.engine.outlook import Course, Standing, awaits_reboot, course_of, standing_of, waiting_drifts
from nfvhost.engine.seen import kept, see
from nfvhost.inspect import inspect_host
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources import Resource
from nfvhost.resources.order import resources_for


def verify(
    plan: Plan, machine: Machine, host: Host | None = None, *, resources: Sequence[Resource[Any]] | None = None
) -> tuple[Drift, ...]:
    """What is not as planned, read again until each resource's deadline; empty where all is so.

    What waits for a reboot is pending it, also where it waits by way of other resources. PreconditionError where a
    resource cannot be read. `host` is this machine as inspected just now; without it, it is inspected where needed.
    """
    # Nothing is written here, and resources read much of the same.
    machine, _ = kept(machine, plan)
    drifts: list[Drift] = []
    standings: dict[str, Standing] = {}
    for resource in resources_for(machine) if resources is None else resources:
        course, seen = Course(), None
        if any(one.waits_for is not None for one in standings.values()):
            host = host or inspect_host(machine.root)
            seen = see(resource, machine, plan, host)
            course = course_of(seen.problems, standings, left_out=())
        if seen is not None and course.waits_for and seen.changes:
            found = waiting_drifts(seen.changes, course)
        else:
            found = resource.verify(machine, plan, seen=seen.state if seen is not None else None)
        drifts += found
        standings[resource.name] = standing_of((), course, pending=awaits_reboot(found))
    return tuple(drifts)
