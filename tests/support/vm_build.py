"""The machine's parts, made from Debian's packages alone: QEMU, a Debian 13, a disk that boots by GRUB.

Needs root, for the owners of the files; and of the host mmdebstrap, e2fsprogs and Debian's keys.
"""

from __future__ import annotations

import io
import lzma
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from debian import debian, run
from vm_cache import artifact

CHECKOUT: Final = Path(__file__).resolve().parents[2]
# Bump it where the same lists give something else.
_RECIPE: Final = "1"
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"

# QEMU 10 of Debian 13 hangs in one boot of four under TCG with threads; 11 does not.
_QEMU_SUITE: Final = "forky"
_QEMU_PACKAGES: Final = ("qemu-system-x86", "qemu-utils", "seabios")

_GUEST_SUITE: Final = "trixie"
_GUEST_PACKAGES: Final = (
    *("systemd-sysv", "dbus", "udev", "kmod", "util-linux", "procps", "apt", "e2fsprogs", "busybox-static"),
    *("linux-image-amd64", "initramfs-tools", "zstd", "grub-pc-bin", "grub2-common"),
    *("qemu-guest-agent", "python3", "iproute2", "iputils-ping", "ethtool", "pciutils", "tcpdump"),
    *("openvswitch-switch-dpdk", "dpdk"),
    # The generator of benches is compiled there.
    *("gcc", "libc6-dev", "libdpdk-dev", "pkgconf"),
)
# What libdpdk-dev brings are all drivers that there are, and each start under TCG would load them.
_DPDK_DRIVERS: Final = frozenset(
    f"librte_{one}"
    for one in (
        *("bus_pci", "bus_vdev", "mempool_ring", "net_af_packet", "net_af_xdp", "net_e1000", "net_null", "net_ring"),
        *("net_tap", "net_vhost", "net_virtio", "net_vmxnet3"),
    )
)
# What a boot under TCG would wait for, and no test needs.
_MASKED: Final = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("e2scrub_reap.service", "modprobe@drm.service", "modprobe@efi_pstore.service", "systemd-pcrphase.service"),
    *("systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service", "systemd-pcrmachine.service"),
    *("systemd-hibernate-clear.service", "systemd-networkd-wait-online.service", "systemd-timesyncd.service"),
    *("systemd-update-utmp.service", "getty@tty1.service", "keyboard-setup.service", "ssh.service", "ssh.socket"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-random-seed.service", "dpdk.service"),
)
_MASKED_GENERATORS: Final = (
    *("systemd-ssh-generator", "systemd-gpt-auto-generator", "systemd-hibernate-resume-generator"),
    *("systemd-tpm2-generator", "systemd-cryptsetup-generator", "systemd-veritysetup-generator"),
    "systemd-integritysetup-generator",
)
# What makes TCG bearable: rep stosb is very slow there, and nobody attacks this machine.
BOOT_ARGUMENTS: Final = (
    "console=ttyS0,115200 mitigations=off nokaslr audit=0 apparmor=0 lsm=capability random.trust_cpu=on"
    " clearcpuid=rep_good,erms,fsrm"
    # On a busy host the timer's interrupt comes too late for the kernel's test of it, and it panics.
    " no_timer_check panic=5"
)
# softdep of ext4 first (modinfo ext4: crc32c), then modules.dep.
_INITRD_MODULES: Final = (
    *("arch/x86/crypto/crc32c-intel", "crypto/crc32c_generic", "lib/libcrc32c", "lib/crc16", "fs/mbcache"),
    *("fs/jbd2/jbd2", "fs/ext4/ext4", "drivers/block/virtio_blk"),
)
# Of Debian's own kernel source, what its configuration leaves out: devices that need no hardware, and their sources.
_MODULE_SOURCES: Final = {
    "vdpa": ("vhost/vringh.c", "vdpa/vdpa_sim/*", "vdpa/virtio_pci/vp_vdpa.c"),
    "netdevsim": ("net/netdevsim/*",),
}
_MODULE_MAKEFILES: Final = {"vdpa": "obj-m := vringh.o vdpa_sim.o vdpa_sim_net.o vp_vdpa.o\n"}
_KERNEL_SERIES: Final = "6.12"
_COMPILER_PACKAGES: Final = (
    *("linux-headers-amd64", f"linux-source-{_KERNEL_SERIES}", "make", "gcc", "libc6-dev", "xz-utils"),
    *("bash", "coreutils", "dash", "sed", "grep", "mawk"),
)
_DISK_UUID: Final = "5eed0000-0000-4000-8000-000000000001"
_DISK_MIB: Final = 6144
_PARTITION_SECTOR: Final = 2048
MANAGEMENT_MAC: Final = "52:54:00:00:00:01"
MANAGEMENT_NETDEV: Final = "mgmt0"
GUEST_SITE_PACKAGES: Final = "opt/nfvhost/lib/python3.13/site-packages"


