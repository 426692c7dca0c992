"""Makes a plan so on a machine, undoes it where that fails, and undoes it later where that is asked for."""

from nfvhost.engine.apply import apply
from nfvhost.engine.confirm import confirm, revert_unless_confirmed
from nfvhost.engine.diff import diff, findings
from nfvhost.engine.journal import Store
from nfvhost.engine.past import PastApply, Stage, half_done, half_done_problems, refuse_half_done
from nfvhost.engine.rollback import Undone, history, rollback, to_undo
from nfvhost.engine.undo import Progress, Step
from nfvhost.engine.verify import verify

__all__ = [
    "PastApply",
    "Progress",
    "Stage",
    "Step",
    "Store",
    "Undone",
    "apply",
    "confirm",
    "diff",
    "findings",
    "half_done",
    "half_done_problems",
    "history",
    "refuse_half_done",
    "revert_unless_confirmed",
    "rollback",
    "to_undo",
    "verify",
]
