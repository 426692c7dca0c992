"""Groups of hosts on a cloud: an aggregate and a trait of each, which the extra specs of its flavors ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from openstack.connection import Connection

from nfvhost.errors import PreconditionError, Problem
from nfvhost.openstack.connect import asking
from nfvhost.openstack.flavor import MARK
from nfvhost.openstack.flavors import group_trait

# placement/handlers/trait.py: traits of providers since 1.6.
_PLACEMENT: Final = {"openstack-api-version": "placement 1.6", "accept": "application/json"}


def aggregate_name(group: str) -> str:
    """The name of a group's aggregate."""
    return f"nfvhost.{group}"


def group_hosts(
    cloud: Connection, groups: Mapping[str, Sequence[str]], *, dry_run: bool = False
) -> tuple[tuple[str, str], ...]:
    """What was done, or would be, as (subject, what): each group's aggregate with its hosts, and their trait.

    PreconditionError, before anything is done, where Placement knows no host of a name, or an aggregate of that name is
    not nfvhost's. Hosts that others put there stay.
    """
    providers = _providers(cloud, [host for hosts in groups.values() for host in hosts])
    with asking("Nova"):
        there = {str(one.name): one for one in cloud.compute.aggregates()}
    foreign = [
        Problem(
            what="is there, and nfvhost did not make it, so it stays",
            where=f"aggregate {aggregate_name(group)}",
            hint="rename or delete it yourself",
        )
        for group in groups
        if aggregate_name(group) in there and (there[aggregate_name(group)].metadata or {}).get(MARK[0]) != MARK[1]
    ]
    if foreign:
        raise PreconditionError.of(tuple(foreign))
    done: list[tuple[str, str]] = []
    for group, hosts in groups.items():
        name, trait = aggregate_name(group), group_trait(group)
        found = there.get(name)
        members = set() if found is None else set(found.hosts or ())
        missing = [host for host in hosts if host not in members]
        if found is None:
            done.append((f"aggregate {name}", "create"))
        done += [(f"aggregate {name}", f"add {host}") for host in missing]
        if not dry_run:
            with asking("Nova"):
                if found is None:
                    found = cloud.compute.create_aggregate(name=name)
                    cloud.compute.set_aggregate_metadata(found, dict([MARK]))
                for host in missing:
                    cloud.compute.add_host_to_aggregate(found, host)
        done += _give_trait(cloud, trait, {host: providers[host] for host in hosts}, dry_run=dry_run)
    return tuple(done)


def _providers(cloud: Connection, hosts: Sequence[str]) -> dict[str, str]:
    """Placement's resource provider of each host."""
    found: dict[str, str] = {}
    for host in hosts:
        with asking("Placement"):
            answer = cloud.placement.get("/resource_providers", params={"name": host}, headers=_PLACEMENT)
            answer.raise_for_status()
            for one in answer.json()["resource_providers"]:
                found[host] = str(one["uuid"])
    missing = [
        Problem(
            what="Placement knows no compute host of that name",
            where=f"host {host}",
            hint="write NAME=PLAN with the name that `openstack hypervisor list` shows",
        )
        for host in hosts
        if host not in found
    ]
    if missing:
        raise PreconditionError.of(tuple(missing))
    return found


def _give_trait(cloud: Connection, trait: str, providers: Mapping[str, str], *, dry_run: bool) -> list[tuple[str, str]]:
    """Add the trait to each provider that lacks it."""
    done: list[tuple[str, str]] = []
    with asking("Placement"):
        if not dry_run:
            cloud.placement.put(f"/traits/{trait}", headers=_PLACEMENT).raise_for_status()
        for host, provider in providers.items():
            path = f"/resource_providers/{provider}/traits"
            answer = cloud.placement.get(path, headers=_PLACEMENT)
            answer.raise_for_status()
            said = answer.json()
            if trait in said["traits"]:
                continue
            done.append((f"host {host}", f"trait {trait}"))
            if not dry_run:
                said["traits"].append(trait)
                cloud.placement.put(path, json=said, headers=_PLACEMENT).raise_for_status()
    return done
