"""A plan from a stranger writes only where resources write anyway, and runs nothing; secrets stay where they are."""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from contract import run
from forked import in_a_process

from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.engine import apply, diff, verify
from nfvhost.errors import DocumentError, NfvhostError, PreconditionError
from nfvhost.inspect import inspect_host
from nfvhost.inspect.capture import write_capture
from nfvhost.planfile import default_profile, load_plan_text, plan_document
from nfvhost.planner import make_plan

if TYPE_CHECKING:
    from cases import Case
    from scratch import ScratchMachine

    from nfvhost.model.host import Host
    from nfvhost.model.plan import Plan

Fresh = Callable[[], "ScratchMachine"]
Bench = Callable[[str], tuple["Case", "ScratchMachine"]]

# What a resource may write, whatever its plan says; `vf` and `vdpa` are requests of netlink.
PLACES: Final = {
    "packages": (),
    "modules": (r"/etc/modules-load\.d(/nfvhost\.conf)?",),
    "kernel_cmdline": (
        r"/etc/default/grub\.d(/zz-nfvhost\.cfg)?",
        r"/etc/nfvhost(/kernel-arguments)?",
        r"/etc/kernel/cmdline",
    ),
    "iommu": (
        r"/etc/modprobe\.d(/nfvhost-vfio\.conf)?",
        r"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
    ),
    "hugepages": (
        r"/sys/devices/system/node/node\d+/hugepages/hugepages-\d+kB/nr_hugepages",
        r"/proc/sys/vm/compact_memory",
    ),
    "driver_binding": (
        r"/sys/bus/pci/devices/[0-9a-f:.]+/driver_override",
        r"/sys/bus/pci/drivers/[a-z0-9_-]+/(un)?bind",
        r"/sys/bus/pci/drivers_probe",
    ),
    "sriov": (
        r"/etc/(systemd|systemd/network(/00-nfvhost-vfs\.network)?)",
        r"/etc/(udev|udev/rules\.d(/90-nfvhost-vfs\.rules)?)",
        r"/etc/NetworkManager(/conf\.d(/[a-z0-9-]*nfvhost[a-z0-9-]*\.conf)?)?",
        r"/sys/bus/pci/devices/[0-9a-f:.]+/sriov_(drivers_autoprobe|numvfs)",
        r"[a-z0-9]+ vf \d+ .*",
        r"[a-z0-9]+ (up|down)",
    ),
    "vdpa": (
        r"/sys/bus/vdpa/devices/[a-z0-9:.-]+/driver_override",
        r"/sys/bus/vdpa/drivers/[a-z0-9_]+/(un)?bind",
        r"vdpa dev (add|del) .*",
    ),
    "vhost_sockets": (
        r"/etc/tmpfiles\.d(/nfvhost\.conf)?",
        r"/(run|var/lib)(/[A-Za-z0-9_.+@-]+)*/[A-Za-z0-9_.+@-]*vh(ost|u)[A-Za-z0-9_.+@-]*",
        r"/var|/(run|var/lib)(/openstack)?",
    ),
    "underlay": (
        r"-?br-[a-z]+( [0-9a-f:.]+(/\d+)?)?",
        r"-?[0-9a-f:.]+/(32|128)",
    ),
    "departing_underlay": (
        r"-?br-[a-z]+( [0-9a-f:.]+(/\d+)?)?",
        r"-[0-9a-f:.]+/(32|128)",
    ),
    "steering": (r"br-[a-z]+",),
    "power": (
        r"/sys/devices/system/cpu/cpu\d+/cpuidle/state\d+/disable",
        r"/sys/devices/system/cpu/cpufreq/policy\d+/scaling_governor",
    ),
    "irq": (
        r"/etc/nfvhost(/irqbalance\.env)?",
        r"/etc/systemd(/system(/irqbalance\.service\.d(/zz-nfvhost\.conf)?)?)?",
        r"/proc/irq/(\d+/smp_affinity_list|default_smp_affinity)",
    ),
    "cpu_partition": (
        r"/etc/systemd(/system(/(machine\.slice|ovs-vswitchd\.service)\.d(/zz-nfvhost\.conf)?)?)?",
        r"/sys/devices/virtual/workqueue/cpumask",
        r"/sys/fs/cgroup/machine\.slice/cpuset\.cpus(\.partition)?",
    ),
    "nova_conf": (r"/etc/nova(/nova-compute\.conf\.d(/zz-nfvhost\.conf)?)?",),
    "neutron_conf": (r"/etc/neutron/conf\.d/neutron-openvswitch-agent/zz-nfvhost\.conf",),
    "boot_unit": (
        r"/etc/nfvhost(/plan\.json)?",
        r"/etc/systemd(/system(/nfvhost(-devices|-watch)?\.service)?)?",
    ),
}
PLACES["vf_driver_binding"] = PLACES["driver_binding"]
# {canary} is a file that only a shell, or a write out of place, would make.
# All at once: a field that takes this takes any text, as those for people do.
WORST: Final = (
    "x\"';touch {canary};'\"$(touch {canary})`touch {canary}`&&touch {canary}|touch {canary}\n"
    "injected = 1\n[Service]\nExecStart=/bin/touch {canary}\n"
    '%n%i${HOME}\x1b]0;injected\x07\x00\r",RUN+="/bin/touch {canary}'
)
NASTY: Final = (
    WORST,
    "$(touch {canary})`touch {canary}`;touch {canary}&&touch {canary}|touch {canary}",
    '",RUN+="/bin/touch {canary}',
    "../../../../../../../../../..{canary}",
    "{canary}",
    "--version",
    "x,injected=1 init={canary}",
    "-d {canary}",
    "net_failsafe0,exec(touch {canary})",
    "net_pcap0,tx_pcap={canary}",
    "%n%i",
)


