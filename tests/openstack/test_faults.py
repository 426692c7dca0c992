"""A cloud that refuses, breaks or hangs: one clear error, and nothing stays behind."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cloud_conf
import openstack
import pytest
from certificate import tls_context
from cloud import nfvhost
from cloud_lab import Lab
from faulty_door import Fault, FaultyDoor
from openstack.identity.v3._proxy import Proxy as IdentityV3

Left = Callable[[], list[str]]


def clouds(folder: Path, text: str) -> str:
    """The file with that text."""
    path = folder / "clouds.yaml"
    path.write_text(text)
    return str(path)


def credential(lab: Lab, name: str, **settings: str) -> dict[str, str]:
    """A fresh application credential, as clouds.yaml has it."""
    identity = lab.api.identity
    assert isinstance(identity, IdentityV3)
    made = identity.create_application_credential(str(lab.api.current_user_id), name, **settings)
    return {
        "auth_type": "v3applicationcredential",
        "application_credential_id": str(made.id),
        "application_credential_secret": str(made.secret),
    }


def test_a_wrong_password_is_one_clear_error(lab: Lab, tmp_path: Path, clean: Left) -> None:
    wrong = clouds(tmp_path, cloud_conf.clouds_yaml("wrong-and-secret"))
    failed = nfvhost("launch", lab.document(tmp_path, "x"), code=5, OS_CLIENT_CONFIG_FILE=wrong)
    assert "Keystone refuses these credentials" in failed.stderr
    assert failed.stderr.count("error:") == 1
    assert "wrong-and-secret" not in failed.stdout + failed.stderr
    assert clean() == []


def test_a_keystone_that_is_not_there_is_one_clear_error(lab: Lab, tmp_path: Path, clean: Left) -> None:
    nowhere = clouds(tmp_path, cloud_conf.clouds_yaml(auth_url="http://127.0.0.1:5999"))
    failed = nfvhost("launch", lab.document(tmp_path, "x"), code=5, OS_CLIENT_CONFIG_FILE=nowhere)
    assert "Keystone cannot be reached" in failed.stderr
    assert clean() == []


def test_an_image_that_is_not_there_is_one_clear_error(lab: Lab, tmp_path: Path, clean: Left) -> None:
    failed = nfvhost("launch", lab.document(tmp_path, "x", image={"name": "nowhere"}), code=5)
    assert "image nowhere: is not there" in failed.stderr
    assert clean() == []


def test_a_quota_that_is_used_up_is_one_clear_error(lab: Lab, tmp_path: Path, clean: Left) -> None:
    project = lab.api.current_project_id
    lab.api.compute.put(f"/os-quota-sets/{project}", json={"quota_set": {"instances": 0}})
    try:
        failed = nfvhost("launch", lab.document(tmp_path, "x"), code=6)
    finally:
        lab.api.compute.put(f"/os-quota-sets/{project}", json={"quota_set": {"instances": 100}})
    assert "Quota exceeded for instances" in failed.stderr
    assert clean() == []


def test_a_token_that_was_revoked_is_one_clear_error(lab: Lab, tmp_path: Path, clean: Left) -> None:
    # One of its own: the lab goes on with its.
    with openstack.connect(cloud="lab") as other:
        token = str(other.session.get_token())
        said = other.session.delete(
            f"{cloud_conf.KEYSTONE}/v3/auth/tokens", headers={"X-Auth-Token": token, "X-Subject-Token": token}
        )
    assert said.status_code == 204
    revoked = clouds(
        tmp_path,
        cloud_conf.clouds_of(auth_type="v3token", token=token, project_name="admin", project_domain_id="default"),
    )
    failed = nfvhost("launch", lab.document(tmp_path, "x"), code=5, OS_CLIENT_CONFIG_FILE=revoked)
    assert "Keystone refuses this token" in failed.stderr
    assert failed.stderr.count("error:") == 1
    assert token not in failed.stderr
    assert clean() == []


def test_an_application_credential_serves_and_one_that_has_expired_is_one_clear_error(
    lab: Lab, tmp_path: Path, clean: Left
) -> None:
    lasts_s = 2
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lasts_s)
    short = credential(lab, "short", expires_at=expires.strftime("%Y-%m-%dT%H:%M:%S"))
    nfvhost("servers", OS_CLIENT_CONFIG_FILE=clouds(tmp_path, cloud_conf.clouds_of(**credential(lab, "long"))))
    time.sleep(max(0.0, (expires - dt.datetime.now(dt.UTC)).total_seconds()) + 1)
    expired = clouds(tmp_path, cloud_conf.clouds_of(**short))
    failed = nfvhost("launch", lab.document(tmp_path, "x"), code=5, OS_CLIENT_CONFIG_FILE=expired)
    assert "Keystone refuses these credentials" in failed.stderr
    assert "an expired token or credential" in failed.stderr
    assert short["application_credential_secret"] not in failed.stdout + failed.stderr
    assert clean() == []


def test_a_cloud_behind_tls_serves_those_who_trust_its_certificate(lab: Lab, tmp_path: Path, clean: Left) -> None:
    tls, certificate = tls_context(tmp_path)
    kinds = {
        "keystone": ("identity", "/v3"),
        "nova-api": ("compute", "/v2.1"),
        "neutron": ("network", ""),
        "glance": ("image", ""),
        "placement": ("placement", ""),
    }
    document = lab.document(tmp_path, "private", cpuPolicy="shared")
    with ExitStack() as stack:
        doors = {
            name: stack.enter_context(FaultyDoor(f"http://{cloud_conf.IP}:{port}", tls=tls))
            for name, port in cloud_conf.API_PORTS.items()
        }
        overrides = {f"{kind}_endpoint_override": doors[name].url + path for name, (kind, path) in kinds.items()}
        keystone = overrides["identity_endpoint_override"]
        settings = {"auth_url": keystone, "auth_type": "v3password", **overrides}
        trusting = clouds(tmp_path, cloud_conf.clouds_yaml(**settings, cacert=certificate))
        assert lab.launch(document, OS_CLIENT_CONFIG_FILE=trusting)["private"]["outcome"] == "made"
        nfvhost("destroy", "private", OS_CLIENT_CONFIG_FILE=trusting)
        assert {name for name, door in doors.items() if not door.passed} <= {"placement"}
        strange = clouds(tmp_path, cloud_conf.clouds_yaml(**settings))
        failed = nfvhost("launch", document, code=5, OS_CLIENT_CONFIG_FILE=strange)
    assert "Keystone's certificate is not trusted" in failed.stderr
    assert "OS_CACERT" in failed.stderr
    assert failed.stderr.count("error:") == 1
    assert clean() == []


def test_an_api_that_answers_500_is_one_clear_error(lab: Lab, tmp_path: Path, clean: Left) -> None:
    neutron = f"http://{cloud_conf.IP}:{cloud_conf.API_PORTS['neutron']}"
    with FaultyDoor(neutron, spoil=r"^POST /v2\.0/ports$", fault=Fault.REFUSED) as door:
        file = clouds(tmp_path, cloud_conf.clouds_yaml(network_endpoint_override=door.url))
        failed = nfvhost("launch", lab.document(tmp_path, "x"), code=6, OS_CLIENT_CONFIG_FILE=file)
    assert door.met == 1
    assert "port x-core: Neutron failed, 500: the proxy lost its upstream" in failed.stderr
    assert failed.stderr.count("error:") == 1
    assert clean() == []


@pytest.mark.parametrize(
    ("service", "kind", "version", "path", "told"),
    [
        ("neutron", "network", "", "/v2.0/ports", "port x-core: Neutron"),
        ("nova-api", "compute", "/v2.1", "/v2.1/servers", "server x: Nova"),
    ],
)
def test_an_answer_that_never_comes_leaves_nothing_behind(
    lab: Lab, tmp_path: Path, clean: Left, service: str, kind: str, version: str, path: str, told: str
) -> None:
    # The service makes it, and nfvhost does not hear of it.
    with FaultyDoor(
        f"http://{cloud_conf.IP}:{cloud_conf.API_PORTS[service]}",
        spoil=f"^POST {re.escape(path)}$",
        fault=Fault.UNANSWERED,
    ) as door:
        override = {f"{kind}_endpoint_override": f"{door.url}{version}", "api_timeout": "8"}
        file = clouds(tmp_path, cloud_conf.clouds_yaml(**override))
        failed = nfvhost("launch", lab.document(tmp_path, "x"), code=6, OS_CLIENT_CONFIG_FILE=file)
    assert door.met == 1
    assert f"{told} does not answer in time" in failed.stderr
    assert failed.stderr.count("error:") == 1
    assert clean() == []
