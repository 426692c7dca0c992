"""Blocks of SVG that know their size: rows, columns, frames, clipped text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

INK: Final = "#1f2328"
FAINT: Final = "#57606a"
PAPER: Final = "#ffffff"
LINE: Final = "#afb8c1"
FONT: Final = "Helvetica, Arial, 'DejaVu Sans', sans-serif"

# Advance widths of ASCII from the space on in 1/100 em, rounded up: DejaVu Sans 2.37, regular and bold, the widest
# faces that a viewer is likely to take. A text that fits in these fits in Helvetica and Arial.
# fmt: off
_REGULAR: Final = (
    32, 41, 46, 84, 64, 96, 78, 28, 40, 40, 50, 84, 32, 37, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34,
    84, 84, 84, 54, 100, 69, 69, 70, 78, 64, 58, 78, 76, 30, 30, 66, 56, 87, 75, 79, 61, 79, 70, 64, 62, 74, 69, 99,
    69, 62, 69, 40, 34, 40, 84, 50, 50, 62, 64, 55, 64, 62, 36, 64, 64, 28, 28, 58, 28, 98, 64, 62, 64, 64, 42, 53,
    40, 64, 60, 82, 60, 60, 53, 64, 34, 64, 84,
)
_BOLD: Final = (
    35, 46, 53, 84, 70, 101, 88, 31, 46, 46, 53, 84, 38, 42, 38, 37, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 40, 40,
    84, 84, 84, 59, 100, 78, 77, 74, 84, 69, 69, 83, 84, 38, 38, 78, 64, 100, 84, 86, 74, 86, 78, 73, 69, 82, 78, 111,
    78, 73, 73, 46, 37, 46, 84, 50, 50, 68, 72, 60, 72, 68, 44, 72, 72, 35, 35, 67, 35, 105, 72, 69, 72, 72, 50, 60,
    48, 72, 66, 93, 65, 66, 59, 72, 37, 72, 84,
)
# fmt: on
_OTHER: Final = {"·": 38}
_WIDE: Final = 105


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a picture; `paint(x, y)` gives its elements with the top left corner there."""

    width: float
    height: float
    paint: Callable[[float, float], Iterator[str]]
    resized: Callable[[float, float], Block] | None = None  # the same in another width and height, where it can

    def sized(self, width: float, height: float) -> Block:
        """The block in a place of this size: stretched, or as it is with room around."""
        return self.resized(width, height) if self.resized else Block(width, height, self.paint)


def text_width(content: str, size: float, *, bold: bool = False) -> float:
    """An upper bound of the width of a text in pixels, `size` being the height of the font."""
    widths = _BOLD if bold else _REGULAR
    return (
        sum(widths[ord(letter) - 32] if " " <= letter <= "~" else _OTHER.get(letter, _WIDE) for letter in content)
        * size
        / 100
    )


def clipped(content: str, size: float, width: float, *, bold: bool = False) -> str:
    """The text, or as much of it as the width holds with an ellipsis."""
    if text_width(content, size, bold=bold) <= width:
        return content
    kept = content
    while kept and text_width(kept + "…", size, bold=bold) > width:
        kept = kept[:-1]
    return kept.rstrip() + "…" if kept else ""


def number(value: float) -> str:
    """A coordinate as short as a tenth of a pixel allows."""
    return f"{round(value, 1):g}"


def text(
    content: str,
    *,
    size: float = 12,
    fill: str = INK,
    bold: bool = False,
    width: float | None = None,
    center: bool = False,
) -> Block:
    """One line of text: as wide as it needs, or clipped to `width` and that wide; the whole text is its tooltip."""
    shown = clipped(content, size, width, bold=bold) if width is not None else content
    wide = width if width is not None else text_width(content, size, bold=bold)

    def paint(x: float, y: float) -> Iterator[str]:
        anchor = ' text-anchor="middle"' if center else ""
        weight = ' font-weight="bold"' if bold else ""
        place = x + wide / 2 if center else x
        tooltip = f"<title>{_escaped(content)}</title>" if shown != content else ""
        yield (
            f'<text x="{number(place)}" y="{number(y + size * 1.02)}" font-size="{number(size)}" fill="{fill}"'
            f"{weight}{anchor}>{tooltip}{_escaped(shown)}</text>"
        )

    return Block(wide, round(size * 1.35), paint)


def paragraph(content: str, *, width: float, size: float = 12, fill: str = INK, bold: bool = False) -> Block:
    """The text in lines of at most `width`, broken between words; a longer word is clipped."""
    lines: list[str] = []
    for word in content.split():
        if lines and text_width(f"{lines[-1]} {word}", size, bold=bold) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return column([text(line, size=size, fill=fill, bold=bold, width=width) for line in lines])


