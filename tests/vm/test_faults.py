"""What goes wrong on the way, each from a snapshot: the machine ends as the plan says or as it was, and says which."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Final

import pytest
import vm_edge
from vm import VirtualMachine
from vm_build import CHECKOUT
from vm_cache import step
from vm_edge import LONG_S, PF, PLAN, UNDERLAY, WAN, Traces, nfvhost
from vm_shapes import SERVER

_JOURNAL: Final = "/var/lib/nfvhost/journal/1.jsonl"
# Each resource writes two records as it goes; the first are those of the beginning.
_RECORDS: Final = range(2, 20)
_SEED: Final = int(os.environ.get("NFVHOST_SEED") or time.time())


@pytest.fixture(scope="module")
def before(vm: VirtualMachine) -> Traces:
    """The machine before an apply; it is saved as `planned` by then."""
    vm.restore("installed")
    with step("plan"):
        vm_edge.make_plan(vm)
    found = vm_edge.traces(vm)
    vm.save("planned")
    return found


@pytest.fixture
def planned(vm: VirtualMachine, before: Traces) -> VirtualMachine:
    """The machine with a plan and nothing applied."""
    del before
    vm.restore("planned")
    return vm


@pytest.fixture(scope="module")
def _applied(vm: VirtualMachine, before: Traces) -> None:
    del before
    vm.restore("planned")
    with step("apply"):
        assert nfvhost(vm, "apply", PLAN, "--yes").code == 20
    vm.save("applied")


@pytest.fixture
def applied(vm: VirtualMachine, _applied: None) -> VirtualMachine:
    """The machine that waits for its reboot."""
    vm.restore("applied")
    return vm


def chosen(number: int) -> int:
    """A point of an apply, another one in each run; NFVHOST_SEED repeats it."""
    return Random(_SEED + number).choice(_RECORDS)  # noqa: S311 - a point in time is no secret


def cut_in_apply(vm: VirtualMachine, point: int, *, kill: bool) -> None:
    """Starts an apply and takes its process, or the machine's power, when so many steps are in the journal."""
    seen = rf"""grep -cE '"(record|kind|type)": ?"(started|done)"' {_JOURNAL}"""
    with vm.agent() as agent:
        agent.set_timeout(60)
        agent.start(("nfvhost", "apply", PLAN, "--yes"))
    vm.shell(f'until [ "$({seen} || :)" -ge {point} ]; do sleep 0.05; done', timeout_s=LONG_S)
    if kill:
        vm.shell("pkill -KILL -f '^/opt/nfvhost/bin/python /usr/local/bin/nfvhost apply'")
    else:
        vm.cut_power()


def finish(vm: VirtualMachine) -> None:
    """Resumes the apply; the machine is then what the plan says, but for what the next boot brings."""
    assert nfvhost(vm, "apply", PLAN, "--yes").code == 5
    assert nfvhost(vm, "apply", PLAN, "--resume", "--yes").code in {0, 20}
    assert nfvhost(vm, "verify", PLAN).code in {0, 20}


def test_a_power_cut_in_the_middle_of_apply_is_undone(planned: VirtualMachine, before: Traces) -> None:
    point = chosen(0)
    with step(f"a power cut after {point} steps (NFVHOST_SEED={_SEED})"):
        cut_in_apply(planned, point, kill=False)
    assert nfvhost(planned, "rollback", "--yes").code in {0, 20}
    if "isolcpus" in planned.read("/proc/cmdline"):
        planned.reboot()
    assert vm_edge.traces(planned) == before


@pytest.mark.fault
@pytest.mark.parametrize("number", range(5))
def test_a_power_cut_at_any_point_is_finished(planned: VirtualMachine, number: int) -> None:
    point = chosen(number)
    with step(f"a power cut after {point} steps (NFVHOST_SEED={_SEED})"):
        cut_in_apply(planned, point, kill=False)
    finish(planned)


@pytest.mark.fault
@pytest.mark.parametrize("number", range(5))
def test_a_kill_at_any_point_is_finished(planned: VirtualMachine, number: int) -> None:
    point = chosen(-number)
    with step(f"SIGKILL after {point} steps (NFVHOST_SEED={_SEED})"):
        cut_in_apply(planned, point, kill=True)
    finish(planned)


@pytest.fixture
def without_a_nic(applied: VirtualMachine) -> Iterator[VirtualMachine]:
    """The machine whose e1000e goes before it boots."""
    with applied.monitor() as monitor:
        monitor.ask("device_del", {"id": "nic1"})
    # The guest is asked for it, and takes its time; a reboot before that would keep the card.
    applied.shell(f"until [ ! -e /sys/bus/pci/devices/{WAN} ]; do sleep 0.5; done")
    yield applied
    # A snapshot fits the hardware that it was made on.
    applied.stop()
    applied.start(snapshot="applied")


