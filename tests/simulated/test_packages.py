"""Packages of Debian and Ubuntu."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import rpm_programs
from cases import Case, nic
from contract import differences, drifts, refusals, remarks, run
from ovs_plans import OvsPlans
from package_programs import ARCHIVE, DPDK, LISTS, MARKS, MIRROR, PLAIN, STATUS, installed, stanza
from scratch import ScratchMachine

from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.errors import ApplyError
from nfvhost.model.change import Disruption
from nfvhost.model.host import Netdev, OvsInstall
from nfvhost.model.plan import OvsBridge, OvsPort, Plan
from nfvhost.model.profile import Role
from nfvhost.resources.packages import Packages

Bench = Callable[[str], tuple[Case, ScratchMachine]]
LIBC = installed(["libc6"], version="2.36")
IDS = "/sys/bus/pci/devices/0000:10:00.0"


def names(case: Case, scratch: ScratchMachine, *, plan: Plan | None = None) -> list[str | None]:
    """The packages that an apply would install."""
    changes = differences(case, scratch, plan=plan)
    return [change.after for change in changes if change.before is None and "ovs-vswitchd" not in change.key]


def installs(scratch: ScratchMachine) -> list[list[str]]:
    """The packages that each install asked for."""
    words = [line.split() for line in scratch.commands() if line.startswith("apt-get install")]
    return [[word for word in line[2:] if not word.startswith("-")] for line in words]


def with_port(plan: Plan, devargs: str) -> Plan:
    """The plan with a port of these devargs."""
    assert plan.ovs is not None
    options = (("dpdk-devargs", devargs),)
    port = OvsPort(
        name="x", type="dpdk", options=options, other_config=(), mtu=None, tag=None, node=None, reason="a test"
    )
    bridge = OvsBridge(name="br-x", datapath_type="netdev", fail_mode=None, physnet=None, ports=(port,))
    return replace(plan, ovs=replace(plan.ovs, bridges=(bridge,)))


def failed(case: Case, scratch: ScratchMachine) -> str:
    """What the error of an apply says."""
    with pytest.raises(ApplyError) as caught:
        run(case, scratch)
    return str(caught.value)


def test_without_recommended_packages_the_drivers_of_the_planned_ports_are_installed_by_name(bench: Bench) -> None:
    # Debian's dpdk recommends some; without them EAL fails to parse the device of a port.
    case, scratch = bench("packages")

    run(case, scratch)

    wanted = ["librte-bus-pci23", "librte-bus-vdev23", "librte-mempool-ring23", "librte-net-i40e23"]
    assert installs(scratch) == [[*wanted, "openvswitch-switch-dpdk"]]
    assert "--no-install-recommends" in next(one for one in scratch.commands() if one.startswith("apt-get install"))


def test_the_build_with_dpdk_is_chosen_although_debian_keeps_the_other(bench: Bench) -> None:
    case, scratch = bench("packages")

    run(case, scratch)

    assert (scratch.tree / "etc/alternatives/ovs-vswitchd").readlink().as_posix() == DPDK
    assert (scratch.tree / "proc/4711/exe").readlink().as_posix() == DPDK


def test_the_number_of_the_abi_is_that_of_the_distributions_dpdk(bench: Bench) -> None:
    case, scratch = bench("packages")
    newer = ARCHIVE.replace("23", "25")
    scratch.put(LISTS, newer)
    scratch.put(MIRROR, newer)

    run(case, scratch)

    assert "librte-net-i40e25" in installs(scratch)[0]


def test_a_name_that_ends_in_a_digit_is_set_apart_from_the_number(bench: Bench) -> None:
    case, scratch = bench("packages")
    scratch.put(f"{IDS}/vendor", "0x15b3\n")
    scratch.put(f"{IDS}/device", "0x1017\n")

    assert "librte-net-mlx5-23" in names(case, scratch)


def test_of_an_installed_switch_the_number_is_known_without_asking(bench: Bench) -> None:
    case, scratch = bench("packages")
    run(case, scratch)
    (scratch.tree / LISTS.strip("/")).unlink()

    tap = with_port(case.plan, "net_tap0,iface=tap0")

    assert names(case, scratch, plan=tap) == ["librte-net-tap23"]


@pytest.mark.field_failure(5)
def test_row_5_a_driver_that_this_release_has_not_is_refused_before_anything_is_changed(bench: Bench) -> None:
    case, scratch = bench("packages")
    scratch.put(f"{IDS}/vendor", "0x10ec\n")
    scratch.put(f"{IDS}/device", "0x8125\n")

    (refusal,) = refusals(case, scratch)

    assert "packages: librte-net-r8169: no package of that name is known" in refusal


def test_what_would_upgrade_a_package_is_refused_and_named(bench: Bench) -> None:
    case, scratch = bench("packages-plain-switch")
    scratch.put(STATUS, LIBC + installed(["openvswitch-switch"], version="3.1.0-1", depends="libc6"))

    (refusal,) = refusals(case, scratch)

    assert "would upgrade openvswitch-switch 3.1.0-1 to 3.1.0-2" in refusal
    assert "upgrade openvswitch-switch yourself" in refusal


def test_what_would_upgrade_a_package_once_the_lists_are_fetched_is_not_installed(bench: Bench) -> None:
    case, scratch = bench("packages-plain-switch")
    scratch.put(STATUS, LIBC + installed(["openvswitch-switch"], version="3.1.0-1", depends="libc6"))
    (scratch.tree / LISTS.strip("/")).unlink()

    assert "would upgrade openvswitch-switch 3.1.0-1 to 3.1.0-2" in failed(case, scratch)

    assert installs(scratch) == []


def test_lists_are_fetched_where_there_are_none_and_left_alone_where_there_are(bench: Bench) -> None:
    case, scratch = bench("packages")
    run(case, scratch)
    assert "apt-get update -q" not in scratch.commands()

    case, scratch = bench("packages-plain-switch")
    (scratch.tree / LISTS.strip("/")).unlink()
    (remark,) = remarks(case, scratch)
    run(case, scratch)

    assert "they are fetched first" in remark
    assert scratch.commands()[0] == "apt-get update -q"
    assert drifts(case, scratch) == ()


def test_without_a_network_the_words_of_apt_are_told(bench: Bench) -> None:
    case, scratch = bench("packages")
    before = scratch.snapshot()
    for path in (LISTS, MIRROR):
        (scratch.tree / path.strip("/")).unlink()

    said = failed(case, scratch)

    assert "no package of that name is known, and its lists could not be fetched" in said
    assert "Temporary failure resolving" in said
    assert scratch.snapshot() == {path: one for path, one in before.items() if path not in {LISTS, MIRROR}}


def test_lists_that_name_files_which_are_gone_are_fetched_again(bench: Bench) -> None:
    case, scratch = bench("packages")
    newer = ARCHIVE.replace("23", "25")
    scratch.put(MIRROR, newer)

    run(case, scratch)

    assert "apt-get update -q" in scratch.commands()
    assert "librte-net-i40e25" in installs(scratch)[-1]


def test_who_holds_the_lock_of_dpkg_is_told_once_the_wait_is_over(bench: Bench) -> None:
    case, scratch = bench("packages")
    scratch.put("/var/lib/dpkg/lock-frontend", "812 (unattended-upgr)")

    said = failed(case, scratch)

    assert "It is held by process 812 (unattended-upgr)" in said
    assert "-oDPkg::Lock::Timeout=300" in next(one for one in scratch.commands() if one.startswith("apt-get install"))


def test_a_run_of_dpkg_that_was_cut_off_is_finished_first(bench: Bench) -> None:
    case, scratch = bench("packages")
    scratch.put("/var/lib/dpkg/updates/0001", "Package: libc6\n")

    assert next(change.key for change in differences(case, scratch)) == "dpkg"
    run(case, scratch)

    assert scratch.commands()[0] == "dpkg --force-confold --force-confdef --configure -a"
    assert drifts(case, scratch) == ()


def test_a_lock_that_is_free_again_after_a_moment_is_waited_for(bench: Bench) -> None:
    # Of an apply that was killed, say, whose apt-get goes on.
    case, scratch = bench("packages")
    scratch.put("/var/lib/dpkg/updates/0001", "Package: libc6\n")
    scratch.put("/var/lib/dpkg/lock-for-a-moment", "812")

    run(case, scratch)

    assert [one.split()[0] for one in scratch.commands()[:2]] == ["dpkg", "dpkg"]
    assert drifts(case, scratch) == ()


def test_a_package_that_was_left_unpacked_counts_as_missing(bench: Bench) -> None:
    case, scratch = bench("packages")
    half = stanza("librte-net-i40e23", status="install ok unpacked")
    run(case, scratch)
    scratch.put(STATUS, scratch.read(STATUS).replace(stanza_of(scratch, "librte-net-i40e23"), half))

    assert [drift.key for drift in drifts(case, scratch)] == ["dpkg", "librte-net-i40e"]


def stanza_of(scratch: ScratchMachine, name: str) -> str:
    """What dpkg has of a package."""
    return next(f"{one}\n\n" for one in scratch.read(STATUS).split("\n\n") if one.startswith(f"Package: {name}\n"))


def test_a_switch_that_runs_without_dpdk_is_started_anew_and_its_links_are_said_to_go_down(bench: Bench) -> None:
    case, scratch = bench("packages-plain-switch")

    (change,) = [one for one in differences(case, scratch) if one.key == "ovs-vswitchd"]
    run(case, scratch)

    assert (change.before, change.after, change.disruption) == ("without DPDK", "with DPDK", Disruption.LINK)
    assert scratch.commands()[-1] == "systemctl restart ovs-vswitchd.service"


@pytest.mark.field_failure(1)
def test_row_1_a_switch_that_carries_management_is_not_restarted(bench: Bench) -> None:
    case, scratch = bench("packages-plain-switch")
    bridge = Netdev(
        name="br-mgmt",
        pci=None,
        kind="openvswitch",
        mac=None,
        speed_mbps=None,
        mtu=1500,
        operstate="up",
        driver="openvswitch",
        lowers=(),
        addresses=("192.0.2.1/24",),
        management="the default route",
    )
    switch = OvsInstall(
        version="3.1.0", dpdk_version=None, running=True, database=None, bridges=("br-mgmt",), other_config=()
    )

    (refusal,) = refusals(case, scratch, netdevs=(bridge,), ovs=switch)

    assert "br-mgmt carries management (the default route)" in refusal
    assert f"update-alternatives --set ovs-vswitchd {DPDK}" in refusal


def test_without_systemd_a_switch_is_left_running_and_that_is_told(bench: Bench) -> None:
    case, scratch = bench("packages-plain-switch")
    (scratch.tree / "run/systemd/system").rmdir()

    run(case, scratch)

    assert not any(one.startswith("systemctl") for one in scratch.commands())
    (remark,) = remarks(case, scratch)
    assert "no systemd is there to start it anew" in remark


@pytest.mark.parametrize("place", ["/usr/local/sbin/ovs-vswitchd", "/run/openvswitch/db.sock"])
def test_an_open_vswitch_of_no_package_is_left_alone(bench: Bench, place: str) -> None:
    # Built from source, or in a container of Kolla that shares the run directory.
    case, scratch = bench("packages")
    scratch.put(place, "")

    assert differences(case, scratch) == ()
    (remark,) = remarks(case, scratch)
    assert place in remark


def test_a_plan_without_open_vswitch_needs_nothing(bench: Bench) -> None:
    case, scratch = bench("packages")

    assert differences(case, scratch, plan=replace(case.plan, ovs=None)) == ()


@pytest.mark.field_failure(27)
def test_row_27_vdpa_devices_need_the_vdpa_tool_alone(bench: Bench) -> None:
    case, scratch = bench("packages")
    vdpa = replace(case.plan, ovs=None, nics=(nic("0000:20:00.0", Role.VDPA),))

    assert names(case, scratch, plan=vdpa) == ["iproute2"]


@pytest.mark.parametrize("devargs", ["net_evil0", "net_tap0; reboot", "--allow-unauthenticated", "class=eth,mac=x"])
def test_no_text_of_a_plan_becomes_the_name_of_a_package(bench: Bench, devargs: str) -> None:
    case, scratch = bench("packages")
    plan = with_port(case.plan, devargs)
    stranger = replace(plan, nics=(replace(plan.nics[0], current_driver="--reinstall"),))
    (scratch.tree / f"{IDS}/vendor".strip("/")).unlink()

    wanted = names(case, scratch, plan=stranger)

    always = ["openvswitch-switch-dpdk", "librte-bus-pci23", "librte-bus-vdev23", "librte-mempool-ring23"]
    assert [one for one in wanted if one not in always] in ([], ["librte-net-tap23"])


def applied(bench: Bench, name: str) -> tuple[Case, ScratchMachine, Callable[..., list[str]]]:
    """A machine after an apply, and the way to roll it back."""
    case, scratch = bench(name)
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    kept = case.resource.image(state, changes)
    run(case, scratch)

    def roll_back(*, force: bool = False) -> list[str]:
        return [str(one) for one in case.resource.rollback(scratch.machine(), kept, changes, force=force)]

    return case, scratch, roll_back


def test_a_package_that_others_need_by_now_stays_and_is_named(bench: Bench) -> None:
    _, scratch, roll_back = applied(bench, "packages")
    dumper = stanza("my-dumper", status="install ok installed", depends="librte-net-i40e23 (>= 22), libc6")
    scratch.put(STATUS, scratch.read(STATUS) + dumper)

    left = roll_back()

    assert [one.rpartition(": ")[2] for one in left] == ["librte-net-i40e23 needs it", "my-dumper needs it"]
    kept = scratch.read(STATUS)
    assert "Package: openvswitch-switch-dpdk\n" not in kept
    assert "Package: librte-net-i40e23\n" in kept
    assert "Package: librte-eal23\n" in kept


def test_a_dependency_that_a_person_asked_for_since_stays(bench: Bench) -> None:
    _, scratch, roll_back = applied(bench, "packages")
    scratch.put(MARKS, scratch.read(MARKS).replace("Package: librte-eal23\nAuto-Installed: 1\n\n", ""))

    (left,) = roll_back()

    assert "librte-eal23 stays: somebody asked for it since" in left
    assert "Package: librte-eal23\n" in scratch.read(STATUS)


def test_what_was_there_before_stays_after_a_rollback(bench: Bench) -> None:
    _, scratch, roll_back = applied(bench, "packages-plain-switch")

    assert roll_back() == []

    assert "Package: openvswitch-switch\n" in scratch.read(STATUS)
    assert (scratch.tree / "proc/4711/exe").readlink().as_posix() == PLAIN


def test_a_package_whose_settings_were_there_before_is_removed_and_not_purged(bench: Bench) -> None:
    case, scratch = bench("packages")
    scratch.put(STATUS, LIBC + stanza("openvswitch-switch", status="deinstall ok config-files", version="3.1.0-2"))
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)

    assert case.resource.rollback(scratch.machine(), case.resource.image(state, changes), changes) == ()

    assert any(one.startswith("apt-get remove") and "openvswitch-switch" in one for one in scratch.commands())
    assert "deinstall ok config-files" in scratch.read(STATUS)


def test_a_choice_that_someone_else_made_since_stays_unless_forced(bench: Bench) -> None:
    _, scratch, roll_back = applied(bench, "packages-plain-switch")
    scratch.put("/var/lib/dpkg/alternatives/ovs-vswitchd", f"manual\n{PLAIN}\n{DPDK}\n/opt/ovs-vswitchd\n")
    link = scratch.tree / "etc/alternatives/ovs-vswitchd"
    link.unlink()
    link.symlink_to("/opt/ovs-vswitchd")

    (left,) = roll_back()

    assert "/opt/ovs-vswitchd by now" in left
    assert link.readlink().as_posix() == "/opt/ovs-vswitchd"
    assert roll_back(force=True) == []
    assert link.readlink().as_posix() == PLAIN


def test_a_choice_that_a_person_had_made_before_is_made_again(bench: Bench) -> None:
    case, scratch = bench("packages-plain-switch")
    admin = "/var/lib/dpkg/alternatives/ovs-vswitchd"
    scratch.put(admin, f"manual\n{PLAIN}\n")
    state = case.resource.read(scratch.machine(), case.plan)
    changes = case.resource.diff(state, case.plan)
    run(case, scratch)

    assert case.resource.rollback(scratch.machine(), state, changes) == ()

    assert scratch.read(admin) == f"manual\n{PLAIN}\n"


def test_fedora_gets_both_builds_and_the_one_with_dpdk_is_started(bench: Bench) -> None:
    case, scratch = bench("packages-fedora")

    run(case, scratch)

    assert names(case, scratch) == []
    assert (scratch.tree / "proc/4711/exe").readlink().as_posix() == rpm_programs.DPDK
    assert scratch.commands()[-1] == "systemctl enable --now openvswitch.service"
    assert scratch.read("/var/lib/alternatives/ovs-vswitchd").startswith("auto\n")


def test_of_the_packages_of_the_nfv_sig_the_newest_is_taken_and_has_but_one_build(bench: Bench) -> None:
    case, scratch = bench("packages-fedora")
    scratch.put("/etc/os-release", 'ID="centos"\nVERSION_ID="9"\n')
    scratch.put(rpm_programs.MIRROR, "openvswitch3.3 3.3.0-1 openssl\nopenvswitch3.1 3.1.0-9 openssl\n")

    keys = [change.key for change in differences(case, scratch)]
    run(case, scratch)

    assert keys == ["openvswitch", "ovs-vswitchd"]
    assert "openvswitch3.3 " in scratch.read(rpm_programs.INSTALLED)
    assert drifts(case, scratch) == ()


def test_an_installed_switch_of_the_nfv_sig_is_not_replaced_by_a_newer_one(bench: Bench) -> None:
    case, scratch = bench("packages-fedora")
    scratch.put("/etc/os-release", 'ID="centos"\nVERSION_ID="9"\n')
    scratch.put(rpm_programs.INSTALLED, "openssl 3\nopenvswitch3.1 3.1.0-9 openssl\n")
    scratch.put(rpm_programs.MIRROR, "openvswitch3.3 3.3.0-1 openssl\n")

    assert [change.key for change in differences(case, scratch)] == ["ovs-vswitchd"]


def test_without_the_repository_of_the_nfv_sig_its_package_is_named(bench: Bench) -> None:
    case, scratch = bench("packages-fedora")
    scratch.put("/etc/os-release", 'ID="centos"\nVERSION_ID="9"\n')
    scratch.put(rpm_programs.MIRROR, "iproute 6\n")

    (refusal,) = refusals(case, scratch)

    assert "centos-release-nfv-openvswitch" in refusal


def test_dnf_upgrades_nothing_either(bench: Bench) -> None:
    case, scratch = bench("packages-fedora")
    newer = rpm_programs.ARCHIVE.replace("3.6.2-2 openssl", "3.6.2-2 openssl>=3.5.0-1") + "openssl 3.5.0-1\n"
    scratch.put(rpm_programs.MIRROR, newer)
    before = scratch.read(rpm_programs.INSTALLED)

    assert "would upgrade openssl to 3.5.0-1" in failed(case, scratch)

    assert scratch.read(rpm_programs.INSTALLED) == before


def test_this_very_machine_knows_a_name_for_each_package_of_a_plan() -> None:
    machine = Machine(root=DirectoryRoot())
    lists = [name for name in machine.root.list_dir("/var/lib/apt/lists") if "_Packages" in name]
    if shutil.which("apt-get") is None or not lists:
        pytest.skip("no apt, or no lists of packages")
    plan = with_port(OvsPlans.plan(), "net_null0")

    state = Packages().read(machine, plan)

    if state.foreign is not None:
        pytest.skip(f"an Open vSwitch of no package is here: {state.foreign}")
    assert [one.key for one in state.wanted if one.name is None] == []
    assert {"openvswitch-switch-dpdk", "librte-mempool-ring", "librte-net-null"} <= {one.key for one in state.wanted}
    libraries = [one.name or "" for one in state.wanted if one.key.startswith("librte-")]
    assert len({name.rpartition("-")[2].lstrip("abcdefghijklmnopqrstuvwxyz") for name in libraries}) == 1
    assert state.forecast is None or state.forecast.error is None
