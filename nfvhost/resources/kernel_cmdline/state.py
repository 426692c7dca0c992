"""What the next boot will tell the kernel, and what the running one was told."""

from __future__ import annotations

from dataclasses import dataclass

from nfvhost.resources.kernel_cmdline.argument import Word
from nfvhost.resources.own_files import FileImage


@dataclass(frozen=True, slots=True, kw_only=True)
class BootLine:
    """The arguments of one entry of the boot menu."""

    where: str  # "/boot/grub/grub.cfg:123", "/boot/loader/entries/x.conf"
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One way to tell the kernel, as it is now."""

    loader: str | None  # grub, bls, systemd-boot
    own: FileImage  # GRUB's drop-in; elsewhere nfvhost's note of which arguments it has set
    ours: tuple[str, ...]  # the arguments in it
    shared: FileImage | None  # the file for everyone's arguments that nfvhost adds its own to: /etc/kernel/cmdline
    foreign: tuple[Word, ...]  # what the next boot says besides
    unknown: tuple[str, ...]  # files whose say only sh could work out
    overrider: str | None  # the file that drops what the drop-in says
    lines: tuple[BootLine, ...]  # what the boot loader has now
    command: tuple[str, ...]  # makes the lines of the files; empty where there is none
    obstacle: str | None  # why nfvhost cannot write them here
    active: tuple[str, ...] | None  # /proc/cmdline
    next_words: tuple[Word, ...] = ()  # everyone else's arguments of the next kernel, where `shared` is to be made
