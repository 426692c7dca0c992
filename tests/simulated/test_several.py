"""Several resources of one plan on one machine: applied, left to wait, booted and rolled back, killed at any write."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pci_machines
import programs
import pytest
from cases import ARGUMENTS, GRUB, NEUTRON, NOVA, PORTS_PLAN, RDO, RELEASE, Case, node_memory, pools
from forked import in_a_process
from scratch import ScratchMachine

from nfvhost import engine
from nfvhost.access.root import DirectoryRoot
from nfvhost.engine import Booted, BootStage
from nfvhost.errors import ApplyError, NfvhostError
from nfvhost.model.change import Activation
from nfvhost.model.plan import MemoryPlan, Pages
from nfvhost.model.report import Outcome, Report
from nfvhost.resources.driver_binding import DriverBinding
from nfvhost.resources.hugepages import Hugepages
from nfvhost.resources.iommu import Iommu
from nfvhost.resources.kernel_cmdline import KernelCmdline
from nfvhost.resources.modules import Modules
from nfvhost.resources.neutron_conf import NEUTRON_CONF
from nfvhost.resources.nova_conf import NOVA_CONF

if TYPE_CHECKING:
    from pathlib import Path

    from pci_kernel import PciKernel

    from nfvhost.access.machine import Machine

Note = Callable[[str, object], None]

RESOURCES: Final[tuple[Any, ...]] = (
    Modules(settle_s=0.0),
    KernelCmdline(),
    Iommu(settle_s=0.0),
    Hugepages(),
    DriverBinding(name="driver_binding", vfs=False, settle_s=0.0),
    NEUTRON_CONF,
    NOVA_CONF,
)
HOST: Final = pci_machines.HOST
PLAN: Final = replace(
    PORTS_PLAN,
    kernel_args=("intel_iommu=on", *ARGUMENTS),
    memory=MemoryPlan(
        nodes=tuple(
            node_memory(
                node, Pages(size_mib=2, count=count, at_boot=False), Pages(size_mib=1024, count=2, at_boot=True)
            )
            for node, count in ((0, 512), (1, 256))
        )
    ),
    nics=PORTS_PLAN.nics[:2],
    nova=NOVA,
    neutron=NEUTRON,
)
_POOLS: Final = {**pools(0, kb2048=16, kb1048576=0), **pools(1, kb2048=600, kb1048576=0)}
# Files that outlive a boot.
_LASTING: Final = ("/etc/", "/boot/", "/usr/", "/lib/")


@dataclass
class Server:
    """A machine without anything of nfvhost's, whose IOMMU the kernel has not been told of."""

    scratch: ScratchMachine
    kernel: PciKernel
    boots: int = 0

    @property
    def machine(self) -> Machine:
        return self.scratch.machine()

    def apply(self, *, resume: bool = False) -> Report:
        machine = self.machine
        return engine.apply(PLAN, machine, HOST, resources=RESOURCES, store=counted(machine), resume=resume)

    def boot(self, stage: BootStage | None = None) -> Booted:
        machine = self.machine
        return engine.boot(
            machine,
            lambda: PLAN,
            stage=stage,
            inspect=lambda _machine: HOST,
            resources=RESOURCES,
            store=counted(machine),
        )

    def roll_back(self) -> None:
        machine = self.machine
        for undone in engine.rollback(machine, resources=RESOURCES, store=counted(machine)):
            assert undone.problems == ()

    def reboot(self) -> None:
        """What a boot forgets, and what it reads from the files."""
        tree = self.scratch.tree
        self.boots += 1
        self.scratch.put("/proc/sys/kernel/random/boot_id", f"boot-{self.boots}\n")
        words = re.findall(r"^\tlinux\t\S+ (.*)$", self.scratch.read("/boot/grub/grub.cfg"), re.MULTILINE)
        self.scratch.put("/proc/cmdline", f"{words[0]}\n")
        loaded = tree / "etc/modules-load.d/nfvhost.conf"
        names = loaded.read_text().split("\n")[1:] if loaded.exists() else []
        lines = [f"{name.replace('-', '_')} 16384 0 - Live 0x0000000000000000\n" for name in ("i40e", *names) if name]
        self.scratch.put("/proc/modules", "".join(lines))
        at_boot = 2 if "hugepages=0:2,1:2" in words[0] else 0
        for node in (0, 1):
            for path, content in pools(node, kb2048=0, kb1048576=at_boot).items():
                self.scratch.put(path, content)
        iommu = "intel_iommu=on" in words[0]
        for function in pci_machines.functions(iommu=iommu):
            self.kernel.remove(tree, function.pci)
            bound = "igb" if function.driver == "vfio-pci" else function.driver
            self.kernel.add(tree, replace(function, driver=bound, override=None))

    def lasting(self) -> dict[str, object]:
        return {path: what for path, what in self.scratch.snapshot().items() if path.startswith(_LASTING)}

    def killed(self, point: int, *, writes: int, work: Callable[[], object]) -> str:
        """The place where the work was killed: first one for each write, then two for each command."""
        where = f"write {point}"
        if point <= writes:
            self.scratch.kernel.kill_at = point
        else:
            command, late = divmod(point - writes - 1, 2)
            where = f"{'after' if late else 'before'} command {command + 1}"
            self.scratch.kill_at_command(len(self.scratch.commands()) + command + 1, "after" if late else "before")
        assert in_a_process(work) == signal.SIGKILL, where
        self.scratch.unharmed()
        return where

    def points(self, work: Callable[[], object]) -> tuple[int, int]:
        """The writes of the work, those of the journal among them, and its commands."""
        self.scratch.unharmed()
        before = len(self.scratch.commands())
        work()
        return len(self.scratch.kernel.calls), len(self.scratch.commands()) - before


