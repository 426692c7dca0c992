"""vDPA devices, by the generic netlink family `vdpa`: what iproute2's tool of that name does, and no package for it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from nfvhost.access.vf_settings import refusal
from nfvhost.errors import PreconditionError

# include/uapi/linux/vdpa.h: VDPA_GENL_NAME, VDPA_GENL_VERSION, enum vdpa_command
_FAMILY: Final = "vdpa"
_VERSION: Final = 1
_MGMTDEV_GET: Final = 2
_DEV_NEW: Final = 3
_DEV_DEL: Final = 4
_DEV_CONFIG_GET: Final = 6
# drivers/vdpa/vdpa.c, vdpa_nl_cmd_dev_add_set_doit, and what makers of devices answer
_HINTS: Final = {
    errno.EPERM: "run as root",
    errno.ENODEV: "nothing of that name makes vDPA devices: vdpa mgmtdev show",
    errno.EEXIST: "there is a device of that name: vdpa dev show",
    errno.ENOSPC: "its maker has no room for another: vdpa dev show",
    errno.EOPNOTSUPP: "its maker cannot set this MAC or MTU: leave it out of the profile",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VdpaConfig:
    """What a guest's driver finds in a vDPA device; None where the device does not offer it."""

    name: str
    mac: str | None
    queue_pairs: int | None
    mtu: int | None


def management_devices() -> tuple[str, ...]:
    """`pci/0000:21:10.0`, `vdpasim_net`…: what can make vDPA devices; empty where the kernel has no vDPA."""
    with _socket() as socket:
        if socket is None:
            return ()
        found = [
            "/".join(
                part
                for name in ("VDPA_ATTR_MGMTDEV_BUS_NAME", "VDPA_ATTR_MGMTDEV_DEV_NAME")
                if (part := message.get_attr(name))
            )
            for message in _ask(socket, _MGMTDEV_GET, (), where="vdpa mgmtdev show", dump=True)
        ]
    return tuple(sorted(found))


def device_configs() -> tuple[VdpaConfig, ...]:
    """All vDPA devices with their configuration, by name; empty where the kernel has no vDPA."""
    with _socket() as socket:
        if socket is None:
            return ()
        found = [_config(message) for message in _ask(socket, _DEV_CONFIG_GET, (), where="vdpa dev show", dump=True)]
    return tuple(sorted(found, key=lambda config: config.name))


def add_device(
    name: str, *, management: str, mac: str | None = None, queue_pairs: int | None = None, mtu: int | None = None
) -> None:
    """Nothing, once the device is there; what is None is as its maker likes it. ApplyError where it refuses."""
    bus, _, device = management.rpartition("/")
    attributes: list[tuple[str, Any]] = [("VDPA_ATTR_DEV_NAME", name)]
    if bus:
        attributes.append(("VDPA_ATTR_MGMTDEV_BUS_NAME", bus))
    attributes.append(("VDPA_ATTR_MGMTDEV_DEV_NAME", device))
    if mac is not None:
        attributes.append(("VDPA_ATTR_DEV_NET_CFG_MACADDR", mac))
    if queue_pairs is not None:
        attributes.append(("VDPA_ATTR_DEV_NET_CFG_MAX_VQP", queue_pairs))
    if mtu is not None:
        attributes.append(("VDPA_ATTR_DEV_NET_CFG_MTU", mtu))
    _change(_DEV_NEW, tuple(attributes), where=f"vdpa dev add name {name} mgmtdev {management}")


def remove_device(name: str) -> None:
    """Nothing, once the device is gone; whoever has it open loses it, so ask first."""
    _change(_DEV_DEL, (("VDPA_ATTR_DEV_NAME", name),), where=f"vdpa dev del {name}")


def _config(message: Any) -> VdpaConfig:  # noqa: ANN401 - a message of pyroute2
    mac = message.get_attr("VDPA_ATTR_DEV_NET_CFG_MACADDR")
    return VdpaConfig(
        name=message.get_attr("VDPA_ATTR_DEV_NAME"),
        mac=mac.lower() if mac is not None else None,
        queue_pairs=message.get_attr("VDPA_ATTR_DEV_NET_CFG_MAX_VQP"),
        mtu=message.get_attr("VDPA_ATTR_DEV_NET_CFG_MTU"),
    )


def _change(command: int, attributes: tuple[tuple[str, Any], ...], *, where: str) -> None:
    with _socket() as socket:
        if socket is None:
            raise PreconditionError("this kernel has no vDPA", where=where, hint="modprobe vdpa")
        _ask(socket, command, attributes, where=where)


def _ask(
    socket: Any,  # noqa: ANN401 - a socket of pyroute2
    command: int,
    attributes: tuple[tuple[str, Any], ...],
    *,
    where: str,
    dump: bool = False,
) -> tuple[Any, ...]:
    from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST  # noqa: PLC0415 - costs 200 ms
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - the same

    message = _message_class()()
    message["cmd"], message["version"], message["attrs"] = command, _VERSION, list(attributes)
    flags = NLM_F_REQUEST | (NLM_F_DUMP if dump else NLM_F_ACK)
    try:
        return tuple(socket.nlm_request(message, msg_type=socket.prid, msg_flags=flags))
    except NetlinkError as error:
        raise refusal(error.code, where, hints=_HINTS) from error


@contextmanager
def _socket() -> Iterator[Any]:
    """A socket that speaks with the family; None where the kernel has none of that name."""
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - costs 200 ms
    from pyroute2.netlink.generic import GenericNetlinkSocket  # noqa: PLC0415 - the same

    with GenericNetlinkSocket() as socket:
        try:
            socket.bind(_FAMILY, _message_class())
        except NetlinkError:
            yield None
            return
        yield socket


@cache
def _message_class() -> Any:  # noqa: ANN401 - made here, since its base is loaded late
    from pyroute2.netlink import genlmsg  # noqa: PLC0415 - costs 200 ms

    class Message(genlmsg):  # type: ignore[misc,unused-ignore] # pyroute2 has no types
        # include/uapi/linux/vdpa.h, enum vdpa_attr, up to what is read or written here.
        nla_map = (
            ("VDPA_ATTR_UNSPEC", "none"),
            ("VDPA_ATTR_MGMTDEV_BUS_NAME", "asciiz"),
            ("VDPA_ATTR_MGMTDEV_DEV_NAME", "asciiz"),
            ("VDPA_ATTR_MGMTDEV_SUPPORTED_CLASSES", "uint64"),
            ("VDPA_ATTR_DEV_NAME", "asciiz"),
            ("VDPA_ATTR_DEV_ID", "uint32"),
            ("VDPA_ATTR_DEV_VENDOR_ID", "uint32"),
            ("VDPA_ATTR_DEV_MAX_VQS", "uint32"),
            ("VDPA_ATTR_DEV_MAX_VQ_SIZE", "uint16"),
            ("VDPA_ATTR_DEV_MIN_VQ_SIZE", "uint16"),
            ("VDPA_ATTR_DEV_NET_CFG_MACADDR", "l2addr"),
            ("VDPA_ATTR_DEV_NET_STATUS", "uint8"),
            ("VDPA_ATTR_DEV_NET_CFG_MAX_VQP", "uint16"),
            ("VDPA_ATTR_DEV_NET_CFG_MTU", "uint16"),
        )

    return Message
