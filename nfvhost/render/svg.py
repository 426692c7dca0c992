"""Pictures of hosts and plans: packages, nodes, L3 groups, cores with their threads, memory, NICs on their nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from nfvhost.model.host import CpuKind
from nfvhost.render import wording
from nfvhost.render.canvas import (
    FAINT,
    Block,
    column,
    document,
    even,
    flow,
    frame,
    grid,
    over,
    paragraph,
    rect,
    row,
    text,
    text_width,
)
from nfvhost.render.palette import GREY, ORANGE, ROLES, SHARES, SKY, PoolLook, memory_shares, pools_of, shown_pools
from nfvhost.render.topology import sections
from nfvhost.render.wording import counted, link_speed, memory_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nfvhost.model.host import Cpu, Host, Nic, NumaNode
    from nfvhost.model.plan import NicPlan, NodeMemory, Plan
    from nfvhost.render.topology import Core, Group, Section

_PAGE: Final = 1360.0
_GAP: Final = 10.0
_LEAST: Final = 776.0
_LEGEND: Final = 240.0
_CARD: Final = 238.0
# More NICs of one node than this are told by their number, and more that say the same.
_ALIKE: Final = 8
_CARDS: Final = 16
# The font of CPU numbers by the number of CPUs, at the most.
_FONTS: Final = ((16, 16.0), (64, 12.0), (256, 10.0))
_PLAIN: Final = "#cfe6f7"
_PERFORMANCE: Final = "#f7d9a8"
_EFFICIENCY: Final = "#bfe5d6"
_FREE: Final = "#e6eaee"


@dataclass(frozen=True, slots=True)
class _Look:
    """How one CPU is drawn."""

    fills: tuple[str, ...]  # side by side where a CPU is in several pools
    letters: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class _Share:
    """One piece of a memory bar."""

    name: str
    mib: int
    fill: str


@dataclass(frozen=True, slots=True)
class _Card:
    """One NIC, or several that differ by their address alone."""

    node: int | None
    title: str
    place: str
    detail: str
    chip: str
    fill: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class _Scene:
    """What both kinds of pictures say, each in its own way."""

    host: Host
    looks: Mapping[int, _Look]
    memory: Mapping[int, tuple[tuple[_Share, ...], str]]  # node -> bar, words under it
    cards: tuple[_Card, ...]


def host_svg(host: Host) -> str:
    """A picture of the machine as it is, as the text of an SVG file."""
    body = _body(
        _Scene(
            host=host,
            looks={cpu.id: _host_look(host, cpu) for cpu in host.cpus if cpu.online},
            memory={node.id: _host_memory(host, node) for node in host.nodes if node.memory_kib},
            cards=tuple(_host_cards(host.nics)),
        )
    )
    width = max(body.width, _LEAST)
    title = wording.processor(host)
    parts = [_head(host, title, width), body, *_offline(host, width), *_marks(host, width)]
    return document(column(parts, 12), title=title)


def plan_svg(host: Host, plan: Plan) -> str:
    """A picture of the plan on the machine, as the text of an SVG file."""
    members = pools_of(plan.cpus)
    body = _body(
        _Scene(
            host=host,
            looks={cpu.id: _plan_look(cpu, members.get(cpu.id, ())) for cpu in host.cpus if cpu.online},
            memory={node.node: _plan_memory(node) for node in plan.memory.nodes if node.total_mib},
            cards=tuple(_plan_cards(host, plan.nics)),
        )
    )
    width = max(body.width, _LEAST)
    title = f"Plan {plan.profile} for {wording.processor(host)}"
    summary = paragraph(wording.summary(host, plan), size=13, width=width)
    parts = [_head(host, title, width), summary, _legend(host, plan, width), body, *_offline(host, width)]
    return document(column(parts, 12), title=title)


def _head(host: Host, title: str, width: float) -> Block:
    return column(
        [
            paragraph(title, size=20, bold=True, width=width),
            paragraph(wording.shape(host), size=12, fill=FAINT, width=width),
            paragraph(wording.platform(host), size=12, fill=FAINT, width=width),
        ],
        4,
    )


def _offline(host: Host, width: float) -> list[Block]:
    cpus = wording.offline(host)
    return [text(f"Offline CPUs: {cpus}", size=11, fill=FAINT, width=width)] if cpus else []


def _marks(host: Host, width: float) -> list[Block]:
    found = [
        ("! isolated from the scheduler", host.isolated & host.online),
        ("x not allowed to this process", host.online - host.allowed),
    ]
    return [text(f"{what}: CPUs {cpus}", size=11, fill=FAINT, width=width) for what, cpus in found if cpus]


def _legend(host: Host, plan: Plan, width: float) -> Block:
    across = max(1, int((width + _GAP) // (_LEGEND + _GAP)))
    each = (width + _GAP) / across - _GAP - 38
    entries = []
    for look in shown_pools(plan.cpus):
        cpus = look.cpus(plan.cpus)
        floating = " and floating guests" if look.name == "host" and plan.cpus.shared == plan.cpus.host else ""
        size = counted(wording.core_count(host, cpus), "core")
        swatch = over(rect(30, 40, fill=look.color, radius=4), text(look.letter, size=15, bold=True))
        words = column(
            [
                text(look.name, size=12, bold=True, width=each),
                text(f"{size} · {cpus.named}", size=11, width=each),
                text(look.purpose + floating, size=10, fill=FAINT, width=each),
            ]
        )
        entries.append(row([swatch, words], 8))
    return grid(entries, across, _GAP)


# Topology


def _body(scene: _Scene) -> Block:
    found = sections(scene.host)
    scale = _Scale.of(scene.host, len(found))
    width = max((_node(scene, section, scale).width for section in found), default=0)
    # Bars and cards fill the width that all nodes share, which is known only now.
    nodes = even([_node(scene, section, scale, width=width) for section in found], heights=scale.few)
    drawn = {section.node: block for section, block in zip(found, nodes, strict=True)}
    packages = [_package(alike[0].packages, [drawn[one.node] for one in alike]) for alike in _by_package(found)]
    bare = [_bare_node(scene, node) for node in scene.host.nodes if node.id not in drawn]
    parts = [flow(even(packages), _PAGE, _GAP), *([flow(even(bare), _PAGE, _GAP)] if bare else [])]
    placed = {*drawn, *(node.id for node in scene.host.nodes)} - {None}
    homeless = [card for card in scene.cards if _home(scene.host, card) not in placed]
    if homeless:
        width = max(_LEAST, *(part.width for part in parts))
        title = text("NICs that name no node", size=12, bold=True)
        parts.append(frame(_cards(homeless, width - 2 * _GAP), title=title, pad=_GAP))
    return column(parts, _GAP)


def _by_package(found: Sequence[Section]) -> list[list[Section]]:
    """Sections that lie in one and the same package, together; a node over several packages stands for itself."""

    def package(section: Section) -> tuple[object, ...]:
        return section.packages if len(section.packages) == 1 else (None, section.node)

    order = sorted(found, key=lambda section: (section.packages[:1] or (1 << 30,), len(section.packages)))
    return [list(alike) for _, alike in groupby(order, key=package)]


def _package(packages: tuple[int, ...], nodes: list[Block]) -> Block:
    if len(packages) != 1:
        return column(nodes, _GAP)
    across = 1 if len(nodes) == 1 else math.ceil(math.sqrt(len(nodes)))
    body = grid(nodes, across, _GAP)
    return frame(body, title=text(f"package {packages[0]}", size=13, bold=True), pad=_GAP, fill="#ffffff")


@dataclass(frozen=True, slots=True)
class _Scale:
    """Sizes that let one CPU and five hundred look well."""

    font: float
    thread_width: float
    thread_height: float
    inner: float  # width that a node's content may take
    least: float  # width that it takes at least
    few: bool  # nodes: so few that they are equally high, with room for two NICs side by side

    @classmethod
    def of(cls, host: Host, nodes: int) -> _Scale:
        """Sizes by the number of CPUs and nodes."""
        count = len(host.online)
        font = next((size for most, size in _FONTS if count <= most), 9.0)
        digits = len(str(max((cpu.id for cpu in host.cpus), default=0)))
        few = nodes <= 4  # noqa: PLR2004 - by eye
        inner = (_PAGE - 9 * _GAP) / 2 if few else 320.0
        return cls(
            font=font,
            thread_width=max(font * 2.2, text_width("0" * digits, font) + 4),
            thread_height=font * 2.6,
            inner=1000.0 if nodes <= 1 else inner,
            least=_LEAST - 4 * _GAP if nodes <= 1 else _CARD,
            few=few,
        )


def _home(host: Host, card: _Card) -> int | None:
    """The node on which a NIC is drawn: its own, or the only one there is."""
    if card.node is None and len(host.nodes) == 1:
        return host.nodes[0].id
    return card.node


def _node(scene: _Scene, section: Section, scale: _Scale, *, width: float = 0) -> Block:
    """One node in a frame of `width`, or in the least that its cores, memory and NICs need where that is 0."""
    inner = width - 2 * _GAP if width else scale.inner
    parts = [flow([_group(scene, section, group, scale, inner) for group in section.groups], inner, 8)]
    cards = [card for card in scene.cards if _home(scene.host, card) == section.node is not None]
    across = min(len(cards), 2 if scale.few else 1)
    body = max(parts[0].width, across * (_CARD + 8) - 8, scale.least, width - 2 * _GAP)
    if section.node is not None and section.node in scene.memory:
        parts.append(_memory(*scene.memory[section.node], body))
    parts += [_cards(cards, body)] if cards else []
    title = text(_node_title(scene.host, section), size=12, bold=True, width=body)
    return frame(column(parts, _GAP), title=title, pad=_GAP, fill="#f6f8fa")


def _node_title(host: Host, section: Section) -> str:
    memory = next((node.memory_kib for node in host.nodes if node.id == section.node), None)
    cpus = sum(len(group.cpus) for group in section.groups)
    parts = [
        "no node" if section.node is None else f"node {section.node}",
        counted(cpus, "CPU"),
        memory_size(memory) if memory else "",
    ]
    return " · ".join(filter(None, parts))


def _bare_node(scene: _Scene, node: NumaNode) -> Block:
    """A node without CPUs: memory, devices, or nothing."""
    cards = [card for card in scene.cards if _home(scene.host, card) == node.id]
    parts = [_memory(*scene.memory[node.id], _CARD)] if node.id in scene.memory else []
    parts += [_cards(cards, _CARD)] if cards else []
    title = text(f"node {node.id} · no CPUs · {memory_size(node.memory_kib)}", size=12, bold=True, width=_CARD)
    return frame(column(parts, _GAP), title=title, pad=_GAP)


def _group(scene: _Scene, section: Section, group: Group, scale: _Scale, width: float) -> Block:
    parts: list[Block] = []
    for kind, alike in groupby(group.cores, key=lambda core: core.kind):
        cores = [_core(scene, core, scale) for core in alike]
        wide = max(core.width for core in cores)
        fitting = max(1, int((width - 12 + 4) // (wide + 4)))
        across = min(fitting, math.ceil(math.sqrt(len(cores) * 2.5)))
        across = math.ceil(len(cores) / math.ceil(len(cores) / across))
        label = {CpuKind.PERFORMANCE: "P-cores", CpuKind.EFFICIENCY: "E-cores", None: ""}[kind]
        parts += [text(label, size=10, fill=FAINT)] if label else []
        parts.append(grid(cores, across, 4))
    body = column(parts, 4)
    name = _group_name(section, group)
    longest = max(text_width(_group_name(section, other), 10) for other in section.groups)
    title = text(name, size=10, fill=FAINT, width=max(body.width, longest)) if name else None
    return frame(body, title=title, pad=6, fill="#eaeef2", stroke="#c9d1d9", radius=5)


def _group_name(section: Section, group: Group) -> str:
    names = [
        f"package {group.package}" if len(section.packages) > 1 and group.package is not None else "",
        "" if group.l3 is None else f"L3 #{group.l3}",
    ]
    return " · ".join(filter(None, names))


def _core(scene: _Scene, core: Core, scale: _Scale) -> Block:
    threads = [_thread(cpu, scene.looks[cpu], scale) for cpu in core.threads]
    across = len(threads) if len(threads) <= 4 else math.ceil(len(threads) / 2)  # noqa: PLR2004 - SMT8 in two rows
    return frame(grid(threads, across, 1), pad=2, fill="#ffffff", stroke="#6e7781", radius=4)


def _thread(cpu: int, look: _Look, scale: _Scale) -> Block:
    width, height = scale.thread_width, scale.thread_height
    place = rect(width, height, fill=look.fills[0], radius=2, tooltip=look.tooltip, data_cpu=str(cpu))
    each = width / len(look.fills)
    bands = [row([rect(each, height, fill=fill) for fill in look.fills])] if len(look.fills) > 1 else []
    words = [text(str(cpu), size=scale.font, width=width, center=True)]
    if look.letters:
        words.append(text(look.letters, size=scale.font * 0.72, bold=True, width=width, center=True))
    return over(place, *bands, column(words))


# Memory


def _memory(shares: Sequence[_Share], words: str, width: float) -> Block:
    total = sum(share.mib for share in shares)
    pieces = []
    for share in shares:
        wide = width * share.mib / total if total else 0
        label = f"{share.name} {memory_size(share.mib * 1024)}"
        if text_width(label, 10) > wide - 6:
            label = share.name
        named = text_width(label, 10) <= wide - 6
        place = rect(wide, 20, fill=share.fill, tooltip=f"{share.name} {share.mib} MiB")
        pieces.append(over(place, text(label, size=10, width=wide, center=True)) if named else place)
    outline = rect(width, 20, fill="none", stroke="#6e7781", radius=2)
    bar = over(row(pieces), outline) if total else over(rect(width, 20, fill=_FREE), outline)
    return column([bar, paragraph(words, size=10, fill=FAINT, width=width)], 3)


def _host_memory(host: Host, node: NumaNode) -> tuple[tuple[_Share, ...], str]:
    pools = node.hugepages or (host.hugepages if len(host.nodes) == 1 else ())
    total = (node.memory_kib or 0) // 1024
    pages = min(sum(pool.total * pool.size.kib for pool in pools) // 1024, total)
    free = min((node.free_kib or 0) // 1024, total - pages)
    shares = (
        _Share("hugepages", pages, ORANGE),
        _Share("in use" if node.free_kib is not None else "memory", total - pages - free, _PLAIN),
        _Share("free", free, _FREE),
    )
    words = wording.hugepages(pools)
    reserved = "no hugepages reserved" if words == "-" else f"hugepages: {words}"
    return tuple(share for share in shares if share.mib), reserved


def _plan_memory(node: NodeMemory) -> tuple[tuple[_Share, ...], str]:
    shares = tuple(
        _Share(look.name, mib, look.color) for look, mib in zip(SHARES, memory_shares(node), strict=True) if mib
    )
    sizes = " · ".join(f"{share.name} {share.mib} MiB" for share in shares)
    pages = wording.planned_pages(node.pages)
    return shares, f"{sizes} · pages {pages}" if pages != "-" else sizes


# NICs


def _cards(cards: Sequence[_Card], width: float) -> Block:
    """The cards in columns that fill the width."""
    across = max(1, int((width + 8) // (_CARD + 8)))
    each = (width + 8) / across - 8
    shown = [_card(card, each) for card in cards[:_CARDS]]
    if len(cards) > _CARDS:
        shown.append(frame(text(f"and {len(cards) - _CARDS} more", size=11, fill=FAINT), pad=8, width=each))
    return grid(shown, across, 8)


def _card(card: _Card, width: float) -> Block:
    inner = width - 22
    last = text(card.detail, size=10, fill=FAINT, width=inner)
    if card.chip:
        words = text(card.chip, size=10, bold=True)
        chip = over(rect(words.width + 12, 16, fill=card.fill, radius=8), words)
        last = row([text(card.detail, size=10, fill=FAINT, width=inner - chip.width - 6), chip], 6)
    title = text(card.title, size=11, bold=True, width=inner)
    body = column([title, text(card.place, size=10, fill=FAINT, width=inner), last], 2)
    stripe = rect(5, body.height, fill=card.fill, radius=2, tooltip=card.tooltip)
    return frame(row([stripe, body], 5), pad=6, width=width, radius=4)


def _host_cards(nics: Iterable[Nic]) -> Iterator[_Card]:
    def likeness(nic: Nic) -> tuple[object, ...]:
        return (nic.physfn, nic.driver, nic.device, nic.management) if nic.physfn else (nic.pci,)

    for _, alike in groupby(nics, key=likeness):
        nic, *others = alike
        name = _short_name(nic) or nic.vendor_name or f"{nic.vendor}:{nic.device}"
        vfs = "" if nic.total_vfs is None else f"{nic.num_vfs or 0} of {nic.total_vfs} VFs"
        yield _Card(
            node=nic.node,
            title=f"VF: {name}" if nic.physfn else name,
            place=_listed(str(nic.pci), f"and {len(others)} more" if others else "", *nic.netdevs),
            detail=_listed(link_speed(nic.speed_mbps), nic.driver or "no driver", vfs),
            chip="management" if nic.management else "",
            fill=SKY if nic.management else GREY,
            tooltip=_listed(wording.device_name(nic), nic.management),
        )


def _plan_cards(host: Host, nics: Iterable[NicPlan]) -> Iterator[_Card]:
    for _, alike in groupby(nics, key=lambda nic: (nic.role, nic.reason, nic.name, nic.node, nic.driver, nic.vfs)):
        found = list(alike)
        shown = found if len(found) <= _ALIKE else found[:1]
        more = f"and {len(found) - 1} more" if len(shown) < len(found) else ""
        for nic in shown:
            device = host.nic(nic.pci)
            current = nic.current_driver or "no driver"
            yield _Card(
                node=nic.node,
                title=(device and _short_name(device)) or nic.name,
                place=_listed(str(nic.pci), more, *nic.netdevs),
                detail=_listed(
                    link_speed(nic.speed_mbps),
                    current if nic.driver in {None, nic.current_driver} else f"{current} → {nic.driver}",
                    f"{nic.vfs} VFs" if nic.vfs else "",
                ),
                chip=nic.role.value,
                fill=ROLES[nic.role],
                tooltip=f"{nic.name}: {nic.reason}",
            )


def _short_name(nic: Nic) -> str:
    """The device's name without the words that half of all NICs begin with."""
    return (nic.device_name or "").removeprefix("Ethernet Controller ")


def _listed(*parts: str | None) -> str:
    return " · ".join(filter(None, parts))


def _host_look(host: Host, cpu: Cpu) -> _Look:
    fill = {CpuKind.PERFORMANCE: _PERFORMANCE, CpuKind.EFFICIENCY: _EFFICIENCY, None: _PLAIN}[cpu.kind]
    marks = ("x" if cpu.id not in host.allowed else "") + ("!" if cpu.id in host.isolated else "")
    kind = f", {cpu.kind} core" if cpu.kind else ""
    return _Look(
        fills=(GREY if cpu.id not in host.allowed else fill,),
        letters=marks,
        tooltip=f"CPU {cpu.id}{kind}, threads of its core {cpu.thread_siblings}",
    )


def _plan_look(cpu: Cpu, pools: tuple[PoolLook, ...]) -> _Look:
    return _Look(
        fills=tuple(pool.color for pool in pools) or (_FREE,),
        letters="".join(pool.letter for pool in pools) or "-",
        tooltip=f"CPU {cpu.id}: {', '.join(pool.name for pool in pools) or 'not planned'}",
    )
