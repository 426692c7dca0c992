"""Screens and pictures say everything once, inside their bounds, and never by colour alone."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.model.host import Cpu, CpuKind, CpuModel, Host, HugepagePool, Iommu, Nic, NumaNode, OvsInstall, Vdpa
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import (
    CpuPools,
    Decision,
    GuestPlan,
    MemoryPlan,
    NicPlan,
    NodeMemory,
    OvsBridge,
    OvsPlan,
    OvsPort,
    Pages,
    Plan,
    PlannedHost,
    TunnelPlan,
)
from nfvhost.model.profile import CpuPolicy, EmulatorThreads, Isolation, PortType, Role, TunnelType
from nfvhost.model.units import PageSize
from nfvhost.render import print_decision, print_host, print_plan
from nfvhost.render.canvas import text_width
from nfvhost.render.palette import shown_pools
from nfvhost.render.svg import host_svg, plan_svg
from nfvhost.render.topology import sections

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 1024 * 1024
SVG = "{http://www.w3.org/2000/svg}"
ESCAPE = re.compile(r"\x1b\[[\d;]*m")


def machine(
    *, packages: int = 1, nodes: int = 1, l3s: int = 1, cores: int = 1, threads: int = 1, efficiency: int = 0
) -> Host:
    """A host of `packages` x `nodes` (each) x `l3s` (each) x `cores` (each); siblings are numbered as Intel's."""
    per_thread = packages * nodes * l3s * cores
    cpus: list[Cpu] = []
    for number in range(per_thread):
        group = number // cores
        l3 = CpuSet(
            thread * per_thread + core
            for core in range(group * cores, (group + 1) * cores)
            for thread in range(threads)
        )
        siblings = CpuSet(thread * per_thread + number for thread in range(threads))
        kind = CpuKind.PERFORMANCE if efficiency else None
        cpus += [
            cpu(sibling, package=group // (nodes * l3s), node=group // l3s, siblings=siblings, l3=l3, kind=kind)
            for sibling in siblings
        ]
    first = per_thread * threads
    cpus += [
        cpu(number, package=0, node=0, siblings=CpuSet([number]), l3=cpus[0].l3, kind=CpuKind.EFFICIENCY)
        for number in range(first, first + efficiency)
    ]
    online = CpuSet(one.id for one in cpus)
    return Host(
        model=CpuModel(architecture="x86_64", vendor="AuthenticAMD", name="Example 9000 Processor", flags=frozenset()),
        cpus=tuple(sorted(cpus, key=lambda one: one.id)),
        allowed=online,
        isolated=EMPTY,
        nodes=tuple(
            NumaNode(
                id=node,
                cpus=CpuSet(one.id for one in cpus if one.node == node),
                memory_kib=16 * GIB,
                free_kib=12 * GIB,
                distances=tuple(10 if node == other else 21 for other in range(packages * nodes)),
                hugepages=(HugepagePool(size=PageSize.GIB_1, total=4, free=2, surplus=0),),
            )
            for node in range(packages * nodes)
        ),
        memory_kib=16 * GIB * packages * nodes,
        available_kib=12 * GIB,
        hugepages=(),
        nics=(nic("0000:10:00.0", node=0), nic("0000:10:00.1", node=None)),
        netdevs=(),
        iommu=Iommu(enabled=True, groups=()),
        vdpa=Vdpa(management_devices=None, devices=()),
        kernel_version="6.8.0",
        kernel_args=(),
        boot_loader="grub",
        init="systemd",
        distribution=None,
        virtualization=None,
        container=None,
        ovs=OvsInstall(
            version="3.1.0", dpdk_version="22.11.1", running=True, database=None, bridges=("br0",), other_config=()
        ),
    )


def cpu(number: int, *, package: int, node: int, siblings: CpuSet, l3: CpuSet | None, kind: CpuKind | None) -> Cpu:
    return Cpu(
        id=number, online=True, package=package, die=0, cluster=None, core=siblings.first, node=node,
        thread_siblings=siblings, l2=siblings, l3=l3, kind=kind,
    )  # fmt: skip


def nic(pci: str, *, node: int | None = 0, netdev: str = "ens1f0") -> Nic:
    return Nic(
        pci=PciAddress.parse(pci), vendor="8086", device="1572", class_code="020000",
        vendor_name="Intel Corporation", device_name="Ethernet Controller X710 for 10GbE SFP+", driver="i40e",
        netdevs=(netdev,), mac=None, speed_mbps=10000, node=node, iommu_group=15, group_mates=(), total_vfs=64,
        num_vfs=0, vfs=(), physfn=None, management=None,
    )  # fmt: skip


def planned(host: Host, *, idle_sibling: bool = False) -> Plan:
    """A plan of the usual kind: core 0 to the host, the next one to PMD threads, the rest to guests."""
    cores = [core for section in sections(host) for group in section.groups for core in group.cores]
    sets = [CpuSet(core.threads) for core in cores]
    pmd = sets[1] if len(sets) > 1 else sets[0]
    idle = CpuSet(list(pmd)[1:]) if idle_sibling else EMPTY
    dedicated = host.online - sets[0] - pmd
    return Plan(
        profile="home",
        host=PlannedHost(name="Example", fingerprint=()),
        cpus=CpuPools(
            host=sets[0], shared=sets[0], pmd=pmd - idle, dedicated=dedicated, idle=idle, isolated=host.online - sets[0]
        ),
        memory=MemoryPlan(
            nodes=tuple(
                NodeMemory(
                    node=node.id,
                    total_mib=16384,
                    host_mib=4096,
                    ovs_mib=1024,
                    guest_mib=11264,
                    pages=(Pages(size_mib=1024, count=12, at_boot=True),),
                )
                for node in host.nodes
            )
        ),
        isolation=Isolation.BOOT,
        kernel_args=("isolcpus=managed_irq,domain,1", "iommu=pt"),
        nics=tuple(
            NicPlan(
                pci=one.pci,
                role=Role.DPDK,
                reason="i40e has a DPDK driver",
                name="Intel X710",
                node=one.node,
                netdevs=one.netdevs,
                current_driver="i40e",
                driver="vfio-pci",
                iommu_group=15,
                group_mates=(),
                speed_mbps=10000,
                physnet="physnet1",
                mtu=1500,
                vfs=None,
                vf_driver=None,
                vdpa_devices=None,
            )
            for one in host.nics
        ),
        ovs=OvsPlan(
            version="3.1",
            other_config=(("dpdk-init", "true"), ("pmd-cpu-mask", (pmd - idle).mask)),
            socket_dir="/run/openvswitch",
            bridges=(
                OvsBridge(
                    name="br-phy",
                    datapath_type="netdev",
                    fail_mode=None,
                    physnet="physnet1",
                    ports=(
                        OvsPort(
                            name="dpdk0",
                            type="dpdk",
                            options=(("dpdk-devargs", "0000:10:00.0"), ("n_rxq", "2")),
                            other_config=(),
                            mtu=1500,
                            tag=None,
                            node=0,
                            reason="",
                        ),
                    ),
                ),
            ),
        ),
        tunnels=(),
        nova=None,
        neutron=None,
        guests=(),
        decisions=(Decision(subject="cpus.pmd", choice=str(pmd), reason="the NIC is on node 0. " * 12),),
        warnings=("something that the reader must know " * 4,),
    )


def host_text(host: Host, *, width: int = 80, color: bool = False) -> str:
    screen = io.StringIO()
    print_host(host, file=screen, width=width, color=color)
    return screen.getvalue()


def plan_text(host: Host, plan: Plan, *, width: int = 80, color: bool = False) -> str:
    screen = io.StringIO()
    print_plan(host, plan, file=screen, width=width, color=color)
    return screen.getvalue()


def core_map(screen: str) -> list[str]:
    """The lines of the map, legend and notes left out."""
    lines = screen.split("── Cores ")[1].split("── Memory", maxsplit=1)[0].splitlines()[1:]
    return [
        line for line in lines if line.startswith(("│", "  L3")) or re.match(r"( +[A-Za-z*]{1,8})+ \d[\d,:-]*$", line)
    ]


def drawn_cpus(screen: str) -> list[int]:
    """Each CPU as often as the map draws it."""
    found: list[int] = []
    for line in core_map(screen):
        if line.startswith("│"):
            found += map(int, re.findall(r"\d+", re.sub(r"[PE]-cores", "", line)))
        else:
            words = (word for word in line.split() if re.fullmatch(r"\d[\d,:-]*", word))
            found += [cpu for word in words for cpu in CpuSet.parse(word)]
    return found


SHAPES = {
    "one CPU": machine(),
    "two cores with L3s of their own": machine(l3s=2, threads=2),
    "home server": machine(l3s=2, cores=3, threads=2),
    "laptop of two kinds": machine(cores=6, threads=2, efficiency=8),
    "two packages": machine(packages=2, cores=20, threads=2),
    "eight threads a core": machine(packages=2, l3s=8, threads=8),
    "one thread a core": machine(packages=2, cores=144),
    "512 CPUs in 2 nodes": machine(packages=2, l3s=16, cores=8, threads=2),
    "512 CPUs in 8 nodes": machine(packages=2, nodes=4, l3s=4, cores=8, threads=2),
    "64 nodes": machine(packages=64, cores=2),
}


@pytest.fixture(params=SHAPES, ids=[name.replace(" ", "-") for name in SHAPES])
def shape(request: pytest.FixtureRequest) -> Host:
    return SHAPES[request.param]


@pytest.mark.parametrize("width", [80, 120])
def test_each_cpu_is_in_the_map_once(shape: Host, width: int) -> None:
    assert sorted(drawn_cpus(host_text(shape, width=width))) == list(shape.online)
    assert sorted(drawn_cpus(plan_text(shape, planned(shape), width=width))) == list(shape.online)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_longer_than_the_width_asked_for(shape: Host, width: int) -> None:
    plan = planned(shape, idle_sibling=True)
    lines = (host_text(shape, width=width) + plan_text(shape, plan, width=width)).splitlines()
    assert [line for line in lines if len(line) > width] == []


def test_threads_of_a_core_stand_side_by_side_in_the_box_of_their_l3() -> None:
    first, second = re.findall(r"│([^│]+)│", core_map(host_text(SHAPES["home server"]))[0])
    assert re.findall(r"\d+", first) == ["0", "6", "1", "7", "2", "8"]
    assert re.findall(r"\d+", second) == ["3", "9", "4", "10", "5", "11"]


def test_every_pool_has_its_letter_and_its_cpus_in_the_legend(shape: Host) -> None:
    plan = planned(shape, idle_sibling=True)
    screen = plan_text(shape, plan, width=4000)
    for look in shown_pools(plan.cpus):
        assert re.search(rf"^ +{look.letter}  {look.name} .* {look.cpus(plan.cpus)}(  |$)", screen, re.MULTILINE)


def test_the_letter_of_each_cpu_says_its_pool() -> None:
    host = SHAPES["home server"]
    rows = " ".join(core_map(plan_text(host, planned(host, idle_sibling=True))))
    cells = re.findall(r"([A-Z]+) +(\d+) +([a-z]?)(\d+)", rows)
    assert cells == [
        ("H", "0", "", "6"), ("P", "1", "i", "7"), ("D", "2", "", "8"),
        ("D", "3", "", "9"), ("D", "4", "", "10"), ("D", "5", "", "11"),
    ]  # fmt: skip


def test_a_cpu_of_two_pools_has_two_letters() -> None:
    assert "HP 0" in plan_text(SHAPES["one CPU"], planned(SHAPES["one CPU"]))


def test_a_small_letter_is_a_core_with_an_idle_thread() -> None:
    host = SHAPES["512 CPUs in 2 nodes"]
    assert "L3 #0   HpDDDDDD 0-7,256-263" in plan_text(host, planned(host, idle_sibling=True))


def test_colour_adds_nothing_that_the_plain_screen_lacks(shape: Host) -> None:
    plan = planned(shape, idle_sibling=True)
    colored = plan_text(shape, plan, color=True)
    assert ESCAPE.search(colored)
    assert ESCAPE.sub("", colored) == plan_text(shape, plan)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("setting", "colored"), [("", True), ("1", False)])
