"""What an apply would change."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from nfvhost.access.machine import Machine
from nfvhost.errors import Problem, UsageError
from nfvhost.model.change import Change
from nfvhost.model.plan import Plan
from nfvhost.resources import Resource
from nfvhost.resources.order import ORDER


def diff(plan: Plan, machine: Machine, *, only: Collection[str] = (), skip: Collection[str] = ()) -> tuple[Change, ...]:
    """The changes of all resources, in the order of an apply; PreconditionError where one cannot be read."""
    resources = chosen(ORDER, only=only, skip=skip)
    return tuple(change for resource in resources for change in resource.diff(resource.read(machine, plan), plan))


def findings(plan: Plan, machine: Machine) -> tuple[Problem, ...]:
    """What is worth saying about the machine and stops nothing; PreconditionError as for `diff`."""
    return tuple(found for resource in ORDER for found in resource.findings(resource.read(machine, plan), plan))


def chosen(
    resources: Sequence[Resource[Any]], *, only: Collection[str] = (), skip: Collection[str] = ()
) -> tuple[Resource[Any], ...]:
    """The resources of these names, or all, without those to skip; UsageError for a name that none has."""
    names = [resource.name for resource in resources]
    unknown = [
        Problem(what=f"there is no resource {name}", where=option, hint=f"there are: {', '.join(names)}")
        for option, given in (("--only", only), ("--skip", skip))
        for name in given
        if name not in names
    ]
    if unknown:
        raise UsageError.of(tuple(unknown))
    return tuple(one for one in resources if (not only or one.name in only) and one.name not in skip)
