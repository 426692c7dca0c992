"""What can be changed on a machine, one module or package per kind, each behind the same six verbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from nfvhost.access.machine import Machine
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmet(Problem):
    """A precondition that is not met yet, and that another resource's changes would meet."""

    met_by: str  # the name of that resource


class Resource(Protocol[S]):
    """One kind of setting; S is its frozen state, which is also the before-image of a rollback."""

    @property
    def name(self) -> str:
        """The name that its changes and drifts carry."""
        ...

    @property
    def state_type(self) -> type[S]:
        """The class of its state, made of values alone: the journal writes it down and reads it back by its fields."""
        ...

    def read(self, machine: Machine, plan: Plan) -> S:
        """What is there now, as far as the plan and what nfvhost made before are concerned.

        PreconditionError where it cannot be read at all.
        """
        ...

    def diff(self, state: S, plan: Plan) -> tuple[Change, ...]:
        """What would be written, in order; pure, and empty where all is as planned."""
        ...

    def check(self, state: S, plan: Plan, host: Host) -> tuple[Problem, ...]:
        """Why these changes must not be made; pure, and empty where they may.

        An Unmet holds them back only where its resource has nothing to do: if that one acts in the same apply, this one
        is read and checked again after it; if that one waits for a reboot, so does this one.
        """
        ...

    def findings(self, state: S, plan: Plan) -> tuple[Problem, ...]:
        """What is worth saying and stops nothing; pure."""
        ...

    def apply(self, machine: Machine, state: S, changes: tuple[Change, ...]) -> None:
        """Nothing, once the changes are written and whoever reads them has carried them out.

        Without changes: whoever reads them tries again what it could not do. NfvhostError where that fails, with
        anything or nothing written.
        """
        ...

    def verify(self, machine: Machine, plan: Plan, *, seen: S | None = None) -> tuple[Drift, ...]:
        """What is not as planned, read again until it is so or until the resource's deadline.

        `seen` is its state where that has been read just now: it is looked at first.
        """
        ...

    def image(self, state: S, changes: tuple[Change, ...]) -> S:
        """The part of the state that `rollback` of these changes needs; pure.

        It is kept on disk for years: what others have set, and these changes do not replace, is not in it.
        """
        ...

    def foreign(self, machine: Machine, before: S, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        """What someone else has made of the places that the changes name, read now.

        A place that is neither as before nor as its change wanted it; each problem's `where` is `<name>: <key>`.
        """
        ...

    def rollback(
        self, machine: Machine, before: S, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        """What could not be put back, of the places that the changes name, after a re-read; empty where all was.

        Any number of the changes may have been carried out, none as well, by this process or by one that was killed,
        a second or a year ago. What is neither as before nor as its change wanted it is someone else's and stays,
        unless `force`. Each problem's `where` is `<name>: <key>`.
        """
        ...
