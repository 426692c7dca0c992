"""Calls inside a network namespace, with mounts of their own where asked."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from nfvhost.errors import PreconditionError

T = TypeVar("T")

# include/uapi/linux/sched.h
_CLONE_NEWNS: Final = 0x00020000
# include/uapi/linux/mount.h: MS_REC and MS_SLAVE, what `mount --make-rslave` asks.
_MAKE_RSLAVE: Final = 0x4000 | 1 << 19
_CLONE_NEWNET: Final = 0x40000000
_ETH_P_ALL: Final = 0x0003  # include/uapi/linux/if_ether.h
# include/uapi/linux/sockios.h, ethtool.h
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_STXCSUM: Final = 0x17
# Where iproute2 keeps named namespaces (ip-netns(8)).
DIRECTORY: Final = "/run/netns"


def call_inside(netns: str, call: Callable[[], T], *, own_mounts: bool = False) -> T:
    """What `call` returns in the network namespace of that name or path; commands that it runs are in there too.

    With `own_mounts`, mounts made by `call` are seen by it and its children only, and go when the last of them
    ends. Runs in a thread of its own, since the kernel keeps namespaces per thread: the caller stays where it is.
    """
    answer: list[T] = []
    failure: list[BaseException] = []
    begun = False
    gate = threading.Lock()
    ended = threading.Event()

    def enter_and_call() -> None:
        with gate:
            if not begun:
                return
        try:
            _enter(netns, own_mounts=own_mounts)
            answer.append(call())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, where it is raised
            failure.append(error)
        finally:
            ended.set()

    # An interrupt must not leave the call at work behind the caller's back: it either has not begun and never will, or
    # is waited for. Not by Thread.join: interrupted once, it takes the thread for ended from then on (Python 3.11,
    # Thread._wait_for_tstate_lock).
    try:
        with gate:
            threading.Thread(target=enter_and_call, name=f"in-{netns}").start()
            begun = True
        ended.wait()
    finally:
        if begun:
            ended.wait()
    if failure:
        raise failure[0]
    return answer[0]


def packet_socket(netns: str, netdev: str) -> socket.socket:
    """A socket that sends and receives whole Ethernet frames on `netdev`, for as long as it is open.

    Source: packet(7). It belongs to the namespace that it was opened in, wherever its user is.
    """

    def opened() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        try:
            made.bind((netdev, 0))
        except OSError as error:
            made.close()
            raise PreconditionError(
                f"no frames can be had from {netdev}: {error.strerror}", where=f"{DIRECTORY}/{netns}"
            ) from error
        return made

    return call_inside(netns, opened)


def disable_transmit_checksum(netns: str, netdev: str) -> None:
    """Nothing; the kernel then fills in checksums itself instead of leaving them to a NIC that is not there.

    Source: ethtool(8) -K tx off, as its ioctl: no package is needed.
    """

    def switched() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_STXCSUM, 0))
            request = struct.pack("16sP16x", netdev.encode(), ctypes.addressof(value))
            fcntl.ioctl(control, _SIOCETHTOOL, request)

    call_inside(netns, switched)


def _enter(netns: str, *, own_mounts: bool) -> None:
    """Nothing; the calling thread is in the namespace from here on."""
    # A path, such as /proc/<pid>/ns/net, stays what it is.
    place = os.path.join(DIRECTORY, netns)
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _libc("setns", descriptor, _CLONE_NEWNET)
        finally:
            os.close(descriptor)
        if own_mounts:
            _libc("unshare", _CLONE_NEWNS)
            # systemd makes all mounts shared: those made here would show up outside as well.
            _libc("mount", None, b"/", None, _MAKE_RSLAVE, None)
    except OSError as error:
        raise PreconditionError(
            f"the network namespace cannot be entered: {error.strerror}",
            where=place,
            hint="run as root; `ip netns list` shows the namespaces",
        ) from error


def _libc(function: str, *arguments: int | bytes | None) -> None:
    """Nothing; OSError where the call fails. os.setns and os.unshare came with Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
