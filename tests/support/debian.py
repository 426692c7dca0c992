"""Debian's packages in a folder, by mmdebstrap."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def run(argv: Sequence[str | Path], *, log: Path | None = None, **environment: str) -> str:
    """What the command printed; RuntimeError with its last words where it fails."""
    done = subprocess.run(
        [str(one) for one in argv],
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    if log is not None:
        log.write_text(done.stdout)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}\nended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def debian(suite: str, tree: Path, *options: str, packages: Sequence[str]) -> None:
    """Extracts or installs packages of Debian into `tree`, and needs root for the owners of the files."""
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix=".apt-") as scratch:
        argv = [
            "mmdebstrap",
            "--mode=root",
            "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
            '--aptopt=Apt::Install-Recommends "false"',
            '--aptopt=Acquire::Languages "none"',
            # Mirrors of a fixed day serve lists that have run out.
            '--aptopt=Acquire::Check-Valid-Until "false"',
            "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-exclude=/usr/share/{one}/*" for one in ("doc", "man", "locale")),
            *options,
            f"--include={','.join(packages)}",
            suite,
            str(tree),
        ]
        run(argv, TMPDIR=scratch)