def counted(machine: Machine) -> engine.Store:
    """A journal that tells the same counter as the tree does."""
    assert isinstance(machine.root, DirectoryRoot)
    return engine.Store(machine, changing=machine.root.changing)


@pytest.fixture
def new_server(tmp_path: Path) -> Callable[[], Server]:
    made = 0

    def make() -> Server:
        nonlocal made
        made += 1
        kernels: list[PciKernel] = []
        case = Case(
            name="several",
            resource=RESOURCES[0],
            plan=PLAN,
            files={
                **GRUB,
                **RDO,
                **_POOLS,
                f"/lib/modules/{RELEASE}/modules.dep": "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\n",
                f"/lib/modules/{RELEASE}/modules.builtin": "kernel/drivers/vfio/vfio.ko\n",
                "/proc/sys/kernel/random/boot_id": "boot-0\n",
            },
            programs={"update-grub": programs.UPDATE_GRUB, "modprobe": programs.MODPROBE},
            prepare=lambda scratch: kernels.append(pci_machines.booted_without_iommu(scratch)),
        )
        return Server(case.machine(tmp_path / str(made)), kernels[0])

    return make


def test_what_can_be_made_is_made_and_the_rest_waits_for_the_reboot(new_server: Callable[[], Server]) -> None:
    server = new_server()
    before = server.scratch.snapshot()

    report = server.apply()

    outcomes = {result.change.resource: (result.outcome, result.detail) for result in report.results}
    assert outcomes == {
        "modules": (Outcome.APPLIED, None),
        "kernel_cmdline": (Outcome.PENDING_REBOOT, None),
        "hugepages": (Outcome.APPLIED, None),
        "driver_binding": (
            Outcome.PENDING_REBOOT,
            "waits for iommu, which waits for kernel_cmdline, which waits for the reboot",
        ),
        "neutron_conf": (Outcome.APPLIED, None),
        "nova_conf": (Outcome.APPLIED, None),
    }
    assert report.pending == ("kernel_cmdline", "iommu", "hugepages", "driver_binding")
    drifts = engine.verify(PLAN, server.machine, HOST, resources=RESOURCES)
    assert {drift.resource for drift in drifts} == set(report.pending)
    assert all(drift.pending is Activation.REBOOT for drift in drifts)

    server.scratch.unharmed()
    tree, commands = server.scratch.snapshot(), server.scratch.commands()
    again = server.apply()
    assert {result.change.resource for result in again.results} == {"driver_binding"}
    assert again.pending == report.pending
    assert (server.scratch.kernel.calls, server.scratch.commands()) == ([], commands)
    assert server.scratch.snapshot() == tree

    server.roll_back()
    assert server.scratch.snapshot() == before


def test_the_boot_makes_what_waited_and_one_rollback_takes_all_back(new_server: Callable[[], Server]) -> None:
    server = new_server()
    lasting = server.lasting()
    server.apply()
    server.reboot()

    devices = server.boot(BootStage.DEVICES)
    assert (devices.problems, devices.pending) == ((), ())
    assert {result.change.resource for result in devices.results} == {"hugepages", "driver_binding"}
    services = server.boot(BootStage.SERVICES)
    assert services == Booted()

    assert engine.verify(PLAN, server.machine, HOST, resources=RESOURCES) == ()
    (one,) = engine.history(server.machine)
    assert (str(one.stage), one.pending) == ("applied", ())
    server.scratch.unharmed()
    server.reboot()
    server.boot(BootStage.DEVICES)
    server.boot(BootStage.SERVICES)
    assert not [call for call in server.scratch.kernel.calls if "journal" in call]

    server.roll_back()
    assert server.lasting() == lasting
    assert engine.to_undo(server.machine) == ()
    drivers = {(server.scratch.tree / f"sys/bus/pci/devices/{pci}/driver").resolve().name for pci in TWINS}
    assert drivers == {"i40e"}


