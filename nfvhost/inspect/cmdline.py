"""The running kernel: its version and its arguments."""

from __future__ import annotations

from typing import Final

from nfvhost.access.root import Root
from nfvhost.inspect.cpulist import parse_cpu_list
from nfvhost.model.cpuset import EMPTY, CpuSet

# isspace() of the kernel (lib/ctype.c); nothing else separates arguments.
_SPACES: Final = " \t\n\v\f\r"
# kernel/sched/isolation.c, housekeeping_isolcpus_setup
_ISOLCPUS_FLAGS: Final = frozenset({"nohz", "domain", "managed_irq"})


def kernel_version(root: Root) -> str | None:
    """The release, `6.1.0-13-amd64`; None where no file states it.

    Source: /proc/sys/kernel/osrelease, else the third word of /proc/version.
    """
    if release := root.read_line("/proc/sys/kernel/osrelease"):
        return release
    words = (root.read_line("/proc/version") or "").split()
    return words[2] if words[:2] == ["Linux", "version"] and len(words) > 2 else None  # noqa: PLR2004 - the third word


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


def isolcpus(args: tuple[str, ...]) -> CpuSet:
    """The CPUs that `isolcpus=` takes from the scheduler's domains; empty where it asks for none.

    Flags without `domain` isolate from something else (Documentation/admin-guide/kernel-parameters.rst).
    """
    isolated = EMPTY
    for arg in args:
        name, _, value = arg.partition("=")
        if name != "isolcpus":
            continue
        parts = value.split(",")
        flags = [part for part in parts if part in _ISOLCPUS_FLAGS]
        if not flags or "domain" in flags:
            isolated |= parse_cpu_list(",".join(part for part in parts if part not in _ISOLCPUS_FLAGS)) or EMPTY
    return isolated
