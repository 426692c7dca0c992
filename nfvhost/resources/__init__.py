"""What can be changed on a machine, one module or package per kind, each behind the same six verbs."""

from __future__ import annotations

from typing import Protocol, TypeVar

from nfvhost.access.machine import Machine
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift

S = TypeVar("S")


class Resource(Protocol[S]):
    """One kind of setting; S is its frozen state, which is also the before-image of a rollback."""

    @property
    def name(self) -> str:
        """The name that its changes and drifts carry."""
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
        """Why these changes must not be made; pure, and empty where they may."""
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

    def verify(self, machine: Machine, plan: Plan) -> tuple[Drift, ...]:
        """What is not as planned, read again until it is so or until the resource's deadline."""
        ...

    def rollback(self, machine: Machine, before: S, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        """What could not be put back, of the places that the changes name, after a re-read; empty where all was."""
        ...
