"""VNFs brought to run: networks, images, flavors, ports and servers, made where they are missing.

Everything is found again by name and mark, so that a second launch changes nothing, and one that was killed is taken up
by the next. What a failed launch has made is removed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from openstack.compute.v2.server import Server
from openstack.connection import Connection
from openstack.network.v2.network import Network
from openstack.network.v2.port import Port
from openstack.network.v2.qos_policy import QoSPolicy

from nfvhost.access.clock import now_s
from nfvhost.errors import ApplyError, DocumentError, NfvhostError, PreconditionError, Problem, RollbackError
from nfvhost.model.plan import Plan
from nfvhost.model.server import LaunchedServer, Outcome
from nfvhost.model.vnf import GroupPolicy, Vnf
from nfvhost.openstack.causes import causes, fault
from nfvhost.openstack.cloud_flavors import Fate, cloud_flavors, delete_flavors, make_flavors
from nfvhost.openstack.connect import asking
from nfvhost.openstack.flavor import Flavor, guest_of
from nfvhost.openstack.flavors import FLAVOR_PREFIX, vnf_offer
from nfvhost.openstack.images import delete_images, ensure_image
from nfvhost.openstack.marks import PRINT_KEY
from nfvhost.openstack.networks import (
    delete_leftovers,
    delete_ports,
    ensure_network,
    ensure_policy,
    ensure_port,
    port_name,
    ports_of,
)
from nfvhost.openstack.nova_host import nova_host
from nfvhost.openstack.pinning import checks
from nfvhost.openstack.servers import (
    Watch,
    create_server,
    delete_servers,
    find_servers,
    fingerprint,
    power,
    runs,
    servers_of,
    wait_server,
)
from nfvhost.openstack.shortage import shortage

# At a time: fewer than one compute builds ([DEFAULT] max_concurrent_builds is 10), so that nothing waits there; with
# more of them, claims in Placement get into each other's way and are made again (benchmarks/launch_many.py).
AT_ONCE: Final = 8
TIMEOUT_S: Final = 300.0
# What a launch that was cut off, or that failed, may have left; others were stopped by somebody.
_OURS_TO_FINISH: Final = frozenset({"BUILD", "ERROR", "DELETED"})
Tell = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class _Ground:
    """What the servers of a VNF stand on."""

    vnf: Vnf
    networks: list[Network]  # of each port
    policies: list[QoSPolicy | None]  # of each port
    image: str
    flavor: Flavor
    flavor_id: str
    group: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A server that does not run, and why."""

    server: str
    what: str
    causes: tuple[str, ...]

    @property
    def problem(self) -> Problem:
        """The same as users see it."""
        return Problem(
            what="".join([self.what, *(f"\n  | {one}" for one in self.causes)]), where=f"server {self.server}"
        )


@dataclass(slots=True)
class _Work:
    """One launch: what came of it so far, told to by several threads."""

    cloud: Connection
    plan: Plan | None
    timeout_s: float
    tell: Tell
    there: dict[str, Server]  # before this launch
    watch: Watch
    servers: list[LaunchedServer] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unsettled: dict[str, str] = field(
        default_factory=dict
    )  # server -> VNF: touched by this launch, not seen to be whole
    fresh: set[str] = field(default_factory=set)  # VNFs of which this launch has made something
    stop: threading.Event = field(default_factory=threading.Event)


def demand_launchable(vnfs: Sequence[Vnf], plan: Plan | None) -> None:
    """Nothing, where each VNF has an image and one server of it fits the planned host by Nova's rules.

    DocumentError with all that is missing or short; no cloud is asked.
    """
    problems = [
        Problem(what="no image is named", where=vnf.name, hint="image: {name: ...}")
        for vnf in vnfs
        if vnf.image is None
    ]
    if plan is not None:
        host = nova_host(plan)
        lacks = [(vnf, shortage(host, guest_of(vnf_offer(vnf).flavor))) for vnf in vnfs]
        problems += [
            Problem(what=f"does not fit: {lack.what}", where=vnf.name, hint=lack.hint) for vnf, lack in lacks if lack
        ]
    if problems:
        raise DocumentError.of(tuple(problems))


