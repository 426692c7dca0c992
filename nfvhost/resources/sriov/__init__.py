"""Virtual functions: made, counted, set up, and kept from those who would take them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from nfvhost.access.machine import Machine
from nfvhost.errors import Problem
from nfvhost.model.change import Change
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.report import Drift
from nfvhost.resources.settling import settled
from nfvhost.resources.sriov.check import findings, problems
from nfvhost.resources.sriov.difference import COUNT, RESOURCE, differences, place, row
from nfvhost.resources.sriov.operation import carry_out
from nfvhost.resources.sriov.state import Pf, State, read_state
from nfvhost.resources.sriov.undo import foreign, put_all_back


@dataclass(frozen=True, slots=True, kw_only=True)
class Sriov:
    """Virtual functions (VFs) of the ports that share themselves among guests.

    Another number of VFs always goes through none, since the kernel refuses the direct way; then all old VFs go, so
    it is refused while somebody has one. Where the VFs get another driver (`vf_driver`), sriov_drivers_autoprobe is
    off before they are made, and stays off: a new VF has no driver and no interface until it is bound, so no
    network manager and no DHCP client ever sees it. What a VF of a running guest has set by its hypervisor is left
    alone, and told. A port whose driver makes no VFs while its interface is down (bnxt) is set up first; others
    that are down are only told.

    Configured: /etc/udev/rules.d/90-nfvhost-vfs.rules and /etc/systemd/network/00-nfvhost-vfs.network, as a whole,
    where NetworkManager or systemd-networkd is installed: both leave these ports' VFs alone, whatever they are
    called. The number of VFs and their settings are made again at boot by nfvhost-devices.service.
    Active: sriov_numvfs and sriov_drivers_autoprobe of the port; MAC, VLAN, trust, spoof check, link state and
    highest rate of each VF by netlink; each is read back.
    Keys: the path of a file; `0000:21:00.0 autoprobe`, `0000:21:00.0 link`, `0000:21:00.0 vfs`, `0000:21:00.0 vf 0
    mac` (vlan, trust, spoofchk, state, max_tx_rate).
    Effect: now; a change of the number may interrupt the link of the port.
    Refuses: while a guest, a process (VFIO, vhost-vDPA), another network namespace or the host itself uses a VF
    that would go; a port that carries management; more VFs than the card has; a port without its kernel driver,
    unless that is bound first.
    Rollback: the number as before, through none; VFs that were there before with their drivers, overrides and
    settings; the files as they were.
    Source: drivers/pci/iov.c (sriov_numvfs_store, sriov_enable), /sys/bus/pci/devices/<pci>/sriov_*, virtfn<N>;
    IFLA_VFINFO_LIST of if_link.h; udev(7), systemd.network(5).
    """

    settle_s: float = 2.0
    appear_s: float = 10.0  # until VFs that were asked for are on the bus

    @property
    def name(self) -> str:
        return RESOURCE

    @property
    def state_type(self) -> type[State]:
        return State

    def read(self, machine: Machine, plan: Plan) -> State:
        return read_state(machine, plan)

    def diff(self, state: State, plan: Plan) -> tuple[Change, ...]:
        return tuple(differences(state, plan))

    def check(self, state: State, plan: Plan, host: Host) -> tuple[Problem, ...]:
        return tuple(problems(state, plan, host))

    def findings(self, state: State, plan: Plan) -> tuple[Problem, ...]:
        return tuple(findings(state, plan))

    def apply(self, machine: Machine, state: State, changes: tuple[Change, ...]) -> None:
        carry_out(machine, state, changes, settle_s=self.appear_s)

    def verify(self, machine: Machine, plan: Plan, *, seen: State | None = None) -> tuple[Drift, ...]:
        state, changes = settled(self, machine, plan, seen=seen, timeout_s=self.settle_s, interval_s=0.1)
        return tuple(Drift.of(change, hint=_hint(state, change)) for change in changes)

    def image(self, state: State, changes: tuple[Change, ...]) -> State:
        recounted = {at.pci for change in changes if (at := place(change)) is not None and at.what == COUNT}
        paths = {change.key for change in changes}
        return replace(
            state,
            pfs=tuple(_image(pf) for pf in state.pfs if pf.pci in recounted),
            files=tuple(image for image in state.files if image.path in paths),
        )

    def foreign(self, machine: Machine, before: State, changes: tuple[Change, ...]) -> tuple[Problem, ...]:
        return foreign(machine, before, changes)

    def rollback(
        self, machine: Machine, before: State, changes: tuple[Change, ...], *, force: bool = False
    ) -> tuple[Problem, ...]:
        return put_all_back(machine, before, changes, force=force, settle_s=self.appear_s)


def _image(pf: Pf) -> Pf:
    """The port as its VFs have to be made again: not who had them."""
    return replace(pf, vfs=tuple(replace(vf, users=()) for vf in pf.vfs), vdpa=())


def _hint(state: State, change: Change) -> str | None:
    at = place(change)
    pf = state.pf(at.pci) if at is not None else None
    if at is None or pf is None or at.what != COUNT:
        return None
    known = row(pf)
    return known.vf_hint if known is not None else None


SRIOV: Final = Sriov()

__all__ = ["SRIOV", "Sriov"]
