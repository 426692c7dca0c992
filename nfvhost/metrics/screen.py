"""`nfvhost top` on a terminal, as rich renderables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nfvhost.metrics.top import PmdRow, Top

# From here on a thread is about to drop packets.
_HOT_PERCENT: Final = 95
_UNITS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def top_screen(top: Top) -> RenderableType:
    """Threads, queues, ports and drops, each in a table."""
    head = Text(f"ovs-vswitchd {top.version}, rates over {top.seconds:.1f} s; busy and usage over the last 5 s")
    pmds = _table(
        "PMD threads", "core", "node", "busy", "rx pps", "tx pps", "cycles/pkt", "hits", "upcalls/s", "lost/s"
    )
    for pmd in top.pmds:
        pmds.add_row(
            str(pmd.core),
            str(pmd.node),
            _share(pmd.busy_percent),
            number(pmd.received_pps),
            number(pmd.sent_pps),
            number(pmd.cycles_per_packet),
            _hits(pmd),
            number(pmd.upcalls_ps),
            _loss(pmd.lost_upcalls_ps),
        )
    queues = _table("Receive queues", "port", "queue", "core", "usage", "state")
    for queue in top.queues:
        state = "on" if queue.enabled else "off"
        queues.add_row(Text(queue.port), str(queue.queue), str(queue.core), _share(queue.percent), state)
    ports = _table("Ports", "port", "bridge", "type", "link", "rx pps", "tx pps", "rx drops/s", "tx drops/s")
    for port in top.ports:
        ports.add_row(
            *(Text(name) for name in (port.port, port.bridge, port.type)),
            {True: "up", False: "down", None: "-"}[port.link_up],
            number(port.received_pps),
            number(port.sent_pps),
            _loss(port.receive_drops_ps),
            _loss(port.transmit_drops_ps),
        )
    drops = _table("Drops in the data path", "cause", "by", "drops/s", "since its start")
    for drop in top.drops:
        drops.add_row(drop.cause, drop.family, _loss(drop.drops_ps), str(drop.packets))
    return Group(head, *(table for table in (pmds, queues, ports, drops) if table.row_count))


def number(value: float | None) -> str:
    """Three digits and a unit: 27.3M, 812k, 44; `-` where there is none."""
    if value is None:
        return "-"
    for size, unit in _UNITS:
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _table(title: str, *columns: str) -> Table:
    # Plain ASCII rules: any terminal has them.
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    words = {"port", "bridge", "type", "link", "cause", "by", "hits", "state"}
    for column in columns:
        table.add_column(column, justify="left" if column in words else "right", no_wrap=True)
    return table


def _share(percent: int | None) -> Text:
    if percent is None:
        return Text("-")
    return Text(f"{percent} %", style="bold red" if percent >= _HOT_PERCENT else "")


def _loss(per_second: float | None) -> Text:
    return Text(number(per_second), style="bold red" if per_second else "")


def _hits(pmd: PmdRow) -> str:
    return _joined(f"{cache} {share:.0f}%" for cache, share in pmd.hit_percent if round(share))


def _joined(parts: Iterable[str]) -> str:
    return " ".join(parts) or "-"
