"""What a PF makes of its VFs, by rtnetlink."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from nfvhost.errors import ApplyError, NfvhostError, PreconditionError

if TYPE_CHECKING:
    from pyroute2 import IPRoute

# include/uapi/linux/rtnetlink.h: RTEXT_FILTER_VF, RTEXT_FILTER_SKIP_STATS
_WITH_VFS: Final = 1 << 0
_WITH_VFS_WITHOUT_STATISTICS: Final = 1 << 0 | 1 << 3
# What rtnl_fill_vfinfo (net/core/rtnetlink.c) leaves in where the driver says nothing.
_NOT_SAID: Final = 0xFFFFFFFF
# include/uapi/linux/if_link.h: IFLA_VF_LINK_STATE_AUTO, _ENABLE, _DISABLE
_STATES: Final = ("auto", "enable", "disable")
_SWITCH: Final = ("off", "on")
# include/uapi/linux/if_ether.h: ETH_P_8021AD
_SERVICE_TAG: Final = 0x88A8
SERVICE_TAGGED: Final = " proto 802.1ad"
_VLAN: Final = re.compile(r"(\d+)(?: qos (\d+))?")
_HINTS: Final = {
    errno.EPERM: "run as root",
    errno.EOPNOTSUPP: "the driver of this port cannot set it: leave it out of the profile",
    errno.EINVAL: "the driver refuses this value, or refuses it while the port has no link; dmesg may say more",
    errno.ENODEV: "another network namespace has the port's interface, or its driver went",
}


class VfSetting(StrEnum):
    """One thing that a PF decides for a VF, by its name in ip-link(8)."""

    MAC = "mac"
    VLAN = "vlan"
    TRUST = "trust"
    SPOOF_CHECK = "spoofchk"
    LINK_STATE = "state"
    MAX_TX_RATE = "max_tx_rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class VfAttributes:
    """All of it for one VF, each as ip-link(8) writes it; None where the driver says nothing of it."""

    vf: int
    mac: str | None
    vlan: str | None  # "0", "100", "100 qos 3", "100 qos 3 proto 802.1ad"; 0 is none
    trust: str | None  # on, off
    spoof_check: str | None  # on, off
    link_state: str | None  # auto, enable, disable
    max_tx_rate: str | None  # Mbit/s; 0 is no limit

    def text(self, setting: VfSetting) -> str | None:
        """The value of that setting."""
        value: str | None = getattr(self, setting.name.lower())
        return value


def read_vfs(netdevs: Iterable[str]) -> dict[str, tuple[VfAttributes, ...]]:
    """PF's interface -> its VFs in order; what is no interface of this namespace any more is left out.

    Source: RTM_GETLINK with RTEXT_FILTER_VF, IFLA_VFINFO_LIST (include/uapi/linux/if_link.h).
    """
    return {netdev: tuple(map(_attributes, vfs)) for netdev, vfs in _read(netdevs, _WITH_VFS_WITHOUT_STATISTICS)}


def _read(netdevs: Iterable[str], mask: int) -> Iterator[tuple[str, list[Any]]]:
    """Each PF that is there, with what the kernel says of its VFs."""
    with _route() as route:
        for netdev in netdevs:
            try:
                index = socket.if_nametoindex(netdev)
            except OSError:
                continue
            with _errors(f"VFs of {netdev}"):
                for link in route.link("get", index=index, ext_mask=mask):
                    vfs = link.get_attr("IFLA_VFINFO_LIST")
                    yield netdev, vfs.get_attrs("IFLA_VF_INFO") if vfs is not None else []


@dataclass(frozen=True, slots=True, kw_only=True)
class VfCounters:
    """What a PF has counted of one VF; zeros where its driver counts nothing."""

    vf: int
    received_packets: int
    sent_packets: int
    received_bytes: int
    sent_bytes: int
    receive_dropped: int
    transmit_dropped: int


def count_vfs(netdevs: Iterable[str]) -> dict[str, tuple[VfCounters, ...]]:
    """PF's interface -> the counters of its VFs in order; what is no interface of this namespace is left out.

    Source: RTM_GETLINK with RTEXT_FILTER_VF, IFLA_VF_STATS (include/uapi/linux/if_link.h).
    """
    return {netdev: tuple(vf_counters(vf) for vf in vfs) for netdev, vfs in _read(netdevs, _WITH_VFS)}


def vf_counters(vf: Any) -> VfCounters:  # noqa: ANN401 - a message of pyroute2
    """One VF's, of the message that its PF answers."""
    counted = vf.get_attr("IFLA_VF_STATS")

    def count(name: str) -> int:
        return int(counted.get_attr(f"IFLA_VF_STATS_{name}") or 0) if counted is not None else 0

    return VfCounters(
        vf=vf.get_attr("IFLA_VF_MAC")["vf"],
        received_packets=count("RX_PACKETS"),
        sent_packets=count("TX_PACKETS"),
        received_bytes=count("RX_BYTES"),
        sent_bytes=count("TX_BYTES"),
        receive_dropped=count("RX_DROPPED"),
        transmit_dropped=count("TX_DROPPED"),
    )


