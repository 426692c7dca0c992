"""Which build of ovs-vswitchd is chosen, which one runs, and its unit."""

from __future__ import annotations

from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.resources.packages.state import Alternative

NAME: Final = "ovs-vswitchd"
_CHOICE: Final = f"/etc/alternatives/{NAME}"
_RUN: Final = "/run/openvswitch"
_UNIT: Final = "ovs-vswitchd.service"
# proc_exe_link: a program whose file was replaced or removed.
_DELETED: Final = " (deleted)"
# Where a build from source puts it (ovs-vswitchd(8), prefix /usr/local).
_BUILT: Final = "/usr/local/sbin/ovs-vswitchd"
_ALTERNATIVES_S: Final = 30.0
# DPDK clears its hugepages while ovs-vswitchd starts; its own unit has TimeoutSec=300.
_SERVICE_S: Final = 330.0


def read_alternative(root: Root, folder: str) -> Alternative | None:
    """The chosen build; None where there is no choice. Source: update-alternatives(1), its administrative folder."""
    target = root.read_link(_CHOICE)
    if target is None:
        return None
    mode = (root.read_text(f"{folder}/{NAME}") or "").partition("\n")[0]
    return Alternative(target=target, automatic=mode == "auto")


def running_program(root: Root) -> str | None:
    """The program of the process whose number is in the system's run directory; None where none runs."""
    pid = root.read_int(f"{_RUN}/{NAME}.pid")
    if pid is None or not (root.read_line(f"/proc/{pid}/comm") or "").startswith(NAME):
        return None
    link = root.read_link(f"/proc/{pid}/exe")
    return None if link is None else link.removesuffix(_DELETED)


def foreign_switch(root: Root, *, packaged: bool) -> str | None:
    """An Open vSwitch that no package brought: built from source, or in a container; None where there is none."""
    if packaged:
        return None
    if root.exists(_BUILT):
        return _BUILT
    return f"{_RUN}/db.sock" if root.exists(f"{_RUN}/db.sock") else None


def choose(machine: Machine, target: str) -> None:
    """Nothing, once that build is chosen."""
    machine.check(("update-alternatives", "--set", NAME, target), timeout_s=_ALTERNATIVES_S)


def choose_again(machine: Machine, before: Alternative | None) -> None:
    """Nothing, once the choice is as before; by priority where there was none."""
    if before is None or before.automatic:
        machine.check(("update-alternatives", "--auto", NAME), timeout_s=_ALTERNATIVES_S)
    else:
        choose(machine, before.target)


def restart(machine: Machine) -> None:
    """Nothing, once ovs-vswitchd runs anew; its database stays up."""
    machine.check(("systemctl", "restart", _UNIT), timeout_s=_SERVICE_S)


def start(machine: Machine, service: str) -> None:
    """Nothing, once Open vSwitch runs, now and after each boot."""
    machine.check(("systemctl", "enable", "--now", service), timeout_s=_SERVICE_S)


def stop(machine: Machine, service: str, *, enabled: bool) -> None:
    """Nothing, once Open vSwitch does not run; nor after the next boot, unless it was `enabled` before."""
    argv = ("systemctl", "stop", service) if enabled else ("systemctl", "disable", "--now", service)
    machine.check(argv, timeout_s=_SERVICE_S)


def is_enabled(root: Root, service: str) -> bool:
    """Whether systemd starts it at each boot."""
    return root.read_link(f"/etc/systemd/system/multi-user.target.wants/{service}") is not None
