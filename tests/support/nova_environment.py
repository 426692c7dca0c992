"""A Python with the package nova, in the user's cache folder; made once for each set of pins."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PINS: Final = HERE / "nova_constraints.txt"
DRIVER: Final = HERE / "nova_fit.py"


def nova_python() -> Path:
    """The interpreter; it is installed first where it is not there yet, in about a minute.

    Raises subprocess.CalledProcessError with pip's words where that cannot be done.
    """
    pins = PINS.read_text(encoding="utf-8")
    mark = hashlib.sha256(f"{sys.version_info[:2]}\n{pins}".encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nfvhost" / "openstack"
    place = cache / f"fit-{mark}"
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=cache, prefix=".fit-"))
        try:
            _run([sys.executable, "-m", "venv", str(fresh)])
            nova = next(line for line in pins.splitlines() if line.startswith("nova=="))
            options = ["--quiet", "--no-input", "--disable-pip-version-check", "--constraint", str(PINS)]
            _run([str(fresh / "bin" / "python"), "-m", "pip", "install", *options, nova])
            # Nothing of it knows its own place but scripts, and none of these is run.
            fresh.rename(place)
        except OSError:  # another run was first
            if not place.exists():
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return place / "bin" / "python"


def ask_nova(python: Path, jobs: list[dict[str, Any]], extra_specs: list[tuple[str, str]]) -> dict[str, Any]:
    """Nova's answers to all jobs, in one process."""
    text = json.dumps({"jobs": jobs, "extraSpecs": extra_specs})
    answers: dict[str, Any] = json.loads(_run([str(python), str(DRIVER)], text))
    return answers


def _run(command: list[str], text: str = "") -> str:
    # Its own variables would name other modules than its own.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=900, check=False, env=environment
    )
    if done.returncode:
        raise AssertionError(f"{command[:4]} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout
