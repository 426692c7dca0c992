"""The core map of a terminal: threads of a core side by side, L3 groups boxed, one heading a NUMA node."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Final, TypeVar

from rich.text import Text

from nfvhost.model.host import CpuKind
from nfvhost.render.wording import counted, memory_size, strided

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions

    from nfvhost.model.host import NumaNode
    from nfvhost.render.topology import Core, Group, Section

_T = TypeVar("_T")

# A map of more lines does not fit on a screen: each core shrinks to one letter.
_FULL_LINES: Final = 36
# Cores in one piece of a compact map, and how many of them stand together.
_CHUNKS: Final = (32, 16, 8, 4, 2, 1)
_TUFT: Final = 8
_KIND_NAMES: Final = {CpuKind.PERFORMANCE: "P-cores", CpuKind.EFFICIENCY: "E-cores", None: ""}


@dataclass(frozen=True, slots=True)
class Face:
    """How one CPU is drawn: letters that carry the meaning, and a style that repeats it."""

    letters: str
    style: str


@dataclass(frozen=True, slots=True)
class CoreMap:
    """Draws every CPU once, as large as the width allows."""

    sections: tuple[Section, ...]
    nodes: tuple[NumaNode, ...]
    faces: Mapping[int, Face]
    bracketed: bool  # letters are marks of single CPUs, so brackets hold a core together

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Text]:
        full = self.full(options.max_width)
        yield from full if full is not None and len(full) <= _FULL_LINES else self.compact(options.max_width)

    def full(self, width: int) -> list[Text] | None:
        """The map with every CPU's number; None where one core is wider than the screen."""
        cores = [core for section in self.sections for group in section.groups for core in group.cores]
        digits = max((len(str(cpu)) for cpu in self.faces), default=1)
        marked = [
            core for core in cores if self.bracketed or len({self.faces[cpu].letters for cpu in core.threads}) > 1
        ]
        slot = digits + max((len(self.faces[cpu].letters) for core in marked for cpu in core.threads), default=0)
        cells = {core: self._cell(core, digits, slot) for core in cores}
        widest = max(map(len, cells.values()), default=0)
        if widest > width - 4:
            return None
        for cell in cells.values():
            cell.pad_right(widest - len(cell))
        blocks: list[list[Text]] = []
        for section in self.sections:
            boxes = [
                _boxed(_group_title(section, group), _rows(group.cores, cells, (width - 3) // (widest + 1)))
                for group in section.groups
            ]
            blocks.append(
                [self._heading(section), *(line for band in _bands(boxes, width, gap=1, even=False) for line in band)]
            )
        bands = _bands(blocks, width, gap=2, even=True) if blocks else []
        return [*chain(*([Text(), *band] for band in bands))][1:]

    def compact(self, width: int) -> list[Text]:
        """The map with one glyph a core and the numbers of its CPUs beside."""
        lines: list[Text] = []
        for section in self.sections:
            entries: list[Text] = []
            for chunk in _CHUNKS:
                entries = list(self._entries(section, chunk))
                if max(map(len, entries)) <= width - 2:
                    break
            lines += [*([Text()] if lines else []), self._heading(section), *_in_columns(entries, width)]
        letters = {self.faces[cpu].letters for cpu in self.faces}
        key = ["one letter is one core" if any(letters) else "one o is one core"]
        key += ["small: a thread of it is idle"] if "i" in letters else []
        return [*lines, Text(f"  {'; '.join(key)}", style="dim")]

    def _cell(self, core: Core, digits: int, slot: int) -> Text:
        """` H  0  6 `, ` P  1 i7 ` where a thread is in another pool, `[ 0 !6]` with marks of single CPUs."""
        cell = Text()
        if self.bracketed:
            for number, cpu in enumerate(core.threads):
                face = self.faces[cpu]
                cell.append(f"{' ' if number else '['}{f'{face.letters}{cpu}':>{slot}}", style=face.style)
            return cell.append("]", style=self.faces[core.threads[-1]].style)
        last = self.faces[core.threads[0]].letters
        for number, cpu in enumerate(core.threads):
            face = self.faces[cpu]
            start = " " if number else f" {last} "
            mark = "" if face.letters == last else face.letters
            cell.append(f"{start}{f'{mark}{cpu}':>{slot if number else digits}}", style=face.style)
            last = face.letters
        return cell.append(" ", style=self.faces[core.threads[-1]].style)

    def _entries(self, section: Section, chunk: int) -> Iterator[Text]:
        """`L3 #3  DDDDDDDD 24-31,88-95`: at most `chunk` cores each."""
        titles = [_group_title(section, group) for group in section.groups]
        title_width = max(map(len, titles))
        for group, title in zip(section.groups, titles, strict=True):
            shown = title
            for kind, alike in groupby(group.cores, key=lambda core: core.kind):
                for cores in _pieces(list(alike), chunk):
                    line = Text()
                    line.append(f"{shown:<{title_width}}  " if title_width else "", style="dim")
                    line.append(f"{_KIND_NAMES[kind]} " if kind else "", style="dim")
                    for tuft in _pieces(cores, _TUFT):
                        line.append_text(Text().join(map(self._glyph, tuft)))
                        line.append(" ")
                    line.append(strided(cpu for core in cores for cpu in core.threads))
                    yield line
                    shown = ""

    def _glyph(self, core: Core) -> Text:
        """One letter for a core: small where a sibling is idle, `*` where it is in several pools."""
        faces = [self.faces[cpu] for cpu in core.threads]
        busy = [face for face in faces if face.letters != "i"] or faces
        if len({face.letters for face in busy}) > 1 or len(busy[0].letters) > 1:
            return Text("*", style=busy[0].style)
        letter = busy[0].letters or "o"
        return Text(letter if len(busy) == len(faces) else letter.lower(), style=busy[0].style)

    def _heading(self, section: Section) -> Text:
        cpus = sum(len(core.threads) for group in section.groups for core in group.cores)
        memory = next((node.memory_kib for node in self.nodes if node.id == section.node), None)
        parts = [
            "no node" if section.node is None else f"node {section.node}",
            _packages(section.packages),
            counted(cpus, "CPU"),
            memory_size(memory) if memory else "",
        ]
        return Text(" · ".join(filter(None, parts)), style="bold")


def _packages(packages: tuple[int, ...]) -> str:
    if not packages:
        return ""
    return f"package {packages[0]}" if len(packages) == 1 else f"packages {strided(packages)}"


def _group_title(section: Section, group: Group) -> str:
    parts = [
        f"package {group.package}" if len(section.packages) > 1 and group.package is not None else "",
        "" if group.l3 is None else f"L3 #{group.l3}",
    ]
    return " ".join(filter(None, parts))


def _rows(cores: Iterable[Core], cells: Mapping[Core, Text], fitting: int) -> list[Text]:
    """The cells in rows of equal length, at most `fitting` long; each kind of core starts a new one."""
    rows: list[Text] = []
    for kind, alike in groupby(cores, key=lambda core: core.kind):
        found = list(alike)
        rows += [] if kind is None else [Text(_KIND_NAMES[kind], style="dim")]
        columns = -(-len(found) // -(-len(found) // fitting))
        rows += [Text(" ").join(cells[core] for core in row) for row in _pieces(found, columns)]
    return rows


def _boxed(title: str, rows: list[Text]) -> list[Text]:
    inner = max(*map(len, rows), len(title) + 2)
    heading = f"─ {title} " if title else ""
    return [
        Text(f"╭{heading}{'─' * (inner + 2 - len(heading))}╮", style="dim"),
        *(Text.assemble(("│ ", "dim"), row, (" " * (inner - len(row)) + " │", "dim")) for row in rows),
        Text(f"╰{'─' * (inner + 2)}╯", style="dim"),
    ]


def _bands(blocks: Sequence[list[Text]], width: int, *, gap: int, even: bool) -> list[list[Text]]:
    """Blocks of lines from left to right, as many in a band as the width holds; `even` ones are equally wide."""
    widest = max(len(line) for block in blocks for line in block)
    bands: list[list[list[Text]]] = []
    used = width
    for block in blocks:
        wide = widest if even else max(map(len, block))
        for line in block:
            line.pad_right(wide - len(line))
        used += gap + wide
        if used > width:
            bands.append([])
            used = wide
        bands[-1].append(block)
    return [list(_beside(band, gap)) for band in bands]


def _beside(blocks: Sequence[list[Text]], gap: int) -> Iterator[Text]:
    for at in range(max(map(len, blocks))):
        parts = (block[at] if at < len(block) else Text(" " * len(block[0])) for block in blocks)
        yield _stripped(Text(" " * gap).join(parts))


def _in_columns(entries: list[Text], width: int) -> list[Text]:
    widest = max(map(len, entries))
    lines = []
    for row in _pieces(entries, max(1, width // (widest + 2))):
        for entry in row:
            entry.pad_right(widest - len(entry))
        lines.append(_stripped(Text.assemble("  ", Text("  ").join(row))))
    return lines


def _stripped(line: Text) -> Text:
    line.rstrip()
    return line


def _pieces(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[at : at + size] for at in range(0, len(items), size))
