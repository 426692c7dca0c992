"""`nfvhost flavor`: flavors that are proven to fit the planned hosts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import CloudOption, JsonOption
from nfvhost.cli.terminal import emit, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nfvhost.model.plan import Decision
    from nfvhost.model.vnf import Vnf
    from nfvhost.openstack.cloud_flavors import FlavorChange
    from nfvhost.openstack.flavor import Flavor
    from nfvhost.openstack.flavors import Offer
    from nfvhost.openstack.fleet import Fleet, Room

HELP = """Nova flavors for planned hosts. Clouds come from clouds.yaml and the OS_* variables.

\b
Examples:
  nfvhost flavor create plan.yaml --dry-run
  nfvhost flavor create plan.yaml --vnf router.yaml --cloud lab
  nfvhost flavor create node7=a.yaml node8=b.yaml
  nfvhost flavor list
  nfvhost flavor delete nfvhost.router
"""
CREATE_HELP = """Make flavors that fit these plans: exactly those of --vnf, or useful sizes of the plans' pools.

Each is fitted on paper by Nova's rules before the cloud is asked: what does not fit is refused, with what is short and
what would fit. A flavor that is there with nfvhost's mark is kept, or gets its extra specs mended; those of others are
never touched. With several plans, hosts of one profile are a group: an aggregate and a trait. --dry-run needs no cloud
unless one is named.

\b
Examples:
  nfvhost flavor create plan.yaml --dry-run --explain
  nfvhost flavor create plan.yaml --vnf router.yaml --vnf firewall.yaml --cloud lab
"""
flavor = typer.Typer(help=HELP, rich_markup_mode=None, add_completion=False, no_args_is_help=True)

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")]


@flavor.command("create", help=CREATE_HELP)
@ending
def create(
    plans: Annotated[
        list[str],
        typer.Argument(metavar="[HOST=]PLAN...", help="Plans; HOST is Nova's name of the host. [file's name]"),
    ],
    vnf: Annotated[list[str] | None, typer.Option("--vnf", metavar="FILE", help="A VNF; repeatable.")] = None,
    cloud: CloudOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell the reason for each extra spec and default.")
    ] = False,
) -> None:
    """Make flavors."""
    from nfvhost.errors import DocumentError, PreconditionError, Problem
    from nfvhost.openstack.flavors import invalid_specs
    from nfvhost.planfile import load_vnf

    fleet = _fleet(plans)
    vnfs = tuple(load_vnf(path) for path in vnf or ())
    offers = fleet.vnf_offers(vnfs) if vnfs else fleet.useful_offers()
    if not offers:
        raise DocumentError(
            "no flavor fits: there are no dedicated CPUs with hugepages for guests",
            where=", ".join(plans),
            hint="plan more memory or cores for guests; `nfvhost plan --explain memory` says who has it",
        )
    rooms = {offer.flavor.name: fleet.rooms(offer.flavor) for offer in offers}
    problems = [problem for offer in offers for problem in _problems(offer.flavor, rooms[offer.flavor.name])]
    if problems:
        raise DocumentError.of(tuple(problems))
    invalid = [problem for offer in offers for problem in invalid_specs(offer.flavor)]
    if invalid:
        raise PreconditionError.of(tuple(Problem(what=one.what, where=one.where, hint=one.hint) for one in invalid))
    changes, grouped = _on_cloud(fleet, offers, cloud, dry_run=dry_run)
    made = _Creation(
        offers=offers,
        rooms=rooms,
        changes={one.name: one for one in changes},
        grouped=grouped,
        decisions=_decisions(offers, vnfs) if explain else (),
    )
    if json:
        _emit_json(made)
    else:
        _tell(made)
    _warn(fleet, vnfs, rooms)


@flavor.command("list", help="Show the flavors that nfvhost made.\n\n\b\nExample:\n  nfvhost flavor list --json")
@ending
def listed(cloud: CloudOption = None, json: JsonOption = False) -> None:
    """Tell the flavors that are there."""
    from nfvhost.openstack.cloud_flavors import cloud_flavors
    from nfvhost.openstack.connect import connect

    found = tuple(one.flavor for one in cloud_flavors(connect(cloud)) if one.marked)
    if json:
        _emit("Flavors", {"flavors": [_flavor_document(one) for one in found]})
        return
    for one in found:
        emit(f"{_line(one)}\n")
    if not found:
        say("there is no flavor of nfvhost")


@flavor.command(
    "delete",
    help="Delete flavors that nfvhost made: these, or with --all all of them, and its aggregates and traits.\n\n\b\n"
    "Example:\n  nfvhost flavor delete --all",
)
@ending
def delete(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Names of flavors.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that nfvhost made.")] = False,
    cloud: CloudOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Delete flavors."""
    from nfvhost.errors import UsageError

    if bool(names) == everything:
        raise UsageError("name flavors, or say --all", where="flavor delete")
    from nfvhost.openstack.cloud_flavors import delete_flavors
    from nfvhost.openstack.cloud_groups import ungroup_hosts
    from nfvhost.openstack.connect import connect

    connection = connect(cloud)
    changes = delete_flavors(connection, names or (), dry_run=dry_run)
    groups = ungroup_hosts(connection, dry_run=dry_run) if everything else ()
    if json:
        changed = [_change_document(one) for one in changes]
        _emit("FlavorChanges", {"changes": changed, "groups": _group_documents(groups)})
        return
    for one in changes:
        emit(f"{one.fate} {one.name}\n")
    for subject, what in groups:
        emit(f"{subject}: {what}\n")
    if not changes and not groups:
        say("there is no flavor of nfvhost")


