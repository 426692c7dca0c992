"""Looks after what Open vSwitch forgets while it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.access.ovsdb import socket_path
from nfvhost.engine.lock import BusyError, locked
from nfvhost.model.plan import Plan
from nfvhost.planfile import headed, to_json
from nfvhost.resources.steering import lost_flows, make_again
from nfvhost.resources.tunnels import read_segments, rearm

# FHS 3.0, 3.15: what a boot forgets.
_SYSTEM_FILE: Final = "/run/nfvhost/watch.json"
_MODE: Final = 0o644


def rearm_lost(machine: Machine) -> tuple[str, ...]:
    """The tunnels whose segments were forgotten and are back now; empty where all were there, or no switch runs."""
    there = read_segments(machine)
    lost = tuple(one.port for one in there if one.lost)
    if lost:
        # All of them: what makes Open vSwitch read one again would cut the others.
        rearm(machine, [one.port for one in there])
    return lost


def steer_again(machine: Machine, plan: Plan) -> tuple[str, ...]:
    """The flows of the plan that were gone and are back now; empty where all were there, or no switch runs.

    An apply that is at work has flows of its own in mind: they are left to it.
    """
    if not lost_flows(machine, plan):
        return ()
    try:
        with locked(machine):
            lost = lost_flows(machine, plan)
            make_again(machine, lost)
            return tuple(one.key for one in lost)
    except BusyError:
        return ()


def read_rearms(machine: Machine) -> dict[str, int]:
    """How often each tunnel was brought back since the boot; empty where nobody has watched."""
    text = machine.root.read_text(_file(machine))
    try:
        document = json.loads(text or "{}")
        return {str(name): int(count) for name, count in document.get("rearms", {}).items()}
    except (ValueError, AttributeError):
        return {}


def write_rearms(machine: Machine, rearms: Mapping[str, int]) -> None:
    """Nothing, once others can read how often."""
    machine.root.write_file(_file(machine), to_json(headed("Watch", {"rearms": dict(rearms)})).encode(), mode=_MODE)


def _file(machine: Machine) -> str:
    if machine.private:
        return f"{os.path.dirname(socket_path(machine.ovsdb_address))}/watch.json"
    return _SYSTEM_FILE