def test_a_nic_that_vanished_fails_its_unit_and_nothing_else(without_a_nic: VirtualMachine) -> None:
    vm = without_a_nic
    with step("the boot without it"):
        vm.reboot()
    found = vm_edge.drivers(vm)
    assert WAN not in found
    assert found[UNDERLAY] == "vfio-pci"
    assert vm.shell(f"cat /sys/bus/pci/devices/{PF}/sriov_numvfs").strip() == "4"
    assert vm_edge.reachable(vm)
    assert "nfvhost-devices.service" in vm_edge.failed_units(vm)
    said = vm_edge.said_by(vm, "nfvhost-devices.service")
    print(said)  # noqa: T201 - the log of the tier
    assert any(WAN in line for line in said.splitlines())
    verified = nfvhost(vm, "verify", PLAN)
    assert verified.code == 4
    assert f"{WAN}: planned 8086:10d3, is absent" in verified.err
    errors = vm.shell("ovs-vsctl get Interface dpdk1 link_state error")
    assert errors.split() == ["up", "[]"]


@pytest.mark.fault
def test_an_apply_that_nobody_confirms_goes_back_when_the_link_is_gone(planned: VirtualMachine, before: Traces) -> None:
    assert nfvhost(planned, "apply", PLAN, "--yes", "--confirm-within", "30").code == 20
    with planned.monitor() as monitor:
        monitor.ask("set_link", {"name": "mgmt", "up": False})
    try:
        with step("the way back"):
            planned.shell(
                """until nfvhost history --json | grep -q '"rolled-back"'; do sleep 5; done""", timeout_s=LONG_S
            )
        assert vm_edge.traces(planned) == before
    finally:
        with planned.monitor() as monitor:
            monitor.ask("set_link", {"name": "mgmt", "up": True})


@pytest.fixture
def without_an_iommu(applied: VirtualMachine) -> Iterator[VirtualMachine]:
    """The machine whose firmware has the IOMMU switched off when it boots next."""
    applied.shell("sync")
    applied.stop()
    applied.shape = replace(applied.shape, iommu=None)
    with step("the boot without it"):
        applied.boot()
    yield applied
    applied.stop()
    applied.shape = SERVER
    applied.start(snapshot="applied")


@pytest.mark.fault
def test_a_boot_without_an_iommu_leaves_the_machine_up_and_says_so(without_an_iommu: VirtualMachine) -> None:
    vm = without_an_iommu
    assert "nfvhost-devices.service" in vm_edge.failed_units(vm)
    said = vm_edge.said_by(vm, "nfvhost-devices.service")
    print(said)  # noqa: T201 - the log of the tier
    assert "IOMMU" in said
    assert vm_edge.reachable(vm)
    verified = nfvhost(vm, "verify", PLAN)
    assert verified.code == 10
    assert "iommu: groups: planned present, is not there" in verified.out
    assert "the firmware announces no IOMMU" in verified.out + verified.err


@pytest.mark.fault
def test_a_killed_switch_comes_back_as_planned(applied: VirtualMachine) -> None:
    applied.reboot()
    old = applied.shell("pgrep -xo ovs-vswitchd").strip()
    applied.shell(
        f"kill -KILL {old}; until pgrep -xo ovs-vswitchd | grep -vqx {old}; do sleep 1; done;"
        " systemctl is-system-running --wait || :",
        timeout_s=LONG_S,
    )
    assert nfvhost(applied, "verify", PLAN).code == 0


@pytest.mark.fault
def test_pages_that_the_boot_did_not_grant_are_told_with_their_node(applied: VirtualMachine) -> None:
    applied.shell("sed -i 's/hugepages=0:1,1:3/hugepages=0:1,1:0/' /boot/grub/grub.cfg; sync")
    applied.reboot()
    verified = nfvhost(applied, "verify", PLAN)
    assert verified.code == 10
    assert "hugepages: node1 1G: 3" in verified.out
    assert "dmesg says what it could not reserve" in verified.out
    assert vm_edge.reachable(applied)


@pytest.mark.fault
def test_a_manager_of_networks_leaves_the_vfs_alone(applied: VirtualMachine) -> None:
    # The VFs are those of a boot: an apply leaves them to it.
    applied.reboot()
    vf = f"/sys/bus/pci/devices/{PF}/virtfn0"
    # Where its PF has no autoprobe, a VF takes the driver that is its override, and no other (pci_device_can_probe).
    applied.shell(
        "printf '[Match]\\nName=en*\\n[Network]\\nDHCP=yes\\n' > /etc/systemd/network/80-all.network; modprobe igbvf;"
        f" name=$(basename $(readlink {vf})); echo igbvf > {vf}/driver_override; echo $name > {vf}/driver/unbind;"
        " echo $name > /sys/bus/pci/drivers/igbvf/bind; networkctl reload; udevadm settle"
    )
    netdev = applied.shell(f"ls {vf}/net").strip()
    assert "unmanaged" in applied.shell(f"networkctl --no-pager status {netdev}")


@pytest.mark.fault
def test_the_plan_of_another_machine_is_refused_by_the_facts_that_differ(
    planned: VirtualMachine, before: Traces
) -> None:
    other = CHECKOUT / "tests/hosts/captures/qemu-two-nodes-no-smt.tar.xz"
    planned.check("tee", "/root/other.tar.xz", stdin=other.read_bytes())
    planned.check("nfvhost", "plan", "--host", "/root/other.tar.xz", "-o", "/root/other.yaml", timeout_s=LONG_S)
    refused = nfvhost(planned, "apply", "/root/other.yaml", "--yes")
    assert refused.code == 4
    assert "threadSiblings" in refused.err
    assert vm_edge.traces(planned) == before
