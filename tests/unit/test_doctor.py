"""Each rule of the doctor on a machine that has the failure and on one that has not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from ailments import CAPTURED, CASES, ISOLATED, Case, card, host, nova, seen
from synthetic import host as make_host
from typer.testing import CliRunner

from nfvhost.access.root import DirectoryRoot
from nfvhost.cli.app import app
from nfvhost.doctor import RULES, Evidence, Severity, diagnose, survey
from nfvhost.doctor.boot_files import boot_files
from nfvhost.doctor.nova_files import cpu_spec, nova_settings
from nfvhost.doctor.processes import interrupt_counts, interrupts_between, keepers, memory_locks
from nfvhost.errors import UsageError
from nfvhost.model.pci import PciAddress

MakeTree = Callable[[Mapping[str, str]], DirectoryRoot]
DOCS = Path(__file__).parents[2] / "docs"
SMALL = {
    "/proc/cpuinfo": "processor\t: 0\nprocessor\t: 1\n",
    "/proc/cmdline": "quiet isolcpus=1\n",
    "/sys/devices/system/cpu/online": "0-1\n",
    "/sys/devices/system/cpu/isolated": "1\n",
}


def told(rule: str, evidence: Evidence) -> list[str]:
    return [found.evidence for found in diagnose(evidence).findings if found.rule == rule]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule} {case.name}".strip())
def test_a_machine_with_the_failure_is_told_so(case: Case) -> None:
    (evidence, *_) = told(case.rule, case.ill)
    assert case.told in evidence


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule} {case.name}".strip())
def test_a_machine_like_it_without_the_failure_is_left_in_peace(case: Case) -> None:
    diagnosis = diagnose(case.healthy)
    assert told(case.rule, case.healthy) == []
    assert case.rule not in {one.rule for one in diagnosis.unlooked}, "it must have looked"


def test_every_rule_has_a_machine_of_each_kind() -> None:
    assert {rule.name for rule in RULES} == {case.rule for case in CASES}
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_a_rule_without_evidence_says_what_it_lacks() -> None:
    diagnosis = diagnose(Evidence(host=make_host(kernel_args=None, node_mib=None, pages=(), memory_kib=None)))
    assert diagnosis.findings == ()
    assert diagnosis.rules + len(diagnosis.unlooked) == len(RULES)
    lacks = {one.rule: one.lacks for one in diagnosis.unlooked}
    assert lacks["port-error"] == "no database of Open vSwitch answers here"
    assert lacks["pages-short"] == "/proc/cmdline is not to be seen"


def test_errors_come_before_warnings_and_notes() -> None:
    ill = replace(CAPTURED, nova=nova("1-3"))
    severities = [found.severity for found in diagnose(ill).findings]
    assert severities == sorted(severities, key=list(Severity).index)
    assert len(set(severities)) == 3


def test_a_machine_with_notes_alone_is_healthy() -> None:
    diagnosis = diagnose(seen(allowed="0-3"))
    assert [found.severity for found in diagnosis.findings] == [Severity.NOTE]
    assert diagnosis.healthy


def test_the_mask_of_a_capture_is_judged_without_a_database() -> None:
    assert told("core-split", CAPTURED) == ["CPUs 1 of 1,9 poll; their sibling threads run guests or the host"]


@pytest.mark.parametrize("text", ["", "zz", "0x0", "-1"])
def test_a_mask_that_is_none_is_no_mask(text: str) -> None:
    assert CAPTURED.host.ovs is not None
    install = replace(CAPTURED.host.ovs, other_config=(("pmd-cpu-mask", text),))
    assert replace(CAPTURED, host=replace(CAPTURED.host, ovs=install)).pmd_mask is None


def test_a_vf_without_a_driver_is_only_noted() -> None:
    vf = card(PciAddress.parse("0000:10:02.0"), driver=None, physfn=card().pci)
    (found,) = [one for one in diagnose(seen(card(), vf)).findings if one.rule == "no-driver"]
    assert found.severity is Severity.NOTE


def test_files_of_grub_are_read_in_their_order(make_tree: MakeTree) -> None:
    root = make_tree(
        {
            "/etc/default/grub": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet isolcpus=2-5"\nGRUB_CMDLINE_LINUX="iommu=pt"\n',
            "/etc/default/grub.d/50-cloud.cfg": 'GRUB_CMDLINE_LINUX_DEFAULT="console=ttyS0"\n',
            "/etc/default/grub.d/notes.txt": 'GRUB_CMDLINE_LINUX="single"\n',
            "/boot/grub/grub.cfg": "menuentry x {\n\tlinux /vmlinuz root=UUID=1 iommu=pt console=ttyS0\n}\n",
        }
    )
    found = boot_files(root)
    assert found is not None
    assert [(one.path, one.args) for one in found.settings] == [
        ("/etc/default/grub", ("iommu=pt", "quiet", "isolcpus=2-5")),
        ("/etc/default/grub.d/50-cloud.cfg", ("iommu=pt", "console=ttyS0")),
    ]
    assert [one.arguments for one in found.entries] == [("root=UUID=1", "iommu=pt", "console=ttyS0")]
    evidence = Evidence(host=host(kernel_args=("iommu=pt",)), boot=found)
    assert told("boot-arguments-overridden", evidence) == [
        "/etc/default/grub.d/50-cloud.cfg drops isolcpus=2-5, which the files before it set"
    ]


def test_what_only_sh_could_say_drops_nothing(make_tree: MakeTree) -> None:
    root = make_tree(
        {
            "/etc/default/grub": "GRUB_CMDLINE_LINUX=iommu=pt\n",
            "/etc/default/grub.d/a.cfg": 'GRUB_CMDLINE_LINUX="$(sed s/a/b/ /x)"\n',
        }
    )
    assert told("boot-arguments-overridden", Evidence(host=host(), boot=boot_files(root))) == []


def test_entries_for_rescue_are_left_out(make_tree: MakeTree) -> None:
    folder = "/boot/loader/entries"
    root = make_tree({f"{folder}/m-6.1.conf": "options ro iommu=pt\n", f"{folder}/m-0-rescue.conf": "options ro\n"})
    found = boot_files(root)
    assert found is not None
    assert [one.where for one in found.entries] == [f"{folder}/m-6.1.conf"]


def test_a_machine_without_boot_files_has_none(make_tree: MakeTree) -> None:
    assert boot_files(make_tree({"/proc/cmdline": "quiet\n"})) is None


def test_the_last_file_of_nova_counts(make_tree: MakeTree) -> None:
    root = make_tree(
        {
            "/etc/nova/nova.conf": "[DEFAULT]\nvcpu_pin_set = 1-3\n[compute]\ncpu_shared_set=0\ncpu_shared_set=0,8\n",
            "/etc/nova/nova.conf.d/nfvhost.conf": "[compute]\ncpu_dedicated_set = 2-7,^5\n",
        }
    )
    found = nova_settings(root)
    assert found is not None
    assert (found.path, str(found.dedicated), str(found.shared)) == (
        "/etc/nova/nova.conf.d/nfvhost.conf, /etc/nova/nova.conf",
        "2-4,6-7",
        "0,8",
    )


def test_a_broken_nova_conf_is_read_up_to_its_mistake(make_tree: MakeTree) -> None:
    root = make_tree({"/etc/nova/nova.conf": "[compute]\ncpu_dedicated_set = 2\n= 7\n"})
    found = nova_settings(root)
    assert found is not None
    assert (str(found.dedicated), found.shared) == ("2", None)


def test_a_nova_conf_that_is_none_says_nothing(make_tree: MakeTree) -> None:
    assert nova_settings(make_tree({"/etc/nova/nova.conf": "cpu_dedicated_set = 2\n"})) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4-12,^8,15", "4-7,9-12,15"), (" 1 , 2 ", "1-2"), ("^3,1-4", "1-2,4"), ("5-2", "None"), ("x", "None")],
)
def test_cpu_specs_are_read_as_nova_reads_them(text: str, expected: str) -> None:
    assert str(cpu_spec(text)) == expected


def test_interrupts_of_devices_are_counted_by_cpu() -> None:
    before = interrupt_counts(
        "      CPU0  CPU2\n 45:   10    7  PCI-MSI 5-edge  eth0-rx-1\nLOC:  99  99  Local timer\n"
    )
    after = interrupt_counts("      CPU0  CPU2\n 45:   10   19  PCI-MSI 5-edge  eth0-rx-1\nLOC: 199 199  Local timer\n")
    (one,) = interrupts_between(before, after, watched_s=1.0)
    assert (one.number, one.name, one.counts) == (45, "eth0-rx-1", ((2, 12),))


def test_a_process_that_pins_memory_is_found_by_its_devices(make_tree: MakeTree, tmp_path: Path) -> None:
    limits = "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         65536                65536     bytes\n"
    root = make_tree(
        {
            "/proc/7/limits": limits,
            "/proc/7/status": "Name:\tqemu\nVmRSS:\t 1024 kB\nHugetlbPages:\t 2048 kB\nCapEff:\t0000000000004000\n",
            "/proc/8/limits": limits,
            "/proc/7/fd/": "",
            "/proc/8/fd/": "",
        }
    )
    (tmp_path / "tree/proc/7/fd/3").symlink_to("/dev/vfio/12")
    (tmp_path / "tree/proc/7/fd/4").symlink_to("/dev/vfio/vfio")
    (tmp_path / "tree/proc/8/fd/3").symlink_to("/dev/vfio/vfio")
    (one,) = memory_locks(root)
    assert (one.pid, one.name, one.devices, one.limit_kib) == (7, "qemu", ("/dev/vfio/12",), 64)
    assert (one.exempt, one.memory_kib) == (True, 3072)


def test_vfs_are_told_to_be_managed_by_the_files_of_their_manager(make_tree: MakeTree) -> None:
    vfs = [card(PciAddress.parse(f"0000:10:02.{at}"), physfn=card().pci, netdevs=(f"v{at}",)) for at in range(3)]
    root = make_tree(
        {
            **{f"/sys/class/net/v{at}/ifindex": f"{at + 5}\n" for at in range(3)},
            "/run/NetworkManager/devices/5": "[device]\nmanaged=true\nconnection-uuid=1\n",
            "/run/NetworkManager/devices/6": "[device]\nmanaged=false\n",
            "/run/systemd/netif/links/7": "ADMIN_STATE=configured\n",
        }
    )
    found = keepers(root, host(card(), *vfs))
    assert found is not None
    assert [(one.netdev, one.name) for one in found] == [("v0", "NetworkManager"), ("v2", "systemd-networkd")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "IRQBALANCE_BANNED_CPULIST=0",
            ["/etc/default/irqbalance bans CPUs 0; isolated or polling, and not banned: CPU 1"],
        ),
        (
            "IRQBALANCE_BANNED_CPUS=1",
            ["/etc/default/irqbalance bans CPUs 0; isolated or polling, and not banned: CPU 1"],
        ),
        (
            "IRQBALANCE_BANNED_CPULIST=-",
            ["/etc/default/irqbalance bans CPUs none; isolated or polling, and not banned: CPU 1"],
        ),
        ("IRQBALANCE_BANNED_CPULIST=1", []),
        ("#IRQBALANCE_BANNED_CPULIST=", []),
    ],
)
def test_the_ban_list_of_irqbalance_is_read_as_it_reads_it(make_tree: MakeTree, line: str, expected: list[str]) -> None:
    root = make_tree({**SMALL, "/etc/default/irqbalance": f"{line}\n"})
    assert told("irqbalance-ban-list", survey(root)) == expected


def test_the_isolated_partitions_of_cpusets_are_read(make_tree: MakeTree) -> None:
    evidence = survey(make_tree({**SMALL, "/sys/fs/cgroup/cpuset.cpus.isolated": "0\n"}))
    assert (str(evidence.unscheduled), str(evidence.isolated)) == ("0-1", "0-1")


def test_the_last_sysctl_file_counts(make_tree: MakeTree) -> None:
    root = make_tree(
        {
            **SMALL,
            "/etc/sysctl.d/90-pages.conf": "vm.nr_hugepages = 64\n",
            "/usr/lib/sysctl.d/90-pages.conf": "vm.nr_hugepages = 4096\n",
            "/usr/lib/sysctl.d/10-pages.conf": "vm/nr_hugepages=1\n",
        }
    )
    setting = survey(root).page_setting
    assert setting is not None
    assert (setting.path, setting.count) == ("/etc/sysctl.d/90-pages.conf", 64)


def test_the_boot_files_of_a_container_say_nothing_of_its_kernel(make_tree: MakeTree) -> None:
    files = {**SMALL, "/etc/default/grub": "GRUB_CMDLINE_LINUX=iommu=pt\n", "/etc/sysctl.conf": "vm.nr_hugepages=9\n"}
    assert told("boot-arguments-inactive", survey(make_tree(files))) == [
        "/etc/default/grub leads to iommu=pt; the running kernel has not got them"
    ]
    inside = survey(make_tree({"/.dockerenv": ""}))
    assert (inside.boot, inside.page_setting) == (None, None)


def test_a_capture_has_no_database_to_ask(make_tree: MakeTree) -> None:
    with pytest.raises(UsageError, match="no database"):
        survey(make_tree(SMALL), ovsdb="unix:/run/x/db.sock")


def test_the_command_ends_with_10_where_something_is_wrong(make_tree: MakeTree, tmp_path: Path) -> None:
    make_tree({**SMALL, "/sys/devices/system/cpu/isolated": "\n"})
    done = CliRunner().invoke(app, ["doctor", "--host", str(tmp_path / "tree")])
    assert done.exit_code == 10
    assert done.stdout.startswith(
        "warning: isolcpus=1; the kernel isolates none, and not 1 [isolation-not-obeyed]\n    why:  "
    )
    assert "could not look" in done.stderr
    assert "could not look" not in done.stdout


def test_the_command_ends_with_0_where_nothing_is_wrong(make_tree: MakeTree, tmp_path: Path) -> None:
    make_tree(SMALL)
    done = CliRunner().invoke(app, ["doctor", "--json", "--host", str(tmp_path / "tree")])
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert (document["apiVersion"], document["kind"], document["findings"]) == ("nfvhost/v1", "Diagnosis", [])
    assert document["rules"] + len(document["unlooked"]) == len(RULES)


def test_every_rule_is_described() -> None:
    table = [f"| {one.name} | {one.severity} | {one.sees} | {one.why} | {one.hint} |" for one in RULES]
    lines = (DOCS / "doctor.md").read_text(encoding="utf-8").splitlines()
    assert [
        line for line in lines if line.startswith("| ") and line.split()[1] in {rule.name for rule in RULES}
    ] == table


def test_interrupts_are_no_news_where_no_cpu_is_isolated() -> None:
    evidence = Evidence(host=host(), interrupts=())
    lacks = {one.rule: one.lacks for one in diagnose(evidence).unlooked}
    assert lacks["interrupts-on-isolated"] == "no CPU is isolated, and none polls"
    isolated = Evidence(host=host(**ISOLATED), interrupts=())
    assert "interrupts-on-isolated" not in {one.rule for one in diagnose(isolated).unlooked}