def qemu_folder() -> Path:
    """The tree with QEMU's packages extracted; nothing in it is configured or needs to be."""

    def make(place: Path) -> None:
        debian(_QEMU_SUITE, place / "tree", "--variant=extract", packages=_QEMU_PACKAGES)

    return artifact("qemu", (_RECIPE, _QEMU_SUITE, *_QEMU_PACKAGES), make) / "tree"


def qemu_argv(program: str) -> list[str]:
    """The start of a command line that runs a program of QEMU's with its own libraries, whatever the host has."""
    tree = qemu_folder()
    libraries = tree / _LIBRARIES
    loader = libraries / "ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", str(libraries), str(tree / "usr/bin" / program)]


def qemu_environment() -> Mapping[str, str]:
    """What QEMU needs to find its own modules instead of the host's."""
    return {"QEMU_MODULE_DIR": str(qemu_folder() / _LIBRARIES / "qemu")}


def firmware_folders() -> list[str]:
    """The options that name the folders of its firmware."""
    tree = qemu_folder()
    return [word for one in ("qemu", "seabios") for word in ("-L", str(tree / "usr/share" / one))]


def debian_tree() -> Path:
    """A Debian 13 with its kernel, as its packages leave it."""
    hook = 'mkdir -p "$1"/etc/initramfs-tools/conf.d; printf "MODULES=list\\n" > "$1"/etc/initramfs-tools/conf.d/small'

    def make(place: Path) -> None:
        options = ("--variant=essential", "--skip=essential/unlink", f"--essential-hook={hook}")
        debian(_GUEST_SUITE, place / "tree", *options, packages=_GUEST_PACKAGES)

    return artifact("debian", (_RECIPE, _GUEST_SUITE, hook, *_GUEST_PACKAGES), make) / "tree"


def dependencies() -> Path:
    """A folder with what nfvhost needs of PyPI, by its lock file, for the guest's Python 3.13."""
    lock = CHECKOUT / "requirements.lock"

    def make(place: Path) -> None:
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
        guest = (
            "--python-version",
            "3.13",
            "--platform",
            "manylinux2014_x86_64",
            "--implementation",
            "cp",
            "--no-deps",
        )
        wheels = place / "wheels"
        run([*pip, "download", *guest, "--require-hashes", "-r", lock, "-d", wheels])
        # What is published as source only (ovs) is pure Python where Open vSwitch's headers are missing.
        for source in sorted(wheels.glob("*.tar.gz")):
            run([*pip, "wheel", "--no-deps", "-w", wheels, source])
            source.unlink()
        target = place / "site-packages"
        run([*pip, "install", *guest, "--only-binary=:all:", "--no-index", "-t", target, *sorted(wheels.iterdir())])
        shutil.rmtree(wheels)

    return artifact("python", (_RECIPE, lock.read_bytes()), make) / "site-packages"


def wheel() -> Path:
    """A folder with what this checkout's wheel puts into site-packages."""
    parts = [CHECKOUT / one for one in ("pyproject.toml", "README.md", "LICENSE")]
    parts += sorted(one for one in (CHECKOUT / "nfvhost").rglob("*") if one.is_file() and one.suffix != ".pyc")

    def make(place: Path) -> None:
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
        with tempfile.TemporaryDirectory() as scratch:
            run([*pip, "wheel", "--no-deps", "-w", scratch, CHECKOUT])
            (built,) = Path(scratch).glob("*.whl")
            run([*pip, "install", "--no-deps", "--no-index", "--no-compile", "-t", place, built])

    return artifact(
        "wheel", (word for one in parts for word in (str(one.relative_to(CHECKOUT)), one.read_bytes())), make
    )


def kernel_release(tree: Path) -> str:
    """The only kernel of the tree."""
    (release,) = os.listdir(tree / "usr/lib/modules")
    return release


def extra_modules() -> Path:
    """A folder with modules for the guest's kernel: vdpa_sim_net, vp_vdpa and what they need, and netdevsim."""
    release = kernel_release(debian_tree())

    def make(place: Path) -> None:
        tree = place / "tree"
        debian(_GUEST_SUITE, tree, "--variant=extract", packages=_COMPILER_PACKAGES)
        # Packages that are extracted and not installed have no alternatives.
        (tree / "usr/bin/awk").symlink_to("mawk")
        source = f"linux-source-{_KERNEL_SERIES}"
        wanted = [f"{source}/drivers/{one}" for several in _MODULE_SOURCES.values() for one in several]
        run(["tar", "-C", place, "-xJf", tree / f"usr/src/{source}.tar.xz", "--wildcards", *wanted])
        for name, patterns in _MODULE_SOURCES.items():
            work = tree / "root" / name
            work.mkdir(parents=True)
            for pattern in patterns:
                for one in (place / source / "drivers").glob(pattern):
                    shutil.copy(one, work)
            if name in _MODULE_MAKEFILES:
                (work / "Makefile").write_text(_MODULE_MAKEFILES[name])
            headers = f"/usr/src/linux-headers-{release}"
            inside = ("chroot", tree, "env", "-u", "TMPDIR")
            run([*inside, "make", "-s", "-C", headers, f"M=/root/{name}", "CONFIG_NETDEVSIM=m", "modules"])
            for one in work.glob("*.ko"):
                run([*inside, "strip", "-g", f"/root/{name}/{one.name}"])
                shutil.copy(one, place)
        shutil.rmtree(place / source)
        shutil.rmtree(tree)

    sources = [*_MODULE_MAKEFILES.values(), *(one for several in _MODULE_SOURCES.values() for one in several)]
    return artifact("modules", (_RECIPE, release, *_COMPILER_PACKAGES, *sources), make)