def test_no_color_turns_colours_off_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, setting: str, *, colored: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("COLORTERM", raising=False)
    monkeypatch.setenv("NO_COLOR", setting)
    screen = Terminal()
    print_plan(SHAPES["home server"], planned(SHAPES["home server"]), file=screen, width=80)
    assert bool(re.search(r"\x1b\[[\d;]*48;", screen.getvalue())) is colored


def test_a_file_without_unicode_gets_a_plain_drawing() -> None:
    host = SHAPES["home server"]
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding="ascii")
    print_plan(host, planned(host), file=file, width=80)
    file.flush()
    screen = written.getvalue().decode("ascii")
    assert "| " in screen
    assert "?" not in screen


def test_a_list_of_cpus_is_never_broken_inside_a_number() -> None:
    host = machine(packages=4, cores=40, threads=2)
    plan = planned(host)
    spread = CpuSet(range(0, 320, 2))
    plan = replace(plan, cpus=replace(plan.cpus, dedicated=spread, pmd=EMPTY))
    screen = plan_text(host, plan)
    legend = screen.split(" D  dedicated")[1].split("── Memory")[0]
    listed = "".join(re.findall(r"[\d,]+(?=\n)", legend))
    assert str(spread) in listed


def test_the_memory_bar_shows_every_share_however_small() -> None:
    host = SHAPES["home server"]
    node = replace(planned(host).memory.nodes[0], host_mib=1, ovs_mib=1, guest_mib=16000, total_mib=16384)
    screen = plan_text(host, replace(planned(host), memory=MemoryPlan(nodes=(node,))))
    bar = re.search(r"node 0  (█+▓+▒+░+) ", screen)
    assert bar is not None
    assert len(bar[1]) > 8


