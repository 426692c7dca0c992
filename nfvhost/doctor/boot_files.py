"""What the next boot is to be told, file by file."""

from __future__ import annotations

from typing import Final

from nfvhost.access.boot import boot_loader, split_cmdline
from nfvhost.access.root import Root
from nfvhost.doctor.evidence import ArgumentFile, BootFiles
from nfvhost.resources.kernel_cmdline import entries, grub
from nfvhost.resources.shell_assignments import Assignments, Piece

_DEFAULTS: Final = "/etc/default/grub"
_FOLDER: Final = "/etc/default/grub.d"
# /etc/grub.d/10_linux: what it gives to each entry that is not for recovery, in this order.
_VARIABLES: Final = ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")
# kernel-install(8), 51-dracut-rescue.install: <machine>-0-rescue.conf
_RESCUE: Final = "rescue"
# Between the two variables.
_GAP: Final = Piece(text=" ", where="")


def boot_files(root: Root) -> BootFiles | None:
    """The arguments that files hold for the next boot; None where there is no such file.

    Source: /etc/default/grub and /etc/default/grub.d/*.cfg, the menu of GRUB, the entries of the boot loader.
    """
    settings = _settings(root)
    listed = grub.lines(root) if boot_loader(root) == "grub" else entries.lines(root)
    usual = tuple(line for line in listed if _RESCUE not in line.where.rpartition("/")[2])
    return BootFiles(settings=settings, entries=usual) if settings or usual else None


def _settings(root: Root) -> tuple[ArgumentFile, ...]:
    known = Assignments()
    found: list[ArgumentFile] = []
    drop_ins = (f"{_FOLDER}/{name}" for name in root.list_dir(_FOLDER) if name.endswith(".cfg") and name[0] != ".")
    for path in (_DEFAULTS, *drop_ins):
        text = root.read_text(path)
        if text is None:
            continue
        known.source(path, text)
        pieces = [piece for name in _VARIABLES for piece in (*known.values.get(name, ()), _GAP)]
        args = split_cmdline("".join(piece.text or " " for piece in pieces))
        # What only sh could say may well hold what was there before.
        before = found[-1].args if found and any(piece.text is None for piece in pieces) else ()
        found.append(ArgumentFile(path=path, args=tuple(dict.fromkeys((*before, *args)))))
    return tuple(found)