def disk_image() -> Path:
    """A folder with base.raw, which boots by GRUB, and vmlinuz and initrd of the same system for a direct boot."""
    tree, python, modules = debian_tree(), dependencies(), extra_modules()

    def make(place: Path) -> None:
        work = place / "tree"
        run(["cp", "-a", "--reflink=auto", tree, work])
        _configure(work)
        shutil.copytree(python, work / GUEST_SITE_PACKAGES, dirs_exist_ok=True)
        release = kernel_release(work)
        shutil.copytree(modules, work / "usr/lib/modules" / release / "updates")
        run(["chroot", work, "depmod", release])
        (place / "initrd").write_bytes(_initrd(work, release))
        shutil.copy(place / "initrd", work / f"boot/initrd.img-{release}")
        shutil.copy(work / f"boot/vmlinuz-{release}", place / "vmlinuz")
        _write_disk(work, place / "base.raw", release)
        shutil.rmtree(work)

    parts = (tree.parent.name, python.parent.name, modules.name)
    return artifact("disk", (_RECIPE, *parts, Path(__file__).read_bytes()), make)


def _configure(tree: Path) -> None:
    """A machine that is reached by its guest agent and its serial console, with a management NIC by DHCP."""
    units = "/etc/systemd/system"
    files = {
        "/etc/hostname": "nfv-vm\n",
        "/etc/hosts": "127.0.0.1 localhost\n127.0.1.1 nfv-vm\n",
        "/etc/fstab": f"UUID={_DISK_UUID} / ext4 rw,noatime 0 1\n",
        "/etc/machine-id": "5eed0000000040008000000000000001\n",
        "/etc/resolv.conf": "nameserver 10.0.2.3\n",
        "/etc/systemd/network/10-mgmt.link": (
            f"[Match]\nMACAddress={MANAGEMENT_MAC}\n[Link]\nName={MANAGEMENT_NETDEV}\n"
        ),
        "/etc/systemd/network/10-mgmt.network": f"[Match]\nName={MANAGEMENT_NETDEV}\n[Network]\nDHCP=ipv4\n",
        "/etc/systemd/journald.conf.d/vm.conf": "[Journal]\nStorage=volatile\n",
        "/etc/initramfs-tools/modules": "virtio_blk\next4\n",
        f"{units}/serial-getty@ttyS0.service.d/vm.conf": (
            "[Service]\nExecStart=\nExecStart=-/sbin/agetty --keep-baud 115200 --autologin root ttyS0 vt220\n"
        ),
        "/etc/default/grub": (
            "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_RECORDFAIL_TIMEOUT=0\nGRUB_DISTRIBUTOR=Debian\n"
            f'GRUB_CMDLINE_LINUX_DEFAULT=""\nGRUB_CMDLINE_LINUX="{BOOT_ARGUMENTS}"\n'
            'GRUB_TERMINAL=serial\nGRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"\n'
            "GRUB_DISABLE_OS_PROBER=true\n"
        ),
        "/usr/local/bin/nfvhost": (
            "#!/opt/nfvhost/bin/python\nimport sys\n\nfrom nfvhost.cli.app import main\n\nsys.exit(main())\n"
        ),
    }
    for name, text in files.items():
        path = tree / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    (tree / "usr/local/bin/nfvhost").chmod(0o755)
    masked = [f"etc/systemd/system/{one}" for one in _MASKED]
    masked += [f"etc/systemd/system-generators/{one}" for one in _MASKED_GENERATORS]
    for name in masked:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).unlink(missing_ok=True)
        (tree / name).symlink_to("/dev/null")
    for plugin in tree.glob(f"{_LIBRARIES}/dpdk/pmds-*/*"):
        if plugin.name.partition(".")[0] not in _DPDK_DRIVERS:
            plugin.unlink()
    inside = ("chroot", tree)
    for unit in ("systemd-networkd.service", "serial-getty@ttyS0.service"):
        run([*inside, "systemctl", "-q", "enable", unit])
    run([*inside, "systemctl", "-q", "set-default", "multi-user.target"])
    run([*inside, "python3", "-m", "venv", "--without-pip", "/opt/nfvhost"])


