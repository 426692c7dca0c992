#!/usr/bin/env python3
"""Makes tests/hosts/captures/ again: `python tests/vm/captures.py [SHAPE…]` boots machines and captures each there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from vm import VirtualMachine, close_machine
from vm_build import CHECKOUT, disk_image
from vm_cache import CACHE, locked, step
from vm_shapes import HOTPLUG, SHAPES, Shape

CAPTURES: Final = CHECKOUT / "tests" / "hosts" / "captures"


def capture(shape: Shape) -> None:
    """Boots a machine of that shape without a boot loader, and brings its capture here."""
    image = disk_image()
    machine = VirtualMachine(CACHE / "run" / f"capture-{shape.name}", shape)
    close_machine(machine)
    machine.create(image)
    try:
        machine.boot(kernel=image)
        machine.install()
        if shape is HOTPLUG:
            _leave_holes(machine)
        machine.check("nfvhost", "capture", "/tmp/host.tar.xz")
        CAPTURES.mkdir(exist_ok=True)
        machine.fetch("/tmp/host.tar.xz", CAPTURES / f"qemu-{shape.name}.tar.xz")
    finally:
        close_machine(machine)


def _leave_holes(machine: VirtualMachine) -> None:
    """Takes a core of package 1 out, and turns a thread of package 0 off."""
    with machine.monitor() as monitor:
        for place in machine.shape.plugged:
            if place.core == 0:
                monitor.ask("device_del", {"id": place.name})
    machine.shell(
        "for _ in $(seq 300); do [ -d /sys/devices/system/cpu/cpu4 -o -d /sys/devices/system/cpu/cpu5 ] || break;"
        " sleep 0.2; done; [ ! -d /sys/devices/system/cpu/cpu4 -a ! -d /sys/devices/system/cpu/cpu5 ];"
        " echo 0 > /sys/devices/system/cpu/cpu1/online"
    )


def main() -> None:
    """Captures the machines that the command line names, or all."""
    for name in sys.argv[1:] or list(SHAPES):
        with locked("captures"), step(name):
            capture(SHAPES[name])


if __name__ == "__main__":
    main()
