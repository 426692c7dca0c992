"""A guest to launch: its kernel in Glance, and its shell by its serial line."""

from __future__ import annotations

import os
import re
import select
import subprocess
import termios
import time
import tty
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import openstack
from cloud_build import guest
from openstack.image.v2.image import Image

_ANSWER_S: Final = 60.0


def upload_kernel(cloud: openstack.connection.Connection) -> dict[str, str]:
    """The properties of an image that boots the guest's kernel: Nova hands it and the initrd to QEMU."""
    ids = {}
    for name, kind, file in (("kernel", "aki", "vmlinuz"), ("ramdisk", "ari", "initrd.gz")):
        image = Image.new(name=name, disk_format=kind, container_format=kind)
        image.create(cloud.image)
        with (guest() / file).open("rb") as content:
            image.data = content
            image.upload(cloud.image)
        ids[f"{name}_id"] = str(image.id)
    # Debian 12's QEMU 7.2 dies under TCG where a guest unmasks an MSI-X vector of a vhost-user device.
    return ids | {"os_command_line": "console=ttyS0 panic=-1 pci=nomsi"}


def disk() -> Path:
    """A disk with nothing on it, which Nova wants and the guest does not."""
    return guest() / "disk.raw"


class Shell:
    """The shell of a guest on this machine."""

    def __init__(self, server: str) -> None:
        domain = subprocess.run(
            ["/usr/bin/virsh", "dumpxml", server], check=True, capture_output=True, text=True
        ).stdout
        (path, *_) = re.findall(r"<source path='(/dev/pts/\d+)'", domain)
        self._line = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._line, termios.TCSANOW)
        self._heard = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._line)

    def run(self, command: str, *, timeout_s: float = _ANSWER_S) -> str:
        """What the command wrote."""
        self._heard = ""
        # What is typed comes back as well: only the answer has the word in one piece.
        os.write(self._line, f"{command}; echo EN''D-$?\n".encode())
        text = self._until(r"END-\d+\r?\n", timeout_s)
        return text.split("''D-$?", 1)[-1].rpartition("END-")[0].replace("\r", "").strip()

    def _until(self, pattern: str, timeout_s: float) -> str:
        end = time.monotonic() + timeout_s
        while not re.search(pattern, self._heard):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._line], [], [], left)[0]:
                raise TimeoutError(f"the guest has not answered: {self._heard[-500:]!r}")
            self._heard += os.read(self._line, 4096).decode(errors="replace")
        return self._heard


def boot_line(cloud: openstack.connection.Connection, server: str, *, timeout_s: float = 180.0) -> str:
    """What the guest says of itself once it is up, read from its console by Nova's API."""
    end = time.monotonic() + timeout_s
    while True:
        output = str(cloud.compute.get_server_console_output(server)["output"])
        found = re.search(r"GUEST-UP.*", output)
        if found is not None:
            return found[0].strip()
        if time.monotonic() > end:
            raise TimeoutError(f"the guest is not up: {output[-1500:]}")
        time.sleep(1)
