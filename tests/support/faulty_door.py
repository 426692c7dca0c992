"""A door before one of a cloud's services that lets all through but what it is told to spoil."""

from __future__ import annotations

import re
import ssl
import threading
import urllib.error
import urllib.request
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

_PATIENCE_S: Final = 60.0
_NOTHING: Final = r"(?!)"  # as a regular expression
_PAGE: Final = b"<html><body><h1>the proxy lost its upstream</h1></body></html>"
# Of one connection alone: they say nothing about the request.
_HOPS: Final = frozenset({"connection", "host", "transfer-encoding", "content-length"})


class Fault(StrEnum):
    """What becomes of a spoiled request."""

    REFUSED = "refused"  # it is answered 500 in the service's place
    UNANSWERED = "unanswered"  # the service does it, and nobody hears of it


class FaultyDoor:
    """It stands open while it is a context; `spoil` is matched against a request's method and path.

    With `tls` it is entered by TLS alone.
    """

    def __init__(
        self,
        service: str,
        *,
        spoil: str = _NOTHING,
        fault: Fault = Fault.REFUSED,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.met = 0  # requests that were spoiled
        self.passed = 0  # those that were not
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(service, re.compile(spoil), fault))
        if tls is not None:
            # The handshake is for the thread of a connection, and not for the one that takes all of them.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http{'' if tls is None else 's'}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self, service: str, spoil: re.Pattern[str], fault: Fault) -> type[BaseHTTPRequestHandler]:
        door = self

        class Handler(BaseHTTPRequestHandler):
            def _pass_on(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                spoiled = spoil.search(f"{self.command} {self.path}") is not None
                door.met += spoiled
                door.passed += not spoiled
                if spoiled and fault is Fault.REFUSED:
                    self._answer(500, {"Content-Type": "text/html"}, _PAGE)
                    return
                headers = {name: said for name, said in self.headers.items() if name.lower() not in _HOPS}
                request = urllib.request.Request(  # noqa: S310 - an address of the test's
                    f"{service}{self.path}", data=content or None, headers=headers, method=self.command
                )
                try:
                    with urllib.request.urlopen(request, timeout=_PATIENCE_S) as said:  # noqa: S310 - the same
                        status, answer, body = said.status, dict(said.headers), said.read()
                except urllib.error.HTTPError as error:
                    status, answer, body = error.code, dict(error.headers), error.read()
                if spoiled:
                    door._closing.wait(_PATIENCE_S)
                    return
                self._answer(status, answer, body)

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, said in headers.items():
                    if name.lower() not in _HOPS:
                        self.send_header(name, said)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass_on  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        return Handler