@pytest.fixture
def other_user() -> None:
    """Tests as another user need root to become one."""
    if os.geteuid():
        pytest.skip("needs root to become another user")


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all texts of a document."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from leaves(below, (*path, key))
    elif isinstance(value, list):
        for at, below in enumerate(value):
            yield from leaves(below, (*path, at))


def garbled(document: dict[str, Any], path: tuple[str | int, ...], text: str, *, key: bool = False) -> str:
    """The document with another text at that path, or another key there."""
    copy = json.loads(json.dumps(document))
    below: Any = copy
    for step in path[:-1]:
        below = below[step]
    if key:
        below[text] = below.pop(path[-1])
    else:
        below[path[-1]] = text
    return json.dumps(copy)


def strange_plans(plan: Plan, canary: Path) -> Iterator[tuple[str, Plan]]:
    """What is read of the plan's document with each of its texts replaced by each nasty one, and what was replaced.

    Items of one list are alike: the first of each stands for all.
    """
    document = plan_document(plan)
    seen: set[str] = set()
    for path in leaves(document):
        # All facts of a fingerprint are alike as well.
        kind = ".".join(
            "[]" if isinstance(step, int) or "fingerprint" in path[:at] else step for at, step in enumerate(path)
        )
        if kind in seen or path[0] in {"apiVersion", "kind"}:
            continue
        seen.add(kind)
        for key in (False, True) if isinstance(path[-1], str) else (False,):
            for text in NASTY:
                strange = garbled(document, path, text.replace("{canary}", str(canary)), key=key)
                with contextlib.suppress(DocumentError):
                    yield f"{kind}={text!r}", load_plan_text(strange, "x.json")
                    if text is WORST:
                        break


def writes_of(scratch: ScratchMachine) -> set[str]:
    """The places that were changed."""
    return {call.partition(" ")[2] for call in scratch.kernel.calls}


def injected(scratch: ScratchMachine) -> list[str]:
    """Lines of files that a text of a plan has made of its own."""
    # JSON escapes what is no letter; a plan may hold any text for people.
    return [
        f"{path}: {line}"
        for path, (_, content) in scratch.snapshot().items()
        if isinstance(content, bytes) and not path.endswith(".json")
        for line in content.decode(errors="replace").splitlines()
        if re.match(r"\s*(injected|ExecStart=/bin/touch)", line) or "RUN+=" in line
    ]


def test_each_case_writes_into_the_places_of_its_resource(case: Case, fresh: Fresh) -> None:
    scratch = fresh()
    run(case, scratch)
    assert out_of_place(case, writes_of(scratch)) == []


def out_of_place(case: Case, places: set[str]) -> list[str]:
    own = PLACES[case.resource.name]
    return [place for place in places if not any(re.fullmatch(pattern, place) for pattern in own)]


