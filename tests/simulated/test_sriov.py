"""Virtual functions: how many there are, who has them, and who leaves them alone."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sriov_kernel
import synthetic
from cases import Case
from contract import differences, drifts, refusals, remarks, run
from pci_kernel import netdev_of
from scratch import ScratchMachine
from sriov_kernel import BNXT, FORGOTTEN, HOST, X710, attribute, hold, kernel_of, set_attribute, vf_of

from nfvhost.errors import ApplyError, PreconditionError
from nfvhost.model.host import Host, Netdev
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import NicPlan
from nfvhost.resources import Unmet
from nfvhost.resources.order import ORDER
from nfvhost.resources.sriov.managers import NETWORK, RULES

Bench = Callable[[str], tuple[Case, ScratchMachine]]
PCI = "/sys/bus/pci/devices"
VFS = f"sriov: {X710} vfs"


def count(scratch: ScratchMachine, pf: str = X710) -> int:
    return int(scratch.read(f"{PCI}/{pf}/sriov_numvfs"))


def driver(scratch: ScratchMachine, pci: str) -> str | None:
    link = scratch.tree / f"{PCI}/{pci}/driver".strip("/")
    return link.resolve().name if link.is_symlink() else None


def of_port(case: Case, pf: str = X710, **facts: Any) -> Case:  # noqa: ANN401 - fields of NicPlan
    """The case with one port alone, planned otherwise."""
    nics = tuple(replace(nic, **facts) for nic in case.plan.nics if str(nic.pci) == pf)
    return replace(case, plan=replace(case.plan, nics=nics))


def asked_for(scratch: ScratchMachine) -> list[str]:
    """What was written to the numbers of VFs."""
    return [call for call in scratch.kernel.calls if call.endswith("sriov_numvfs")]


def problems(case: Case, scratch: ScratchMachine, host: Host = HOST) -> list[Any]:
    state = case.resource.read(scratch.machine(), case.plan)
    return list(case.resource.check(state, case.plan, host))


def failure(case: Case, scratch: ScratchMachine) -> str:
    with pytest.raises(ApplyError) as caught:
        run(case, scratch)
    return str(caught.value)


def test_a_change_of_the_number_goes_through_zero(bench: Bench) -> None:
    case, scratch = bench("sriov-through-zero")
    case = of_port(case)

    run(case, scratch)

    assert count(scratch) == 3
    assert len(asked_for(scratch)) == 2
    with pytest.raises(ApplyError, match="Device or resource busy"):
        scratch.machine().root.write_attribute(f"{PCI}/{X710}/sriov_numvfs", "4")


def test_a_first_number_is_written_once(bench: Bench) -> None:
    case, scratch = bench("sriov")
    case = of_port(case)

    run(case, scratch)

    assert len(asked_for(scratch)) == 1


def test_vfs_for_another_driver_never_have_one_of_their_own_nor_an_interface(bench: Bench) -> None:
    case, scratch = bench("sriov")

    run(case, scratch)

    assert [driver(scratch, vf_of(X710, number)) for number in range(3)] == [None, None, None]
    assert scratch.read(f"{PCI}/{X710}/sriov_drivers_autoprobe") == "0\n"
    assert driver(scratch, vf_of(BNXT, 0)) == "bnxt_en"
    assert scratch.read(f"{PCI}/{BNXT}/sriov_drivers_autoprobe") == "1\n"


def test_where_somebody_turned_probing_off_vfs_that_stay_with_their_driver_get_it_on(bench: Bench) -> None:
    case, scratch = bench("sriov")
    scratch.put(f"{PCI}/{BNXT}/sriov_drivers_autoprobe", "0\n")

    run(of_port(case, BNXT), scratch)

    assert driver(scratch, vf_of(BNXT, 1)) == "bnxt_en"


def test_each_setting_of_a_vf_is_read_back(bench: Bench) -> None:
    case, scratch = bench("sriov")

    run(case, scratch)

    told = {name: attribute(scratch, vf_of(X710, 1), name) for name in ("mac", "vlan", "trust", "spoofchk", "state")}
    assert told == {"mac": "52:54:00:21:00:01", "vlan": "100", "trust": "on", "spoofchk": "off", "state": "enable"}
    assert attribute(scratch, vf_of(X710, 1), "max_tx_rate") == "1000"
    # Two addresses are planned: the third VF keeps its own.
    assert attribute(scratch, vf_of(X710, 2), "mac") == "00:00:00:00:00:00"
    set_attribute(scratch, vf_of(X710, 1), "spoofchk", "on")
    assert [(drift.key, drift.planned, drift.actual) for drift in drifts(case, scratch)] == [
        (f"{X710} vf 1 spoofchk", "off", "on")
    ]


def test_a_setting_that_the_driver_lacks_is_a_failure_that_names_it_and_leaves_no_vfs(bench: Bench) -> None:
    case, scratch = bench("sriov")
    before = scratch.snapshot()
    kernel_of(scratch).refused[f"{netdev_of(X710)} vf 0 trust"] = errno.EOPNOTSUPP

    told = failure(case, scratch)

    assert f"sriov: {X710} vf 0 trust: " in told
    assert "Operation not supported" in told
    assert "leave it out of the profile" in told
    assert scratch.snapshot() == before


def test_settings_are_listed_before_the_vfs_are_there_by_the_same_keys(bench: Bench) -> None:
    case, scratch = bench("sriov")
    before = {change.key: change.before for change in differences(case, scratch)}
    assert before[f"{X710} vf 0 mac"] is None

    other, there = bench("sriov-settings")

    assert {change.key for change in differences(other, there)} <= set(before)


@pytest.mark.field_failure(23)
def test_row_23_network_managers_are_told_to_leave_vfs_alone_before_there_are_any(bench: Bench) -> None:
    case, scratch = bench("sriov")

    run(case, scratch)

    commands = scratch.commands()
    assert commands == ["udevadm control --reload", "networkctl reload"]
    first = next(at for at, call in enumerate(scratch.kernel.calls) if call.endswith("sriov_numvfs"))
    last = max(at for at, call in enumerate(scratch.kernel.calls) if call.endswith((RULES, NETWORK)))
    assert last < first
    assert scratch.read("/run/udev/has-read") == scratch.read(RULES)
    rules = [line for line in scratch.read(RULES).splitlines() if not line.startswith("#")]
    assert len(rules) == 2
    for rule, pf in zip(rules, (X710, BNXT), strict=True):
        assert 'ACTION=="add|change|move"' in rule
        assert f'ATTR{{device/physfn/uevent}}=="*PCI_SLOT_NAME={pf}*"' in rule
        assert 'ENV{NM_UNMANAGED}="1"' in rule
        # Neither names nor numbers of groups: both change from boot to boot.
        assert netdev_of(pf) not in rule
    assert "[Match]\nProperty=NFVHOST_VF=1\n\n[Link]\nUnmanaged=yes\n" in scratch.read(NETWORK)


@pytest.mark.field_failure(23)
def test_row_23_vfs_that_are_there_already_are_looked_at_again_by_udev(bench: Bench) -> None:
    case, scratch = bench("sriov-settings")
    for path, text in sriov_kernel.MANAGED.items():
        scratch.put(path, text)
    programs = scratch.programs
    for name in sriov_kernel.PROGRAMS:
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {programs}/calls\n')
        (programs / name).chmod(0o755)

    run(case, scratch)

    interfaces = [netdev_of(vf_of(X710, number)) for number in range(3)]
    triggered = next(command for command in scratch.commands() if command.startswith("udevadm trigger"))
    assert triggered.split()[2:6] == ["--action=change", *(f"/sys/class/net/{name}" for name in interfaces)]


@pytest.mark.field_failure(23)
@pytest.mark.parametrize("missing", ["/usr/lib/systemd/systemd-networkd", "/usr/sbin/NetworkManager"])
def test_row_23_only_managers_that_are_installed_get_files(bench: Bench, missing: str) -> None:
    case, scratch = bench("sriov")
    (scratch.tree / missing.strip("/")).unlink()

    run(case, scratch)

    assert (scratch.tree / RULES.strip("/")).exists()
    assert (scratch.tree / NETWORK.strip("/")).exists() == ("Manager" in missing)


@pytest.mark.field_failure(23)
def test_row_23_rules_that_somebody_edited_are_drift_and_written_anew(bench: Bench) -> None:
    case, scratch = bench("sriov")
    run(case, scratch)
    scratch.put(RULES, scratch.read(RULES).replace("|move", ""))

    (drift,) = drifts(case, scratch)

    assert (drift.key, drift.planned, drift.actual) == (RULES, f"{X710} {BNXT}", f"{X710} {BNXT}, edited")
    run(case, scratch)
    assert "|move" in scratch.read(RULES)


def test_without_a_manager_there_are_no_files(bench: Bench) -> None:
    case, scratch = bench("sriov-through-zero")

    run(case, scratch)

    assert not (scratch.tree / RULES.strip("/")).exists()


def test_a_plan_without_vfs_takes_the_files_away(bench: Bench) -> None:
    case, scratch = bench("sriov")
    run(case, scratch)

    run(case, scratch, plan=replace(case.plan, nics=()))

    assert not (scratch.tree / RULES.strip("/")).exists()
    assert not (scratch.tree / NETWORK.strip("/")).exists()
    assert not (scratch.tree / "run/udev/has-read").exists()
    # What the plan does not speak of stays as it is.
    assert count(scratch) == 3


@pytest.mark.field_failure(24)
def test_row_24_fewer_vfs_than_asked_for_are_a_failure_with_the_numbers_and_are_taken_back(bench: Bench) -> None:
    case, scratch = bench("sriov")
    before = scratch.snapshot()
    kernel_of(scratch).grants[X710] = 2

    told = failure(case, scratch)

    assert f"{VFS}: asked for 3 VFs, the driver made 2, and 2 are on the bus" in told
    assert "i40e grants fewer VFs than asked" in told
    assert scratch.snapshot() == before


@pytest.mark.field_failure(24)
@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOSPC])
def test_row_24_vfs_that_find_no_room_are_a_failure_that_names_the_kernel_argument_and_the_bios(
    bench: Bench, number: int
) -> None:
    case, scratch = bench("sriov")
    before = scratch.snapshot()
    kernel_of(scratch).refuses[X710] = number

    told = failure(case, scratch)

    assert VFS in told
    assert "pci=realloc" in told
    assert "ARI" in told
    assert "above 4 GiB" in told
    assert scratch.snapshot() == before


@pytest.mark.field_failure(24)
def test_row_24_a_port_whose_driver_makes_no_vfs_without_a_link_is_set_up_first(bench: Bench) -> None:
    case, scratch = bench("sriov")
    case = of_port(case, BNXT)
    assert [change.key for change in differences(case, scratch)][-2:] == [f"{BNXT} link", f"{BNXT} vfs"]
    with pytest.raises(ApplyError, match="Network is down"):
        scratch.machine().root.write_attribute(f"{PCI}/{BNXT}/sriov_numvfs", "2")

    run(case, scratch)

    assert count(scratch, BNXT) == 2


@pytest.mark.field_failure(24)
def test_row_24_a_port_that_is_down_and_makes_vfs_all_the_same_stays_down_and_is_told(bench: Bench) -> None:
    case, scratch = bench("sriov")
    scratch.put(f"/sys/class/net/{netdev_of(X710)}/flags", "0x1002\n")

    assert f"{X710} link" not in {change.key for change in differences(case, scratch)}
    assert [one for one in remarks(case, scratch) if "is down: with most drivers its VFs have no link" in one]


@pytest.mark.field_failure(24)
def test_row_24_vfs_that_went_since_are_drift(bench: Bench) -> None:
    case, scratch = bench("sriov")
    case = of_port(case)
    run(case, scratch)
    scratch.machine().root.write_attribute(f"{PCI}/{X710}/sriov_numvfs", "0")

    drift = drifts(case, scratch)[0]

    assert (drift.key, drift.planned, drift.actual) == (f"{X710} vfs", "3", "0")
    assert "count them after writing" in (drift.hint or "")


@pytest.mark.field_failure(25)
def test_row_25_vfs_are_made_before_their_drivers_their_vdpa_devices_and_all_who_look_for_them() -> None:
    names = [resource.name for resource in ORDER]

    order = [names.index(name) for name in ("driver_binding", "sriov", "vf_driver_binding", "vdpa", "ovs_dpdk")]

    assert order == sorted(order)
    assert max(order) < min(names.index("neutron_conf"), names.index("nova_conf"))


@pytest.mark.field_failure(26)
def test_row_26_vfs_do_not_change_while_a_guest_has_one_which_is_named(bench: Bench) -> None:
    case, scratch = bench("sriov-through-zero")
    group = (scratch.tree / f"{PCI}/{vf_of(X710, 1)}/iommu_group".strip("/")).resolve().name
    hold(scratch, f"/dev/vfio/{group}")

    (refusal,) = refusals(of_port(case), scratch)

    assert refusal.startswith(f"{VFS}: a change of 2 VFs goes through none at all, and they are in use: ")
    assert f"VF 1 ({vf_of(X710, 1)}): guest vnf-1 (qemu-system-x86, pid 4711)" in refusal


@pytest.mark.field_failure(26)
def test_row_26_a_guest_that_came_between_the_check_and_the_change_keeps_its_vf(bench: Bench) -> None:
    case, scratch = bench("sriov-through-zero")
    case = of_port(case)
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    group = (scratch.tree / f"{PCI}/{vf_of(X710, 1)}/iommu_group".strip("/")).resolve().name
    hold(scratch, f"/dev/vfio/{group}")

    with pytest.raises(PreconditionError, match="its VFs are in use"):
        case.resource.apply(machine, state, changes)

    assert count(scratch) == 2


@pytest.mark.field_failure(26)
def test_row_26_a_guest_that_has_a_vf_by_now_keeps_it_at_a_rollback_too(bench: Bench) -> None:
    case, scratch = bench("sriov")
    case = of_port(case)
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    sriov_kernel.give_to_vfio(scratch, vf_of(X710, 0))
    group = (scratch.tree / f"{PCI}/{vf_of(X710, 0)}/iommu_group".strip("/")).resolve().name
    hold(scratch, f"/dev/vfio/{group}")

    left = case.resource.rollback(machine, case.resource.image(state, changes), changes)

    assert [problem.where for problem in left] == [VFS]
    assert "guest vnf-1" in left[0].what
    assert count(scratch) == 3


@pytest.mark.field_failure(26)
def test_row_26_vfs_do_not_change_while_a_guest_has_one_by_vdpa(bench: Bench) -> None:
    case, scratch = bench("sriov-through-zero")
    sriov_kernel.with_vdpa(scratch, vf_of(X710, 0), "vdpa0", driver="vhost_vdpa")
    hold(scratch, "/dev/vhost-vdpa-0")

    found = refusals(of_port(case), scratch)

    assert any(f"VF 0 ({vf_of(X710, 0)}): guest vnf-1" in refusal for refusal in found)
    assert any("they have vDPA devices: vdpa0" in refusal for refusal in found)


@pytest.mark.field_failure(26)
def test_row_26_vfs_do_not_change_while_another_network_namespace_has_the_interface_of_one(bench: Bench) -> None:
    case, scratch = bench("sriov-through-zero")
    vf = scratch.tree / f"{PCI}/{vf_of(X710, 0)}/net".strip("/")
    (vf / netdev_of(vf_of(X710, 0))).rename(scratch.top / "elsewhere")

    (refusal,) = refusals(of_port(case), scratch)

    assert f"VF 0 ({vf_of(X710, 0)}): another network namespace" in refusal


@pytest.mark.field_failure(26)
def test_row_26_vfs_do_not_change_while_something_stands_on_the_interface_of_one(bench: Bench) -> None:
    case, scratch = bench("sriov-through-zero")
    scratch.put(f"/sys/class/net/{netdev_of(vf_of(X710, 0))}/upper_macvtap0", "")

    (refusal,) = refusals(of_port(case), scratch)

    assert "the interface macvtap0, which stands on" in refusal


@pytest.mark.field_failure(26)
def test_row_26_vfs_do_not_change_while_the_host_has_an_address_on_one(bench: Bench) -> None:
    case, scratch = bench("sriov-through-zero")
    name = netdev_of(vf_of(X710, 0))
    own = synthetic.nic(vf_of(X710, 0), netdevs=(name,), physfn=PciAddress.parse(X710))
    host = replace(
        HOST,
        nics=(*HOST.nics, own),
        netdevs=(
            Netdev(
                name=name,
                pci=own.pci,
                kind="physical",
                mac=None,
                speed_mbps=None,
                mtu=1500,
                operstate="up",
                driver="iavf",
                lowers=(),
                addresses=("fe80::1/64", "192.0.2.7/24"),
            ),
        ),
    )

    (problem,) = problems(of_port(case), scratch, host)

    assert f"{name} has the address 192.0.2.7/24" in problem.what


@pytest.mark.field_failure(26)
def test_row_26_what_libvirt_has_set_for_a_guest_is_no_drift_and_is_told(bench: Bench) -> None:
    case, scratch = bench("sriov")
    case = of_port(case)
    run(case, scratch)
    sriov_kernel.give_to_vfio(scratch, vf_of(X710, 0))
    group = (scratch.tree / f"{PCI}/{vf_of(X710, 0)}/iommu_group".strip("/")).resolve().name
    hold(scratch, f"/dev/vfio/{group}", guest=None)
    set_attribute(scratch, vf_of(X710, 0), "mac", "fa:16:3e:00:00:01")

    assert drifts(case, scratch) == ()
    assert differences(case, scratch) == ()
    (remark,) = remarks(case, scratch)
    assert f"{X710} vf 0 mac: is fa:16:3e:00:00:01 and planned as 52:54:00:21:00:00" in remark
    assert "qemu-system-x86 (pid 4711)" in remark


def test_vfs_that_were_there_before_come_back_with_their_drivers_and_settings(bench: Bench) -> None:
    case, scratch = bench("sriov-through-zero")
    case = of_port(case)
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)

    assert case.resource.rollback(machine, case.resource.image(state, changes), changes) == ()

    assert count(scratch) == 2
    assert [driver(scratch, vf_of(X710, number)) for number in range(2)] == ["iavf", "vfio-pci"]
    assert attribute(scratch, vf_of(X710, 1), "vlan") == "7 qos 3"
    assert attribute(scratch, vf_of(X710, 1), "mac") == "52:54:00:00:00:01"


def test_a_reboot_has_taken_the_vfs_back_already(bench: Bench) -> None:
    case, scratch = bench("sriov")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    for pf in (X710, BNXT):
        machine.root.write_attribute(f"{PCI}/{pf}/sriov_numvfs", "0")
        scratch.put(f"{PCI}/{pf}/sriov_drivers_autoprobe", "1\n")

    assert case.resource.foreign(machine, case.resource.image(state, changes), changes) == ()
    assert case.resource.rollback(machine, case.resource.image(state, changes), changes) == ()
    assert (count(scratch), count(scratch, BNXT)) == (0, 0)


def test_a_number_that_someone_else_asked_for_since_stays_unless_forced(bench: Bench) -> None:
    case, scratch = bench("sriov")
    case = of_port(case)
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)
    for number in ("0", "8"):
        machine.root.write_attribute(f"{PCI}/{X710}/sriov_numvfs", number)

    assert [problem.where for problem in case.resource.foreign(machine, state, changes)] == [VFS]
    assert [problem.where for problem in case.resource.rollback(machine, state, changes)] == [VFS]
    assert count(scratch) == 8
    assert case.resource.rollback(machine, state, changes, force=True) == ()
    assert count(scratch) == 0


def test_changes_work_one_by_one_with_a_state_from_before_the_vfs(bench: Bench) -> None:
    case, scratch = bench("sriov")
    machine = scratch.machine()
    state = case.resource.read(machine, case.plan)

    for change in case.resource.diff(state, case.plan):
        case.resource.apply(machine, state, (change,))

    assert drifts(case, scratch) == ()


def test_a_port_without_its_kernel_driver_waits_for_whoever_binds_it(bench: Bench) -> None:
    case, scratch = bench("sriov")
    nic: NicPlan = replace(case.plan.nics[0], pci=PciAddress.parse(FORGOTTEN), driver="i40e", current_driver="vfio-pci")
    case = replace(case, plan=replace(case.plan, nics=(nic,)))

    (problem,) = problems(case, scratch)

    assert isinstance(problem, Unmet)
    assert problem.met_by == "driver_binding"
    assert "vfio-pci is bound to it" in problem.what
    (plain,) = problems(replace(case, plan=replace(case.plan, nics=(replace(nic, driver=None),))), scratch)
    assert not isinstance(plain, Unmet)


def test_more_vfs_than_the_card_has_are_refused_before_anything_is_written(bench: Bench) -> None:
    case, scratch = bench("sriov")

    (refusal,) = refusals(of_port(case, vfs=65), scratch)

    assert f"{VFS}: 65 VFs are planned, the card has 64" in refusal


def test_a_card_that_offers_no_vfs_is_refused_with_the_bios_as_the_hint(bench: Bench) -> None:
    case, scratch = bench("sriov")
    for name in ("numvfs", "totalvfs", "drivers_autoprobe"):
        (scratch.tree / f"{PCI}/{X710}/sriov_{name}".strip("/")).unlink()

    (refusal,) = refusals(of_port(case), scratch)

    assert "it offers no SR-IOV" in refusal
    assert "BIOS" in refusal


def test_a_port_that_carries_management_makes_no_vfs_unless_they_are_there(bench: Bench) -> None:
    case, scratch = bench("sriov")
    case = of_port(case)
    nics = tuple(replace(nic, management="has the default route") if str(nic.pci) == X710 else nic for nic in HOST.nics)

    (problem,) = problems(case, scratch, replace(HOST, nics=nics))

    assert "carries management (has the default route)" in problem.what
    run(case, scratch)
    assert problems(case, scratch, replace(HOST, nics=nics)) == []


def test_a_vlan_of_somebody_else_that_could_not_be_put_back_is_refused(bench: Bench) -> None:
    case, scratch = bench("sriov-through-zero")
    set_attribute(scratch, vf_of(X710, 0), "vlan", "7 qos 3 proto 802.1ad")

    (refusal,) = refusals(of_port(case), scratch)

    assert f"{VFS}: VF 0 has the VLAN 7 qos 3 proto 802.1ad, which nfvhost could not put back" in refusal


def test_a_card_that_was_pulled_is_named_by_its_address(bench: Bench) -> None:
    case, scratch = bench("sriov")
    kernel_of(scratch).pci.remove(scratch.tree, X710)

    assert [str(problem.where) for problem in problems(of_port(case), scratch)] == [VFS]
    assert drifts(of_port(case), scratch)[0].actual is None
