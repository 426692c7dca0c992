"""GRUB with menus made by grub-mkconfig, on Debian and its descendants: a drop-in and update-grub."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access.boot import split_cmdline
from nfvhost.access.machine import Machine
from nfvhost.access.root import Root
from nfvhost.resources.kernel_cmdline.argument import Word
from nfvhost.resources.kernel_cmdline.state import BootLine
from nfvhost.resources.shell_assignments import Assignments, Value

DROP_IN: Final = "/etc/default/grub.d/zz-nfvhost.cfg"
_DEFAULTS: Final = "/etc/default/grub"
_FOLDER: Final = "/etc/default/grub.d"
# What 10_linux gives to each entry that is not for recovery, in this order.
_VARIABLES: Final = ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")
_MENUS: Final = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
_MAKERS: Final = ("/usr/sbin/grub-mkconfig", "/usr/sbin/grub2-mkconfig", "/usr/bin/grub-mkconfig")
_HEAD: Final = "# Written by nfvhost, as a whole; read last, after everyone else's arguments.\n"
_OWN_LINE: Final = re.compile(r'GRUB_CMDLINE_LINUX_DEFAULT="\$\{GRUB_CMDLINE_LINUX_DEFAULT\} ([^"]*)"')
_LINUX: Final = re.compile(r"\s*linux(?:16|efi)?\s+\S+\s+(.*)")
# /etc/grub.d/10_linux; an entry for recovery has GRUB_CMDLINE_LINUX alone.
_RECOVERY: Final = frozenset({"single", "recovery"})
# Stands for the drop-in's arguments while the files around it are worked out.
_PROBE: Final = "nfvhost.arguments"


def render(arguments: tuple[str, ...]) -> bytes:
    """The drop-in with these arguments."""
    return f'{_HEAD}GRUB_CMDLINE_LINUX_DEFAULT="${{GRUB_CMDLINE_LINUX_DEFAULT}} {" ".join(arguments)}"\n'.encode()


def own_arguments(content: bytes | None) -> tuple[str, ...]:
    """The arguments in the drop-in."""
    match = _OWN_LINE.search((content or b"").decode(errors="replace"))
    return tuple(match[1].split()) if match is not None else ()


def others(root: Root) -> tuple[tuple[Word, ...], tuple[str, ...], str | None]:
    """Everyone else's arguments, the files whose say is unknown, and the file that drops the drop-in's.

    Source: /etc/default/grub, then /etc/default/grub.d/*.cfg in order, as grub-mkconfig sources them.
    """
    known = Assignments()
    names = {name for name in root.list_dir(_FOLDER) if name.endswith(".cfg") and not name.startswith(".")}
    for path in (_DEFAULTS, *(f"{_FOLDER}/{name}" for name in sorted({*names, DROP_IN.rpartition("/")[2]}))):
        if path == DROP_IN:
            known.source(path, render((_PROBE,)).decode())
        elif (text := root.read_text(path)) is not None:
            known.source(path, text)
    words: list[Word] = []
    unknown: set[str] = set()
    for name in _VARIABLES:
        value = known.values.get(name, ())
        unknown |= {piece.where for piece in value if piece.text is None}
        words += _words(value)
    if any(word.text == _PROBE for word in words):
        return tuple(word for word in words if word.text != _PROBE), tuple(sorted(unknown)), None
    setters = [path for name, path in known.assigned if name == _VARIABLES[-1]]
    later = setters[setters.index(DROP_IN) + 1 :]
    return tuple(words), tuple(sorted(unknown)), later[-1] if later else DROP_IN


def lines(root: Root) -> tuple[BootLine, ...]:
    """The entries for Linux of the menu, those for recovery left out.

    Source: /boot/grub/grub.cfg between the marks of 10_linux; without marks all of it.
    """
    for path in _MENUS:
        text = root.read_text(path)
        if text is None:
            continue
        found: list[BootLine] = []
        inside = "### BEGIN /etc/grub.d/10_linux" not in text
        for number, line in enumerate(text.splitlines(), start=1):
            if line.startswith(("### BEGIN ", "### END ")):
                inside = line.startswith("### BEGIN /etc/grub.d/10_linux")
            match = _LINUX.fullmatch(line) if inside else None
            arguments = split_cmdline(match[1]) if match is not None else ()
            if any(one.startswith("root=") for one in arguments) and not _RECOVERY & set(arguments):
                found.append(BootLine(where=f"{path}:{number}", arguments=arguments))
        return tuple(found)
    return ()


def command(machine: Machine) -> tuple[str, ...]:
    """What makes the menu of the files; empty where it is not installed."""
    return ("update-grub",) if machine.find("update-grub") is not None else ()


def obstacle(root: Root) -> str | None:
    """Why a drop-in would not be read: it is Debian's addition to grub-mkconfig."""
    texts = [text for path in _MAKERS if (text := root.read_text(path)) is not None]
    reads = any("default/grub.d" in text for text in texts) if texts else root.exists(_FOLDER)
    return None if reads else "grub-mkconfig of this distribution reads no drop-in files in /etc/default/grub.d"


def _words(value: Value) -> list[Word]:
    """Its words, as sh splits an unquoted expansion; each is from the file of its first letter."""
    words: list[Word] = []
    text, where = "", ""
    for piece in value:
        for letter in piece.text or "":
            if letter in " \t\n":
                words += [Word(text=text, where=where)] if text else []
                text = ""
            else:
                where = where if text else piece.where
                text += letter
    return words + ([Word(text=text, where=where)] if text else [])
