"""What a cloud is made of, made once and kept: the services' packages, their databases, a guest to boot.

As a program it makes the parts that come from outside: `cloud_build.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Final

import vm_cache
from debian import run

CHECKOUT: Final = Path(__file__).resolve().parents[2]
LOCK: Final = CHECKOUT / "tests/openstack/requirements.lock"
CACHE: Final = vm_cache.CACHE.parent / "openstack"
_UV: Final = "uv==0.13.9"
# The guest's own: what its kernel has as modules, in an order in which they load.
_MODULES: Final = (
    *("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci"),
    *("failover", "net_failover", "virtio_net", "virtio_blk"),
)
_INIT: Final = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev 2>/dev/null
for m in {" ".join(_MODULES)}; do [ ! -e /$m.ko ] || insmod /$m.ko; done
for one in /sys/class/net/eth*; do [ ! -e "$one" ] || ip link set "${{one##*/}}" up; done
queues=$(ls -d /sys/class/net/eth0/queues/rx-* 2>/dev/null | wc -l)
echo "GUEST-UP cpus=$(grep -c ^processor /proc/cpuinfo) nics=$(ls -d /sys/class/net/eth* | wc -l) queues=$queues"
exec setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'
"""


def environment() -> dict[str, str]:
    """That of this process without what makes every start of a service compile it again."""
    dropped = {"PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "PYTHONPATH"}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def packages() -> Path:
    """The environment of Python with the services."""

    def make(place: Path) -> None:
        tools = place / "tools"
        run([sys.executable, "-m", "venv", tools])
        run([tools / "bin/pip", "install", "--quiet", "--disable-pip-version-check", _UV])
        uv = str(tools / "bin/uv")
        venv = place / "venv"
        cache = {"UV_CACHE_DIR": str(place / "uv-cache"), "UV_LINK_MODE": "hardlink"}
        run([uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, venv], log=None, **cache)
        python = ("--python", str(venv / "bin/python"))
        # Compiled once, or the first start of each service would.
        run([uv, "pip", "install", *python, "--compile-bytecode", "--require-hashes", "-r", LOCK], log=None, **cache)
        shutil.rmtree(place / "uv-cache")
        shutil.rmtree(tools)
        # privsep becomes root by `sudo`, and we are root.
        (venv / "bin/sudo").write_text('#!/bin/sh\nexec "$@"\n')
        (venv / "bin/sudo").chmod(0o755)

    made_from = ("1", _UV, sys.version, LOCK.read_bytes())
    return vm_cache.artifact("venv", made_from, make, cache=CACHE) / "venv"


def guest() -> Path:
    """A folder with the kernel and the initrd of a guest whose first process is a shell on its serial line."""

    def make(place: Path) -> None:
        dependencies = run(["apt-cache", "depends", "linux-image-cloud-amd64"]).split()
        kernel = next(
            one for one in dependencies if one.startswith("linux-image-") and one[len("linux-image-")].isdigit()
        )
        work = place / "work"
        root = work / "initrd"
        for folder in ("bin", "proc", "sys", "dev"):
            (root / folder).mkdir(parents=True)
        run(["sh", "-c", 'cd "$1" && exec apt-get download -q "$2"', "sh", work, kernel])
        (package,) = work.glob("linux-image-*.deb")
        run(["dpkg-deb", "-x", package, work / "kernel"])
        (vmlinuz,) = work.glob("kernel/boot/vmlinuz-*")
        shutil.copy(vmlinuz, place / "vmlinuz")
        for name in _MODULES:
            for module in work.glob(f"kernel/lib/modules/**/{name}.ko"):
                shutil.copy(module, root)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        (root / "init").write_text(_INIT)
        (root / "init").chmod(0o755)
        pack = 'cd "$1" && find . | cpio -o -H newc --quiet | gzip -1 >"$2"'
        run(["sh", "-c", pack, "sh", root, place / "initrd.gz"])
        shutil.rmtree(work)
        # Nova wants a disk, and the guest none.
        with (place / "disk.raw").open("wb") as disk:
            disk.truncate(1 << 20)

    return vm_cache.artifact("guest", ("1", _INIT, *_MODULES), make, cache=CACHE)


def pack(folder: Path, archive: Path) -> None:
    """The folder as one file."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, ".")


def unpack(archive: Path, folder: Path) -> None:
    """The folder again, in a place that is not there yet."""
    folder.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="fully_trusted")  # noqa: S202 - we packed it


if __name__ == "__main__":
    packages()
    guest()