def launch(
    cloud: Connection,
    vnfs: Sequence[Vnf],
    *,
    plan: Plan | None = None,
    keep: bool = False,
    timeout_s: float = TIMEOUT_S,
    at_once: int = AT_ONCE,
    tell: Tell = lambda _text: None,
) -> tuple[LaunchedServer, ...]:
    """The servers of these VNFs, running, with what each was promised and what it got.

    The VNFs are those that `demand_launchable` has let through. PreconditionError where something is in the way before
    anything was made. ApplyError where servers do not run, with the cause of each: what this launch has made is gone
    then, or still there with `keep`; RollbackError where it could not be removed.
    """
    there = _look_ahead(cloud, vnfs)
    work = _Work(cloud=cloud, plan=plan, timeout_s=timeout_s, tell=tell, there=there, watch=Watch(cloud))
    try:
        _bring_all_up(work, [_ground(work, vnf) for vnf in vnfs], at_once=at_once)
    except BaseException as error:
        work.stop.set()
        if not keep:
            _remove(work, error)
        elif work.fresh and isinstance(error, NfvhostError):
            raise RollbackError.of((*error.problems, _kept(work))) from error
        if isinstance(error, PreconditionError) and work.fresh:
            raise ApplyError.of(error.problems) from error
        raise
    order = {name: at for at, name in enumerate(name for vnf in vnfs for name in vnf.names)}
    return tuple(sorted(work.servers, key=lambda one: order[one.name]))


def _look_ahead(cloud: Connection, vnfs: Sequence[Vnf]) -> dict[str, Server]:
    """The servers that are there already, by name, none of which is in the way."""
    there = {name: server for vnf in vnfs for name, server in find_servers(cloud, vnf).items()}
    for vnf in vnfs:
        for name in vnf.names:
            server = there.get(name)
            if server is not None and server.status not in _OURS_TO_FINISH and not runs(server):
                raise PreconditionError(
                    f"is {server.status} with its power {power(server)}",
                    where=f"server {name}",
                    hint=f"`openstack server start {name}`, or `nfvhost destroy {vnf.name}` first",
                )
            if server is not None and runs(server) and (server.metadata or {}).get(PRINT_KEY) != fingerprint(vnf):
                raise PreconditionError(
                    "runs, and its document has changed since",
                    where=f"server {name}",
                    hint=f"`nfvhost destroy {vnf.name}` first: a running server does not change its shape",
                )
    return there


def _bring_all_up(work: _Work, grounds: Sequence[_Ground], *, at_once: int) -> None:
    """All servers of all VNFs, `at_once` at a time."""
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        futures = [pool.submit(_bring_up, work, ground, name) for ground in grounds for name in ground.vnf.names]
        try:
            for future in futures:
                future.result()
            _demand_success(work)
        except BaseException:
            work.stop.set()
            for future in futures:
                future.cancel()
            raise


def _demand_success(work: _Work) -> None:
    if work.failures:
        raise ApplyError.of(tuple(one.problem for one in work.failures))


def _ground(work: _Work, vnf: Vnf) -> _Ground:
    if vnf.image is None:
        raise AssertionError("demand_launchable has seen an image")
    image, made = ensure_image(work.cloud, vnf.image, vnf.name)
    _note(work, vnf, made=made, what=f"image {vnf.image.name}")
    flavor = vnf_offer(vnf).flavor
    (change,) = make_flavors(work.cloud, [flavor])
    _note(work, vnf, made=change.fate is Fate.CREATE, what=f"flavor {flavor.name}")
    (flavor_id,) = (one.id for one in cloud_flavors(work.cloud) if one.flavor.name == flavor.name)
    networks, policies = [], []
    for at, port in enumerate(vnf.ports):
        network, made = ensure_network(work.cloud, port)
        _note(work, vnf, made=made, what=f"network {network.name}")
        networks.append(network)
        # Here, and not by each server: they are made side by side, and share it.
        policy, made = ensure_policy(work.cloud, vnf, at)
        policies.append(policy)
        if policy is not None:
            _note(work, vnf, made=made, what=f"QoS policy {policy.name}")
    return _Ground(
        vnf=vnf,
        networks=networks,
        policies=policies,
        image=image.id,
        flavor=flavor,
        flavor_id=flavor_id,
        group=_ensure_group(work, vnf),
    )


