"""Boot loader, init, distribution, guest, container."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nfvhost.access.root import Root
from nfvhost.inspect import cpuinfo, platform
from nfvhost.model.host import Distribution
from nfvhost.model.live import LiveFacts

MakeTree = Callable[[Mapping[str, Any]], Root]
LOADER_INFO = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


@pytest.mark.parametrize(
    ("files", "loader"),
    [
        ({}, None),
        ({"/boot/grub/grub.cfg": "", "/etc/default/grub": ""}, "grub"),
        ({"/etc/default/grub": 'GRUB_CMDLINE_LINUX="quiet"\n'}, "grub"),
        ({"/etc/default/grub": "GRUB_ENABLE_BLSCFG=true\n", "/boot/grub2/grub.cfg": ""}, "bls"),
        ({"/etc/default/grub": 'GRUB_ENABLE_BLSCFG="false"\n', "/boot/loader/entries/a.conf": ""}, "grub"),
        ({"/etc/default/grub": "# GRUB_ENABLE_BLSCFG=true\n"}, "grub"),
        ({"/boot/grub2/grub.cfg": "", "/boot/loader/entries/a.conf": ""}, "bls"),
        ({"/boot/grub/grub.cfg": "", "/boot/loader/entries/a.conf": ""}, "grub"),
        ({"/boot/loader/loader.conf": "", "/boot/loader/entries/a.conf": ""}, "systemd-boot"),
        ({"/boot/efi/EFI/systemd/systemd-bootx64.efi": ""}, "systemd-boot"),
        ({LOADER_INFO: b"\6\0\0\0" + "systemd-boot 252".encode("utf-16-le"), "/etc/default/grub": ""}, "systemd-boot"),
        ({LOADER_INFO: b"\6\0\0\0" + "GRUB 2.12".encode("utf-16-le"), "/etc/default/grub": ""}, "grub"),
    ],
)
def test_the_boot_loader_is_told_by_its_files(make_tree: MakeTree, files: dict[str, Any], loader: str | None) -> None:
    assert platform.boot_loader(make_tree(files)) == loader


@pytest.mark.parametrize(
    ("files", "init"),
    [
        ({}, None),
        ({"/run/systemd/system/": ""}, "systemd"),
        ({"/proc/1/comm": "systemd\n"}, "systemd"),
        ({"/run/openrc/": "", "/proc/1/comm": "init\n"}, "openrc"),
        ({"/proc/1/comm": "tini\n"}, "other"),
    ],
)
def test_init_is_told_by_what_it_leaves_in_run(make_tree: MakeTree, files: dict[str, Any], init: str | None) -> None:
    assert platform.init(make_tree(files)) == init


def test_the_distribution_is_that_of_os_release(make_tree: MakeTree) -> None:
    text = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n# a comment\nID=debian\nVERSION_ID="12"\nBROKEN="\n'
    assert platform.distribution(make_tree({"/usr/lib/os-release": text})) == Distribution(
        id="debian", version_id="12", name="Debian GNU/Linux 12 (bookworm)"
    )


def test_no_os_release_is_no_distribution(make_tree: MakeTree) -> None:
    assert platform.distribution(make_tree({})) is None


GUEST = "processor : 0\nvendor_id : x\nflags\t\t: fpu lm hypervisor pdpe1gb\n"
METAL = "processor : 0\nvendor_id : x\nflags\t\t: fpu lm vmx pdpe1gb\n"
DMI = "/sys/class/dmi/id"


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"/proc/cpuinfo": METAL}, None),
        ({"/proc/cpuinfo": METAL, f"{DMI}/product_name": "m5.metal\n", f"{DMI}/sys_vendor": "Amazon EC2\n"}, None),
        ({"/proc/cpuinfo": GUEST}, "other"),
        ({"/proc/cpuinfo": GUEST, f"{DMI}/sys_vendor": "VMware, Inc.\n"}, "vmware"),
        ({"/proc/cpuinfo": GUEST, f"{DMI}/product_name": "KVM\n", f"{DMI}/sys_vendor": "Red Hat\n"}, "kvm"),
        ({"/proc/cpuinfo": GUEST, f"{DMI}/product_name": "Virtual Machine\n"}, "hyper-v"),
        ({"/proc/cpuinfo": GUEST, platform._CLOCKS: "kvm-clock tsc\n"}, "kvm"),  # noqa: SLF001 - its path is long
        ({"/sys/hypervisor/type": "xen\n", "/proc/cpuinfo": METAL}, "xen"),
        ({"/sys/hypervisor/type": "xen\n", "/proc/xen/capabilities": "control_d\n"}, None),
        ({"/proc/sysinfo": "VM00 Name: x\nVM00 Control Program: KVM/Linux \n"}, "kvm"),
        ({"/proc/sysinfo": "VM00 Control Program: z/VM    6.1.0 \n"}, "zvm"),
        ({"/proc/sysinfo": "LPAR Number: 3\n"}, None),
        ({"/proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, "kvm"),
        ({"/proc/device-tree/model": "IBM pSeries (emulated by qemu)\0"}, "qemu"),
        ({"/proc/device-tree/ibm,partition-name": "lpar1\0"}, "powervm"),
        ({"/proc/cpuinfo": "Features : fp asimd\n", f"{DMI}/sys_vendor": "QEMU\n"}, "qemu"),
        ({}, None),
    ],
)
def test_a_guest_is_told_from_metal(make_tree: MakeTree, files: dict[str, Any], kind: str | None) -> None:
    tree = make_tree(files)
    model = cpuinfo.cpu_model(tree, tree.read_text("/proc/cpuinfo"), architecture=None)
    assert platform.virtualization(tree, model) == kind


@pytest.mark.parametrize(
    ("files", "facts", "kind"),
    [
        ({}, LiveFacts(), None),
        ({"/run/systemd/container": "systemd-nspawn\n"}, LiveFacts(), "systemd-nspawn"),
        ({"/run/.containerenv": ""}, LiveFacts(), "podman"),
        ({"/.dockerenv": ""}, LiveFacts(), "docker"),
        ({}, LiveFacts(container="lxc"), "lxc"),
        ({"/proc/1/cgroup": "0::/kubepods/burstable/pod1\n"}, LiveFacts(), "kubernetes"),
        ({"/proc/1/cgroup": "0::/init.scope\n"}, LiveFacts(), None),
    ],
)
def test_a_container_is_told_from_a_machine(
    make_tree: MakeTree, files: dict[str, Any], facts: LiveFacts, kind: str | None
) -> None:
    assert platform.container(make_tree(files), facts) == kind
