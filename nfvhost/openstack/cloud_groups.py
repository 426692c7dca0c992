"""Groups of hosts on a cloud: an aggregate and a trait of each, which the extra specs of its flavors ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from openstack.compute.v2.aggregate import Aggregate
from openstack.connection import Connection
from openstack.exceptions import raise_from_response

from nfvhost.errors import PreconditionError, Problem
from nfvhost.openstack.connect import asking, document
from nfvhost.openstack.flavor import MARK
from nfvhost.openstack.flavors import group_trait

# placement/rest_api_version_history.rst: traits of providers since 1.6, the providers of a trait since 1.18.
_PLACEMENT: Final = "1.18"
_AGGREGATE: Final = "nfvhost."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compute:
    """A compute host; the hypervisor may call it otherwise than Nova's service there ([DEFAULT] host)."""

    service: str  # what aggregates want
    provider: str  # Placement's resource provider


def aggregate_name(group: str) -> str:
    """The name of a group's aggregate."""
    return f"{_AGGREGATE}{group}"


def group_hosts(
    cloud: Connection, groups: Mapping[str, Sequence[str]], *, dry_run: bool = False
) -> tuple[tuple[str, str], ...]:
    """What was done, or would be, as (subject, what): each group's aggregate with its hosts, and their trait.

    PreconditionError, before anything is done, where Nova knows no host of a name, or an aggregate of that name is not
    nfvhost's. Hosts that others put there stay.
    """
    computes = _computes(cloud, [host for hosts in groups.values() for host in hosts])
    with asking("Nova"):
        there = {str(one.name): one for one in cloud.compute.aggregates()}
    foreign = [
        Problem(
            what="is there, and nfvhost did not make it, so it stays",
            where=f"aggregate {aggregate_name(group)}",
            hint="rename or delete it yourself",
        )
        for group in groups
        if aggregate_name(group) in there and not _is_ours(there[aggregate_name(group)])
    ]
    if foreign:
        raise PreconditionError.of(tuple(foreign))
    done: list[tuple[str, str]] = []
    for group, hosts in groups.items():
        name = aggregate_name(group)
        found = there.get(name)
        members = set() if found is None else set(found.hosts or ())
        missing = [computes[host].service for host in hosts if computes[host].service not in members]
        if found is None:
            done.append((f"aggregate {name}", "create"))
        done += [(f"aggregate {name}", f"add {service}") for service in missing]
        if not dry_run:
            with asking("Nova"):
                if found is None:
                    found = cloud.compute.create_aggregate(name=name)
                    cloud.compute.set_aggregate_metadata(found, dict([MARK]))
                for service in missing:
                    cloud.compute.add_host_to_aggregate(found, service)
        done += _give_trait(cloud, group_trait(group), [computes[host] for host in hosts], dry_run=dry_run)
    return tuple(done)


def ungroup_hosts(cloud: Connection, *, dry_run: bool = False) -> tuple[tuple[str, str], ...]:
    """What was undone, or would be, as (subject, what): nfvhost's aggregates, and the traits of their hosts."""
    done: list[tuple[str, str]] = []
    with asking("Nova"):
        ours = [one for one in cloud.compute.aggregates() if _is_ours(one)]
    for aggregate in ours:
        name = str(aggregate.name)
        done += _take_trait(cloud, group_trait(name.removeprefix(_AGGREGATE)), dry_run=dry_run)
        done.append((f"aggregate {name}", "delete"))
        if dry_run:
            continue
        with asking("Nova"):
            for service in aggregate.hosts or ():
                cloud.compute.remove_host_from_aggregate(aggregate, service)
            cloud.compute.delete_aggregate(aggregate)
    return tuple(done)


def _is_ours(aggregate: Aggregate) -> bool:
    return (aggregate.metadata or {}).get(MARK[0]) == MARK[1]


def _computes(cloud: Connection, hosts: Sequence[str]) -> dict[str, _Compute]:
    """The compute host of each name, be it the hypervisor's or that of Nova's service."""
    found: dict[str, _Compute] = {}
    with asking("Nova"):
        for one in cloud.compute.hypervisors(details=True):
            service = str((one.service_details or {})["host"])
            # From 2.53 on its id is that of Placement's resource provider.
            found[str(one.name)] = found[service] = _Compute(service=service, provider=str(one.id))
    missing = [
        Problem(
            what="Nova knows no compute host of that name",
            where=f"host {host}",
            hint="write NAME=PLAN with a name that `openstack hypervisor list` shows",
        )
        for host in hosts
        if host not in found
    ]
    if missing:
        raise PreconditionError.of(tuple(missing))
    return {host: found[host] for host in hosts}


def _give_trait(cloud: Connection, trait: str, computes: Iterable[_Compute], *, dry_run: bool) -> list[tuple[str, str]]:
    """Add the trait to each host's provider that lacks it."""
    done: list[tuple[str, str]] = []
    with asking("Placement"):
        if not dry_run:
            raise_from_response(cloud.placement.put(f"/traits/{trait}", microversion=_PLACEMENT))
        for one in computes:
            path = f"/resource_providers/{one.provider}/traits"
            said = document(cloud.placement, path, version=_PLACEMENT)
            if trait in said["traits"]:
                continue
            done.append((f"host {one.service}", f"trait {trait}"))
            if not dry_run:
                said["traits"].append(trait)
                raise_from_response(cloud.placement.put(path, json=said, microversion=_PLACEMENT))
    return done


def _take_trait(cloud: Connection, trait: str, *, dry_run: bool) -> list[tuple[str, str]]:
    """Remove the trait from each provider that has it, and then itself."""
    done: list[tuple[str, str]] = []
    with asking("Placement"):
        if cloud.placement.get(f"/traits/{trait}", microversion=_PLACEMENT).status_code == HTTPStatus.NOT_FOUND:
            return done
        found = document(cloud.placement, f"/resource_providers?required={trait}", version=_PLACEMENT)
        for one in found["resource_providers"]:
            done.append((f"host {one['name']}", f"no trait {trait}"))
            if not dry_run:
                path = f"/resource_providers/{one['uuid']}/traits"
                said = document(cloud.placement, path, version=_PLACEMENT)
                said["traits"].remove(trait)
                raise_from_response(cloud.placement.put(path, json=said, microversion=_PLACEMENT))
        if not dry_run:
            raise_from_response(cloud.placement.delete(f"/traits/{trait}", microversion=_PLACEMENT))
    return done
