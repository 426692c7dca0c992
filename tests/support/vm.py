"""A machine with NUMA, SMT, IOMMU and SR-IOV under QEMU: started, run commands in, cut off, put back.

As a program it makes what such a machine is started from.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import vm_build
from debian import run
from vm_build import CHECKOUT, GUEST_SITE_PACKAGES
from vm_cache import CACHE, artifact, step
from vm_shapes import SERVER, Shape
from vm_sockets import Agent, Ended, Monitor, NoAnswerError

# 35 to 260 s were measured, by the load of the host.
_BOOT_S: Final = 900
_STOP_S: Final = 60
_FORGOTTEN_S: Final = 24 * 3600
BOOTED: Final = "booted"


class VirtualMachine:
    """One machine in a folder of its own: its disk, its sockets, its console."""

    def __init__(self, folder: Path, shape: Shape = SERVER) -> None:
        self.folder = folder
        self.shape = shape
        self._process: subprocess.Popen[bytes] | None = None  # where this process started it

    @property
    def disk(self) -> Path:
        """Its disk, with its snapshots."""
        return self.folder / "disk.qcow2"

    @property
    def pid(self) -> int | None:
        """QEMU's process, while it is there."""
        try:
            pid = int((self.folder / "pid").read_text())
            argv = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if str(self.disk).encode() in argv else None

    def monitor(self) -> Monitor:
        """A connection to QEMU; one at a time."""
        return Monitor(self.folder / "monitor")

    def agent(self, *, timeout_s: float = 10) -> Agent:
        """A connection to the guest's agent; one at a time."""
        return Agent(self.folder / "agent", timeout_s=timeout_s)

    # Power

    def create(self, image: Path) -> None:
        """A fresh disk on top of base.raw."""
        self.folder.mkdir(parents=True, exist_ok=True)
        backing = ("-b", image / "base.raw", "-F", "raw")
        run([*vm_build.qemu_argv("qemu-img"), "create", "-q", "-f", "qcow2", *backing, self.disk])

    def start(self, *, snapshot: str | None = None, kernel: Path | None = None, append: str = "") -> None:
        """Starts QEMU, at a snapshot where one is named, by the machine's own GRUB where no kernel is given."""
        assert self.pid is None, f"{self.folder} runs already"
        for name in ("monitor", "agent", "console"):
            (self.folder / name).unlink(missing_ok=True)
        argv = [*vm_build.qemu_argv("qemu-system-x86_64"), "-name", self.folder.name, "-nodefaults", "-no-user-config"]
        argv += [*vm_build.firmware_folders(), "-display", "none", "-rtc", "base=utc"]
        argv += ["-accel", "tcg,thread=multi,tb-size=1024", *self.shape.argv()]
        drive = f"file={self.disk},if=none,id=d0,format=qcow2,cache=unsafe,discard=unmap"
        argv += ["-drive", drive, "-device", "virtio-blk-pci,drive=d0,bus=pcie.0,addr=0x2,bootindex=1"]
        argv += [
            "-device",
            "virtio-serial-pci,bus=pcie.0,addr=0x4",
            "-chardev",
            "socket,id=qga,path=agent,server=on,wait=off",
        ]
        argv += ["-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"]
        argv += ["-chardev", "socket,id=con,path=console,server=on,wait=off,logfile=console.log,logappend=on"]
        argv += ["-serial", "chardev:con", "-qmp", "unix:monitor,server=on,wait=off"]
        if kernel is not None:
            argv += ["-kernel", str(kernel / "vmlinuz"), "-initrd", str(kernel / "initrd")]
            argv += ["-append", f"root=/dev/vda1 ro {vm_build.BOOT_ARGUMENTS} {append}".strip()]
        if snapshot is not None:
            argv += ["-loadvm", snapshot]
        with (self.folder / "qemu.log").open("wb") as log:
            self._process = process = subprocess.Popen(
                argv,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **vm_build.qemu_environment()},
            )
        (self.folder / "pid").write_text(f"{process.pid}\n")
        self._until(lambda: (self.folder / "monitor").exists() or process.poll() is not None, what="QEMU", timeout_s=60)
        try:
            with self.monitor() as monitor:
                # What its main loop answers: the greeting comes from another thread, before there are devices.
                monitor.ask("query-status")
        except NoAnswerError as error:
            raise RuntimeError(f"QEMU does not start: {(self.folder / 'qemu.log').read_text()}") from error

    def stop(self) -> None:
        """Ends QEMU; what the guest has not written is lost."""
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        if self._process is not None:
            self._process.wait(_STOP_S)
        self._until(lambda: self.pid is None, what="the end of QEMU", timeout_s=_STOP_S)

    def boot(self, *, snapshot: str | None = None, kernel: Path | None = None, append: str = "") -> None:
        """Starts it and waits until it is up; once more, and said so, where it hangs."""
        for attempt in (1, 2):
            self.start(snapshot=snapshot, kernel=kernel, append=append)
            try:
                self.wait_until_up()
            except NoAnswerError:
                self.stop()
                if attempt == 2:
                    raise
                print("vm: the boot hung and is tried once more", file=sys.stderr)  # noqa: T201 - the log of the tier
            else:
                return

    def wait_until_up(self, *, after: str | None = None, timeout_s: float = _BOOT_S) -> None:
        """Until systemd has started what there is to start, in a boot other than `after`."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                if self.boot_id() != after and self._is_up(end - time.monotonic()):
                    self.run("udevadm", "settle", "-t", "60")
                    return
            except NoAnswerError:
                if self.pid is None:
                    raise
            if time.monotonic() > end:
                raise NoAnswerError(f"not up after {timeout_s:.0f} s: {self.folder / 'console.log'}")
            time.sleep(0.5)

    def _is_up(self, timeout_s: float) -> bool:
        """Whether systemd has done all jobs; it waits for them, but not for the bus that it is asked by."""
        ended = self.run("systemctl", "is-system-running", "--wait", timeout_s=max(timeout_s, 1))
        return ended.out.strip() in {"running", "degraded"}

    def boot_id(self) -> str:
        """What tells this boot from another."""
        return self.run("cat", "/proc/sys/kernel/random/boot_id", timeout_s=20).out.strip()

    def reboot(self) -> None:
        """Asks systemd for a reboot, and waits until the machine is up again."""
        before = self.boot_id()
        # Its own end may come with that of the machine.
        with contextlib.suppress(NoAnswerError):
            self.run("systemctl", "reboot")
        self._come_back(before)

    def cut_power(self) -> None:
        """Resets the machine at once, and waits until it is up again; what was not on its disk is lost."""
        before = self.boot_id()
        self.reset()
        self._come_back(before)

    def _come_back(self, before: str) -> None:
        """Waits for the next boot; a hung one is reset once, and that is said."""
        try:
            self.wait_until_up(after=before)
        except NoAnswerError:
            print("vm: the boot hung, and the machine is reset", file=sys.stderr)  # noqa: T201 - the log of the tier
            self.reset()
            self.wait_until_up(after=before)

    def reset(self) -> None:
        """Resets the machine at once."""
        with self.monitor() as monitor:
            monitor.ask("system_reset")

    def pause(self) -> None:
        """Stops its CPUs, so that it costs nothing."""
        with self.monitor() as monitor:
            monitor.ask("stop")

    def resume(self) -> None:
        """Lets its CPUs go on."""
        with self.monitor() as monitor:
            monitor.ask("cont")

    # Snapshots

    def save(self, name: str) -> None:
        """A snapshot of memory and disk by that name, in place of an older one."""
        with self.monitor() as monitor:
            said = monitor.human(f"savevm {name}")
        assert not said, said

    def restore(self, name: str) -> None:
        """Back to that snapshot."""
        with self.monitor() as monitor:
            said = monitor.human(f"loadvm {name}")
            assert not said, said
            monitor.ask("cont")

    # Commands

    def run(self, *argv: str, stdin: bytes = b"", timeout_s: float = 120) -> Ended:
        """What became of a command in the guest; NoAnswerError where it does not end in time."""
        with self.agent(timeout_s=min(timeout_s, 10)) as agent:
            agent.set_timeout(60)
            pid = agent.start(argv, stdin=stdin)
            code, out, err = agent.wait(pid, argv, timeout_s=timeout_s)
        return Ended(argv=argv, code=code, out=out.decode(errors="replace"), err=err.decode(errors="replace"))

    def check(self, *argv: str, stdin: bytes = b"", timeout_s: float = 120) -> str:
        """What a command in the guest printed; an AssertionError with its words where it ends with anything but 0."""
        ended = self.run(*argv, stdin=stdin, timeout_s=timeout_s)
        assert ended.code == 0, str(ended)
        return ended.out

    def shell(self, script: str, *, timeout_s: float = 120) -> str:
        """What a script for bash printed; like `check`."""
        return self.check("bash", "-euo", "pipefail", "-c", script, timeout_s=timeout_s)

    def read(self, path: str) -> str:
        """A file of the guest."""
        return self.check("cat", path)

    def fetch(self, path: str, place: Path) -> None:
        """Copies a file of the guest."""
        with self.agent() as agent:
            agent.set_timeout(60)
            argv = ("cat", path)
            code, out, err = agent.wait(agent.start(argv), argv, timeout_s=60)
        assert code == 0, err.decode(errors="replace")
        place.write_bytes(out)

    def push(self, folder: Path, place: str) -> None:
        """Replaces a folder of the guest by one of the host, without Python's caches."""

        def clean(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            return None if "__pycache__" in member.name else member

        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
            tar.add(folder, arcname=Path(place).name, filter=clean)
        self.check("rm", "-rf", place)
        self.check("tar", "xzf", "-", "-C", str(Path(place).parent), stdin=packed.getvalue())

    def install(self, *, wheel: bool = False) -> None:
        """Puts this checkout's nfvhost into the guest: its wheel, or faster its folder."""
        site = f"/{GUEST_SITE_PACKAGES}"
        folders = sorted(vm_build.wheel().glob("nfvhost*")) if wheel else [CHECKOUT / "nfvhost"]
        for one in folders:
            self.push(one, f"{site}/{one.name}")
        self.check("/opt/nfvhost/bin/python", "-m", "compileall", "-q", "-j", "4", f"{site}/nfvhost", timeout_s=300)

    def _until(self, true: Callable[[], bool], *, what: str, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > end:
                raise NoAnswerError(f"{what} did not come in {timeout_s:.0f} s: {self.folder}")
            time.sleep(0.05)


def booted_machine(shape: Shape = SERVER) -> Path:
    """A folder with the disk of a machine that was installed, booted by its own GRUB, and saved as it runs."""
    image = vm_build.disk_image()

    def make(place: Path) -> None:
        machine = VirtualMachine(place, shape)
        machine.create(image)
        try:
            with step("the first boot"):
                machine.boot()
            # From here on the menu is the machine's own.
            with step("update-grub"):
                machine.check("update-grub", timeout_s=300)
            with step("a reboot by its own GRUB"):
                machine.reboot()
            with step("a snapshot"):
                machine.save(BOOTED)
        finally:
            machine.stop()
        for name in ("monitor", "agent", "console", "pid"):
            (place / name).unlink(missing_ok=True)

    made_from = (image.name, vm_build.qemu_folder().parent.name, *shape.argv())
    return artifact(f"booted-{shape.name}", made_from, make)


def open_machine(name: str, shape: Shape = SERVER) -> VirtualMachine:
    """A machine of that name on a copy of the booted disk, running from its snapshot."""
    saved = booted_machine(shape)
    machine = VirtualMachine(CACHE / "run" / name, shape)
    machine.stop()
    shutil.rmtree(machine.folder, ignore_errors=True)
    machine.folder.mkdir(parents=True)
    with step("a copy of the booted disk"):
        run(["cp", "--reflink=auto", "--sparse=always", saved / "disk.qcow2", machine.disk])
    with step("back to the snapshot"):
        machine.start(snapshot=BOOTED)
        machine.wait_until_up()
    return machine


def forget_old_machines() -> None:
    """Removes what runs that were killed have left: the disks that nobody has written to for a day."""
    for disk in (CACHE / "run").glob("tests-*/disk.qcow2"):
        if time.time() - disk.stat().st_mtime > _FORGOTTEN_S:
            shutil.rmtree(disk.parent)


def close_machine(machine: VirtualMachine) -> None:
    """Ends it and removes its disk."""
    machine.stop()
    shutil.rmtree(machine.folder, ignore_errors=True)


if __name__ == "__main__":
    # What comes from outside, or is slow, before a run that has no way out.
    booted_machine()
    vm_build.wheel()
