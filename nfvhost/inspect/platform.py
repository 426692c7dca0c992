"""What kind of system this is: boot loader, init, distribution, guest or container."""

from __future__ import annotations

import re
import shlex
from typing import Final

from nfvhost.access.boot import boot_loader
from nfvhost.access.root import Root
from nfvhost.model.host import CpuModel, Distribution
from nfvhost.model.live import LiveFacts

__all__ = ["boot_loader", "container", "distribution", "init", "virtualization"]

_OS_RELEASE: Final = ("/etc/os-release", "/usr/lib/os-release")
# The processors that tell of a hypervisor by a flag (CPUID leaf 1, ECX bit 31).
_X86: Final = frozenset({"x86_64", "i686", "i386"})
_DMI: Final = ("sys_vendor", "product_name", "board_vendor", "bios_vendor")
# What hypervisors call themselves in DMI; the order of systemd's src/basic/virt.c, detect_vm_dmi_vendor.
_BY_DMI: Final = (
    ("KubeVirt", "kvm"),
    ("OpenStack", "kvm"),
    ("KVM", "kvm"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("VirtualBox", "virtualbox"),
    ("innotek GmbH", "virtualbox"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Virtual Machine", "hyper-v"),
    ("Hyper-V", "hyper-v"),
    ("Google Compute Engine", "kvm"),
    ("RHEV Hypervisor", "kvm"),
    ("Apple Virtualization", "apple"),
    ("Firecracker", "firecracker"),
    ("HVM domU", "xen"),
)
_BY_CLOCK: Final = (("kvm-clock", "kvm"), ("hyperv", "hyper-v"), ("xen", "xen"), ("vmware", "vmware"))
_BY_DEVICE_TREE: Final = (("linux,kvm", "kvm"), ("xen", "xen"), ("vmware", "vmware"), ("qemu", "qemu"))
_CLOCKS: Final = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
_CGROUP_CONTAINERS: Final = (
    ("/kubepods", "kubernetes"),
    ("/docker", "docker"),
    ("/libpod", "podman"),
    ("/lxc", "lxc"),
    ("/containerd", "containerd"),
)


def init(root: Root) -> str | None:
    """`systemd`, `openrc` or `other`; None where nothing tells. Source: /run, /proc/1/comm."""
    # sd_booted(3)
    if root.exists("/run/systemd/system"):
        return "systemd"
    if root.exists("/run/openrc"):
        return "openrc"
    name = root.read_line("/proc/1/comm")
    return name and {"systemd": "systemd", "openrc-init": "openrc"}.get(name, "other")


def distribution(root: Root) -> Distribution | None:
    """Which distribution this is; None without a file that says it. Source: os-release(5)."""
    text = next((found for path in _OS_RELEASE if (found := root.read_text(path)) is not None), None)
    if text is None:
        return None
    values = dict(_assignments(text))
    return Distribution(
        id=values.get("ID") or "linux",
        version_id=values.get("VERSION_ID") or None,
        name=values.get("PRETTY_NAME") or values.get("NAME") or None,
    )


def virtualization(root: Root, model: CpuModel) -> str | None:
    """The hypervisor that this system is a guest of: `kvm`, `vmware`, `xen`, … or `other`; None on metal.

    Source: the CPU flag `hypervisor`, /sys/class/dmi/id, /sys/hypervisor, the device tree, /proc/sysinfo.
    """
    if root.read_line("/sys/hypervisor/type") == "xen":
        return None if "control_d" in (root.read_text("/proc/xen/capabilities") or "") else "xen"
    mainframe = root.read_text("/proc/sysinfo")
    if mainframe is not None:
        guest = re.search(r"(?m)^VM00 Control Program:\s*(\S+)", mainframe)
        return guest and ("kvm" if guest[1].startswith("KVM") else "zvm")
    dmi = " ".join(filter(None, (root.read_line(f"/sys/class/dmi/id/{name}") for name in _DMI)))
    by_dmi = _first_in(dmi, _BY_DMI)
    if model.architecture not in _X86:
        return by_dmi or _of_device_tree(root)
    if "hypervisor" not in model.flags:
        return None
    return by_dmi or _first_in(root.read_line(_CLOCKS) or "", _BY_CLOCK) or "other"


def _of_device_tree(root: Root) -> str | None:
    if root.exists("/proc/device-tree/ibm,partition-name"):
        return "powervm"
    texts = (root.read_text(f"/proc/device-tree/{name}") or "" for name in ("hypervisor/compatible", "model"))
    return _first_in(" ".join(texts).lower(), _BY_DEVICE_TREE)


def container(root: Root, facts: LiveFacts) -> str | None:
    """The kind of container that this process is in: `docker`, `podman`, `lxc`, …; None outside of one.

    Source: /run/systemd/container, /run/.containerenv, /.dockerenv, the environment and the cgroup of process 1.
    """
    named = root.read_line("/run/systemd/container")
    if named is not None:
        return named
    if root.exists("/run/.containerenv"):
        return "podman"
    if root.exists("/.dockerenv"):
        return "docker"
    if facts.container is not None:
        return facts.container
    return _first_in(root.read_text("/proc/1/cgroup") or "", _CGROUP_CONTAINERS)


def _assignments(text: str) -> list[tuple[str, str]]:
    """The lines `KEY=value` of a shell-like file, unquoted; a line with an open quote is left out."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if not separator or key.startswith("#"):
            continue
        try:
            found.append((key, "".join(shlex.split(value))))
        except ValueError:
            continue
    return found


def _first_in(text: str, table: tuple[tuple[str, str], ...]) -> str | None:
    return next((kind for word, kind in table if word in text), None)
