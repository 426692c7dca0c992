"""QEMU's monitor and the guest's agent: JSON, one document a line, over Unix sockets."""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_POLL_S: Final = 0.1


class NoAnswerError(Exception):
    """The other side has not answered in time, or is not there."""


class RefusedError(Exception):
    """The other side said no, and why."""


class JsonSocket:
    """One connection; replies in the order of requests."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._rest = b""
        # A path of more than 108 bytes is too long for a socket (unix(7)): by its folder's descriptor.
        folder = os.open(path.parent, os.O_PATH)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{path.name}")
        except OSError as error:
            self._socket.close()
            raise NoAnswerError(f"{path}: {error}") from error
        finally:
            os.close(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        """Of a constructor that fails nobody has the connection to close it."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def set_timeout(self, timeout_s: float) -> None:
        """How long the next answers may take."""
        self._socket.settimeout(timeout_s)

    def send(self, content: bytes) -> None:
        """Sends bytes as they are."""
        self._socket.sendall(content)

    def receive(self) -> dict[str, Any]:
        """The next document; NoAnswerError where none comes in time."""
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                # The agent answers guest-sync-delimited with 0xff in front, and a parser reset may leave blanks.
                text = line.rpartition(b"\xff")[2].strip()
                if text:
                    document: dict[str, Any] = json.loads(text)
                    return document
                continue
            try:
                more = self._socket.recv(1 << 20)
            except OSError as error:
                raise NoAnswerError(str(error) or type(error).__name__) from error
            if not more:
                raise NoAnswerError("the connection was closed")
            self._rest += more

    def ask(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - JSON
        """The value that the other side returns; RefusedError where it reports an error."""
        request: dict[str, object] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self.send(json.dumps(request).encode() + b"\n")
        while True:
            answer = self.receive()
            if "error" in answer:
                raise RefusedError(f"{command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]


class Monitor(JsonSocket):
    """QEMU's monitor (docs/interop/qmp-spec.rst)."""

    def __init__(self, path: Path, *, timeout_s: float = 120) -> None:
        super().__init__(path, timeout_s=timeout_s)
        with self._closed_on_failure():
            self.receive()
            self.ask("qmp_capabilities")

    def human(self, line: str) -> str:
        """What the human monitor prints; nothing where all went well."""
        return str(self.ask("human-monitor-command", {"command-line": line})).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of a command in the guest."""

    argv: tuple[str, ...]
    code: int  # 128 + the signal where one ended it, as a shell says
    out: str
    err: str

    def __str__(self) -> str:
        return f"$ {' '.join(self.argv)}\n{self.out}{self.err}exit {self.code}"


class Agent(JsonSocket):
    """The guest's agent (docs/interop/qemu-ga-ref.rst)."""

    def __init__(self, path: Path, *, timeout_s: float = 10) -> None:
        super().__init__(path, timeout_s=timeout_s)
        token = time.monotonic_ns() & 0x7FFFFFFF
        # 0xff makes it forget half of a request; answers to requests before ours have another token, or none.
        request = json.dumps({"execute": "guest-sync-delimited", "arguments": {"id": token}})
        with self._closed_on_failure():
            self.send(b"\xff" + request.encode() + b"\n")
            while self.receive().get("return") != token:
                pass

    def start(self, argv: Sequence[str], *, stdin: bytes = b"", environment: Sequence[str] = ()) -> int:
        """The pid of a command that runs in the guest."""
        arguments: dict[str, object] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        if environment:
            arguments["env"] = list(environment)
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        return int(self.ask("guest-exec", arguments)["pid"])

    def wait(self, pid: int, argv: Sequence[str], *, timeout_s: float) -> tuple[int, bytes, bytes]:
        """Exit code and output of a command that was started; NoAnswerError where it does not end in time."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                status = self.ask("guest-exec-status", {"pid": pid})
            except RefusedError as error:  # another boot's agent knows nothing of it
                raise NoAnswerError(f"{' '.join(argv)} went with its boot") from error
            if status["exited"]:
                code = status.get("exitcode", 128 + status.get("signal", 0))
                out, err = (base64.b64decode(status.get(one, "")) for one in ("out-data", "err-data"))
                return code, out, err
            if time.monotonic() > end:
                raise NoAnswerError(f"{' '.join(argv)} has not ended after {timeout_s:.0f} s")
            time.sleep(_POLL_S)
