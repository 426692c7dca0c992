"""Processes that may pin less memory than they have for their devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import RUNNING, Rule, Severity, Sign, need


def _look(evidence: Evidence) -> Iterator[Sign]:
    for lock in need(evidence.locks, RUNNING):
        # drivers/vhost/vdpa.c, vhost_vdpa_pa_map asks for the limit alone; VFIO for CAP_IPC_LOCK as well.
        vdpa = any("vhost-vdpa" in device for device in lock.devices)
        if lock.limit_kib is not None and lock.limit_kib < lock.memory_kib and (vdpa or not lock.exempt):
            yield Sign(
                evidence=f"{lock.name} (pid {lock.pid}) has {', '.join(lock.devices)} open and"
                f" {lock.memory_kib // 1024} MiB; it may lock {lock.limit_kib // 1024} MiB"
            )


RULE: Final = Rule(
    name="memory-lock",
    severity=Severity.WARNING,
    sees="a process with a VFIO or vDPA device whose RLIMIT_MEMLOCK is below its memory",
    # drivers/vhost/vhost.c, vhost_chr_write_iter: EFAULT whatever went wrong.
    why="devices need their memory pinned: mapping fails with ENOMEM, with a vDPA device 'Bad address', often only"
    " when another device is added",
    hint="LimitMEMLOCK=infinity in its unit, or hard_limit of <memtune> for a guest of libvirt",
    look=_look,
)
