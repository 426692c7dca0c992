"""Captured machines as fixtures, trees made by hand, and a fence around unit tests.

`machine` runs a test once for each captured machine in the corpus: NFVHOST_CORPUS, else ../shared/hosts beside this
checkout, a folder of NAME.tar.xz with NAME.expect.json. Without a corpus these tests skip and say where it was sought;
with NFVHOST_REQUIRE_TIERS=1, as in CI, they fail.

`make_tree({path: text})` gives a Root on files in tmp_path; `Link(target)` in place of a text makes a symbolic link.

In tests/unit, a test that starts a process, talks to the network or opens something of the real /sys, /proc, /etc, /run
or /var/run fails, even where the code under test swallows the error. Such a test belongs in another tier; the few that
must be there say `@pytest.mark.outside("why")`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import hypothesis
import pytest
from ovs_plans import OvsPlans
from unpack import unpack

from nfvhost.access.root import DirectoryRoot
from nfvhost.inspect import inspect_host
from nfvhost.model.host import Host

CHECKOUT: Final = Path(__file__).resolve().parent.parent
CORPUS: Final = Path(os.environ.get("NFVHOST_CORPUS") or CHECKOUT.parent / "shared" / "hosts")
UNIT: Final = CHECKOUT / "tests" / "unit"
_SUFFIX: Final = ".tar.xz"
# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("nfvhost", deadline=None)
hypothesis.settings.load_profile("nfvhost")


class Machine:
    """One captured machine: its tree, its Host, and what others say of it."""

    def __init__(self, archive: Path, cache: Path) -> None:
        self.name = archive.name.removesuffix(_SUFFIX)
        self.archive = archive
        self._cache = cache

    @cached_property
    def directory(self) -> Path:
        """The extracted tree; one process extracts it for all."""
        place = self._cache / self.name
        if not place.exists():
            self._cache.mkdir(exist_ok=True)
            fresh = Path(tempfile.mkdtemp(dir=self._cache, prefix=f".{self.name}-"))
            unpack(self.archive, fresh)
            try:
                fresh.rename(place)
            except OSError:  # another process was first
                shutil.rmtree(fresh)
        return place

    @cached_property
    def root(self) -> DirectoryRoot:
        """Its tree, as the product reads it."""
        return DirectoryRoot(str(self.directory))

    @cached_property
    def host(self) -> Host:
        """What the product makes of it."""
        return inspect_host(self.root)

    @cached_property
    def expected(self) -> Mapping[str, Any]:
        """NAME.expect.json: facts, NICs and the oracles that they are from."""
        document: Mapping[str, Any] = json.loads((self.archive.parent / f"{self.name}.expect.json").read_text())
        return document


@dataclass(frozen=True)
class Link:
    """A symbolic link in a tree made by hand."""

    target: str


class MakeTree(Protocol):
    """Gives a Root with these files; a path that ends in / is an empty folder."""

    def __call__(self, files: Mapping[str, str | bytes | Link], /) -> DirectoryRoot: ...


class Captured(Protocol):
    """Gives the captured machine of that name."""

    def __call__(self, name: str, /) -> Machine: ...


def _machines() -> list[Path]:
    return sorted(CORPUS.glob(f"*{_SUFFIX}"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "outside(why): a unit test that may reach the real machine")
    # A shell starts its background commands with SIGINT ignored, and whatever they start inherits that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Once for each captured machine."""
    if "machine" not in metafunc.fixturenames:
        return
    archives = _machines()
    names = [archive.name.removesuffix(_SUFFIX) for archive in archives]
    if archives or os.environ.get("NFVHOST_REQUIRE_TIERS") == "1":
        assert archives, f"no captured machines: {CORPUS}/*{_SUFFIX}; set NFVHOST_CORPUS to a folder that has them"
        metafunc.parametrize("machine", archives, ids=names, indirect=True)
        return
    reason = f"no captured machines: {CORPUS}/*{_SUFFIX} is not there; NFVHOST_CORPUS names another folder"
    metafunc.parametrize("machine", [pytest.param(None, marks=pytest.mark.skip(reason=reason))], indirect=True)


