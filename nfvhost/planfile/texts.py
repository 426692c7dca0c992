"""Texts that name something of a machine: what a plan from a stranger may put into files, databases and commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final

from nfvhost.drivers import DRIVERS, USERSPACE_DRIVERS
from nfvhost.model.ovs_keys import INTERFACE_OPTIONS
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import (
    GuestPlan,
    NeutronPlan,
    NicPlan,
    OvsBridge,
    OvsPlan,
    OvsPort,
    PciDeviceSpec,
    Plan,
    TunnelPlan,
    VfSettings,
)
from nfvhost.model.profile import GuestPortWish, GuestShape, NicWish, OvsWish, VhostPort
from nfvhost.model.vdevs import parse_vdev
from nfvhost.model.vnf import ServerGroup, Vnf, VnfImage, VnfPort


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a text must look like."""

    expected: str  # "a MAC address of a node"
    fits: Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """What keys and values must look like; some keys have values of a form of their own."""

    key: Form
    value: Form
    values: Mapping[str, Form] = field(default_factory=dict)


# Class, or one that it inherits from, and field -> the form of its text, of each text of its list, or of its pairs; all
# others are for people.
Texts = dict[tuple[type, str], Form | Pairs]


def _like(pattern: str, expected: str) -> Form:
    return Form(expected=expected, fits=re.compile(pattern).fullmatch)  # type: ignore[arg-type]  # a match is true


def _one_of(*words: str) -> Form:
    return Form(expected=f"one of {', '.join(words)}", fits=frozenset(words).__contains__)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return "%" not in text


def _is_path(text: str) -> bool:
    return bool(_PATH.fullmatch(text)) and not {".", ".."} & set(text.split("/"))


def _is_mac(text: str) -> bool:
    return bool(_MAC.fullmatch(text)) and text.strip("0:") != ""


def _is_device(text: str) -> bool:
    """Whether it is a PCI function with what DPDK's own drivers take, or a virtual device that a plan may hold."""
    if not _DEVARGS.fullmatch(text):
        return False
    if text.startswith("net_"):
        try:
            parse_vdev(text)
        except ValueError:
            return False
        return True
    if text.startswith("class=eth,mac="):
        return _is_mac(text.removeprefix("class=eth,mac="))
    try:
        PciAddress.parse(text.partition(",")[0])
    except ValueError:
        return False
    return True


def _are_eal_options(text: str) -> bool:
    """Whether all words are options that load no code and write no file of the plan's choice; no abbreviations."""
    words = text.split(" ")
    at = 0
    while at < len(words):
        word = words[at]
        name, equals, value = word.partition("=")
        at += 1
        if not word:
            continue
        taken = _EAL.get(name)
        if taken is None:
            return False
        if taken and not equals:
            value = words[at] if at < len(words) else ""
            at += 1
        if not re.fullmatch(taken, value):
            return False
    return True