def test_vfs_that_differ_by_their_address_alone_share_an_entry() -> None:
    parent = nic("0000:10:00.0")
    vfs = [
        replace(nic(f"0000:10:{2 + number // 8:02x}.{number % 8}"), physfn=parent.pci, total_vfs=None)
        for number in range(64)
    ]
    host = replace(machine(), nics=(parent, *vfs))
    screen = host_text(host)
    assert "VF of 0000:10:00.0" in screen
    assert "and 63 more up to 0000:10:09.7" in screen
    assert "0000:10:02.3" not in screen


def test_offline_forbidden_and_isolated_cpus_are_told() -> None:
    host = SHAPES["home server"]
    sleeping = replace(host.cpus[11], online=False, thread_siblings=EMPTY, l2=None, l3=None)
    host = replace(host, cpus=(*host.cpus[:11], sleeping), allowed=CpuSet.parse("0-9"), isolated=CpuSet.parse("4"))
    screen = host_text(host)
    assert "offline: 11" in screen
    assert "x  not allowed to this process (cgroup): 10" in screen
    assert "!  isolated from the scheduler: 4" in screen
    assert sorted(drawn_cpus(screen)) == list(range(11))


def test_management_is_told_with_its_reason() -> None:
    host = replace(machine(), nics=(replace(nic("0000:05:00.0"), management="carries the default route (enp5s0)"),))
    assert "management: carries the default route (enp5s0)" in host_text(host)


