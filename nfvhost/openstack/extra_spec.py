"""One validator of Nova for an extra spec, as the table of them has it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraSpec:
    """One validator of Nova (nova/api/validation/extra_specs)."""

    name: str  # for people: "hw:numa_cpus.{id}"
    pattern: str  # of the whole name
    kind: str  # "str", "int", "bool"
    choices: tuple[str, ...] = ()
    value_pattern: str | None = None
    least: int | None = None
    most: int | None = None
