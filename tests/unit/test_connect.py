"""What a cloud's answers become: one clear error, no secret, in time. The counterpart is a small server of HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_cloud import PASSWORD, TOKEN, SmallCloud

from nfvhost.errors import DocumentError, NfvhostError, PreconditionError
from nfvhost.openstack.cloud_flavors import Fate, cloud_flavors, delete_flavors, make_flavors
from nfvhost.openstack.connect import connect
from nfvhost.openstack.flavor import MARK, Flavor

pytestmark = pytest.mark.outside("a server of the test's own on the loopback")

FLAVOR = Flavor(name="nfvhost.a", vcpus=2, memory_mib=512, disk_gib=1, extra_specs=(("hw:numa_nodes", "1"), MARK))


def refusal(act: Callable[[], object], kind: type[NfvhostError] = PreconditionError) -> str:
    with pytest.raises(kind) as caught:
        act()
    told = str(caught.value)
    assert PASSWORD not in told
    assert TOKEN not in told
    assert "\n  hint: " in told
    return told.partition("\n")[0]


def test_nova_is_spoken_to_in_the_version_that_checks_extra_specs(cloud: SmallCloud) -> None:
    assert cloud_flavors(connect()) == ()
    assert "GET /v2.1/flavors/detail compute 2.86" in cloud.requests


def test_an_older_nova_is_refused(cloud: SmallCloud) -> None:
    cloud.version = "2.79"
    assert refusal(connect) == (
        "OS_* variables: Nova's highest microversion is 2.79; 2.86 is needed, from which on it checks extra specs"
    )


def test_a_wrong_password_is_told_as_that(cloud: SmallCloud) -> None:
    cloud.said["/auth/tokens"] = (401, {"error": {"message": "The request you have made requires authentication."}})
    assert refusal(connect).startswith("OS_* variables: Keystone refuses these credentials")


def test_a_token_that_keystone_does_not_take_any_more_is_told_as_that(cloud: SmallCloud) -> None:
    cloud.said["/auth/tokens"] = (404, {"error": {"message": "Failed to validate token", "code": 404}})
    assert refusal(connect).startswith("OS_* variables: Keystone refuses this token")


def test_the_patience_of_clouds_yaml_is_kept(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = {"auth_url": f"{cloud.url}/v3", "username": "u", "password": PASSWORD, "project_name": "p"}
    lab = {"auth": {**auth, "user_domain_id": "default", "project_domain_id": "default"}, "api_timeout": 0.3}
    Path("clouds.yaml").write_text(json.dumps({"clouds": {"lab": lab}}), encoding="utf-8")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", "clouds.yaml")
    cloud.hangs.add("/auth/tokens")
    assert refusal(lambda: connect("lab")).startswith("cloud lab: Keystone does not answer in time")


def test_a_cloud_that_hangs_is_given_up_in_time(cloud: SmallCloud) -> None:
    cloud.hangs.add("/auth/tokens")
    assert refusal(lambda: connect(timeout_s=0.3)).startswith("OS_* variables: Keystone does not answer in time")


def test_a_cloud_that_is_not_there_is_told_with_its_address(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.close()
    monkeypatch.setenv("OS_AUTH_URL", "http://127.0.0.1:9/v3")
    assert refusal(connect) == "OS_* variables: Keystone cannot be reached at 127.0.0.1:9"


def test_a_page_of_a_proxy_in_place_of_an_answer_is_told(cloud: SmallCloud) -> None:
    made = connect()
    cloud.said["/flavors/detail"] = (502, "<html><body><h1>502 Bad Gateway</h1></body></html>")
    assert refusal(lambda: cloud_flavors(made)).startswith("Nova failed, 502: 502 Bad Gateway")


def test_a_missing_role_is_told_in_novas_words(cloud: SmallCloud) -> None:
    made = connect()
    cloud.said["POST /v2.1/flavors"] = (403, {"forbidden": {"message": "Policy doesn't allow it", "code": 403}})
    assert refusal(lambda: make_flavors(made, [FLAVOR])).startswith("Nova does not allow it: Policy doesn't allow it")
    assert cloud.flavors == {}


@pytest.mark.parametrize("name", ["OS_PASSWORD", "OS_AUTH_URL"])
def test_settings_that_are_missing_are_told(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    missing = {"OS_PASSWORD": "no password is given", "OS_AUTH_URL": "no cloud is named"}
    kinds = {"OS_PASSWORD": DocumentError, "OS_AUTH_URL": PreconditionError}
    assert missing[name] in refusal(connect, kinds[name])
    assert cloud.requests == []


def test_a_cloud_that_no_file_names_is_told(cloud: SmallCloud) -> None:
    with pytest.raises(DocumentError, match="Cloud nowhere was not found"):
        connect("nowhere")
    assert cloud.requests == []


def test_flavors_are_made_once_mended_and_deleted(cloud: SmallCloud) -> None:
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


def test_a_flavor_of_others_or_of_another_size_stays(cloud: SmallCloud) -> None:
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


def test_a_flavor_whose_extra_specs_nova_refuses_is_taken_away_again(cloud: SmallCloud) -> None:
    made = connect()
    cloud.said["/os-extra_specs"] = (400, {"badRequest": {"message": "Validation failed", "code": 400}})
    assert refusal(lambda: make_flavors(made, [FLAVOR])).startswith("Nova refuses, 400: Validation failed")
    assert cloud.flavors == {}
