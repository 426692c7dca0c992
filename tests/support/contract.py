"""What tests of every resource ask of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nfvhost.engine import apply

if TYPE_CHECKING:
    from cases import Case
    from scratch import ScratchMachine

    from nfvhost.model.change import Change
    from nfvhost.model.plan import Plan
    from nfvhost.model.report import Drift, Outcome


def run(case: Case, scratch: ScratchMachine, *, plan: Plan | None = None) -> list[Outcome]:
    """The outcomes of an apply by the engine, of this resource alone."""
    report = apply(plan or case.plan, scratch.machine(), case.host, resources=(case.resource,))
    return [result.outcome for result in report.results]


def differences(case: Case, scratch: ScratchMachine, *, plan: Plan | None = None) -> tuple[Change, ...]:
    """What an apply would change."""
    wanted = plan or case.plan
    return case.resource.diff(case.resource.read(scratch.machine(), wanted), wanted)


def drifts(case: Case, scratch: ScratchMachine, *, plan: Plan | None = None) -> tuple[Drift, ...]:
    """What is not as planned."""
    return case.resource.verify(scratch.machine(), plan or case.plan)


def refusals(case: Case, scratch: ScratchMachine, **host: Any) -> list[str]:  # noqa: ANN401 - fields of Host
    """What an apply is refused for; `host` are facts of the machine."""
    state = case.resource.read(scratch.machine(), case.plan)
    found = case.resource.check(state, case.plan, replace(case.host, **host))
    return [str(problem) for problem in found]


def remarks(case: Case, scratch: ScratchMachine) -> list[str]:
    """What is worth saying."""
    return [str(one) for one in case.resource.findings(case.resource.read(scratch.machine(), case.plan), case.plan)]
