"""A process that applies a plan, or rolls one back, and is killed (SIGKILL) before its Nth step.

killed_apply.py apply|resume|rollback OVSDB N PLAN: with N = 0 it lives, and prints how many steps there were. Steps are
all system calls that change the journal, and both sides of each transaction and of each wait for Open vSwitch.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from nfvhost import engine
from nfvhost.access.machine import Machine
from nfvhost.access.ovs_rows import OpenVswitch, Operation
from nfvhost.access.ovsdb import Ovsdb, connected
from nfvhost.access.root import DirectoryRoot
from nfvhost.engine.journal import Store
from nfvhost.inspect import inspect_host
from nfvhost.planfile import load_plan
from nfvhost.resources.ovs_dpdk import OvsDpdk


class Steps:
    """Counts steps; the process ends before the one that is its last."""

    def __init__(self, last: int) -> None:
        self.count = 0
        self._last = last

    def __call__(self, *_what: str) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


class Database:
    """A connection that counts what it writes."""

    def __init__(self, real: Ovsdb, steps: Steps) -> None:
        self._real = real
        self._steps = steps

    def read(self) -> OpenVswitch:
        return self._real.read()

    def commit(self, operations: tuple[Operation, ...]) -> int:
        self._steps("commit")
        number = self._real.commit(operations)
        self._steps("committed")
        return number

    def wait_for_cfg(self, number: int, *, timeout_s: float, alive: Callable[[], bool]) -> bool:
        carried_out = self._real.wait_for_cfg(number, timeout_s=timeout_s, alive=alive)
        self._steps("carried out")
        return carried_out


def main(verb: str, ovsdb: str, last: str, plan_path: str) -> None:
    """Do it, and die on the way."""
    steps = Steps(int(last))

    @contextmanager
    def connect(address: str) -> Iterator[Ovsdb]:
        with connected(address) as real:
            yield cast(Ovsdb, Database(real, steps))

    machine = Machine(root=DirectoryRoot("/"), ovsdb=ovsdb)
    store = Store(machine, changing=steps)
    resource: Any = OvsDpdk(carry_out_s=10.0, settle_s=0.3, connect=connect)
    if verb == "rollback":
        engine.rollback(machine, resources=(resource,), store=store)
    else:
        host = inspect_host(machine.root)
        plan = load_plan(plan_path)
        engine.apply(plan, machine, host, resources=(resource,), store=store, resume=verb == "resume")
    sys.stdout.write(f"{steps.count}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
