"""A small server of HTTP that answers as a cloud does, for the code that asks one."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

PASSWORD: Final = "correct-horse-battery"  # noqa: S105 - of a cloud that exists for a second
TOKEN: Final = "gAAAAA-the-token"  # noqa: S105 - the same
# Service type -> its path on the one server.
_SERVICES: Final = {"compute": "/v2.1", "placement": "/placement", "network": "/network/v2.0"}


class SmallCloud:
    """Keystone, Placement, Nova and Neutron, as far as unit tests ask them.

    Flavors are kept, all else is as `said` has it.
    """

    def __init__(self) -> None:
        self.said: dict[str, tuple[int, Any]] = {}  # path's end -> status and body, in place of the true answer
        self.hangs: set[str] = set()
        self.version = "2.96"
        self.flavors: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that name it."""
        return {
            "OS_AUTH_URL": f"{self.url}/v3",
            "OS_USERNAME": "u",
            "OS_PASSWORD": PASSWORD,
            "OS_PROJECT_NAME": "p",
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
        }

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or "{}")
                path = self.path.partition("?")[0].rstrip("/")
                cloud.requests.append(f"{self.command} {path} {self.headers.get('OpenStack-API-Version', '')}".strip())
                if any(path.endswith(end) for end in cloud.hangs):
                    cloud.released.wait(20)
                    return
                told = next((said for end, said in cloud.said.items() if f"{self.command} {path}".endswith(end)), None)
                status, answer = told or cloud.answer(self.command, path, body)
                text = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json" if not isinstance(answer, str) else "text/html")
                self.send_header("X-Subject-Token", TOKEN)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        return Handler

    def answer(self, command: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:  # noqa: PLR0911 - one a path
        """The true answer."""
        if path == "/v3":
            return 200, {
                "version": {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": f"{self.url}/v3"}]}
            }
        if path == "/v3/auth/tokens":
            services = [
                {
                    "id": kind,
                    "type": kind,
                    "name": kind,
                    "endpoints": [
                        {
                            "id": kind,
                            "interface": "public",
                            "region": "one",
                            "region_id": "one",
                            "url": f"{self.url}{place}",
                        }
                    ],
                }
                for kind, place in _SERVICES.items()
            ]
            user = {"id": "u", "name": "u", "domain": {"id": "default", "name": "Default"}}
            token = {
                "user": user,
                "catalog": services,
                "expires_at": "2999-01-01T00:00:00.000000Z",
                "methods": ["password"],
            }
            return 201, {"token": {**token, "project": {"id": "p", "name": "p", "domain": user["domain"]}}}
        if path == "/v2.1":
            links = [{"rel": "self", "href": f"{self.url}/v2.1"}]
            about = {"id": "v2.1", "status": "CURRENT", "version": self.version, "min_version": "2.1", "links": links}
            return 200, {"version": about}
        if path == "/placement":
            about = {"id": "v1.0", "status": "CURRENT", "max_version": "1.39", "min_version": "1.0"}
            return 200, {"versions": [{**about, "links": [{"rel": "self", "href": ""}]}]}
        if path == "/v2.1/flavors/detail":
            return 200, {"flavors": list(self.flavors.values())}
        if command == "POST" and path == "/v2.1/flavors":
            made = {**body["flavor"], "id": f"id-{len(self.flavors)}", "extra_specs": {}}
            self.flavors[made["id"]] = made
            return 200, {"flavor": made}
        if path.endswith("os-extra_specs"):
            self.flavors[path.split("/")[-2]]["extra_specs"] |= body["extra_specs"]
            return 200, body
        if command == "DELETE" and "os-extra_specs" in path:
            del self.flavors[path.split("/")[-3]]["extra_specs"][path.rsplit("/", maxsplit=1)[-1]]
            return 202, {}
        if command == "DELETE":
            del self.flavors[path.rsplit("/", maxsplit=1)[-1]]
            return 202, {}
        return 404, {"itemNotFound": {"message": f"no {path}", "code": 404}}
