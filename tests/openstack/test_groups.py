"""Several hosts of one cloud: each profile's hosts become an aggregate, and carry a trait in Placement."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest
from cloud import nfvhost, wait_until
from cloud_lab import Lab

from nfvhost.planfile import load_plan

Left = Callable[[], list[str]]
TRAIT = "CUSTOM_NFVHOST_HOME_CLOUD"


@pytest.fixture
def second_host(lab: Lab) -> Iterator[str]:
    """Another compute host, of Nova's fake driver; its name."""
    name = "fake"
    lab.cloud.start("nova-compute-fake")
    wait_until(lambda: name in {one.name for one in lab.api.compute.hypervisors()}, "a second host")
    yield name
    lab.cloud.stop("nova-compute-fake")
    (service,) = (one for one in lab.api.compute.services(binary="nova-compute") if one.host == name)
    # With it go its host and what Placement knows of it.
    lab.api.compute.delete_service(service)


def traits(lab: Lab) -> dict[str, bool]:
    """Whether each host has the group's trait."""
    found = {}
    for one in lab.api.placement.resource_providers():
        if one.parent_provider_id is not None:
            continue
        said = lab.api.placement.get(f"/resource_providers/{one.id}/traits", microversion="1.6")
        found[str(one.name)] = TRAIT in said.json()["traits"]
    return found


def test_hosts_of_one_profile_become_an_aggregate_with_a_trait(lab: Lab, second_host: str, clean: Left) -> None:
    assert load_plan(str(lab.plan)).profile == "home-cloud"
    # One by the name that libvirt gives it, one by that of Nova's service: here the two differ.
    hosts = [f"{socket.gethostname()}={lab.plan}", f"{second_host}={lab.plan}"]
    told = json.loads(nfvhost("flavor", "create", *hosts, "--cloud", "lab", "--dry-run", "--json").stdout)
    steps = [f"{one['subject']}: {one['what']}" for one in told["groups"]]
    assert steps == [
        "aggregate nfvhost.home-cloud: create",
        "aggregate nfvhost.home-cloud: add cloud",
        "aggregate nfvhost.home-cloud: add fake",
        f"host cloud: trait {TRAIT}",
        f"host fake: trait {TRAIT}",
    ]
    assert clean() == []

    theirs = lab.api.compute.create_aggregate(name="nfvhost.home-cloud")
    refused = nfvhost("flavor", "create", *hosts, code=5)
    assert "aggregate nfvhost.home-cloud: is there, and nfvhost did not make it, so it stays" in refused.stderr
    lab.api.compute.delete_aggregate(theirs)
    unknown = nfvhost("flavor", "create", hosts[0], f"nowhere={lab.plan}", code=5)
    assert "host nowhere: Nova knows no compute host of that name" in unknown.stderr
    assert clean() == []
    assert not any(traits(lab).values())

    nfvhost("flavor", "create", *hosts)
    (aggregate,) = lab.api.compute.aggregates()
    assert (aggregate.name, sorted(aggregate.hosts)) == ("nfvhost.home-cloud", ["cloud", "fake"])
    assert traits(lab) == {socket.gethostname(): True, "fake": True}
    flavors = [one for one in lab.api.compute.flavors() if one.name.startswith("nfvhost.home-cloud.")]
    assert flavors
    assert all(one.extra_specs[f"trait:{TRAIT}"] == "required" for one in flavors)
    again = json.loads(nfvhost("flavor", "create", *hosts, "--json").stdout)
    assert again["groups"] == []
    assert {one["fate"] for one in again["flavors"]} == {"keep"}

    theirs = lab.api.compute.create_aggregate(name="theirs")
    gone = json.loads(nfvhost("flavor", "delete", "--all", "--json").stdout)
    steps = [f"{one['subject']}: {one['what']}" for one in gone["groups"]]
    assert steps[-1] == "aggregate nfvhost.home-cloud: delete"
    assert sorted(steps[:-1]) == sorted(f"host {name}: no trait {TRAIT}" for name in (socket.gethostname(), "fake"))
    assert [one.name for one in lab.api.compute.aggregates()] == ["theirs"]
    lab.api.compute.delete_aggregate(theirs)
    assert lab.api.placement.get(f"/traits/{TRAIT}", microversion="1.6").status_code == 404
    assert not any(traits(lab).values())
    assert clean() == []
