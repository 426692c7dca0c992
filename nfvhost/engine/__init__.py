"""Makes a plan so on a machine, undoes it where that fails or where that is asked for later, makes it again at boot."""

from nfvhost.engine.apply import apply, plan_digest
from nfvhost.engine.boot import Booted, BootStage, boot, settle
from nfvhost.engine.confirm import confirm, revert_unless_confirmed
from nfvhost.engine.diff import diff, findings
from nfvhost.engine.journal import Store
from nfvhost.engine.past import PastApply, Stage, half_done, half_done_problems, newest, refuse_half_done
from nfvhost.engine.rollback import Undone, history, rollback, to_undo
from nfvhost.engine.undo import Progress, Step
from nfvhost.engine.verify import verify

__all__ = [
    "BootStage",
    "Booted",
    "PastApply",
    "Progress",
    "Stage",
    "Step",
    "Store",
    "Undone",
    "apply",
    "boot",
    "confirm",
    "diff",
    "findings",
    "half_done",
    "half_done_problems",
    "history",
    "newest",
    "plan_digest",
    "refuse_half_done",
    "revert_unless_confirmed",
    "rollback",
    "settle",
    "to_undo",
    "verify",
]
