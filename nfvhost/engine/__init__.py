"""Makes a plan so on a machine, and undoes it where that fails."""

from nfvhost.engine.apply import Progress, Step, apply
from nfvhost.engine.diff import diff, findings
from nfvhost.engine.verify import verify

__all__ = ["Progress", "Step", "apply", "diff", "findings", "verify"]
