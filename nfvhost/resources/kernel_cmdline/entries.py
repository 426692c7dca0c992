"""Boot entries of the Boot Loader Specification: GRUB's on Fedora and its descendants, and those of systemd-boot."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access.boot import split_cmdline
from nfvhost.access.root import Root
from nfvhost.resources.kernel_cmdline.argument import Word
from nfvhost.resources.kernel_cmdline.state import BootLine

NOTE: Final = "/etc/nfvhost/kernel-arguments"
SHARED: Final = "/etc/kernel/cmdline"
_HEAD: Final = "# Written by nfvhost, as a whole: the arguments of the kernel that it has set.\n"
_FOLDERS: Final = ("/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries")
_GRUB_ENVIRONMENTS: Final = ("/boot/grub2/grubenv", "/boot/grub/grubenv", "/boot/efi/EFI/redhat/grubenv")
_VARIABLE: Final = re.compile(r"\$(\w+)")
# kernel-install(8): without a file of arguments those of the running kernel are taken, but for the loader's own.
_FALLBACK: Final = "/usr/lib/kernel/cmdline"
# Without it grubby writes into each line of /etc/default/grub that begins with GRUB_CMDLINE_LINUX, that of
# GRUB_CMDLINE_LINUX_DEFAULT too, which is another's (grubby-bls of 8.40-43 and later, update_bls_fragment).
SPARE_DEFAULTS: Final = "--no-etc-grub-update"
_GRUBBY: Final = ("/usr/sbin/grubby", "/usr/bin/grubby", "/sbin/grubby")
_LOADERS_OWN: Final = ("BOOT_IMAGE=", "initrd=")


def render_note(arguments: tuple[str, ...]) -> bytes:
    """The note with these arguments."""
    return f"{_HEAD}{' '.join(arguments)}\n".encode()


def noted(content: bytes | None) -> tuple[str, ...]:
    """The arguments in the note."""
    lines = (content or b"").decode(errors="replace").splitlines()
    return tuple(word for line in lines if not line.startswith("#") for word in line.split())


def lines(root: Root) -> tuple[BootLine, ...]:
    """The entries, with `$kernelopts` and its like as GRUB's environment says.

    Source: loader/entries/*.conf on the boot partition, grubenv.
    """
    environment = _environment(root)
    found: list[BootLine] = []
    for folder in _FOLDERS:
        for name in root.list_dir(folder):
            text = root.read_text(f"{folder}/{name}") if name.endswith(".conf") else None
            options = [line.split(maxsplit=1)[1:] for line in (text or "").splitlines() if line.startswith("options")]
            joined = " ".join(part for parts in options for part in parts)
            if joined:
                expanded = _VARIABLE.sub(lambda match: environment.get(match[1], ""), joined)
                found.append(BootLine(where=f"{folder}/{name}", arguments=split_cmdline(expanded)))
    return tuple(found)


def others(found: tuple[BootLine, ...], ours: tuple[str, ...]) -> tuple[Word, ...]:
    """Everyone else's arguments in the entries."""
    words = {
        Word(text=argument, where=line.where): None
        for line in found
        for argument in line.arguments
        if argument not in ours
    }
    return tuple(words)


def shared_words(root: Root, ours: tuple[str, ...]) -> tuple[Word, ...]:
    """Everyone else's arguments that kernel-install will give to the next kernel."""
    for path in (SHARED, _FALLBACK):
        if (text := root.read_text(path)) is not None:
            stated = (word for line in text.splitlines() if not line.startswith("#") for word in line.split())
            return tuple(Word(text=word, where=path) for word in stated if word not in ours)
    words = (root.read_text("/proc/cmdline") or "").split()
    return tuple(Word(text=word, where="/proc/cmdline") for word in words if not word.startswith(_LOADERS_OWN))


def shared_line(content: bytes | None) -> BootLine | None:
    """What the shared file says to the next kernel; None where there is none."""
    if content is None:
        return None
    lines = content.decode(errors="replace").splitlines()
    text = " ".join(line for line in lines if not line.startswith("#"))
    return BootLine(where=SHARED, arguments=split_cmdline(text))


def with_arguments(
    content: bytes | None, foreign: tuple[Word, ...], *, old: tuple[str, ...], new: tuple[str, ...]
) -> bytes:
    """The shared file with `new` at its end in place of `old`; everyone else's letters stay as they are."""
    text = " ".join(word.text for word in foreign) if content is None else content.decode(errors="surrogateescape")
    for argument in old:
        text = re.sub(rf"(?<!\S){re.escape(argument)}(?:[ \t]+|(?!\S))", "", text, count=1)
    return (" ".join([text.rstrip(), *new]).lstrip() + "\n").encode(errors="surrogateescape")


def grubby_spares_defaults(root: Root) -> bool:
    """Whether the installed grubby, which is a script, can be told to leave /etc/default/grub alone."""
    return any(SPARE_DEFAULTS.encode() in (root.read_bytes(path) or b"") for path in _GRUBBY)


def kernels(root: Root) -> tuple[tuple[str, str], ...]:
    """Version and image of each installed kernel. Source: /lib/modules/<version>/vmlinuz, /boot/vmlinuz-<version>."""
    found = []
    for version in root.list_dir("/lib/modules"):
        images = (f"/lib/modules/{version}/vmlinuz", f"/boot/vmlinuz-{version}")
        image = next((path for path in images if root.exists(path)), None)
        if image is not None:
            found.append((version, image))
    return tuple(found)


def _environment(root: Root) -> dict[str, str]:
    """Source: grub2-editenv list; a block of `name=value` lines filled up with #."""
    for path in _GRUB_ENVIRONMENTS:
        if (text := root.read_text(path)) is not None:
            pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
            return {name: value for name, separator, value in pairs if separator}
    return {}
