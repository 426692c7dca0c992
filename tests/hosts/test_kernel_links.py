"""The door to network devices on this machine's kernel, in a network of its own; VFs are in tests/vm."""

from __future__ import annotations

import json
import os
import sys
from typing import Final

import pytest

from nfvhost.access.command import run

_NETWORK: Final = """
set -e
ip link add veth0 type veth peer name veth1
exec "$0" -W error -c "$1"
"""
_TELL: Final = """
import json
from nfvhost.access.kernel_links import Netlink
from nfvhost.access.vf_settings import VfSetting
from nfvhost.errors import NfvhostError
links = Netlink()

def answer(call):
    try:
        return call()
    except NfvhostError as error:
        return [type(error).__name__, str(error)]

def up():
    with open("/sys/class/net/veth0/flags") as flags:
        return int(flags.read(), 16) & 1

told = {"vfs": links.read_vfs(["veth0", "gone0"])}
links.set_up("veth0", up=True)
told["up"] = up()
links.set_up("veth0", up=False)
told["down"] = up()
for setting, text in ((VfSetting.MAC, "52:54:00:00:00:01"), (VfSetting.VLAN, "7 qos 3"), (VfSetting.TRUST, "on")):
    told[setting.value] = answer(lambda: links.write_vf("veth0", vf=0, setting=setting, text=text))
told["gone"] = answer(lambda: links.set_up("gone0", up=True))
told["vdpa"] = answer(lambda: links.add_vdpa("x", management="pci/ffff:00:00.0", mac=None, queue_pairs=None, mtu=None))
told["devices"] = [list(links.vdpa_management_devices()), list(links.vdpa_configs())]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, object]:
    """What the door said."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = f"mount -t sysfs none /sys\n{_NETWORK}"
    done = run(["unshare", *as_root, "--net", "--mount", "sh", "-c", script, sys.executable, _TELL], timeout_s=60)
    if done.code != 0 and "Operation not permitted" in done.stderr and os.environ.get("NFVHOST_REQUIRE_TIERS") != "1":
        pytest.skip(f"this user may not make a network namespace: {done.stderr.strip()}")
    assert done.code == 0, done.stderr
    answers: dict[str, object] = json.loads(done.stdout)
    return answers


def test_an_interface_without_vfs_has_none_and_one_that_is_not_there_is_left_out(told: dict[str, object]) -> None:
    assert told["vfs"] == {"veth0": []}


def test_an_interface_is_set_up_and_down(told: dict[str, object]) -> None:
    assert (told["up"], told["down"]) == (1, 0)


@pytest.mark.parametrize("setting", ["mac", "vlan", "trust"])
def test_a_driver_that_knows_no_vfs_is_an_error_that_names_the_setting(told: dict[str, object], setting: str) -> None:
    answer = told[setting]
    assert isinstance(answer, list)
    kind, text = answer
    assert kind == "ApplyError"
    assert text.startswith(f"veth0 vf 0 {setting} ")
    assert "Operation not supported" in text


def test_an_interface_that_is_not_there_is_an_error_that_names_it(told: dict[str, object]) -> None:
    assert isinstance(told["gone"], list)
    assert told["gone"][1].startswith("gone0: the kernel refused it: No such device")


def test_a_kernel_without_vdpa_says_so_and_one_with_it_knows_no_such_maker(told: dict[str, object]) -> None:
    assert isinstance(told["vdpa"], list)
    assert "this kernel has no vDPA" in told["vdpa"][1] or "No such device" in told["vdpa"][1]
    assert isinstance(told["devices"], list)
