"""A port that leaves a plan: Open vSwitch drops it, DPDK lets go, and the kernel's driver has it again, in one apply.

Open vSwitch is real; the functions and their drivers are of a scratch machine, on which ovs-vswitchd has a function
open as long as a port of it is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pci_machines
import pytest
from cases import nic
from pci_machines import FORGOTTEN
from routed_root import RoutedRoot
from scratch import Kernel, ScratchMachine, ScratchRoot

from nfvhost import engine
from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.errors import ApplyError, PreconditionError
from nfvhost.model.profile import Role
from nfvhost.planner.planned_host import planned_host
from nfvhost.resources.departing_ports import DepartingPorts
from nfvhost.resources.driver_binding import DriverBinding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ovs_plans import OvsPlans
    from pci_kernel import PciKernel

    from nfvhost.model.plan import Plan
    from nfvhost.model.report import Report
    from nfvhost.resources import Resource
    from tests.ovs.conftest import Bed

GROUP = 14
MARK = 'external_ids:nfvhost="made options:dpdk-devargs"'


class WithCards(RoutedRoot):
    """This machine with other PCI functions, one of which its ovs-vswitchd has open while a port of it is there."""

    def __init__(self, cards: ScratchRoot, bed: Bed) -> None:
        self._cards, self._bed = cards, bed
        self._descriptors = f"/proc/{bed.switch.sandbox.switch_pid}/fd"

    def root_of(self, path: str) -> DirectoryRoot:
        return self._cards if path.startswith("/sys/") else DirectoryRoot("/")

    @property
    def live(self) -> bool:
        return False

    def list_dir(self, path: str) -> tuple[str, ...]:
        found = super().list_dir(path)
        return (*found, "vfio") if path == self._descriptors and self._is_open() else found

    def read_link(self, path: str) -> str | None:
        return f"/dev/vfio/{GROUP}" if path == f"{self._descriptors}/vfio" else super().read_link(path)

    def _is_open(self) -> bool:
        return f'dpdk-devargs="{FORGOTTEN}"' in self._bed.switch.vsctl("--columns=options", "list", "Interface")


@dataclass
class Desk:
    """A switch with a port on a function that the plan gives back to the kernel."""

    bed: Bed
    cards: ScratchMachine
    plan: Plan
    kernel: PciKernel

    @property
    def machine(self) -> Machine:
        root = WithCards(ScratchRoot(self.cards.tree, self.cards.kernel), self.bed)
        return Machine(root=root, ovsdb=self.bed.switch.sandbox.ovsdb)

    @property
    def resources(self) -> tuple[Resource[Any], ...]:
        binding = DriverBinding(name="driver_binding", vfs=False, settle_s=0.0)
        return DepartingPorts(settle_s=0.5, switch=self.bed.resource), binding, self.bed.resource

    def apply(self, resources: Sequence[Resource[Any]] | None = None) -> Report:
        return engine.apply(
            self.plan, self.machine, pci_machines.HOST, resources=self.resources if resources is None else resources
        )

    def driver(self) -> str:
        return (self.cards.tree / f"sys/bus/pci/devices/{FORGOTTEN}/driver").resolve().name

    def ports(self) -> list[str]:
        return sorted(self.bed.switch.vsctl("list-ports", "br0").split())


@pytest.fixture
def desk(bed: Bed, ovs: OvsPlans, tmp_path: Path) -> Desk:
    kept = ovs.port("keeps", "dpdk", dpdk_devargs="net_null0,no-rx=1", n_rxq=1)
    bed.apply(ovs.plan(ovs.bridge("br0", kept), **bed.keys))
    # No such function is in this machine, so the port has an error; its row is what counts here.
    options = ("type=dpdk", f"options:dpdk-devargs={FORGOTTEN}")
    bed.switch.vsctl(
        "add-port", "br0", "goes", "--", "set", "Port", "goes", MARK, "--", "set", "Interface", "goes", *options
    )
    cards = ScratchMachine(tmp_path / "cards", kernel=Kernel()).make({}, {})
    kernel = pci_machines.booted(cards)
    plan = replace(
        ovs.plan(ovs.bridge("br0", kept), **bed.keys),
        host=planned_host(pci_machines.HOST),
        nics=(nic(FORGOTTEN, Role.KERNEL, current_driver="vfio-pci", driver="igb"),),
    )
    return Desk(bed=bed, cards=cards, plan=plan, kernel=kernel)


def test_a_port_leaves_before_its_function_gets_the_driver_of_the_kernel(desk: Desk) -> None:
    assert (desk.driver(), desk.ports()) == ("vfio-pci", ["goes", "keeps"])

    report = desk.apply()

    assert [(one.change.resource, one.change.key) for one in report.results] == [
        ("departing_ports", "port br0/goes"),
        ("driver_binding", FORGOTTEN),
    ]
    assert (desk.driver(), desk.ports()) == ("igb", ["keeps"])
    assert desk.apply().results == ()

    engine.rollback(desk.machine, resources=desk.resources)

    assert (desk.driver(), desk.ports()) == ("vfio-pci", ["goes", "keeps"])


def test_a_driver_that_refuses_gives_the_port_back(desk: Desk) -> None:
    desk.kernel.refuses[("igb", FORGOTTEN)] = 5

    with pytest.raises(ApplyError):
        desk.apply()

    assert (desk.driver(), desk.ports()) == ("vfio-pci", ["goes", "keeps"])


def test_a_port_of_someone_else_keeps_its_function(desk: Desk) -> None:
    desk.bed.switch.vsctl("clear", "Port", "goes", "external_ids")

    with pytest.raises(PreconditionError, match="is held by ovs-vswitchd"):
        desk.apply()

    assert (desk.driver(), desk.ports()) == ("vfio-pci", ["goes", "keeps"])


def test_without_the_ports_resource_the_function_stays_and_it_is_told_who_would_see_to_it(desk: Desk) -> None:
    with pytest.raises(PreconditionError, match="is held by ovs-vswitchd"):
        desk.apply(desk.resources[1:])
    assert desk.driver() == "vfio-pci"