def _note(work: _Work, vnf: Vnf, *, made: bool, what: str) -> None:
    if made:
        work.fresh.add(vnf.name)
        work.tell(f"made {what}")


def group_name(vnf: Vnf) -> str | None:
    """The server group of a VNF; None where it has none."""
    if vnf.server_group is None:
        return None
    return vnf.server_group.name or f"nfvhost.{vnf.name}"


def _ensure_group(work: _Work, vnf: Vnf) -> str | None:
    wish, name = vnf.server_group, group_name(vnf)
    if wish is None or name is None:
        return None
    with asking("Nova", where=f"server group {name}"):
        for one in work.cloud.compute.server_groups():
            if one.name == name:
                return str(one.id)
        rules = {}
        if wish.policy is GroupPolicy.ANTI_AFFINITY and wish.max_servers_per_host is not None:
            rules = {"rules": {"max_server_per_host": wish.max_servers_per_host}}
        made = work.cloud.compute.create_server_group(name=name, policy=str(wish.policy), **rules)
    _note(work, vnf, made=True, what=f"server group {name}")
    return str(made.id)


def _bring_up(work: _Work, ground: _Ground, name: str) -> None:
    """One server, running or among the failures."""
    if work.stop.is_set():
        return
    start = now_s()
    vnf = ground.vnf
    server = work.there.get(name)
    outcome = Outcome.MADE
    if server is not None and runs(server):
        _settle(work, ground, server, Outcome.UNCHANGED, start)
        return
    work.unsettled[name] = vnf.name
    work.fresh.add(vnf.name)
    if server is not None and server.status == "BUILD":
        work.tell(f"{name}: an earlier launch has begun it")
        outcome = Outcome.TAKEN_UP
    else:
        server = _make(work, ground, name, server)
    server = wait_server(work.cloud, server, vnf, work.watch, timeout_s=work.timeout_s)
    if runs(server):
        _settle(work, ground, server, outcome, start)
        del work.unsettled[name]
        return
    work.stop.set()
    ports = ports_of(work.cloud, vnf.name, name)
    reasons = causes(work.cloud, server, vnf, ground.flavor, ports)
    work.tell(f"{name}: {server.status} after {now_s() - start:.1f} s")
    work.failures.append(Failure(server=name, what=fault(server), causes=reasons))


def _make(work: _Work, ground: _Ground, name: str, broken: Server | None) -> Server:
    """The server on its way, on fresh ports; one that an earlier launch has left broken goes first."""
    vnf = ground.vnf
    if broken is not None:
        work.tell(f"{name}: is {broken.status} from an earlier launch, and is made again")
        delete_servers(work.cloud, [broken.id])
    ports = [
        ensure_port(work.cloud, vnf, name, at, network=network, policy=policy)
        for at, (network, policy) in enumerate(zip(ground.networks, ground.policies, strict=True))
    ]
    server = create_server(
        work.cloud,
        vnf,
        name,
        image=ground.image,
        flavor=ground.flavor_id,
        ports=[port.id for port in ports],
        group=ground.group,
    )
    work.tell(f"{name}: building")
    return server


