"""Boot arguments that are written and that the running kernel was not given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.boot_arguments import matters
from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import ARGUMENTS, BOOT, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    boot = need(evidence.boot, BOOT)
    active = need(evidence.host.kernel_args, ARGUMENTS)
    listed = {arg for entry in boot.entries for arg in entry.arguments}
    # Left over from a GRUB that this machine no longer boots with.
    settled = boot.settings[-1].args if boot.settings and evidence.host.boot_loader != "systemd-boot" else ()
    written = [arg for arg in settled if matters(arg) and arg not in active]
    pending = sorted(arg for arg in listed if matters(arg) and arg not in active)
    unlisted = [arg for arg in written if arg not in listed]
    place = boot.settings[-1].path if boot.settings else ""
    if unlisted and boot.entries and evidence.host.boot_loader == "bls":
        yield Sign(
            evidence=f"{place} leads to {' '.join(unlisted)}; neither boot entries nor the running kernel have them",
            hint=f"under BLS the entries count: grubby --update-kernel=ALL --args='{' '.join(unlisted)}', then reboot",
        )
    elif unlisted:
        yield Sign(
            evidence=f"{place} leads to {' '.join(unlisted)}; the running kernel has not got them",
            hint="run update-grub or grub2-mkconfig, then reboot" if boot.entries else None,
        )
    if pending:
        yield Sign(
            evidence=f"the boot menu has {' '.join(pending)}; the running kernel has not got them",
            hint="reboot; where that was done, another entry or another boot loader was chosen",
        )


RULE: Final = Rule(
    name="boot-arguments-inactive",
    severity=Severity.WARNING,
    sees="boot arguments in files that are not in /proc/cmdline",
    why="isolation, pages or the IOMMU are not as their settings say; under BLS /etc/default/grub is not even read",
    hint="run update-grub, grub2-mkconfig or grubby as the distribution has it, reboot, and read /proc/cmdline",
    look=_look,
)