def test_the_reasons_of_nics_stand_with_the_nics_alone() -> None:
    host = SHAPES["home server"]
    own = Decision(subject="nics.0000:10:00.0", choice="dpdk", reason="told twice")
    plan = planned(host)
    screen = plan_text(host, replace(plan, decisions=(*plan.decisions, own)))
    assert "told twice" not in screen
    assert screen.count("i40e has a DPDK driver") == 1
    assert re.search(r"0000:10:00\.0 .*\n  0000:10:00\.1 .*\n    Intel X710\n    i40e has a DPDK driver", screen)


def test_a_name_cannot_command_the_terminal() -> None:
    host = replace(machine(), nics=(nic("0000:10:00.0", netdev="\x1b[2Jeth0\x9b"),))
    screen = host_text(host)
    assert "?[2Jeth0?" in screen
    assert "\x1b" not in screen
    assert "\x9b" not in screen


def test_a_machine_whose_files_show_no_cpu_has_a_screen_and_a_picture() -> None:
    host = replace(machine(), cpus=(), allowed=EMPTY)
    plan = planned(machine())
    pools = CpuPools(host=EMPTY, shared=EMPTY, pmd=EMPTY, dedicated=EMPTY, idle=EMPTY, isolated=EMPTY)
    assert "0 CPUs" in host_text(host)
    assert "Plan home" in plan_text(host, replace(plan, cpus=pools))
    assert "data-cpu" not in host_svg(host) + plan_svg(host, replace(plan, cpus=pools))


def test_guests_and_tunnels_of_a_plan_are_told() -> None:
    host = SHAPES["home server"]
    guest = GuestPlan(
        name="router-1", nodes=(0,), cpu_policy=CpuPolicy.DEDICATED, pinned=CpuSet.parse("3-4,9-10"),
        emulator=CpuSet.parse("0,6"), emulator_threads=EmulatorThreads.SHARE, memory_mib=4096, page_size_mib=1024,
        ports=(PortType.VHOSTUSER, PortType.SRIOV, PortType.VHOSTUSER),
    )  # fmt: skip
    tunnel = TunnelPlan(
        name="srv6-1", type=TunnelType.SRV6, bridge="br-int", local="fc00:1::1", remote="fc00:2::1",
        segments=("fc00:2::1", "fc00:3::1"), networks=(), key=None, flow_label=None, mtu=1420, underlay_bridge="br-phy",
        underlay_prefix=64, gateway=None, gateway_mac=None,
    )  # fmt: skip
    screen = plan_text(host, replace(planned(host), guests=(guest,), tunnels=(tunnel,)), width=120)
    assert re.search(r"router-1 +0 +3-4,9-10 +4096 MiB +1024 MiB +share 0,6 +1 x sriov 2 x vhostuser", screen)
    assert "fc00:1::1 → fc00:2::1 via fc00:2::1, fc00:3::1, MTU 1420 inside" in screen


