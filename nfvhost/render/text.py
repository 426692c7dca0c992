"""Screens for a terminal, as rich renderables; `nfvhost.render` prints them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.segment import Segment
from rich.text import Text

from nfvhost.model.cpuset import union
from nfvhost.model.host import CpuKind
from nfvhost.render import wording
from nfvhost.render.coremap import CoreMap, Face
from nfvhost.render.palette import (
    GREEN,
    INK,
    POOLS,
    ROLES,
    SHARES,
    SKY,
    VERMILLION,
    memory_shares,
    pools_of,
    shown_pools,
)
from nfvhost.render.topology import sections
from nfvhost.render.wording import counted, link_speed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

    from nfvhost.model.cpuset import CpuSet
    from nfvhost.model.host import Cpu, Host, Nic, NumaNode
    from nfvhost.model.plan import CpuPools, Decision, GuestPlan, NicPlan, NodeMemory, OvsPlan, Plan, TunnelPlan

# Distances to more nodes than this are told by their extremes.
_DISTANCES: Final = 8
# More rows than this that say the same are told by their number.
_ALIKE: Final = 16
_BAR_WIDTH: Final = 40
# A text that wraps in a narrower column than this goes under its label.
_COLUMN: Final = 28
_BAR_LEAST: Final = 8
_FILLS: Final = "█▓▒░"
_CONTROLS: Final = {code: "?" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != ord("\n")}


def host_screen(host: Host) -> RenderableType:
    """Everything that a person wants to know of a machine before planning it."""
    parts: list[RenderableType] = [
        _indented(Text(wording.processor(host), style="bold"), 0),
        _indented(wording.shape(host), 0),
        _indented(wording.platform(host), 0),
        *_section("Cores", _host_cores(host)),
        *_section("Memory", _node_table(host)),
        *_section("NICs", _nic_lines(host) or [Text("  none", style="dim")]),
        *_section("Switching", [_ovs_line(host), _vdpa_line(host)]),
        *_section("Warnings", _warnings(host.warnings)),
    ]
    return Group(*parts)


def plan_screen(host: Host, plan: Plan) -> RenderableType:
    """Who gets which core, page and NIC, and why."""
    shown = {f"nics.{nic.pci}" for nic in plan.nics}
    parts: list[RenderableType] = [
        _indented(Text.assemble((f"Plan {plan.profile}", "bold"), " for ", wording.processor(host)), 0),
        _indented(wording.shape(host), 0),
        _indented(Text(wording.summary(host, plan), "bold"), 0),
        *_section("Cores", _plan_cores(host, plan)),
        *_section("Memory in MiB", [_MemoryBars(plan.memory.nodes)] if plan.memory.nodes else []),
        *_section("NICs", _nic_plan_lines(plan.nics) or [Text("  none", style="dim")]),
        *_section("Kernel arguments", [_indented(" ".join(plan.kernel_args) or "none")]),
        *_section("Open vSwitch", [] if plan.ovs is None else _ovs_lines(plan.ovs)),
        *_section("Tunnels", [_tunnel_line(tunnel) for tunnel in plan.tunnels]),
        *_section("Guests on paper", _guest_lines(plan.guests)),
        *_section("Reasons", _reasons(one for one in plan.decisions if one.subject not in shown)),
        *_section("Warnings", _warnings(plan.warnings)),
    ]
    return Group(*parts)


def explain_screen(decision: Decision) -> RenderableType:
    """One decision in full."""
    return Group(Text(decision.subject, style="bold"), _indented(decision.choice), _indented(decision.reason))


@dataclass(frozen=True, slots=True)
class Harmless:
    """The screen with the control characters of names and reasons as question marks.

    A capture is someone else's text: an interface may be called by an escape sequence (net/core/dev.c,
    dev_valid_name, refuses white space, `/` and `:` alone).
    """

    screen: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.screen, options):
            yield Segment(segment.text.translate(_CONTROLS), segment.style, segment.control)


def _section(title: str, body: Sequence[RenderableType]) -> list[RenderableType]:
    """A heading and its body; nothing where the body is empty."""
    lines = [_indented(one, 0) if isinstance(one, Text) else one for one in body]
    return [Text(), _Heading(title), *lines] if body else []


@dataclass(frozen=True, slots=True)
class _Heading:
    """`── Cores ─────────`, across the screen."""

    title: str

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Text]:
        line = Text.assemble(("── ", "dim"), (self.title, "bold"), " ")
        line.append("─" * max(0, options.max_width - len(line)), style="dim")
        yield line


@dataclass(frozen=True, slots=True)
class _Hanging:
    """A text that wraps beside its label, or under it where the label is too long for that."""

    label: Text
    text: Text

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Text]:
        indent = len(self.label)
        if options.max_width - indent < min(len(self.text), _COLUMN):
            yield from _wrapped(self.label, options.max_width)
            label, indent = Text(" " * 4), 4
        else:
            label = self.label
        for number, line in enumerate(_wrapped(self.text, max(8, options.max_width - indent))):
            yield _stripped(Text.assemble(label if number == 0 else " " * indent, line))


def _hanging(label: str, text: str | Text, *, width: int, style: str = "") -> _Hanging:
    return _Hanging(
        Text.assemble("  ", (f"{label:<{width}}", style), "  "), text if isinstance(text, Text) else Text(text)
    )


def _indented(text: str | Text, indent: int = 2) -> _Hanging:
    return _Hanging(Text(" " * indent), text if isinstance(text, Text) else Text(text))


def _wrapped(text: Text, width: int) -> list[Text]:
    """Lines of at most `width`; a word longer than a line breaks after a comma where it has one.

    CPU lists are such words, and a break inside a number would be read as another CPU.
    """
    inside = re.compile(rf"[^\s,]{{0,{width - 1}}},|\S{{1,{width}}}")
    breaks: list[int] = []
    start = 0
    for word in re.finditer(r"\S+", text.plain):
        long = len(word[0]) > width
        for piece in inside.finditer(text.plain, *word.span()) if long else (word,):
            if piece.end() - start > width:
                start = piece.start()
                breaks.append(start)
    return [_stripped(line) for line in text.divide(breaks)]


def _stripped(line: Text) -> Text:
    line.rstrip()
    return line


def _warnings(warnings: Iterable[str]) -> list[RenderableType]:
    return [_hanging("!", warning, width=1, style="bold") for warning in warnings]


# Host


def _host_cores(host: Host) -> list[RenderableType]:
    faces = {cpu.id: _host_face(host, cpu) for cpu in host.cpus if cpu.online}
    blocked, offline = host.online - host.allowed, wording.offline(host)
    notes = [
        ("!", "isolated from the scheduler", host.isolated & host.online),
        ("x", "not allowed to this process (cgroup)", blocked),
        ("", "offline", offline),
    ]
    return [
        CoreMap(sections=sections(host), nodes=host.nodes, faces=faces, bracketed=True),
        *(_hanging(letter, f"{what}: {cpus}", width=1) for letter, what, cpus in notes if cpus),
    ]


def _host_face(host: Host, cpu: Cpu) -> Face:
    letters = ("x" if cpu.id not in host.allowed else "") + ("!" if cpu.id in host.isolated else "")
    if cpu.id not in host.allowed:
        return Face(letters, "dim")
    color = {CpuKind.PERFORMANCE: VERMILLION, CpuKind.EFFICIENCY: GREEN, None: SKY}[cpu.kind]
    return Face(letters, _style(color))


def _node_table(host: Host) -> list[RenderableType]:
    rows = [
        (
            f"node {node.id}",
            wording.memory_size(node.memory_kib),
            "" if node.free_kib is None else wording.memory_size(node.free_kib),
            wording.hugepages(node.hugepages or (host.hugepages if len(host.nodes) == 1 else ())),
            _distances(node, len(host.nodes)),
        )
        for node in host.nodes
    ]
    header, *lines = _table(("", "total", "free", "hugepages", "distances"), rows)
    longest = max(map(len, (header, *lines)))
    for line in lines:
        line.pad_right(longest + 2 - len(line))
    return [
        header,
        *(
            _Hanging(line, Text(f"CPUs {node.cpus}" if node.cpus else "no CPUs"))
            for line, node in zip(lines, host.nodes, strict=True)
        ),
    ]


def _distances(node: NumaNode, nodes: int) -> str:
    if nodes < 2 or not node.distances:  # noqa: PLR2004 - a distance is between two
        return ""
    if nodes <= _DISTANCES:
        return " ".join(map(str, node.distances))
    return f"{min(node.distances)}-{max(node.distances)}"


def _nic_lines(host: Host) -> list[RenderableType]:
    nics = host.nics
    # A virtual link that is up states no speed.
    states = {netdev.name: netdev.operstate or "" for netdev in host.netdevs}

    def row(nic: Nic) -> Sequence[str]:
        return (
            str(nic.pci),
            " ".join(nic.netdevs),
            link_speed(nic.speed_mbps) or " ".join(states.get(name, "") for name in nic.netdevs[:1]),
            "" if nic.node is None else str(nic.node),
            nic.driver or "none",
            "" if nic.iommu_group is None else str(nic.iommu_group),
            "" if nic.total_vfs is None else f"{nic.num_vfs or 0} of {nic.total_vfs}",
        )

    def details(nic: Nic) -> Iterator[Text]:
        vf = f"VF of {nic.physfn}: " if nic.physfn else ""
        yield Text(vf + wording.device_name(nic), "dim")
        if nic.management:
            yield Text.assemble(("management: ", "bold"), nic.management)

    groups = [list(alike) for _, alike in groupby(nics, key=lambda nic: [*map(str, details(nic))])]
    header = ("PCI", "netdev", "speed", "node", "driver", "group", "VFs")
    return _grouped(
        header, [[row(nic) for nic in alike] for alike in groups], [[*details(alike[0])] for alike in groups]
    )


def _grouped(
    header: Sequence[str], groups: Sequence[Sequence[Sequence[str]]], details: Sequence[Sequence[Text]]
) -> list[RenderableType]:
    """A table in which rows of a group stand together, and under them once what is true of all.

    Of a large group, such as the VFs of a port, only the first row is shown, with the number of the others.
    """
    shown = [rows if len(rows) <= _ALIKE else rows[:1] for rows in groups]
    heading, *lines = _table(header, [*chain(*shown)])
    left = iter(lines)
    found: list[RenderableType] = [heading] if groups else []
    for rows, kept, texts in zip(groups, shown, details, strict=True):
        found += islice(left, len(kept))
        more = f"and {len(rows) - 1} more up to {rows[-1][0]}" if len(kept) < len(rows) else ""
        found += [_indented(text, 4) for text in ([Text(more)] if more else []) + [*texts]]
    return found


def _ovs_line(host: Host) -> RenderableType:
    ovs = host.ovs
    if ovs is None:
        return _hanging("OVS", "none found", width=4)
    parts = [
        ovs.version,
        f"with DPDK {ovs.dpdk_version}" if ovs.dpdk_version else "without DPDK",
        "running" if ovs.running else "not running",
        f"bridges {' '.join(ovs.bridges)}" if ovs.bridges else "",
    ]
    return _hanging("OVS", ", ".join(filter(None, parts)), width=4)


def _vdpa_line(host: Host) -> RenderableType:
    devices = ", ".join(device.name + (f" on {device.parent}" if device.parent else "") for device in host.vdpa.devices)
    managers = host.vdpa.management_devices
    asked = f"managed by {', '.join(managers)}" if managers else ""
    return _hanging("vDPA", "; ".join(filter(None, (devices, asked))) or "none", width=4)


# Plan


def _plan_cores(host: Host, plan: Plan) -> list[RenderableType]:
    members = pools_of(plan.cpus)
    faces = {
        cpu.id: Face(
            "".join(look.letter for look in members.get(cpu.id, ())) or "-",
            _style(members[cpu.id][-1].color) if cpu.id in members else "dim",
        )
        for cpu in host.cpus
        if cpu.online
    }
    return [
        CoreMap(sections=sections(host), nodes=host.nodes, faces=faces, bracketed=False),
        Text(),
        _legend(host, plan.cpus),
    ]


def _legend(host: Host, pools: CpuPools) -> _Legend:
    def size(cpus: CpuSet) -> str:
        cores = wording.core_count(host, cpus)
        each = counted(len(cpus), "CPU")
        return each if cores == len(cpus) else f"{counted(cores, 'core')}, {each}"

    rows = []
    for look in shown_pools(pools):
        floating = " and floating guests" if look.name == "host" and pools.shared == pools.host else ""
        cpus = look.cpus(pools)
        rows.append((look.letter, _style(look.color), look.name, size(cpus), str(cpus), look.purpose + floating))
    offline = wording.offline(host)
    rest = host.online - union(look.cpus(pools) for look in POOLS)
    rows += [("-", "dim", "none", size(rest), str(rest), "not planned")] if rest else []
    rows += [(" ", "", "offline", counted(len(offline), "CPU"), str(offline), "")] if offline else []
    return _Legend(tuple(rows))


def _style(color: str) -> str:
    return f"{INK} on {color}"


@dataclass(frozen=True, slots=True)
class _Legend:
    """` P  pmd  1 core, 2 CPUs  1,7  OVS-DPDK poll-mode threads`; the purpose goes under it where it does not fit."""

    rows: tuple[tuple[str, str, str, str, str, str], ...]  # letter, style, name, size, CPUs, purpose

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        name_width, size_width, cpus_width, purpose_width = (
            max((len(row[at]) for row in self.rows), default=0) for at in (2, 3, 4, 5)
        )
        beside = 6 + name_width + size_width + cpus_width + purpose_width + 6 <= options.max_width
        for letter, style, name, size, cpus, purpose in self.rows:
            label = Text.assemble("  ", (f" {letter} ", style), " ", (f"{name:<{name_width}}", "bold"))
            label.append(f"  {size:<{size_width}}  ")
            text = Text(f"{cpus:<{cpus_width}}  " if beside else cpus)
            if beside:
                text.append(purpose, style="dim")
            yield _Hanging(label, text)
            if purpose and not beside:
                yield _indented(Text(purpose, "dim"), name_width + 8)


@dataclass(frozen=True, slots=True)
class _MemoryBars:
    """A line a node: its memory as a bar, shortened as the width demands, and the same in numbers."""

    nodes: tuple[NodeMemory, ...]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Text]:
        label = max(len(f"node {node.node}") for node in self.nodes)
        rows = [(*map(str, memory_shares(node)), wording.planned_pages(node.pages)) for node in self.nodes]
        header = (*(f"{fill} {look.name}" for fill, look in zip(_FILLS, SHARES, strict=True)), "pages")
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        bar = min(_BAR_WIDTH, options.max_width - label - sum(widths) - 2 * len(widths) - 4)
        start = Text(" " * (label + 2 + (bar + 2 if bar >= _BAR_LEAST else 0)))
        for cell, width, look in zip(header, widths, (*SHARES, None), strict=True):
            start.append(f"  {cell:>{width}}" if cell != "pages" else f"  {cell}", style=look.color if look else "dim")
        yield from _wrapped(start, options.max_width)
        for node, row in zip(self.nodes, rows, strict=True):
            line = Text(f"  {f'node {node.node}':<{label}}")
            if bar >= _BAR_LEAST:
                line.append("  ")
                for fill, look, length in zip(_FILLS, SHARES, _lengths(memory_shares(node), bar), strict=True):
                    line.append(fill * length, style=look.color)
            for cell, width in zip(row[:-1], widths, strict=False):
                line.append(f"  {cell:>{width}}")
            yield from _wrapped(line.append(f"  {row[-1]}"), options.max_width)


def _lengths(shares: Sequence[int], width: int) -> list[int]:
    """Whole lengths that add up to `width` in proportion to the shares; no share above 0 disappears."""
    total = sum(shares) or 1
    ends = [round(sum(shares[: at + 1]) * width / total) for at in range(len(shares))]
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    for at, share in enumerate(shares):
        if share and not lengths[at]:
            lengths[at] += 1
            lengths[lengths.index(max(lengths))] -= 1
    return lengths


def _nic_plan_lines(nics: Sequence[NicPlan]) -> list[RenderableType]:
    def row(nic: NicPlan) -> Sequence[str]:
        return (
            str(nic.pci),
            " ".join(nic.netdevs),
            link_speed(nic.speed_mbps),
            "" if nic.node is None else str(nic.node),
            nic.role.value,
            _driver_change(nic),
            _vf_text(nic),
        )

    groups = [list(alike) for _, alike in groupby(nics, key=_what_is_said)]
    header = ("PCI", "netdev", "speed", "node", "role", "driver", "VFs")
    found = _grouped(
        header,
        [[row(nic) for nic in alike] for alike in groups],
        [[Text(alike[0].name, "dim"), Text(alike[0].reason)] for alike in groups],
    )
    for line in found:
        if isinstance(line, Text):
            for role, color in ROLES.items():
                line.highlight_regex(rf"(?<= ){role}(?= |$)", _style(color))
    return found


def _what_is_said(nic: NicPlan) -> tuple[object, ...]:
    return (nic.role, nic.name, nic.reason, _driver_change(nic), _vf_text(nic))


def _driver_change(nic: NicPlan) -> str:
    current = nic.current_driver or "none"
    return current if nic.driver in {None, nic.current_driver} else f"{current} → {nic.driver}"


def _vf_text(nic: NicPlan) -> str:
    if nic.vdpa_devices:
        return f"{nic.vfs or 0}, {nic.vdpa_devices} vDPA"
    return "" if nic.vfs is None else str(nic.vfs)


def _ovs_lines(ovs: OvsPlan) -> list[RenderableType]:
    width = max((len(key) for key, _ in ovs.other_config), default=0)
    lines: list[RenderableType] = [Text(f"  keys for OVS {ovs.version}", style="dim")]
    lines += [_hanging(key, value, width=width) for key, value in ovs.other_config]
    for bridge in ovs.bridges:
        physnet = f", {bridge.physnet}" if bridge.physnet else ""
        lines.append(Text.assemble("  ", (bridge.name, "bold"), f" ({bridge.datapath_type}{physnet})"))
        for number, port in enumerate(bridge.ports):
            branch = "└─" if number == len(bridge.ports) - 1 else "├─"
            settings = [f"{key}={value}" for key, value in (*port.options, *port.other_config)]
            settings += [f"mtu={port.mtu}"] if port.mtu else []
            settings += [f"vlan={port.tag}"] if port.tag is not None else []
            lines.append(_hanging(f"{branch} {port.name}", " ".join((port.type, *settings)), width=18))
    return lines


def _tunnel_line(tunnel: TunnelPlan) -> RenderableType:
    path = f" via {', '.join(tunnel.segments)}" if tunnel.segments else ""
    inside = f"{tunnel.local} → {tunnel.remote}{path}, MTU {tunnel.mtu} inside, on {tunnel.bridge}"
    if tunnel.guest_port is not None:
        inside += f", for {tunnel.guest_port}"
    return _hanging(f"{tunnel.name} ({tunnel.type.value})", inside, width=18)


def _guest_lines(guests: Sequence[GuestPlan]) -> list[RenderableType]:
    rows = [
        (
            guest.name,
            " ".join(map(str, guest.nodes)),
            str(guest.pinned) or "floating",
            f"{guest.memory_mib} MiB",
            f"{guest.page_size_mib} MiB",
            f"{guest.emulator_threads.value} {guest.emulator}".strip(),
            " ".join(f"{len(list(alike))} x {port}" for port, alike in groupby(sorted(guest.ports))),
        )
        for guest in guests
    ]
    return [*_table(("guest", "node", "pinned to", "memory", "pages", "emulator", "ports"), rows)] if rows else []


def _reasons(decisions: Iterable[Decision]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for decision in decisions:
        lines.append(_Hanging(Text.assemble("  ", (decision.subject, "bold"), "  "), Text(decision.choice)))
        lines.append(_indented(decision.reason, 4))
    return lines


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Text]:
    """A heading line and one line a row; columns in which no row has anything are left out."""
    kept = [at for at in range(len(header)) if any(row[at] for row in rows)]
    widths = {at: max(len(header[at]), *(len(row[at]) for row in rows)) for at in kept}

    def line(cells: Sequence[str], style: str) -> Text:
        return Text(("  " + "  ".join(f"{cells[at]:<{widths[at]}}" for at in kept)).rstrip(), style=style)

    return [line(header, "dim"), *(line(row, "") for row in rows)]
