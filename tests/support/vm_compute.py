"""The machine under test as a compute host of a cloud whose control plane runs around it, in the same room."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import cloud_conf
import vm_edge
from cloud import Cloud
from vm import VirtualMachine
from vm_cache import step

from nfvhost.model.pci import PciAddress

_SCRIPT: Final = Path(__file__).with_name("vm_compute.sh")
_PORTS: Final = (*cloud_conf.API_PORTS.values(), cloud_conf.DATABASE_PORT, cloud_conf.QUEUE_PORT)
_START_S: Final = 300.0
_SAID: Final = 5000


@contextmanager
def compute_host(vm: VirtualMachine, cloud: Cloud, pf: str) -> Iterator[None]:
    """libvirt, nova-compute and the SR-IOV agent in the machine, with VFs of that PF; gone again at the end."""
    try:
        with step("services in the machine"):
            words = (str(cloud.state), str(cloud.packages), sys.base_prefix, pf, *map(str, _PORTS))
            vm.check("bash", "-s", "start", *words, stdin=_SCRIPT.read_bytes(), timeout_s=_START_S)
            cloud.wait_for_compute("NIC Switch agent", timeout_s=_START_S)
        yield
    except Exception:
        for unit in ("compute-nova", "compute-sriov"):
            print(f"{unit} said:\n{vm_edge.said_by(vm, unit)[-_SAID:]}")  # noqa: T201 - the log of the tier
        raise
    finally:
        with step("the end of the services"):
            vm.check("bash", "-s", "stop", pf, stdin=_SCRIPT.read_bytes(), timeout_s=_START_S)


def has_function(vm: VirtualMachine, server: str, function: str) -> bool:
    """Whether libvirt in the machine has given that PCI function to a server."""
    pci = PciAddress.parse(function)
    place = f"bus='{pci.bus:#04x}' slot='{pci.device:#04x}' function='{pci.function:#x}'"
    return place in vm.check("chroot", "/run/compute/tree", "virsh", "dumpxml", server)
