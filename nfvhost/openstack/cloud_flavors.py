"""Flavors of a cloud: made, listed and deleted by name and mark; those of others are never touched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from openstack.connection import Connection

from nfvhost.errors import PreconditionError, Problem
from nfvhost.openstack.connect import asking
from nfvhost.openstack.flavor import MARK, Flavor


class Fate(StrEnum):
    """What is done, or would be, with a flavor."""

    CREATE = "create"
    CHANGE = "change"  # its extra specs: Nova keeps the sizes of a flavor for ever
    KEEP = "keep"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlavorChange:
    """One flavor, and what differs: `hw:numa_nodes: 2 -> 1`."""

    name: str
    fate: Fate
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudFlavor:
    """A flavor that is there."""

    id: str
    flavor: Flavor

    @property
    def marked(self) -> bool:
        """Whether nfvhost made it."""
        return MARK in self.flavor.extra_specs


def cloud_flavors(cloud: Connection) -> tuple[CloudFlavor, ...]:
    """All flavors that this user sees, by name."""
    with asking("Nova"):
        # From 2.61 on the list has the extra specs; None: also those that are not public, for who may see them.
        found = [
            CloudFlavor(
                id=str(one.id),
                flavor=Flavor(
                    name=str(one.name),
                    vcpus=int(one.vcpus),
                    memory_mib=int(one.ram),
                    disk_gib=int(one.disk),
                    extra_specs=tuple(sorted((str(key), str(said)) for key, said in (one.extra_specs or {}).items())),
                    description=str(one.description or ""),
                ),
            )
            for one in cloud.compute.flavors(details=True, is_public=None)
        ]
    return tuple(sorted(found, key=lambda one: one.flavor.name))


def planned_changes(wanted: Sequence[Flavor], there: Iterable[CloudFlavor]) -> tuple[FlavorChange, ...]:
    """What has to be done for each flavor.

    PreconditionError, with all of them, where a name is taken by a flavor that is not nfvhost's, or by one of another
    size.
    """
    known = {one.flavor.name: one for one in there}
    problems: list[Problem] = []
    changes: list[FlavorChange] = []
    for flavor in wanted:
        found = known.get(flavor.name)
        if found is None:
            changes.append(FlavorChange(name=flavor.name, fate=Fate.CREATE))
            continue
        if not found.marked:
            problems.append(
                Problem(
                    what="is there, and nfvhost did not make it, so it stays",
                    where=f"flavor {flavor.name}",
                    hint="give the VNF another name, or delete that flavor yourself",
                )
            )
            continue
        if sizes := _size_differences(found.flavor, flavor):
            problems.append(
                Problem(
                    what=f"is there in another size ({', '.join(sizes)}), which Nova never changes",
                    where=f"flavor {flavor.name}",
                    hint=f"`nfvhost flavor delete {flavor.name}` first: servers keep what they have",
                )
            )
            continue
        specs = _spec_differences(found.flavor, flavor)
        changes.append(FlavorChange(name=flavor.name, fate=Fate.CHANGE if specs else Fate.KEEP, differences=specs))
    if problems:
        raise PreconditionError.of(tuple(problems))
    return tuple(changes)


def make_flavors(cloud: Connection, wanted: Sequence[Flavor], *, dry_run: bool = False) -> tuple[FlavorChange, ...]:
    """What was done, or with `dry_run` would be; a flavor whose extra specs Nova refuses is taken away again."""
    there = cloud_flavors(cloud)
    changes = planned_changes(wanted, there)
    if dry_run:
        return changes
    ids = {one.flavor.name: one for one in there}
    for flavor, change in zip(wanted, changes, strict=True):
        if change.fate is Fate.CREATE:
            _create(cloud, flavor)
        elif change.fate is Fate.CHANGE:
            _change(cloud, ids[flavor.name], flavor)
    return changes


def delete_flavors(cloud: Connection, names: Sequence[str], *, dry_run: bool = False) -> tuple[FlavorChange, ...]:
    """What was deleted, or would be: these, or all of nfvhost's where none is named.

    PreconditionError, before anything is deleted, where one is not there or is not nfvhost's.
    """
    there = {one.flavor.name: one for one in cloud_flavors(cloud)}
    problems = [
        Problem(
            what="is not there" if name not in there else "was not made by nfvhost, so it stays",
            where=f"flavor {name}",
            hint="`nfvhost flavor list` shows those of nfvhost",
        )
        for name in names
        if name not in there or not there[name].marked
    ]
    if problems:
        raise PreconditionError.of(tuple(problems))
    chosen = [there[name] for name in names] if names else [one for one in there.values() if one.marked]
    for one in chosen if not dry_run else ():
        with asking("Nova"):
            cloud.compute.delete_flavor(one.id)
    return tuple(FlavorChange(name=one.flavor.name, fate=Fate.DELETE) for one in chosen)


def _create(cloud: Connection, flavor: Flavor) -> None:
    with asking("Nova"):
        made = cloud.compute.create_flavor(
            name=flavor.name,
            vcpus=flavor.vcpus,
            ram=flavor.memory_mib,
            disk=flavor.disk_gib,
            description=flavor.description or None,
        )
        done = False
        try:
            cloud.compute.create_flavor_extra_specs(made, dict(flavor.extra_specs))
            done = True
        finally:
            if not done:
                # A flavor without its extra specs would start guests that float.
                cloud.compute.delete_flavor(made, ignore_missing=True)


def _change(cloud: Connection, found: CloudFlavor, wanted: Flavor) -> None:
    before, after = dict(found.flavor.extra_specs), dict(wanted.extra_specs)
    new = {key: said for key, said in after.items() if before.get(key) != said}
    with asking("Nova"):
        if new:
            cloud.compute.create_flavor_extra_specs(found.id, new)
        for key in sorted(set(before) - set(after)):
            cloud.compute.delete_flavor_extra_specs_property(found.id, key)


def _size_differences(found: Flavor, wanted: Flavor) -> tuple[str, ...]:
    pairs = (
        ("vCPUs", found.vcpus, wanted.vcpus),
        ("MiB", found.memory_mib, wanted.memory_mib),
        ("GiB of disk", found.disk_gib, wanted.disk_gib),
    )
    return tuple(f"{before} {unit}, not {after}" for unit, before, after in pairs if before != after)


def _spec_differences(found: Flavor, wanted: Flavor) -> tuple[str, ...]:
    before, after = dict(found.extra_specs), dict(wanted.extra_specs)
    return tuple(
        f"{key}: {before.get(key, 'none')} -> {after.get(key, 'none')}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    )