TWINS: Final = (pci_machines.X710, pci_machines.X710_TWIN)


def test_an_apply_of_several_killed_at_any_point_is_rolled_back(
    new_server: Callable[[], Server], record_property: Note
) -> None:
    whole = new_server()
    writes, commands = whole.points(whole.apply)
    points = writes + 2 * commands
    for point in range(1, points + 1):
        server = new_server()
        before = server.scratch.snapshot()
        where = server.killed(point, writes=writes, work=server.apply)

        server.roll_back()

        assert server.scratch.snapshot() == before, where
        assert engine.half_done(engine.Store(server.machine)) is None, where
    record_property("kill points of an apply of several resources, rolled back", points)


def test_an_apply_of_several_killed_at_any_point_is_resumed(
    new_server: Callable[[], Server], record_property: Note
) -> None:
    whole = new_server()
    writes, commands = whole.points(whole.apply)
    points = writes + 2 * commands
    for point in range(1, points + 1):
        server = new_server()
        before = server.scratch.snapshot()
        where = server.killed(point, writes=writes, work=server.apply)

        server.apply(resume=True)
        assert server.scratch.snapshot() == whole.scratch.snapshot(), where
        server.roll_back()

        assert server.scratch.snapshot() == before, where
    record_property("kill points of an apply of several resources, resumed", points)


def test_a_write_that_fails_at_any_point_of_an_apply_of_several_leaves_all_as_it_was(
    new_server: Callable[[], Server],
) -> None:
    writes, _ = (whole := new_server()).points(whole.apply)
    for point in range(1, writes + 1):
        server = new_server()
        before = server.scratch.snapshot()
        server.scratch.kernel.fail_at = point
        with pytest.raises(NfvhostError):
            server.apply()
        server.scratch.unharmed()
        assert server.scratch.snapshot() == before, point


def test_a_rollback_of_several_killed_at_any_point_is_finished_by_the_next(
    new_server: Callable[[], Server], record_property: Note
) -> None:
    whole = new_server()
    whole.apply()
    writes, commands = whole.points(whole.roll_back)
    points = writes + 2 * commands
    for point in range(1, points + 1):
        server = new_server()
        before = server.scratch.snapshot()
        server.apply()
        server.scratch.unharmed()
        where = server.killed(point, writes=writes, work=server.roll_back)

        server.roll_back()

        assert server.scratch.snapshot() == before, where
        assert engine.to_undo(server.machine) == (), where
    record_property("kill points of a rollback of several resources", points)


def test_a_boot_killed_at_any_point_is_finished_by_the_next_and_goes_with_the_apply(
    new_server: Callable[[], Server], record_property: Note
) -> None:
    whole = new_server()
    lasting = whole.lasting()
    whole.apply()
    whole.reboot()
    writes, commands = whole.points(whole.boot)
    points = writes + 2 * commands
    made = whole.scratch.snapshot()
    for point in range(1, points + 1):
        server = new_server()
        server.apply()
        server.scratch.unharmed()
        server.reboot()
        where = server.killed(point, writes=writes, work=server.boot)

        booted = server.boot()

        assert (booted.problems, booted.pending) == ((), ()), where
        assert server.scratch.snapshot() == made, where
        server.roll_back()
        assert server.lasting() == lasting, where
        assert engine.to_undo(server.machine) == (), where
    record_property("kill points of a boot", points)


def test_a_port_that_is_gone_at_a_boot_takes_nothing_else_down(new_server: Callable[[], Server]) -> None:
    server = new_server()
    server.apply()
    server.reboot()
    server.kernel.remove(server.scratch.tree, pci_machines.X710_TWIN)
    without = replace(HOST, nics=tuple(nic for nic in HOST.nics if str(nic.pci) != pci_machines.X710_TWIN))

    booted = engine.boot(
        server.machine, lambda: PLAN, inspect=lambda _machine: without, resources=RESOURCES, store=None
    )

    assert [problem.where for problem in booted.problems] == [pci_machines.X710_TWIN]
    bound = (server.scratch.tree / f"sys/bus/pci/devices/{pci_machines.X710}/driver").resolve().name
    assert bound == "vfio-pci"


def test_a_command_that_fails_in_an_apply_of_several_puts_all_back(new_server: Callable[[], Server]) -> None:
    _, commands = (whole := new_server()).points(whole.apply)
    for number in range(1, commands + 1):
        server = new_server()
        before = server.scratch.snapshot()
        server.scratch.fail_command(number)
        with pytest.raises(ApplyError, match="everything was put back as it was"):
            server.apply()
        server.scratch.unharmed()
        assert server.scratch.snapshot() == before, number