def _fleet(plans: Sequence[str]) -> Fleet:
    """The planned hosts; a name in front of a plan is Nova's, else the file's own name without its ending."""
    from nfvhost.errors import UsageError
    from nfvhost.openstack.fleet import ComputeHost, Fleet
    from nfvhost.openstack.nova_host import nova_host
    from nfvhost.planfile import load_plan

    hosts = []
    for word in plans:
        name, equals, path = word.partition("=")
        if not equals:
            name, path = os.path.splitext(os.path.basename(word))[0], word
        plan = load_plan(path)
        hosts.append(ComputeHost(name=name, group=plan.profile, host=nova_host(plan, where=path)))
    names = [one.name for one in hosts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two plans are of the host {twice[0]}", where="flavor create", hint="write NAME=PLAN")
    return Fleet(hosts=tuple(hosts))


def _problems(flavor: Flavor, rooms: Sequence[Room]) -> list[Any]:
    """Why a flavor fits no host; nothing where it fits one."""
    from nfvhost.errors import Problem

    if any(room.count for room in rooms):
        return []
    told = dict.fromkeys(room.short for room in rooms if room.short is not None)
    first = {room.short: room.host for room in reversed(rooms)}
    return [
        Problem(what=f"does not fit {first[short]}: {short.what}", where=f"flavor {flavor.name}", hint=short.hint)
        for short in told
    ]


def _on_cloud(
    fleet: Fleet, offers: Sequence[Offer], cloud: str | None, *, dry_run: bool
) -> tuple[tuple[FlavorChange, ...], tuple[tuple[str, str], ...]]:
    """What was done on the cloud; a dry run of no named cloud asks none."""
    if dry_run and cloud is None and not any(name in os.environ for name in ("OS_CLOUD", "OS_AUTH_URL")):
        return (), ()
    from nfvhost.openstack.cloud_flavors import cloud_flavors, make_flavors, planned_changes
    from nfvhost.openstack.cloud_groups import group_hosts
    from nfvhost.openstack.connect import connect

    connection = connect(cloud)
    flavors = [offer.flavor for offer in offers]
    # All that can be refused is refused before anything is made.
    planned_changes(flavors, cloud_flavors(connection))
    grouped: tuple[tuple[str, str], ...] = ()
    if len(fleet.hosts) > 1:
        groups = {group: [one.name for one in fleet.hosts if one.group == group] for group in fleet.groups}
        grouped = group_hosts(connection, groups, dry_run=dry_run)
    return make_flavors(connection, flavors, dry_run=dry_run), grouped


def _decisions(offers: Sequence[Offer], vnfs: Sequence[Vnf]) -> tuple[Decision, ...]:
    from nfvhost.planfile import vnf_decisions

    return tuple(one for offer in offers for one in offer.reasons) + tuple(
        one for vnf in vnfs for one in vnf_decisions(vnf)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Creation:
    """What `flavor create` has to tell."""

    offers: Sequence[Offer]
    rooms: dict[str, tuple[Room, ...]]  # flavor -> hosts
    changes: dict[str, FlavorChange]  # by flavor; empty where no cloud was asked
    grouped: Sequence[tuple[str, str]]
    decisions: Sequence[Decision]


def _tell(made: _Creation) -> None:
    for subject, what in made.grouped:
        emit(f"{subject}: {what}\n")
    for offer in made.offers:
        name = offer.flavor.name
        change = made.changes.get(name)
        emit(f"{_line(offer.flavor)}\n")
        emit(f"    {'' if change is None else f'{change.fate}; '}{_fits(made.rooms[name])}\n")
        for difference in () if change is None else change.differences:
            emit(f"    ~ {difference}\n")
    for one in made.decisions:
        emit(f"{one.subject}\n  {one.choice}\n  {one.reason}\n")


def _fits(rooms: Sequence[Room]) -> str:
    """`fits 3 times`, or where it does, and where not."""
    if len(rooms) == 1:
        return f"fits {_times(rooms[0].count)}"
    yes = [room for room in rooms if room.count]
    no = [room.host for room in rooms if not room.count]
    times = sum(room.count for room in yes)
    where = f"on all {len(yes)} hosts" if not no else f"on {', '.join(room.host for room in yes)} alone"
    return f"fits {_times(times)} {where}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _line(flavor: Flavor) -> str:
    specs = " ".join(f"{key}={said}" for key, said in flavor.extra_specs)
    vcpus = "1 vCPU" if flavor.vcpus == 1 else f"{flavor.vcpus} vCPUs"
    return f"{flavor.name}  {vcpus}, {flavor.memory_mib} MiB, {flavor.disk_gib} GiB of disk\n    {specs}"


def _warn(fleet: Fleet, vnfs: Sequence[Vnf], rooms: dict[str, tuple[Room, ...]]) -> None:
    """Say where fewer servers fit than a VNF counts."""
    from nfvhost.openstack.flavors import flavor_name

    for vnf in vnfs:
        count = sum(room.count for room in rooms[flavor_name(vnf)])
        if count < vnf.count:
            hosts = "the planned host" if len(fleet.hosts) == 1 else f"the {len(fleet.hosts)} planned hosts"
            say(f"note: {vnf.name} counts {vnf.count} servers, and {count} fit {hosts}")


def _emit_json(made: _Creation) -> None:
    flavors = []
    for offer in made.offers:
        name = offer.flavor.name
        change = _change_document(made.changes[name]) if name in made.changes else {"fate": None, "differences": []}
        fits = [{"host": one.host, "group": one.group, "count": one.count} for one in made.rooms[name]]
        flavors.append({**_flavor_document(offer.flavor), **change, "hosts": fits})
    _emit(
        "Flavors",
        {
            "flavors": flavors,
            "groups": _group_documents(made.grouped),
            "decisions": [
                {"subject": one.subject, "choice": one.choice, "reason": one.reason} for one in made.decisions
            ],
        },
    )


def _flavor_document(flavor: Flavor) -> dict[str, Any]:
    return {
        "name": flavor.name,
        "vcpus": flavor.vcpus,
        "memoryMiB": flavor.memory_mib,
        "diskGiB": flavor.disk_gib,
        "extraSpecs": dict(flavor.extra_specs),
        "description": flavor.description,
    }


def _group_documents(groups: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"subject": subject, "what": what} for subject, what in groups]


def _change_document(change: FlavorChange) -> dict[str, Any]:
    return {"name": change.name, "fate": change.fate, "differences": list(change.differences)}


def _emit(kind: str, body: dict[str, Any]) -> None:
    from nfvhost.planfile import headed, to_json

    emit(to_json(headed(kind, body)))