def rect(
    width: float,
    height: float,
    *,
    fill: str = PAPER,
    stroke: str | None = None,
    radius: float = 0,
    tooltip: str = "",
    **attributes: str,
) -> Block:
    """A rectangle; `attributes` go in as they are, with `-` for `_` in their names."""
    more = "".join(f" {name.replace('_', '-')}={quoteattr(value)}" for name, value in attributes.items())
    line = f' stroke="{stroke}"' if stroke else ""
    rounded = f' rx="{number(radius)}"' if radius else ""
    inner = f"><title>{_escaped(tooltip)}</title></rect>" if tooltip else "/>"

    def paint(x: float, y: float) -> Iterator[str]:
        yield (
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
            f' fill="{fill}"{line}{rounded}{more}{inner}'
        )

    return Block(width, height, paint)


def over(*blocks: Block) -> Block:
    """The blocks on top of each other, the last in front, each in the middle of the largest."""
    width, height = max(block.width for block in blocks), max(block.height for block in blocks)

    def paint(x: float, y: float) -> Iterator[str]:
        for block in blocks:
            yield from block.paint(x + (width - block.width) / 2, y + (height - block.height) / 2)

    return Block(width, height, paint)


def row(blocks: Sequence[Block], gap: float = 0) -> Block:
    """The blocks from left to right, all as high as the highest."""
    height = max((block.height for block in blocks), default=0)
    placed = [block.sized(block.width, height) for block in blocks]

    def paint(x: float, y: float) -> Iterator[str]:
        for block in placed:
            yield from block.paint(x, y)
            x += block.width + gap

    return Block(_length([block.width for block in placed], gap), height, paint)


def column(blocks: Sequence[Block], gap: float = 0) -> Block:
    """The blocks from top to bottom, left sides aligned."""

    def paint(x: float, y: float) -> Iterator[str]:
        for block in blocks:
            yield from block.paint(x, y)
            y += block.height + gap

    width = max((block.width for block in blocks), default=0)
    return Block(width, _length([block.height for block in blocks], gap), paint)


def even(blocks: Sequence[Block], *, heights: bool = False) -> list[Block]:
    """The blocks, all as wide as the widest, so that rows of them line up; with `heights` all as high, too."""
    width = max((block.width for block in blocks), default=0)
    height = max((block.height for block in blocks), default=0)
    return [block.sized(width, height if heights else block.height) for block in blocks]


def flow(blocks: Iterable[Block], width: float, gap: float = 0) -> Block:
    """The blocks in rows, as many in a row as `width` holds, at least one."""
    rows: list[list[Block]] = []
    used = width
    for block in blocks:
        used += gap + block.width
        if used > width:
            rows.append([])
            used = block.width
        rows[-1].append(block)
    return column([row(one, gap) for one in rows], gap)


def grid(blocks: Sequence[Block], columns: int, gap: float = 0) -> Block:
    """The blocks in rows of `columns`."""
    return column([row(blocks[at : at + columns], gap) for at in range(0, len(blocks), columns)], gap)


def frame(
    body: Block,
    *,
    title: Block | None = None,
    pad: float = 8,
    width: float = 0,
    height: float = 0,
    fill: str = PAPER,
    stroke: str = LINE,
    radius: float = 6,
) -> Block:
    """The body inside a border, at least `width` x `height` in all, under its title."""
    inner = body if title is None else column([title, body], pad / 2)
    wide, high = max(width, inner.width + 2 * pad), max(height, inner.height + 2 * pad)
    border = rect(wide, high, fill=fill, stroke=stroke, radius=radius)

    def paint(x: float, y: float) -> Iterator[str]:
        yield from border.paint(x, y)
        yield from inner.paint(x + pad, y + pad)

    def resized(width: float, height: float) -> Block:
        return frame(body, title=title, pad=pad, width=width, height=height, fill=fill, stroke=stroke, radius=radius)

    return Block(wide, high, paint, resized)


def document(body: Block, *, title: str, margin: float = 20) -> str:
    """The SVG file: the body on paper of its own, so that it reads in light and dark viewers."""
    wide, high = body.width + 2 * margin, body.height + 2 * margin
    background = rect(wide - 1, high - 1, fill="#f6f8fa", stroke="#d0d7de", radius=10)
    parts = [
        _opening(number(wide), number(high)),
        f"<title>{_escaped(title)}</title>",
        *background.paint(0.5, 0.5),
        *body.paint(margin, margin),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _opening(width: str, height: str) -> str:
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}" role="img">'


def _length(sizes: Sequence[float], gap: float) -> float:
    return sum(sizes) + gap * max(0, len(sizes) - 1)


def _escaped(content: str) -> str:
    """Text for an element: markup escaped, and characters that XML 1.0 forbids (section 2.2) replaced."""
    return escape("".join(letter if letter.isprintable() else " " for letter in content))
