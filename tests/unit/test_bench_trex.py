"""TRex as a generator: where it is looked for, what it can serve, what it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nfvhost.access.trex_client import SERVER
from nfvhost.bench.choice import chosen
from nfvhost.bench.generator import Ends
from nfvhost.bench.trex import VARIABLE, Trex, platform_file, trex_folder
from nfvhost.errors import PreconditionError

KERNEL = Ends(tx="net_af_packet0,iface=x0", rx="net_af_packet1,iface=x1", netns="lab", netdevs=("x0", "x1"))
NICS = Ends(tx="0000:21:10.0", rx="0000:21:10.2", addressed=True)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a TRex."""
    (tmp_path / SERVER).touch()
    (tmp_path / "VERSION").write_text("v3.08\n\n")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_it_is_found_where_the_variable_says(installed: Path) -> None:
    assert trex_folder() == str(installed)
    assert Trex().version == "TRex v3.08"
    assert Trex().refusal(KERNEL) is None
    assert Trex().refusal(NICS) is None


def test_where_it_is_not_the_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(PreconditionError, match=rf"no {SERVER} in /opt/trex.* or \${VARIABLE}"):
        chosen(Trex(), KERNEL)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (replace(NICS, guest=("a", "b")), "guest"),
        (replace(NICS, more=58), "plain frames"),
        (replace(NICS, rx=NICS.tx), "pairs"),
        (Ends(tx="net_virtio_user0,path=/a", rx="net_virtio_user1,path=/b", shared_memory=True), "no vhost-user ports"),
    ],
)
def test_what_it_cannot_serve_is_told(ends: Ends, said: str) -> None:
    assert said in (Trex().refusal(ends) or "")


def test_its_platform_file_names_the_devices_and_one_cpu() -> None:
    (kernel,), (nics,) = (json.loads(platform_file(ends, cpu=3)) for ends in (KERNEL, NICS))
    assert kernel["interfaces"] == ["--vdev=net_af_packet0,iface=x0", "--vdev=net_af_packet1,iface=x1"]
    assert nics["interfaces"] == ["0000:21:10.0", "0000:21:10.2"]
    for one in (kernel, nics):
        assert (one["low_end"], one["low_end_core"], one["port_limit"]) == (True, 3, 2)
        # TRex takes the word of this file for what is behind a port, and asks nobody.
        assert one["port_info"][0]["dest_mac"] == one["port_info"][1]["src_mac"]