def write_vf(netdev: str, *, vf: int, setting: VfSetting, text: str) -> None:
    """Nothing, once the driver has taken it; ApplyError with its answer where it refuses."""
    with _errors(f"{netdev} vf {vf} {setting.value} {text}"), _route() as route:
        route.link("set", index=_index(netdev), vf={"vf": vf, **_specification(setting, text)})


def set_up(netdev: str, *, up: bool) -> None:
    """Nothing, once the interface is administratively up or down."""
    with _errors(netdev), _route() as route:
        route.link("set", index=_index(netdev), state="up" if up else "down")


def _attributes(vf: Any) -> VfAttributes:  # noqa: ANN401 - a message of pyroute2
    mac = vf.get_attr("IFLA_VF_MAC")
    return VfAttributes(
        vf=mac["vf"],
        mac=mac["mac"],
        vlan=_vlan_text(vf),
        trust=_chosen(vf, "IFLA_VF_TRUST", "trust", _SWITCH),
        spoof_check=_chosen(vf, "IFLA_VF_SPOOFCHK", "spoofchk", _SWITCH),
        link_state=_chosen(vf, "IFLA_VF_LINK_STATE", "link_state", _STATES),
        max_tx_rate=_number(vf, "IFLA_VF_RATE", "max_tx_rate"),
    )


def _chosen(vf: Any, attribute: str, field: str, words: tuple[str, ...]) -> str | None:  # noqa: ANN401 - the same
    found = vf.get_attr(attribute)
    return words[found[field]] if found is not None and found[field] < len(words) else None


def _number(vf: Any, attribute: str, field: str) -> str | None:  # noqa: ANN401 - the same
    found = vf.get_attr(attribute)
    return str(found[field]) if found is not None and found[field] != _NOT_SAID else None


def _vlan_text(vf: Any) -> str | None:  # noqa: ANN401 - the same
    plain, several = vf.get_attr("IFLA_VF_VLAN"), vf.get_attr("IFLA_VF_VLAN_LIST")
    if plain is None:
        return None
    text = str(plain["vlan"])
    if plain["qos"]:
        text += f" qos {plain['qos']}"
    # Only the list tells the protocol; the kernel fills in one entry (rtnl_fill_vfinfo).
    tags = several.get_attrs("IFLA_VF_VLAN_INFO") if several is not None else ()
    if plain["vlan"] and any(tag["proto"] == _SERVICE_TAG for tag in tags):
        text += SERVICE_TAGGED
    return text


def _specification(setting: VfSetting, text: str) -> dict[str, Any]:
    """As `vf` of pyroute2's IPRoute.link has it."""
    if setting is VfSetting.MAC:
        return {"mac": text}
    if setting is VfSetting.VLAN:
        return {"vlan": _vlan(text)}
    if setting is VfSetting.LINK_STATE:
        return {"link_state": _STATES.index(text)}
    if setting is VfSetting.MAX_TX_RATE:
        # IFLA_VF_TX_RATE keeps the lowest rate as it is (do_setvfinfo); IFLA_VF_RATE would set both.
        return {"tx_rate": int(text)}
    return {setting.value: _SWITCH.index(text)}


def _vlan(text: str) -> dict[str, int]:
    match = _VLAN.fullmatch(text)
    if match is None:
        # pyroute2 writes two bytes less than struct ifla_vf_vlan_info has: the kernel answers EINVAL (do_setvfinfo).
        raise ApplyError(f"{text!r} is no VLAN that nfvhost can set")
    return {"vlan": int(match[1]), "qos": int(match[2] or 0)}


def _index(netdev: str) -> int:
    return socket.if_nametoindex(netdev)


@contextmanager
def _route() -> Iterator[IPRoute]:
    from pyroute2 import IPRoute  # noqa: PLC0415 - costs 200 ms, and most plans have no VFs

    with IPRoute() as route:
        yield route


@contextmanager
def _errors(where: str) -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - as above

    try:
        yield
    except NetlinkError as error:
        raise refusal(error.code, where) from error
    except OSError as error:
        # if_nametoindex gives no number where there is no such interface.
        raise refusal(error.errno or errno.ENODEV, where) from error


def refusal(code: int, where: str, *, hints: Mapping[int, str] = _HINTS) -> NfvhostError:
    """What the kernel said to a message, as an error of ours."""
    what = f"the kernel refused it: {os.strerror(code)} ({errno.errorcode.get(code, code)})"
    kind = PreconditionError if code == errno.EPERM else ApplyError
    return kind(what, where=where, hint=hints.get(code, "dmesg may say more"))