# <linux/if.h> IFNAMSIZ; net/core/dev.c, dev_valid_name. A capture's interfaces may have any such name.
_INTERFACE: Final = _like(r"(?!\.{1,2}$)[^\s/:\x00]{1,15}", "the name of a network interface")
# What nfvhost itself names: the same, in letters that no list, file or unit takes for its own.
_NAME: Final = _like(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", "a name of at most 15 letters, digits, _, - and .")
_LONG_NAME: Final = _like(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "a name of letters, digits, _, - and .")
# Of several guests alike, the number comes behind.
_GUEST_NAME: Final = _like(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,70}", _LONG_NAME.expected)
# Whatever a plan names is loaded as a module: only drivers of network cards.
_DRIVERS: Final = (
    frozenset(name for row in DRIVERS for name in row.kernel)
    | frozenset(row.vdpa_driver for row in DRIVERS if row.vdpa_driver is not None)
    | USERSPACE_DRIVERS
)
_DRIVER: Final = Form(expected="a driver of network cards that nfvhost knows", fits=_DRIVERS.__contains__)
_PRESENT_DRIVER: Final = _like(r"(?!\.{1,2}$)[^/\x00-\x1f\x7f]+", "the name of a kernel driver")
_MAC: Final = re.compile(r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}")
MAC: Final = Form(expected="the MAC address of one node, such as 02:00:00:00:00:01,", fits=_is_mac)
# unix(7): sun_path has 108 bytes.
_PATH: Final = re.compile(r"/[A-Za-z0-9_./+@-]{1,106}")
PATH: Final = Form(expected="an absolute path of at most 107 plain letters, without .. in it,", fits=_is_path)
ADDRESS: Final = Form(expected="an IP address", fits=_is_address)
_REMOTE: Final = Form(expected="an IP address, or flow,", fits=lambda text: text == "flow" or _is_address(text))
NETWORK: Final = Form(expected="a network such as 192.0.2.0/24", fits=_is_network)
_ARGUMENT: Final = _like(r"[A-Za-z0-9_.-]+(=[A-Za-z0-9_.,:+-]*)?", "an argument of the kernel, name or name=value,")
_RELEASE: Final = _like(r"\d{1,3}\.\d{1,3}", "a release such as 3.5")
_KEY: Final = _like(r"[A-Za-z0-9_-]{1,64}", "the name of a key")
_VALUE: Final = _like(r"[^\x00-\x1f\x7f-\x9f]{0,1000}", "a text without line ends and control characters")
# Nova, Neutron and Glance: at most 255 letters.
_CLOUD_NAME: Final = _like(r"[^\x00-\x1f\x7f-\x9f]{1,255}", "a name of at most 255 letters")
_PROPERTY: Final = _like(r"[A-Za-z0-9_:.-]{1,255}", "the name of a property")
_DEVARGS: Final = re.compile(r"[A-Za-z0-9_.,:=@/\[\]-]{1,255}")
DEVICE: Final = Form(expected="a PCI address, or a virtual device that a plan may hold,", fits=_is_device)
_PCI: Final = r"[0-9a-fA-F:.]{5,16}"
_NUMBER: Final = r"[0-9]{1,9}"
_CPUS: Final = r"[0-9a-fA-Fx,@()-]{1,200}"
_MIB: Final = r"[0-9,]{1,200}"
# DPDK lib/eal/common/eal_common_options.c. Left out: -d and --driver-path load a library, --vdev makes devices that may
# run a command (net_failsafe), --trace-dir and --huge-dir write into a folder, --file-prefix makes one of its name.
_EAL: Final[dict[str, str]] = {
    **dict.fromkeys(("-a", "--allow", "-b", "--block"), _PCI),
    **dict.fromkeys(("-l", "-c", "--lcores"), _CPUS),
    **dict.fromkeys(("-n", "-r", "-m", "--main-lcore", "--force-max-simd-bitwidth"), _NUMBER),
    **dict.fromkeys(("--socket-mem", "--socket-limit"), _MIB),
    **dict.fromkeys(
        (
            *("--no-pci", "--no-huge", "--no-hpet", "--no-shconf", "--no-telemetry", "--telemetry", "--in-memory"),
            *("--single-file-segments", "--match-allocations", "--legacy-mem", "--auto-probing", "--no-auto-probing"),
        ),
        "",
    ),
    "--iova-mode": "pa|va",
    "--base-virtaddr": "0x[0-9a-fA-F]{1,16}",
    "--file-prefix": "[A-Za-z0-9_]{1,32}",
    "--huge-unlink": "|existing|always|never",
    "--log-level": "[A-Za-z0-9_.:,*]{1,100}",
    "--vfio-intr": "legacy|msi|msix",
}
EAL: Final = Form(expected="options of DPDK that load no code and write no file", fits=_are_eal_options)

V1: Final[Texts] = {
    (NicWish, "vf_macs"): MAC,
    (NicWish, "physnet"): _LONG_NAME,
    (OvsWish, "socket_dir"): PATH,
    (VhostPort, "socket"): PATH,
    (GuestShape, "name"): _LONG_NAME,
    (GuestPortWish, "physnet"): _LONG_NAME,
    (Vnf, "key_pair"): _CLOUD_NAME,
    (Vnf, "availability_zone"): _CLOUD_NAME,
    (VnfImage, "name"): _CLOUD_NAME,
    (VnfImage, "properties"): Pairs(key=_PROPERTY, value=_VALUE),
    (ServerGroup, "name"): _CLOUD_NAME,
    (VnfPort, "name"): _LONG_NAME,
    (VnfPort, "network"): _CLOUD_NAME,
    (VnfPort, "subnet"): NETWORK,
    (VnfPort, "address"): ADDRESS,
    (VnfPort, "mac"): MAC,
    (Plan, "kernel_args"): _ARGUMENT,
    (VfSettings, "macs"): MAC,
    (NicPlan, "netdevs"): _INTERFACE,
    (NicPlan, "current_driver"): _PRESENT_DRIVER,
    (NicPlan, "driver"): _DRIVER,
    (NicPlan, "vf_driver"): _DRIVER,
    (NicPlan, "physnet"): _LONG_NAME,
    (OvsPort, "name"): _NAME,
    (OvsPort, "type"): _one_of(*sorted(INTERFACE_OPTIONS)),
    (OvsPort, "options"): Pairs(
        key=_KEY, value=_VALUE, values={"dpdk-devargs": DEVICE, "vhost-server-path": PATH, "dpdk-vf-mac": MAC}
    ),
    (OvsPort, "other_config"): Pairs(key=_KEY, value=_VALUE),
    (OvsBridge, "name"): _NAME,
    (OvsBridge, "datapath_type"): _one_of("netdev", "system"),
    (OvsBridge, "fail_mode"): _one_of("standalone", "secure"),
    (OvsBridge, "physnet"): _LONG_NAME,
    (OvsPlan, "version"): _RELEASE,
    (OvsPlan, "other_config"): Pairs(key=_KEY, value=_VALUE, values={"dpdk-extra": EAL, "dpdk-hugepage-dir": PATH}),
    (OvsPlan, "socket_dir"): PATH,
    (TunnelPlan, "name"): _NAME,
    (TunnelPlan, "bridge"): _NAME,
    (TunnelPlan, "local"): ADDRESS,
    (TunnelPlan, "remote"): _REMOTE,
    (TunnelPlan, "segments"): ADDRESS,
    (TunnelPlan, "networks"): NETWORK,
    (TunnelPlan, "flow_label"): _one_of("copy", "zero", "compute"),
    (TunnelPlan, "underlay_bridge"): _NAME,
    (TunnelPlan, "gateway"): ADDRESS,
    (TunnelPlan, "gateway_mac"): MAC,
    (TunnelPlan, "guest_port"): _NAME,
    (TunnelPlan, "guest_mac"): MAC,
    (PciDeviceSpec, "physical_network"): _LONG_NAME,
    (NeutronPlan, "datapath_type"): _one_of("netdev", "system"),
    (NeutronPlan, "vhostuser_socket_dir"): PATH,
    (NeutronPlan, "bridge_mappings"): Pairs(key=_LONG_NAME, value=_NAME),
    (GuestPlan, "name"): _GUEST_NAME,
}
