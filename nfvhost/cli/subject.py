"""A plan and the machine that it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nfvhost.errors import DocumentError, Problem, StalePlanError
from nfvhost.model.profile import Role

if TYPE_CHECKING:
    from nfvhost.access.machine import Machine
    from nfvhost.model.host import Host
    from nfvhost.model.plan import Plan

_USED: Final = frozenset({Role.DPDK, Role.SRIOV, Role.VDPA, Role.AFXDP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What `diff`, `apply` and `verify` are about."""

    plan: Plan
    host: Host  # this machine, inspected just now
    machine: Machine


def open_subject(plan_path: str, *, ovsdb: str | None) -> Subject:
    """The plan of a file and this machine.

    StalePlanError where the one is not for the other, DocumentError where somebody wrote into it what is not there.
    """
    from nfvhost.access.archive import open_root
    from nfvhost.access.machine import Machine
    from nfvhost.inspect import inspect_host
    from nfvhost.planfile import load_plan

    plan = load_plan(plan_path)
    root = open_root()
    host = inspect_host(root)
    _demand_fresh(plan, host, plan_path)
    _demand_present(plan, host, plan_path)
    return Subject(plan=plan, host=host, machine=Machine(root=root, ovsdb=ovsdb))


def _demand_fresh(plan: Plan, host: Host, plan_path: str) -> None:
    """Raise StalePlanError, which names each fact that differs, where the plan is not for this machine."""
    from nfvhost.model.fingerprint import stale_facts

    stale = stale_facts(plan.host.fingerprint, host)
    if not stale:
        return
    raise StalePlanError(
        f"is for another machine, or for this one before it changed ({plan.host.name})",
        where=plan_path,
        hint="make a new one with `nfvhost plan`",
        also=tuple(
            Problem(what=f"planned {planned}, is {actual}", where=f"{plan_path}: host.fingerprint.{fact}")
            for fact, planned, actual in stale
        ),
    )


def _demand_present(plan: Plan, host: Host, plan_path: str) -> None:
    """Raise DocumentError where the plan names CPUs or NICs that this machine has not, although it is for this one."""
    pools = {name: getattr(plan.cpus, name) for name in ("host", "shared", "pmd", "dedicated")}
    named = {f"cpus.{name}": cpus for name, cpus in pools.items()}
    named |= {f"guests[{at}].pinned": guest.pinned for at, guest in enumerate(plan.guests)}
    problems = [
        Problem(
            what=f"names CPU {missing}, which is not there or offline",
            where=f"{plan_path}: {path}",
            hint=f"the machine has {host.online}",
        )
        for path, cpus in named.items()
        if (missing := cpus - host.online)
    ]
    problems += [
        Problem(
            what=f"there is no NIC at {nic.pci}",
            where=f"{plan_path}: nics[{at}].pci",
            hint="`nfvhost inspect` shows those that there are",
        )
        for at, nic in enumerate(plan.nics)
        # VFs that nobody uses come and go.
        if nic.role in _USED and host.nic(nic.pci) is None
    ]
    if problems:
        raise DocumentError.of(tuple(problems))