def test_a_plan_from_a_stranger_writes_nowhere_else_and_runs_nothing_else(
    case: Case, fresh: Fresh, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    usual = fresh()
    before = usual.snapshot()
    run(case, usual)
    programs = {command.partition(" ")[0] for command in usual.commands()}
    usual_lines = injected(usual)
    refused, applied = 0, 0
    for what, plan in strange_plans(case.plan, canary):
        scratch = fresh()
        try:
            run(case, scratch, plan=plan)
            applied += 1
        except NfvhostError:
            refused += 1
        assert out_of_place(case, writes_of(scratch)) == [], what
        assert {command.partition(" ")[0] for command in scratch.commands()} <= programs, what
        assert injected(scratch) == usual_lines, what
        assert not canary.exists(), what
        shutil.rmtree(scratch.top)
    assert before
    assert applied, "texts for people change nothing, so those plans are applied"


def files_written(scratch: ScratchMachine) -> list[str]:
    """Files, not attributes of the kernel: those have links in their paths."""
    return sorted(
        {path for call in scratch.kernel.calls for verb, _, path in [call.partition(" ")] if verb == "rename"}
    )


def test_no_link_in_the_path_of_a_file_is_followed(case: Case, fresh: Fresh) -> None:
    usual = fresh()
    run(case, usual)
    for path in files_written(usual):
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            scratch = fresh()
            place = scratch.tree.joinpath(*parts[:depth])
            elsewhere = scratch.tree / "elsewhere"
            elsewhere.mkdir()
            target = elsewhere / "target"
            if place.exists():
                place.rename(target)
            elif depth == len(parts):
                target.write_text("someone else's\n")
            else:
                target.mkdir()
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(target, place.parent))
            before = {one: one.read_bytes() for one in elsewhere.rglob("*") if one.is_file() and not one.is_symlink()}

            with pytest.raises(NfvhostError, match=r"\blink\b"):
                run(case, scratch)

            after = {one: one.read_bytes() for one in elsewhere.rglob("*") if one.is_file() and not one.is_symlink()}
            assert after == before, f"through {place}"
            assert place.is_symlink(), path


@pytest.mark.parametrize("name", ["nova_conf", "nova_conf-running", "neutron_conf"])
def test_secrets_of_openstack_are_in_no_journal_report_or_capture(
    bench: Bench, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, scratch = bench(name)
    url = "rabbit://openstack:hunter2@controller"
    for path in ("/etc/nova/nova.conf", "/etc/neutron/neutron.conf", "/usr/share/nova/nova-dist.conf"):
        text = scratch.read(path)
        scratch.put(path, text.replace("[DEFAULT]\n", f"[DEFAULT]\ntransport_url = {url}\nmy_password = hunter2\n", 1))
    scratch.put("/proc/cpuinfo", "processor\t: 0\n")
    machine = scratch.machine()

    report = apply(case.plan, machine, case.host, resources=(case.resource,))
    said = repr((report, verify(case.plan, machine, resources=(case.resource,))))
    capture = tmp_path / "host.tar.xz"
    write_capture(DirectoryRoot(str(scratch.tree)), str(capture))

    printed = capsys.readouterr()
    kept = [path.read_text() for path in Path(machine.state_folder).rglob("*") if path.is_file()]
    assert any("before" in text for text in kept)
    for text in (said, printed.out, printed.err, *kept, lzma.decompress(capture.read_bytes()).decode(errors="replace")):
        assert "hunter2" not in text


def test_journals_are_for_root_alone(case: Case, fresh: Fresh) -> None:
    scratch = fresh()
    run(case, scratch)
    folder = Path(scratch.machine().state_folder)
    journals = list((folder / "journal").iterdir())
    assert journals
    assert (folder / "journal").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in journals if path.is_file()} == {0o600}


@pytest.mark.usefixtures("other_user")
def test_anyone_may_look_and_plan_and_root_alone_applies() -> None:
    machine = Machine(root=DirectoryRoot(writable=True))

    def look_and_plan() -> tuple[Plan, Host]:
        host = inspect_host(machine.root)
        plan = make_plan(host, default_profile())
        diff(plan, machine, only=("modules", "iommu", "hugepages", "driver_binding", "sriov", "irq", "power"))
        return plan, host

    def as_nobody() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        plan, host = look_and_plan()
        try:
            apply(plan, machine, host)
        except PreconditionError as error:
            assert "root alone" in error.problems[0].what  # noqa: PT017 - in a process of its own
            assert (error.problems[0].hint or "").startswith("sudo")  # noqa: PT017 - the same
        else:
            raise AssertionError("an ordinary user has applied a plan")

    look_and_plan()  # imports: the interpreter may be in a home that only its owner reads
    assert in_a_process(as_nobody) is None