def _settle(work: _Work, ground: _Ground, server: Server, outcome: Outcome, start: float) -> None:
    """The server among those that run, with what it got."""
    vnf = ground.vnf
    took_s = now_s() - start
    if outcome is not Outcome.UNCHANGED:
        work.tell(f"{server.name}: running after {took_s:.1f} s")
    by_network = _ports_in_order(work.cloud, vnf, server)
    work.servers.append(
        LaunchedServer(
            name=server.name,
            vnf=vnf.name,
            id=server.id,
            host=server.compute_host,
            outcome=outcome,
            took_s=round(took_s, 1),
            checks=checks(work.cloud, server, vnf, ports=by_network, plan=work.plan),
        )
    )


def _ports_in_order(cloud: Connection, vnf: Vnf, server: Server) -> list[Port]:
    """The server's ports as the document has them."""
    if not vnf.ports:
        return []
    with asking("Neutron", where=f"server {server.name}"):
        found = {str(port.name): port for port in cloud.network.ports(device_id=server.id)}
    names = [port_name(server.name, port, at) for at, port in enumerate(vnf.ports)]
    return [found[name] for name in names if name in found]


def _kept(work: _Work) -> Problem:
    names = ", ".join(sorted(work.unsettled)) or "networks and images"
    return Problem(what=f"left as it is, as asked: {names}", hint="`nfvhost destroy` removes it")


def _remove(work: _Work, error: BaseException) -> None:
    """What this launch has made, gone; RollbackError where something stays."""
    if not work.fresh:
        return
    made = {one.name for one in work.servers if one.outcome is not Outcome.UNCHANGED} | set(work.unsettled)
    work.tell("removing what was made")
    try:
        for vnf in sorted(work.fresh):
            # By name and mark, not by what was answered: an answer may have been lost on its way.
            there = servers_of(work.cloud, vnf)
            remove(work.cloud, vnf, [one for one in there if one.name in made], made)
    except NfvhostError as left:
        problems = error.problems if isinstance(error, NfvhostError) else ()
        hint = "`nfvhost destroy` removes it when the cloud is well"
        rest = tuple(Problem(what=f"not removed: {one.what}", where=one.where, hint=hint) for one in left.problems)
        raise RollbackError.of((*problems, *rest)) from error


def remove(cloud: Connection, vnf: str, servers: Sequence[Server], names: set[str] | None = None) -> tuple[str, ...]:
    """What was removed: these servers of a VNF with their ports, and what nobody stands on any more.

    `names` are those of servers that may have left ports without being there; None: all ports of the VNF go.
    """
    delete_servers(cloud, [one.id for one in servers])
    ports = ports_of(cloud, vnf)
    if names is not None:
        ports = [port for port in ports if any(port.name.startswith(f"{name}-") for name in names)]
    delete_ports(cloud, ports)
    gone = [*(f"server {one.name}" for one in servers), *(f"port {port.name}" for port in ports)]
    if not servers_of(cloud, vnf):
        gone += [f"image {name}" for name in delete_images(cloud, vnf)]
        gone += [f"flavor {name}" for name in _delete_flavor(cloud, vnf)]
        gone += [f"server group {name}" for name in _delete_group(cloud, vnf)]
    return (*gone, *delete_leftovers(cloud, vnf))


def _delete_flavor(cloud: Connection, vnf: str) -> list[str]:
    """The flavor that is a VNF's alone, where nfvhost has made it."""
    name = f"{FLAVOR_PREFIX}{vnf}"
    there = [one.flavor.name for one in cloud_flavors(cloud) if one.flavor.name == name and one.marked]
    return [change.name for change in delete_flavors(cloud, there)] if there else []


def _delete_group(cloud: Connection, vnf: str) -> list[str]:
    """The group that was made for the VNF under its own name, gone where it is empty."""
    gone = []
    with asking("Nova"):
        for one in cloud.compute.server_groups():
            if one.name == f"nfvhost.{vnf}" and not one.member_ids:
                cloud.compute.delete_server_group(one, ignore_missing=True)
                gone.append(str(one.name))
    return gone