def test_one_decision_is_told_in_full() -> None:
    screen = io.StringIO()
    print_decision(
        Decision(subject="cpus.pmd", choice="1,7", reason="because " * 30), file=screen, width=60, color=False
    )
    words = screen.getvalue().split()
    assert words[:2] == ["cpus.pmd", "1,7"]
    assert words.count("because") == 30


def pictures(host: Host) -> Iterator[ET.Element]:
    yield ET.fromstring(host_svg(host))  # noqa: S314 - our own text
    yield ET.fromstring(plan_svg(host, planned(host, idle_sibling=True)))  # noqa: S314 - our own text


def test_a_picture_has_one_rectangle_a_thread(shape: Host) -> None:
    for picture in pictures(shape):
        drawn = [rect.get("data-cpu") for rect in picture.iter(f"{SVG}rect") if rect.get("data-cpu")]
        assert sorted(map(int, filter(None, drawn))) == list(shape.online)


def test_everything_of_a_picture_is_inside_it(shape: Host) -> None:
    for picture in pictures(shape):
        width, height = float(picture.get("width", "0")), float(picture.get("height", "0"))
        assert width <= 1600
        assert height <= 4000
        for rect in picture.iter(f"{SVG}rect"):
            assert float(rect.get("x", "-1")) >= 0
            assert float(rect.get("x", "0")) + float(rect.get("width", "0")) <= width
            assert float(rect.get("y", "0")) + float(rect.get("height", "0")) <= height
        for text in picture.iter(f"{SVG}text"):
            left, right = span(text)
            assert left >= 0
            assert right <= width


def span(text: ET.Element) -> tuple[float, float]:
    """Where a text begins and ends, at the most."""
    content = "".join(part for part in text.itertext())
    title = text.find(f"{SVG}title")
    shown = content.removeprefix(title.text or "") if title is not None else content
    wide = text_width(shown, float(text.get("font-size", "0")), bold=text.get("font-weight") == "bold")
    at = float(text.get("x", "0"))
    return (at - wide / 2, at + wide / 2) if text.get("text-anchor") == "middle" else (at, at + wide)


def test_the_number_of_a_cpu_fits_in_its_rectangle(shape: Host) -> None:
    for picture in pictures(shape):
        places = [rect for rect in picture.iter(f"{SVG}rect") if rect.get("data-cpu")]
        numbers = {text.text: span(text) for text in picture.iter(f"{SVG}text") if text.get("text-anchor")}
        for place in places:
            left, right = numbers[place.get("data-cpu")]
            assert right - left <= float(place.get("width", "0"))


def test_the_same_plan_draws_the_same_bytes() -> None:
    host = machine(packages=2, cores=6, threads=2)
    assert plan_svg(host, planned(host)) == plan_svg(machine(packages=2, cores=6, threads=2), planned(host))
    assert host_svg(host) == host_svg(machine(packages=2, cores=6, threads=2))


def test_names_with_markup_and_control_characters_are_text() -> None:
    named = replace(nic("0000:10:00.0", netdev="a<b&c\x07"), device_name='<X710> & "friends"')
    host = replace(machine(), nics=(named,))
    texts = {text.text for text in ET.fromstring(host_svg(host)).iter(f"{SVG}text")}  # noqa: S314 - our own text
    assert '<X710> & "friends"' in texts
    assert "0000:10:00.0 · a<b&c " in texts


def test_a_node_without_cpus_is_drawn_with_its_memory() -> None:
    host = machine(cores=4)
    memory = replace(host.nodes[0], id=8, cpus=EMPTY)
    host = replace(host, nodes=(*host.nodes, memory))
    assert "node 8 · no CPUs · 16.0 GiB" in host_svg(host)
    assert "no CPUs" in host_text(host)


def test_a_nic_is_drawn_on_its_node_and_a_lost_one_apart() -> None:
    assert "NICs that name no node" in host_svg(machine(packages=2))
    assert "NICs that name no node" not in host_svg(machine())


def test_many_nics_are_counted_and_not_drawn() -> None:
    many = tuple(nic(f"0000:10:{slot:02x}.{function}") for slot in range(32) for function in range(8))
    host = replace(machine(), nics=many)
    assert "and 240 more" in host_svg(host)