def _initrd(tree: Path, release: str) -> bytes:
    """An initial RAM disk without udev, which saves a TCG boot most of its time in one."""
    modules = {}
    for name in _INITRD_MODULES:
        packed = tree / "usr/lib/modules" / release / "kernel" / f"{name}.ko.xz"
        if packed.exists():
            modules[f"m/{packed.name.removesuffix('.xz')}"] = lzma.decompress(packed.read_bytes())
    script = "\n".join(
        [
            "#!/bin/busybox sh",
            "/bin/busybox mount -t devtmpfs d /dev",
            "/bin/busybox mount -t proc p /proc",
            "/bin/busybox mount -t sysfs s /sys",
            *(f"/bin/busybox insmod /{name}" for name in modules),
            "n=0; while [ ! -b /dev/vda1 ] && [ $n -lt 100 ]; do /bin/busybox sleep 0.1; n=$((n+1)); done",
            # As initramfs-tools does: read-only, so that the system's own fsck may look at it.
            "/bin/busybox mount -t ext4 -o ro,noatime /dev/vda1 /root || exec /bin/busybox sh",
            "/bin/busybox umount /proc",
            "/bin/busybox mount --move /sys /root/sys",
            "/bin/busybox mount --move /dev /root/dev",
            "exec /bin/busybox switch_root /root /sbin/init",
            "",
        ]
    )
    busybox = (tree / "usr/bin/busybox").read_bytes()
    files = {"bin/busybox": (0o755, busybox), "init": (0o755, script.encode())}
    files |= {name: (0o644, content) for name, content in modules.items()}
    return _cpio(("bin", "dev", "proc", "sys", "root", "m"), files)


def _cpio(folders: Sequence[str], files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """An archive as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst, newc)."""
    out = io.BytesIO()
    entries = [(name, 0o040755, b"") for name in folders]
    entries += [(name, 0o100000 | mode, content) for name, (mode, content) in files.items()]
    for inode, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        numbers = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        out.write(b"070701" + b"".join(b"%08X" % one for one in numbers) + name.encode() + b"\0")
        out.write(b"\0" * (-out.tell() % 4))
        out.write(content)
        out.write(b"\0" * (-out.tell() % 4))
    return out.getvalue()


def _write_disk(tree: Path, disk: Path, release: str) -> None:
    """A disk with an MBR, GRUB behind it, and one partition with the tree; made without a loop device."""
    grub = tree / "boot/grub/i386-pc"
    grub.mkdir(parents=True)
    for pattern in ("*.mod", "*.lst", "*.img"):
        for one in (tree / "usr/lib/grub/i386-pc").glob(pattern):
            shutil.copy(one, grub)
    # Of the first boot alone, which then makes its own.
    (tree / "boot/grub/grub.cfg").write_text(
        f"set timeout=0\nsearch --no-floppy --fs-uuid --set=root {_DISK_UUID}\n"
        f"linux /boot/vmlinuz-{release} root=UUID={_DISK_UUID} ro {BOOT_ARGUMENTS}\n"
        f"initrd /boot/initrd.img-{release}\nboot\n"
    )
    core = ("-o", "/boot/grub/i386-pc/core.img", "-p", "(hd0,msdos1)/boot/grub", "biosdisk", "part_msdos", "ext2")
    run(["chroot", tree, "grub-mkimage", "-O", "i386-pc", *core])
    with disk.open("wb") as image:
        image.truncate(_DISK_MIB << 20)
    sectors = (_DISK_MIB << 11) - _PARTITION_SECTOR
    options = f"offset={_PARTITION_SECTOR * 512},lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"
    # Features that need a checksum module, or that an older GRUB cannot read, are off.
    features = "^metadata_csum,^metadata_csum_seed,^64bit,^orphan_file"
    filesystem = ("-t", "ext4", "-U", _DISK_UUID, "-L", "root", "-O", features, "-E", options)
    run(["mke2fs", "-q", *filesystem, "-d", tree, disk, f"{sectors // 2}k"])
    boot, core_image = (grub / "boot.img").read_bytes(), (grub / "core.img").read_bytes()
    assert len(core_image) <= (_PARTITION_SECTOR - 1) * 512
    whole_track = b"\xfe\xff\xff"
    entry = struct.pack("<B3sB3sII", 0x80, whole_track, 0x83, whole_track, _PARTITION_SECTOR, sectors)
    with disk.open("r+b") as image:
        image.write(boot[:440] + struct.pack("<IH", 0x5EED0001, 0) + entry + bytes(48) + b"\x55\xaa")
        image.write(core_image)
