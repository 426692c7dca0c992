"""Plans, in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nfvhost.errors import DocumentError
from nfvhost.planfile import v1
from nfvhost.planfile.file import read_text, write_plan_text
from nfvhost.planfile.output import to_yaml
from nfvhost.planfile.versions import open_document

if TYPE_CHECKING:
    from nfvhost.model.plan import Plan

_HEADER: Final = "# What this machine shall be: `nfvhost diff`, `apply` and `verify` read it, `decisions` says why.\n"


def load_plan(path: str) -> Plan:
    """The plan in a YAML or JSON file; DocumentError with all its problems."""
    return load_plan_text(read_text(path), path)


def load_plan_text(text: str, where: str) -> Plan:
    """The plan in a text; `where` names the text in problems."""
    body, problems = open_document(text, where=where, kind="Plan")
    plan = v1.read_plan(body, problems)
    if problems or plan is None:
        raise DocumentError.of(tuple(problems))
    return plan


def dump_plan(plan: Plan) -> str:
    """The plan in YAML; the same plan gives the same bytes."""
    return _HEADER + to_yaml(v1.short_plan_document(plan))


def save_plan(path: str, plan: Plan) -> None:
    """Write the plan to a file, whole or not at all; a file that is there and is no plan stays (PreconditionError)."""
    write_plan_text(path, dump_plan(plan))
