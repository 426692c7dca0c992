"""Hosts and plans for people: screens of a terminal, pictures."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nfvhost.model.host import Host
    from nfvhost.model.plan import Decision, Plan

# What the drawings become where the output's encoding has no such characters, one for one.
_PLAIN: Final = str.maketrans("│─╭╮╰╯├└→·█▓▒░…", "|-++++|+>.HOG.~")


def print_host(host: Host, *, file: IO[str], width: int | None = None, color: bool | None = None) -> None:
    """Write the host's screen; `width` and `color` are the terminal's where None (NO_COLOR counts)."""
    from nfvhost.render.text import host_screen

    print_screen(host_screen(host), file=file, width=width, color=color)


def print_plan(host: Host, plan: Plan, *, file: IO[str], width: int | None = None, color: bool | None = None) -> None:
    """Write the plan's screen; `width` and `color` as for `print_host`."""
    from nfvhost.render.text import plan_screen

    print_screen(plan_screen(host, plan), file=file, width=width, color=color)


def print_decision(decision: Decision, *, file: IO[str], width: int | None = None, color: bool | None = None) -> None:
    """Write one decision in full; `width` and `color` as for `print_host`."""
    from nfvhost.render.text import explain_screen

    print_screen(explain_screen(decision), file=file, width=width, color=color)


def print_screen(screen: RenderableType, *, file: IO[str], width: int | None = None, color: bool | None = None) -> None:
    """Write any screen, without what its texts could do to a terminal; `width` and `color` as for `print_host`."""
    from rich.console import Console

    from nfvhost.render.text import Harmless

    console = Console(
        file=file,
        width=width,
        force_terminal=color or None,
        no_color=None if color is None else not color,
        color_system="auto" if color is None else "truecolor" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as captured:
        console.print(Harmless(screen))
    text = captured.get()
    encoding = getattr(file, "encoding", None) or "utf-8"
    if not encoding.lower().startswith("utf"):
        text = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    file.write(text)
