"""Questions to a running OVS daemon over its control socket, as `ovs-appctl` asks them, with a deadline."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any, Final

from ovs.jsonrpc import EOF, Connection, Message
from ovs.poller import Poller
from ovs.stream import Stream

from nfvhost.access.clock import now_s
from nfvhost.access.ovs_json import use_fast_parser
from nfvhost.errors import PreconditionError

use_fast_parser()

_MILLISECONDS: Final = 1000
_UCRED: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


class DaemonError(PreconditionError):
    """A daemon that cannot be asked, or that answers with an error."""


class RefusedError(DaemonError):
    """A daemon that answers with an error."""


def call(path: str, method: str, params: list[Any], *, timeout_s: float) -> Any:  # noqa: ANN401 - JSON
    """What the daemon that listens on the socket `path` replies; params and result are JSON.

    OSError where it does not listen, hangs up or is silent for `timeout_s` (TimeoutError); RefusedError with its
    own words where it does not want to. The library's own blocking calls have no deadline, so that a stopped daemon
    would hang us.
    """
    deadline = now_s() + timeout_s
    stream = _connect(path, timeout_s=timeout_s)
    connection = Connection(stream)
    try:
        request = Message.create_request(method, params)
        code = connection.send(request)
        while not code:
            connection.run()
            code, reply = connection.recv()
            if reply is not None and reply.id == request.id:
                if reply.error is not None:
                    raise RefusedError(str(reply.error).strip(), where=f"{path}: {method}")
                return reply.result
            if code == errno.EAGAIN:
                left_s = deadline - now_s()
                if left_s <= 0:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), path)
                poller = Poller()
                connection.wait(poller)
                connection.recv_wait(poller)
                poller.timer_wait(int(left_s * _MILLISECONDS) + 1)
                poller.block()
                code = 0
        raise _os_error(errno.ECONNRESET if code == EOF else code, path)
    finally:
        connection.close()


def ask(path: str, command: str, *arguments: str, timeout_s: float = 5.0) -> str:
    """The text that `ovs-appctl -t PATH COMMAND ARGUMENTS…` would print.

    DaemonError where the daemon does not listen, does not answer within `timeout_s`, or refuses.
    """
    try:
        return str(call(path, command, list(arguments), timeout_s=timeout_s) or "")
    except OSError as error:
        raise DaemonError(
            f"the daemon does not answer ({error.strerror})",
            where=f"{path}: {command}",
            hint="is it stopped, busy or gone? see its log",
        ) from error


def peer_pid(path: str, *, timeout_s: float = 5.0) -> int | None:
    """The pid of the daemon behind a control socket, as this process's pid namespace numbers it, 0 where it cannot.

    None where nobody listens: no socket, or a socket file that a dead daemon left. A stopped daemon still listens.
    """
    try:
        stream = _connect(path, timeout_s=timeout_s)
    except PermissionError as error:
        raise DaemonError("no permission to ask the daemon", where=path, hint="run as root") from error
    except OSError:
        return None
    pid = socket_peer(stream.socket)
    stream.close()
    return pid


def socket_peer(connected: socket.socket) -> int:
    """The pid of the process that listens on a connected UNIX socket; 0 where its pid namespace is not ours to see."""
    packed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(packed)[0])


def _connect(path: str, *, timeout_s: float) -> Stream:
    code, stream = Stream.open_block(Stream.open(f"unix:{path}"), timeout=int(timeout_s * _MILLISECONDS))
    if code:
        raise _os_error(code, path)
    return stream


def _os_error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)
