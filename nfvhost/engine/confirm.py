"""An apply that is taken back unless a person confirms it in time, even where nfvhost and the session are dead."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Sequence
from typing import Any, Final

from nfvhost.access.clock import sleep
from nfvhost.access.command import CommandError
from nfvhost.access.detached import start_detached
from nfvhost.access.machine import Machine
from nfvhost.engine.journal import Confirmed, Store
from nfvhost.engine.lock import BusyError, locked
from nfvhost.engine.past import PastApply, half_done_problems, past
from nfvhost.engine.rollback import Undone, rollback
from nfvhost.errors import PreconditionError
from nfvhost.resources import Resource
from nfvhost.resources.order import ORDER

# How soon a process that waits sees a confirmation, and goes.
_INTERVAL_S: Final = 0.5
_SYSTEMD_S: Final = 30.0


def start_reverter(machine: Machine, number: int, *, within_s: int) -> None:
    """Nothing, once something waits that takes the apply back: a timer of systemd, or else a process of its own.

    PreconditionError where neither can be started.
    """
    argv = reverter_argv(machine, number)
    if not _has_systemd(machine):
        start_detached(argv)
        return
    # The login manager ends what a session leaves behind (logind.conf(5), KillUserProcesses): systemd must own it.
    words = ["systemd-run", f"--unit={_unit(machine, number)}", "--collect", f"--on-active={within_s}s"]
    machine.check([*words, "--timer-property=AccuracySec=1s", "--", *argv], timeout_s=_SYSTEMD_S)


def reverter_argv(machine: Machine, number: int) -> tuple[str, ...]:
    """The command that waits for what is left of the time, then takes the apply back."""
    places = {"--ovsdb": machine.ovsdb, "--state-dir": machine.state_dir}
    given = [word for option, value in places.items() if value is not None for word in (option, value)]
    # -P: what lies in the folder of the shell must not be loaded in place of nfvhost.
    return (sys.executable, "-P", "-m", "nfvhost.cli", "rollback", "--unless-confirmed", str(number), "--yes", *given)


def revert_unless_confirmed(
    machine: Machine, number: int, *, resources: Sequence[Resource[Any]] = ORDER
) -> tuple[Undone, ...]:
    """What became of the apply, once its time is over; empty where it was confirmed or taken back meanwhile.

    The time runs from the end of the apply; of one that was killed, from its beginning; a reboot ends it.
    """
    store = Store(machine)
    while True:
        one = _find(store, number)
        if one is None and _at_work(machine, store, number):
            sleep(_INTERVAL_S)
            continue
        if one is None or not one.waits_for_confirmation:
            return ()
        if one.confirmation_due_s(store.now()) <= 0:
            reason = f"not confirmed within {one.begin.confirm_within_s} s"
            with contextlib.suppress(BusyError):  # an apply that takes longer than the time to confirm it
                return rollback(machine, unconfirmed=number, reason=reason, resources=resources, store=store)
        sleep(_INTERVAL_S)


def confirm(machine: Machine) -> PastApply | None:
    """The apply that stays now; None where none waited. PreconditionError where it is too late, or was cut off."""
    store = Store(machine)
    with locked(machine):
        one = next(past(store), None)
        if one is None or one.begin.confirm_within_s is None or one.confirmed:
            return None
        if one.ended is None:
            raise PreconditionError.of(half_done_problems(one))
        if not one.waits_for_confirmation:
            why = f": {one.last.rollback.reason}" if one.last.rollback is not None else ""
            raise PreconditionError(
                f"is {one.stage} since {one.ended.utc}{why}",
                where=f"apply {one.id}",
                hint="apply it again, with more time",
            )
        writer = store.reopen(one.own)
        try:
            writer.add(Confirmed(at=store.now()))
        finally:
            writer.close()
    if _has_systemd(machine):
        # It would find the confirmation and end; without it nothing is left in the list of timers.
        with contextlib.suppress(CommandError):
            machine.check(["systemctl", "stop", f"{_unit(machine, one.id)}.timer"], timeout_s=_SYSTEMD_S)
    return one


def refuse_unconfirmed(store: Store) -> None:
    """PreconditionError where an apply waits for its confirmation: what comes on top of it would be taken back too."""
    one = next(past(store), None)
    if one is not None and one.waits_for_confirmation:
        raise PreconditionError(
            "waits for its confirmation",
            where=f"apply {one.id} ({one.begin.profile}, {one.begin.at.utc})",
            hint="nfvhost confirm keeps it, nfvhost rollback takes it back",
        )


def _at_work(machine: Machine, store: Store, number: int) -> bool:
    """Whether the apply of that number, which has changed nothing yet, may still do so."""
    try:
        with locked(machine):
            return _find(store, number) is not None
    except BusyError:
        return True


def _find(store: Store, number: int) -> PastApply | None:
    return next((one for one in past(store) if any(journal.id == number for journal in one.journals)), None)


def _has_systemd(machine: Machine) -> bool:
    # sd_booted(3)
    return machine.root.exists("/run/systemd/system") and machine.find("systemd-run") is not None


def _unit(machine: Machine, number: int) -> str:
    """A name of its own for each apply of each database."""
    if not machine.private and machine.state_dir is None:
        return f"nfvhost-revert-{number}"
    return f"nfvhost-revert-{hashlib.sha256(machine.state_folder.encode()).hexdigest()[:8]}-{number}"
