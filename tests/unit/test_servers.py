"""Servers of a launch, as Nova lists them."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from small_cloud import SmallCloud

from nfvhost.errors import PreconditionError
from nfvhost.model.vnf import Vnf
from nfvhost.openstack.connect import connect
from nfvhost.openstack.servers import Watch, delete_servers, find_servers

pytestmark = [
    pytest.mark.outside("a server of the test's own on the loopback"),
    # openstacksdk warns of what its next release drops, and calls itself so.
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning"),
]
WEB = Vnf(name="web", vcpus=1, memory_mib=64, count=4)
LISTING = "GET /v2.1/servers/detail compute 2.86"


def listed(cloud: SmallCloud, **servers: str) -> None:
    """Nova lists these servers of the VNF `web`, each with its status."""
    found: list[dict[str, Any]] = [
        {"id": f"id-{name}", "name": name.replace("_", "-"), "status": status, "metadata": {"nfvhost_vnf": "web"}}
        for name, status in servers.items()
    ]
    cloud.said["/servers/detail"] = (200, {"servers": found})


def test_nova_is_asked_once_for_all_servers_that_are_waited_for(cloud: SmallCloud) -> None:
    listed(cloud, web_1="ACTIVE", web_2="BUILD", web_3="ERROR")
    watch = Watch(connect())
    with ExitStack() as waits:
        for at in (1, 2, 3):
            waits.enter_context(watch.waiting_for(f"id-web_{at}", WEB))
        assert [watch.built(f"id-web_{at}") is not None for at in (1, 2, 3)] == [True, False, True]
        assert cloud.requests.count(LISTING) == 1
        # Made after Nova was asked: nothing is known of it yet.
        waits.enter_context(watch.waiting_for("id-web_4", WEB))
        assert watch.built("id-web_4") is None
        assert cloud.requests.count(LISTING) == 1


def test_the_servers_of_a_vnf_are_found_by_name_with_one_question(cloud: SmallCloud) -> None:
    listed(cloud, web_1="ACTIVE", web_10="ACTIVE", other="ACTIVE")
    found = find_servers(connect(), replace(WEB, count=2))
    assert list(found) == ["web-1"]
    assert cloud.requests.count(LISTING) == 1


def test_a_name_that_is_somebody_elses_is_refused(cloud: SmallCloud) -> None:
    listed(cloud, db="ACTIVE")
    with pytest.raises(PreconditionError, match="server db: is there and is not nfvhost's"):
        find_servers(connect(), Vnf(name="db", vcpus=1, memory_mib=64))


def test_a_server_is_gone_once_nova_knows_it_no_more(cloud: SmallCloud) -> None:
    # nova-compute calls it DELETED before it is through: until then its flavor and its image are in use.
    cloud.said["GET /v2.1/servers/7"] = (200, {"server": {"id": "7", "name": "web-1", "status": "DELETED"}})
    cloud.said["DELETE /v2.1/servers/7"] = (204, "")
    gone = (404, {"itemNotFound": {"message": "Instance 7 could not be found.", "code": 404}})
    later = threading.Timer(0.5, cloud.said.__setitem__, ("GET /v2.1/servers/7", gone))
    later.start()
    begun = time.monotonic()
    delete_servers(connect(), ["7"])
    assert time.monotonic() - begun >= 0.5
    later.join()
