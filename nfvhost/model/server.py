"""Servers as they really are, next to what was promised."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What a launch did for one server."""

    MADE = "made"
    TAKEN_UP = "taken-up"  # left behind by a launch that was cut off, and finished by this one
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise of a server and what became of it."""

    subject: str  # "vCPUs", "emulator threads", "memory", "port left"
    planned: str
    real: str
    agrees: bool | None  # None: nobody here can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedServer:
    """One server that runs."""

    name: str
    vnf: str
    id: str
    host: str | None  # None: Nova tells administrators alone
    outcome: Outcome
    took_s: float
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedServer:
    """One server that nfvhost has made, as Nova tells of it."""

    name: str
    vnf: str
    id: str
    status: str
    power: str
    host: str | None
    flavor: str
    fault: str | None
