"""What the planner writes down on the way: decisions, warnings, and why a wish cannot be met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nfvhost.errors import Problem
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.plan import Decision


@dataclass(slots=True)
class Notebook:
    """Collects in the order of planning; a plan is only made where `problems` and `dangers` stay empty."""

    decisions: list[Decision] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    dangers: list[Problem] = field(default_factory=list)

    def decide(self, subject: str, choice: str, reason: str) -> None:
        """Note what was chosen for `subject` (`cpus.pmd`, `memory.node0`, `nics.0000:10:00.0`) and why."""
        self.decisions.append(Decision(subject=subject, choice=choice, reason=reason))

    def warn(self, text: str) -> None:
        """Note a weakness of the plan that its user must know."""
        self.warnings.append(text)

    def refuse(self, what: str, *, where: str, hint: str) -> None:
        """Note a wish that this machine cannot meet; `where` is a path in the profile."""
        self.problems.append(Problem(what=what, where=where, hint=hint))

    def forbid(self, what: str, *, where: str, hint: str) -> None:
        """Note a wish that would be unsafe to meet, such as DPDK on the port that carries management."""
        self.dangers.append(Problem(what=what, where=where, hint=hint))


def counted(count: int, noun: str) -> str:
    """`1 core`, `2 cores`, `2 ports of unknown speed`."""
    first, _, rest = noun.partition(" of ")
    plural = first if count == 1 else f"{first}s"
    return f"{count} {plural} of {rest}" if rest else f"{count} {plural}"


def node_names(nodes: Iterable[int]) -> str:
    """`node 1`, `nodes 0,2-3`."""
    named = CpuSet(nodes)
    return f"{'node' if len(named) == 1 else 'nodes'} {named}"
