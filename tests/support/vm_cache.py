"""What a tier's machine or cloud is made of, kept between runs and named by what it was made from."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nfvhost" / "vm"
# An artifact that nobody used for so long goes when a new one of its kind is made.
_KEPT_S: Final = 14 * 24 * 3600


@contextmanager
def step(what: str, *, tier: str = "vm") -> Iterator[None]:
    """Prints what was done and how long it took, also where it failed."""
    start = time.monotonic()
    outcome = "failed after"
    try:
        yield
        outcome = "took"
    finally:
        print(f"{tier}: {what} {outcome} {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)  # noqa: T201 - the log of the tier


def digest(made_from: Iterable[str | bytes]) -> str:
    """Twelve digits that differ where any of the parts does."""
    total = hashlib.sha256()
    for part in made_from:
        content = part.encode() if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "big") + content)
    return total.hexdigest()[:12]


@contextmanager
def locked(name: str, *, cache: Path = CACHE) -> Iterator[None]:
    """One process at a time holds the lock of that name; a process that dies gives it back."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def artifact(name: str, made_from: Iterable[str | bytes], make: Callable[[Path], None], *, cache: Path = CACHE) -> Path:
    """The folder of that artifact, whole: made before from the same parts, or made now by `make` in an empty folder.

    A build that is cut off leaves nothing that looks like one: it has its name only once it is on disk. `cache` is the
    folder of a tier; its name is the tier's.
    """
    place = cache / f"{name}-{digest(made_from)}"
    if not place.exists():
        with locked(name, cache=cache):
            if not place.exists():
                _remove_leftovers(name, cache)
                fresh = Path(tempfile.mkdtemp(dir=cache, prefix=f".{name}-"))
                fresh.chmod(0o755)
                with step(f"{name} (new: {place.name})", tier=cache.name):
                    make(fresh)
                    os.sync()
                    fresh.rename(place)
    os.utime(place)
    return place


def _remove_leftovers(name: str, cache: Path) -> None:
    """Removes cut-off builds, whose makers are gone since we hold the lock, and what has not been used for long."""
    old = [one for one in cache.glob(f"{name}-*") if time.time() - one.stat().st_mtime > _KEPT_S]
    for one in [*cache.glob(f".{name}-*"), *old]:
        shutil.rmtree(one)
