"""Open vSwitch of a newer Debian, its programs found by PATH as if they were this machine's."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from debian import debian
from vm_cache import CACHE, artifact

FOLDER: Final = CACHE.parent / "datapath"
# Bump it where the same lists give something else.
_RECIPE: Final = "1"
# The suffix of DPDK's drivers is its ABI: 24.11 and 25.11.
_ABI: Final = {"trixie": "25", "forky": "26"}
# OVS 4.0 is linked against some buses, and ends without them.
_BUSES: Final = ("auxiliary", "cdx", "fslmc", "pci", "uacce", "vdev", "vmbus")
_PORTS: Final = ("af-packet", "af-xdp", "null", "pcap", "ring", "tap", "vhost", "virtio")
_PROGRAMS: Final = {
    "ovs-vswitchd": "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk",
    **{f"ovs-{name}": f"/usr/bin/ovs-{name}" for name in ("appctl", "ofctl", "vsctl")},
    "ovsdb-server": "/usr/sbin/ovsdb-server",
    "ovsdb-tool": "/usr/bin/ovsdb-tool",
    "tshark": "/usr/bin/tshark",
    **{name: f"/usr/lib/frr/{name}" for name in ("bgpd", "zebra")},
    "vtysh": "/usr/bin/vtysh",
}
# A program finds the newer system's files in their places and all else of this machine, by mounts that end with it.
_INSIDE: Final = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec unshare --mount --propagation private sh -ec '
tree=$1
shift
mount --bind "$tree/etc" /etc
mount --bind "$tree/usr" /usr
exec "$@"' - "${here%/bin}/tree" PROGRAM "$@"
"""


def ovs_folder(suite: str) -> Path:
    """The folder with `bin`, to be put into PATH, and `tree`, the system that its programs come from."""
    abi = _ABI[suite]
    drivers = [*(f"bus-{one}" for one in _BUSES), "mempool-ring", *(f"net-{one}" for one in _PORTS)]
    packages = (
        *("openvswitch-switch-dpdk", "frr", "iproute2", "tshark"),
        *(f"librte-{one}{abi}" for one in drivers),
    )

    def make(place: Path) -> None:
        debian(suite, place / "tree", "--variant=minbase", packages=packages)
        (place / "bin").mkdir()
        for name, program in _PROGRAMS.items():
            script = place / "bin" / name
            script.write_text(_INSIDE.replace("PROGRAM", program))
            script.chmod(0o755)

    return artifact(suite, (_RECIPE, _INSIDE, repr(_PROGRAMS), *packages), make, cache=FOLDER)


def schema_folder(folder: Path) -> Path:
    """Where the schema of that Open vSwitch is."""
    return folder / "tree/usr/share/openvswitch"
