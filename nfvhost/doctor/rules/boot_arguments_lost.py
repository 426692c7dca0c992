"""Boot arguments that the next boot will not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.boot_arguments import matters
from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import ARGUMENTS, BOOT, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    active = [arg for arg in need(evidence.host.kernel_args, ARGUMENTS) if matters(arg)]
    boot = need(evidence.boot, BOOT)
    for entry in need(boot.entries or None, "no entry of a boot loader is to be seen"):
        lost = [arg for arg in active if arg not in entry.arguments]
        if lost:
            yield Sign(evidence=f"{entry.where} has no {' '.join(lost)}, which the running kernel was given")


RULE: Final = Rule(
    name="boot-arguments-lost",
    severity=Severity.WARNING,
    sees="an entry of the boot menu without arguments that the running kernel has",
    why="a kernel that is installed later, or arguments typed in by hand, and the next boot comes up without them",
    hint="write them where new kernels take them from: /etc/default/grub or a drop-in, /etc/kernel/cmdline under BLS",
    look=_look,
)
