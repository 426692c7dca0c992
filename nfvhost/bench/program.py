"""The built-in generator's program, compiled against this machine's DPDK."""

from __future__ import annotations

import hashlib
import os
import tempfile
from importlib import resources
from typing import Final

from nfvhost.access.command import CommandError, check, find, run
from nfvhost.errors import PreconditionError

_SOURCE: Final = "generator.c"
_TIMEOUT_S: Final = 120.0
_HINT: Final = "apt-get install gcc pkg-config libdpdk-dev (Fedora: gcc pkgconf dpdk-devel)"


def dpdk_version() -> str | None:
    """The DPDK that programs can be compiled against, "22.11.11"; None where there is none."""
    try:
        done = run(["pkg-config", "--modversion", "libdpdk"], timeout_s=_TIMEOUT_S)
    except CommandError:
        return None
    return done.stdout.strip() if done.code == 0 else None


def missing() -> str | None:
    """What is missing to compile it; None where nothing is."""
    if find("cc") is None:
        return "there is no C compiler"
    if find("pkg-config") is None:
        return "pkg-config is not installed"
    return None if dpdk_version() else "libdpdk is not there to compile against"


def program() -> str:
    """The path of the program, compiled at its first use and kept in ${XDG_CACHE_HOME:-~/.cache}/nfvhost/bench.

    PreconditionError where the compiler or DPDK's headers are missing.
    """
    lack = missing()
    if lack is not None:
        raise PreconditionError(lack, where="the built-in generator", hint=_HINT)
    source = resources.files("nfvhost.bench").joinpath(_SOURCE)
    flags = check(["pkg-config", "--cflags", "--libs", "libdpdk"], timeout_s=_TIMEOUT_S).stdout.split()
    key = hashlib.sha256(repr((source.read_bytes(), flags, dpdk_version(), os.uname().machine)).encode()).hexdigest()[
        :16
    ]
    folder = os.path.join(_cache(), "nfvhost", "bench")
    path = os.path.join(folder, f"generator-{key}")
    if os.path.exists(path):
        return path
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise PreconditionError(f"cannot be made: {error.strerror}", where=folder, hint="set XDG_CACHE_HOME") from error
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        compiled = os.path.join(scratch, "generator")
        with resources.as_file(source) as written:
            # Debian's flags say -march=corei7, for all machines; this program stays on the one that compiled it.
            compiler = ["cc", "-std=gnu11", "-O3", str(written), "-o", compiled, *flags, "-march=native"]
            check(compiler, timeout_s=_TIMEOUT_S)
        # Two runs at once each compile it whole; the later one replaces the same by the same.
        os.replace(compiled, path)
    return path


def _cache() -> str:
    return os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
