"""What a cloud's answers become: one clear error, no secret, in time. The counterpart is a small server of HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nfvhost.errors import DocumentError, NfvhostError, PreconditionError
from nfvhost.openstack.cloud_flavors import Fate, cloud_flavors, delete_flavors, make_flavors
from nfvhost.openstack.connect import connect
from nfvhost.openstack.flavor import MARK, Flavor

pytestmark = pytest.mark.outside("a server of the test's own on the loopback")

PASSWORD = "correct-horse-battery"  # noqa: S105 - of a cloud that exists for a second
TOKEN = "gAAAAA-the-token"  # noqa: S105 - the same
FLAVOR = Flavor(name="nfvhost.a", vcpus=2, memory_mib=512, disk_gib=1, extra_specs=(("hw:numa_nodes", "1"), MARK))


class Cloud:
    """Keystone and Nova, as far as these tests ask them: flavors are kept, all else is as `say` was told."""

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
            endpoint = {
                "id": "e",
                "interface": "public",
                "region": "one",
                "region_id": "one",
                "url": f"{self.url}/v2.1",
            }
            services = [{"id": "s", "type": "compute", "name": "nova", "endpoints": [endpoint]}]
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


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Cloud]:  # noqa: ANN401 - a path
    made = Cloud()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for key, said in {
        "OS_AUTH_URL": f"{made.url}/v3",
        "OS_USERNAME": "u",
        "OS_PASSWORD": PASSWORD,
        "OS_PROJECT_NAME": "p",
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
    }.items():
        monkeypatch.setenv(key, said)
    monkeypatch.delenv("OS_CLOUD", raising=False)
    yield made
    made.close()


def refusal(act: Callable[[], object], kind: type[NfvhostError] = PreconditionError) -> str:
    with pytest.raises(kind) as caught:
        act()
    told = str(caught.value)
    assert PASSWORD not in told
    assert TOKEN not in told
    assert "\n  hint: " in told
    return told.partition("\n")[0]


def test_nova_is_spoken_to_in_the_version_that_checks_extra_specs(cloud: Cloud) -> None:
    assert cloud_flavors(connect()) == ()
    assert "GET /v2.1/flavors/detail compute 2.86" in cloud.requests


def test_an_older_nova_is_refused(cloud: Cloud) -> None:
    cloud.version = "2.79"
    assert refusal(connect) == (
        "OS_* variables: Nova's highest microversion is 2.79; 2.86 is needed, from which on it checks extra specs"
    )


def test_a_wrong_password_is_told_as_that(cloud: Cloud) -> None:
    cloud.said["/auth/tokens"] = (401, {"error": {"message": "The request you have made requires authentication."}})
    assert refusal(connect).startswith("OS_* variables: Keystone refuses these credentials")


def test_a_cloud_that_hangs_is_given_up_in_time(cloud: Cloud) -> None:
    cloud.hangs.add("/auth/tokens")
    assert refusal(lambda: connect(timeout_s=0.3)).startswith("OS_* variables: Keystone does not answer in time")


def test_a_cloud_that_is_not_there_is_told_with_its_address(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.close()
    monkeypatch.setenv("OS_AUTH_URL", "http://127.0.0.1:9/v3")
    assert refusal(connect) == "OS_* variables: Keystone cannot be reached at 127.0.0.1:9"


def test_a_page_of_a_proxy_in_place_of_an_answer_is_told(cloud: Cloud) -> None:
    made = connect()
    cloud.said["/flavors/detail"] = (502, "<html><body><h1>502 Bad Gateway</h1></body></html>")
    assert refusal(lambda: cloud_flavors(made)).startswith("Nova failed, 502: 502 Bad Gateway")


def test_a_missing_role_is_told_in_novas_words(cloud: Cloud) -> None:
    made = connect()
    cloud.said["POST /v2.1/flavors"] = (403, {"forbidden": {"message": "Policy doesn't allow it", "code": 403}})
    assert refusal(lambda: make_flavors(made, [FLAVOR])).startswith("Nova does not allow it: Policy doesn't allow it")
    assert cloud.flavors == {}


@pytest.mark.parametrize("name", ["OS_PASSWORD", "OS_AUTH_URL"])
def test_settings_that_are_missing_are_told(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    missing = {"OS_PASSWORD": "no password is given", "OS_AUTH_URL": "no cloud is named"}
    kinds = {"OS_PASSWORD": DocumentError, "OS_AUTH_URL": PreconditionError}
    assert missing[name] in refusal(connect, kinds[name])
    assert cloud.requests == []


def test_a_cloud_that_no_file_names_is_told(cloud: Cloud) -> None:
    with pytest.raises(DocumentError, match="Cloud nowhere was not found"):
        connect("nowhere")
    assert cloud.requests == []


def test_flavors_are_made_once_mended_and_deleted(cloud: Cloud) -> None:
    made = connect()
    assert [one.fate for one in make_flavors(made, [FLAVOR], dry_run=True)] == [Fate.CREATE]
    assert cloud.flavors == {}
    assert [one.fate for one in make_flavors(made, [FLAVOR])] == [Fate.CREATE]
    assert [one.fate for one in make_flavors(made, [FLAVOR])] == [Fate.KEEP]
    (there,) = cloud.flavors.values()
    there["extra_specs"] |= {"hw:numa_nodes": "2", "hw:cpu_policy": "shared"}
    (change,) = make_flavors(made, [FLAVOR])
    assert change.differences == ("hw:cpu_policy: shared -> none", "hw:numa_nodes: 2 -> 1")
    assert there["extra_specs"] == dict(FLAVOR.extra_specs)
    assert [one.fate for one in delete_flavors(made, [])] == [Fate.DELETE]
    assert cloud.flavors == {}


def test_a_flavor_of_others_or_of_another_size_stays(cloud: Cloud) -> None:
    made = connect()
    theirs = {"id": "x", "name": FLAVOR.name, "vcpus": 2, "ram": 512, "disk": 1, "extra_specs": {}}
    cloud.flavors["x"] = theirs
    assert "nfvhost did not make it, so it stays" in refusal(lambda: make_flavors(made, [FLAVOR]))
    assert "was not made by nfvhost, so it stays" in refusal(lambda: delete_flavors(made, [FLAVOR.name]))
    assert delete_flavors(made, []) == ()
    theirs["extra_specs"] = dict([MARK])
    theirs["vcpus"] = 4
    assert "another size (4 vCPUs, not 2)" in refusal(lambda: make_flavors(made, [FLAVOR]))
    assert cloud.flavors == {"x": theirs}


def test_a_flavor_whose_extra_specs_nova_refuses_is_taken_away_again(cloud: Cloud) -> None:
    made = connect()
    cloud.said["/os-extra_specs"] = (400, {"badRequest": {"message": "Validation failed", "code": 400}})
    assert refusal(lambda: make_flavors(made, [FLAVOR])).startswith("Nova refuses, 400: Validation failed")
    assert cloud.flavors == {}