@pytest.fixture(scope="session")
def _machines_by_archive(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Machine]:
    cache = tmp_path_factory.getbasetemp()
    # Each worker of pytest-xdist has a folder of its own inside the one of the run.
    if os.environ.get("PYTEST_XDIST_WORKER"):
        cache = cache.parent
    known: dict[Path, Machine] = {}
    return lambda archive: known.setdefault(archive, Machine(archive, cache / "machines"))


@pytest.fixture
def machine(request: pytest.FixtureRequest, _machines_by_archive: Callable[[Path], Machine]) -> Machine:
    """Each captured machine in turn; extracted once in a run, inspected once in a process."""
    return _machines_by_archive(request.param)


@pytest.fixture
def captured(_machines_by_archive: Callable[[Path], Machine]) -> Captured:
    """Gives the captured machine of a name; skips where the corpus lacks it."""

    def find(name: str) -> Machine:
        archive = CORPUS / f"{name}{_SUFFIX}"
        if not archive.exists():
            if os.environ.get("NFVHOST_REQUIRE_TIERS") == "1":
                pytest.fail(f"{archive} is not there; NFVHOST_CORPUS names another folder")
            pytest.skip(f"{archive} is not there; NFVHOST_CORPUS names another folder")
        return _machines_by_archive(archive)

    return find


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Gives a Root with these files, `{"/proc/cmdline": "quiet\\n"}`; a path that ends in / is an empty folder."""

    def make(files: Mapping[str, str | bytes | Link]) -> DirectoryRoot:
        top = tmp_path / "tree"
        top.mkdir(exist_ok=True)
        for path, content in files.items():
            place = top / path.strip("/")
            if path.endswith("/"):
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Link):
                place.symlink_to(content.target)
            else:
                place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return DirectoryRoot(str(top))

    return make


class _Fence:
    """What a test in tests/unit must not touch; an audit hook stays for the life of the process, so it is one."""

    _PROCESSES: Final = frozenset(
        {"subprocess.Popen", "os.posix_spawn", "os.exec", "os.system", "os.fork", "os.forkpty"}
    )
    _PATHS: Final = frozenset({"open", "os.listdir", "os.scandir"})
    _NETWORK: Final = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"})
    _REAL: Final = ("/sys", "/proc", "/etc", "/run", "/var/run")

    def __init__(self) -> None:
        self.closed = False
        self.crossings: list[str] = []
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.closed:
            return
        if event in self._PROCESSES:
            self._refuse(f"{event} {arguments[:2]}")
        elif event in self._PATHS:
            path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else ""
            if any(path == real or path.startswith(f"{real}/") for real in self._REAL):
                self._refuse(f"{event} {path}")
        elif event in self._NETWORK:
            address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
            # A socket in a folder of the test's own is as private as its files.
            if not isinstance(address, str | bytes) or event == "socket.getaddrinfo":
                self._refuse(f"{event} {address}")

    def _refuse(self, what: str) -> None:
        self.crossings.append(what)
        pytest.fail(f"a unit test reached the real machine: {what}")


_fence = _Fence()


@pytest.fixture(autouse=True)
def _inside_the_fence(request: pytest.FixtureRequest) -> Iterator[None]:
    if not request.path.is_relative_to(UNIT) or request.node.get_closest_marker("outside"):
        yield
        return
    _fence.crossings.clear()
    _fence.closed = True
    try:
        yield
    finally:
        _fence.closed = False
    assert not _fence.crossings, f"a unit test reached the real machine: {_fence.crossings}"


@pytest.fixture
def ovs() -> OvsPlans:
    """Makes plans for Open vSwitch by hand."""
    return OvsPlans()
