"""Boot arguments that a later file drops."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from nfvhost.doctor.boot_arguments import matters
from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import BOOT, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    boot = need(evidence.boot, BOOT)
    files = boot.settings if evidence.host.boot_loader != "systemd-boot" else ()
    last = files[-1].args if files else ()
    for first, second in pairwise(files):
        lost = [arg for arg in first.args if matters(arg) and arg not in second.args and arg not in last]
        if lost:
            yield Sign(evidence=f"{second.path} drops {' '.join(lost)}, which the files before it set")


RULE: Final = Rule(
    name="boot-arguments-overridden",
    severity=Severity.WARNING,
    sees="a file in /etc/default/grub.d that sets the arguments anew",
    why="the arguments stand in a file and never reach the kernel",
    hint='let the later file add to what is there: GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX …", then update-grub',
    look=_look,
)
