"""What kind of system this is: boot loader, init, distribution, guest or container."""

from __future__ import annotations

import re
import shlex
from typing import Final

from nfvhost.access.root import Root
from nfvhost.model.host import Distribution
from nfvhost.model.live import LiveFacts

_OS_RELEASE: Final = ("/etc/os-release", "/usr/lib/os-release")
_GRUB_DEFAULT: Final = "/etc/default/grub"
_GRUB_FILES: Final = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", _GRUB_DEFAULT)
# bootctl(1): where systemd-boot lies, by the mount point of the EFI system partition.
_SYSTEMD_BOOT: Final = ("/efi/EFI/systemd", "/boot/EFI/systemd", "/boot/efi/EFI/systemd")
# systemd.io/BOOT_LOADER_INTERFACE: the boot loader writes its name there, UTF-16 after four bytes of attributes.
_LOADER_INFO: Final = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
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


def boot_loader(root: Root) -> str | None:
    """`grub`, `bls` (GRUB with Boot Loader Specification entries), `systemd-boot`; None where no file tells."""
    stated = (root.read_bytes(_LOADER_INFO) or b"")[4:].decode("utf-16-le", errors="replace").lower()
    has_grub = any(root.exists(path) for path in _GRUB_FILES)
    if stated.startswith("systemd-boot"):
        return "systemd-boot"
    if not has_grub:
        found = any(root.exists(path) for path in _SYSTEMD_BOOT) or root.exists("/boot/loader/loader.conf")
        return "systemd-boot" if found else None
    # Debian's grub takes its arguments from the default file even where entries lie about; Fedora's says so here.
    enabled = re.search(r"(?m)^\s*GRUB_ENABLE_BLSCFG\s*=\s*[\"']?(\w+)", root.read_text(_GRUB_DEFAULT) or "")
    if enabled is not None:
        return "bls" if enabled[1].lower() == "true" else "grub"
    entries = any(name.endswith(".conf") for name in root.list_dir("/boot/loader/entries"))
    return "bls" if entries and not root.exists("/boot/grub/grub.cfg") else "grub"


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


def virtualization(root: Root) -> str | None:
    """The hypervisor that this system is a guest of: `kvm`, `vmware`, `xen`, … or `other`; None on metal.

    Source: the cpuinfo flag `hypervisor`, /sys/class/dmi/id, /sys/hypervisor, the device tree, /proc/sysinfo.
    """
    if root.read_line("/sys/hypervisor/type") == "xen":
        return None if "control_d" in (root.read_text("/proc/xen/capabilities") or "") else "xen"
    mainframe = root.read_text("/proc/sysinfo")
    if mainframe is not None:
        guest = re.search(r"(?m)^VM00 Control Program:\s*(\S+)", mainframe)
        return guest and ("kvm" if guest[1].startswith("KVM") else "zvm")
    dmi = " ".join(filter(None, (root.read_line(f"/sys/class/dmi/id/{name}") for name in _DMI)))
    by_dmi = _first_in(dmi, _BY_DMI)
    flags = re.search(r"(?m)^flags\s*:(.*)$", root.read_text("/proc/cpuinfo") or "")
    if flags is None:
        return by_dmi or _of_device_tree(root)
    if "hypervisor" not in flags[1].split():
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
