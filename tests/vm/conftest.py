"""One running machine for all tests of the tier.

A host that cannot run it skips the tier and says why; with NFVHOST_REQUIRE_TIERS=1, as in CI, that is a failure.
`--all-faults` runs each fault, and not only those of every change.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from typing import Final

import cloud
import pytest
import vm_edge
from cloud import SDK_WARNINGS, Cloud
from tiers import demand
from vm import VirtualMachine, close_machine, forget_old_machines, open_machine
from vm_cache import step
from vm_shapes import SERVER

# A boot takes minutes where the host is busy.
_TEST_TIMEOUT_S: Final = 1800


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="every fault, for hours of patience")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault: one of the faults that only --all-faults runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reason = None if config.getoption("--all-faults", default=False) else "one of the faults that --all-faults runs"
    for item in items:
        item.add_marker(pytest.mark.timeout(_TEST_TIMEOUT_S))
        for warnings in SDK_WARNINGS:
            item.add_marker(pytest.mark.filterwarnings(warnings))
        if reason is not None and item.get_closest_marker("fault"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Prints what each test took, and what the machine says of a unit that failed where the test did."""
    try:
        with step(item.name):
            yield
    except Exception:
        machine = getattr(item, "funcargs", {}).get("vm")
        if isinstance(machine, VirtualMachine):
            for unit in vm_edge.failed_units(machine):
                print(f"{unit} said:\n{vm_edge.said_by(machine, unit)}")  # noqa: T201 - the log of the tier
        raise


def _obstacle() -> str | None:
    """Why no machine can be built here."""
    if os.geteuid():
        return "the tier builds a system's files with their owners: run it as root"
    if os.uname().machine != "x86_64":
        return "the machine is an x86-64"
    for program in ("mmdebstrap", "mke2fs"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


@pytest.fixture(scope="session")
def vm() -> Iterator[VirtualMachine]:
    """A machine of the tier's own, booted, with this checkout's wheel in it."""
    demand(_obstacle(), "the tier vm")
    forget_old_machines()
    # The process's number is its room's: others have the same.
    machine = open_machine(f"tests-{secrets.token_hex(4)}", SERVER)
    try:
        with step("the wheel"):
            machine.install(wheel=True)
        machine.save("installed")
        yield machine
    finally:
        close_machine(machine)


@pytest.fixture
def installed(vm: VirtualMachine) -> VirtualMachine:
    """The machine as it was with nothing but nfvhost put into it."""
    with step("back to the machine with nfvhost"):
        vm.restore("installed")
    return vm


@pytest.fixture
def control_plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """An OpenStack without a compute host, in the room that the machine is in as well."""
    demand(cloud.obstacle(), "a cloud around the machine")
    control = Cloud()
    try:
        with step("the control plane of a cloud"):
            control.start_control()
        monkeypatch.setenv("OS_CLOUD", "lab")
        yield control
    finally:
        control.stop_all()
