"""How this machine boots: its boot loader, and what the running kernel was told."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access.root import Root

_GRUB_DEFAULT: Final = "/etc/default/grub"
_GRUB_FILES: Final = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", _GRUB_DEFAULT)
# bootctl(1): where systemd-boot lies, by the mount point of the EFI system partition.
_SYSTEMD_BOOT: Final = ("/efi/EFI/systemd", "/boot/EFI/systemd", "/boot/efi/EFI/systemd")
# systemd.io/BOOT_LOADER_INTERFACE: the boot loader writes its name there, UTF-16 after four bytes of attributes.
_LOADER_INFO: Final = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
# isspace() of the kernel (lib/ctype.c); nothing else separates arguments.
_SPACES: Final = " \t\n\v\f\r"


def boot_loader(root: Root) -> str | None:
    """`grub`, `bls` (GRUB with Boot Loader Specification entries), `systemd-boot`; None where no file tells."""
    stated = (root.read_bytes(_LOADER_INFO) or b"")[4:].decode("utf-16-le", errors="replace").lower()
    has_grub = any(root.exists(path) for path in _GRUB_FILES)
    if stated.startswith("systemd-boot"):
        return "systemd-boot"
    if not has_grub:
        found = any(root.exists(path) for path in _SYSTEMD_BOOT) or root.exists("/boot/loader/loader.conf")
        return "systemd-boot" if found else None
    # Debian's grub takes its arguments from the default file even where entries lie about; Fedora's says so here.
    enabled = re.search(r"(?m)^\s*GRUB_ENABLE_BLSCFG\s*=\s*[\"']?(\w+)", root.read_text(_GRUB_DEFAULT) or "")
    if enabled is not None:
        return "bls" if enabled[1].lower() == "true" else "grub"
    entries = any(name.endswith(".conf") for name in root.list_dir("/boot/loader/entries"))
    return "bls" if entries and not root.exists("/boot/grub/grub.cfg") else "grub"


def kernel_args(root: Root) -> tuple[str, ...] | None:
    """The arguments of the running kernel, in order; those of init are left out.

    Source: /proc/cmdline.
    """
    text = root.read_text("/proc/cmdline")
    return None if text is None else split_cmdline(text)


def split_cmdline(text: str) -> tuple[str, ...]:
    """A command line as the kernel splits it, up to `--`: quotes keep spaces together and are taken off.

    Only the quote that opens an argument or its value goes, and the one that ends it, as in lib/cmdline.c,
    next_arg: `a="x y"` and `"a=x y"` are both `a=x y`, while a quote in the middle stays.
    """
    args: list[str] = []
    rest = text.strip(_SPACES)
    while rest:
        arg, rest = _next_arg(rest)
        if arg == "--":
            break
        args.append(arg)
    return tuple(args)


def _next_arg(text: str) -> tuple[str, str]:
    quoted = text.startswith('"')
    start = 1 if quoted else 0
    in_quote, equals, end = quoted, None, start
    while end < len(text):
        char = text[end]
        if char in _SPACES and not in_quote:
            break
        if char == "=" and equals is None and end > start:
            equals = end
        if char == '"':
            in_quote = not in_quote
        end += 1
    arg, rest = text[start:end], text[end:].lstrip(_SPACES)
    if equals is None:
        return (arg.removesuffix('"') if quoted else arg), rest
    name, value = text[start:equals], text[equals + 1 : end]
    if value.startswith('"'):
        value = value[1:].removesuffix('"')
    elif quoted:
        value = value.removesuffix('"')
    return f"{name}={value}", rest
