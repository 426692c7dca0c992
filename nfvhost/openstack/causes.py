"""Why a server did not come to run: asked of Nova, Placement and Neutron, not guessed.

Source: Nova's instance actions (microversion 2.84 and later tell the details); Placement's API, allocation_candidates,
inventories and usages; Neutron's agents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from openstack.compute.v2.server import Server
from openstack.connection import Connection
from openstack.network.v2.port import Port

from nfvhost.errors import PreconditionError
from nfvhost.model.profile import VF_PORTS
from nfvhost.model.vnf import GroupPolicy, Vnf, VnfPort
from nfvhost.openstack.connect import asking, document
from nfvhost.openstack.flavor import Flavor, guest_of
from nfvhost.openstack.networks import KBPS
from nfvhost.openstack.servers import power, runs

# placement/rest_api_version_history.rst: from here on candidates can be asked for by names of groups as well.
_PLACEMENT: Final = "1.36"
_NO_HOST: Final = "No valid host"
# nova/exception.py, MaxRetriesExceeded: the hosts that Placement offered have all failed.
_TRIED_ALL: Final = "Exhausted all hosts"
# neutron_lib/constants.py: the agent whose mappings decide.
_AGENT: Final = "neutron-openvswitch-agent"
# neutron_lib/api/definitions/portbindings.py: what a port is called whose agent has not bound it.
_UNBOUND: Final = frozenset({"binding_failed", "unbound"})
# The kinds of ports that the agent of Open vSwitch binds.
_BY_SWITCH: Final = frozenset({"normal", "vdpa"})
# Neutron's mech_openvswitch.py, get_vif_type, and OVN's mech_driver.py, bind_port: such a port is none for libvirt.
_MISTAKEN: Final = ("vdpa", "vhostuser")
_LAST_EVENTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """One resource class of one host in Placement."""

    host: str
    total: int
    reserved: int
    used: int
    ratio: float
    most: int  # for one server

    @property
    def free(self) -> int:
        """What another server can have."""
        return max(0, min(self.most, int((self.total - self.reserved) * self.ratio) - self.used))


def fault(server: Server) -> str:
    """What Nova says of a server that does not run."""
    if server.status == "ERROR":
        return str((server.fault or {}).get("message") or "ERROR, and Nova says no reason")
    if server.status == "ACTIVE" and not runs(server):
        return f"Nova calls it ACTIVE, and its power state is {power(server)}: the hypervisor has stopped it"
    return f"still {server.status} when its time was up"


def causes(cloud: Connection, server: Server, vnf: Vnf, flavor: Flavor, ports: Sequence[Port]) -> tuple[str, ...]:
    """What stands behind the fault, each in Nova's, Placement's or Neutron's terms; empty where they tell no more."""
    found: list[str] = []
    for look in (_events(cloud, server), _scheduling(cloud, server, vnf, flavor), _bindings(cloud, server, ports)):
        try:
            found += look
        except PreconditionError as error:
            found.append(f"not told: {error.problems[0].what}")
    return tuple(dict.fromkeys(found))


def _events(cloud: Connection, server: Server) -> Iterator[str]:
    """The steps of Nova's work that failed, as it tells administrators."""
    with asking("Nova", where=f"server {server.name}"):
        path = f"/servers/{server.id}/os-instance-actions"
        for action in document(cloud.compute, path)["instanceActions"][:1]:
            done = document(cloud.compute, f"{path}/{action['request_id']}")["instanceAction"]
            events: list[Mapping[str, Any]] = done.get("events") or []
            failed = [one for one in events if one.get("result") == "Error"]
            if not failed and _TRIED_ALL in fault(server):
                tried = ", ".join(sorted({str(one["host"]) for one in events if one.get("host")}))
                yield f"Nova failed to build it on {tried or 'each host'}: nova-compute's log there says why"
            for one in failed[-_LAST_EVENTS:]:
                details = one.get("details") or _last_line(one.get("traceback"))
                if details and _NO_HOST not in details:
                    yield f"Nova, {one['event']} on {one.get('host') or 'some host'}: {details}"


def _last_line(traceback: str | None) -> str | None:
    lines = [line for line in (traceback or "").splitlines() if line.strip()]
    return lines[-1].strip() if lines else None


def _scheduling(cloud: Connection, server: Server, vnf: Vnf, flavor: Flavor) -> Iterator[str]:
    """Which resource is short, or which filter is left where none is."""
    wanted = resources(flavor)
    if _TRIED_ALL in fault(server) and _most_on_a_host(vnf) is not None:
        # Two that were placed at once, and nova-compute refused the later one (_validate_instance_group_policy).
        yield from _too_few(vnf, candidates(cloud, wanted))
    if _NO_HOST not in fault(server):
        return
    hosts = candidates(cloud, wanted)
    if not hosts:
        yield from shortages(cloud, wanted)
        return
    narrow = [line for port in vnf.ports for line in shortages(cloud, bandwidth(port))]
    if narrow:
        yield from dict.fromkeys(narrow)
        return
    yield f"Placement has room for {_amounts(wanted)} on {', '.join(hosts)}: a filter of Nova's scheduler refuses them"
    few = tuple(_too_few(vnf, hosts))
    if few:
        yield from few
        return
    vfs = [port for port in vnf.ports if port.type in VF_PORTS]
    if vfs:
        kinds = ", ".join(f"{port.type} on {port.physnet or port.network}" for port in vfs)
        yield f"PciPassthroughFilter: no host offers a function for {kinds} ([pci] device_spec of nova-compute)"
    if guest_of(flavor).cells:
        what = ", ".join(f"{key}={value}" for key, value in flavor.extra_specs if key.startswith("hw:"))
        yield f"NUMATopologyFilter: no NUMA node has it all free: {flavor.memory_mib} MiB, {what}"


def _most_on_a_host(vnf: Vnf) -> int | None:
    """How many of a VNF's servers one host may have; None where they need not be apart."""
    group = vnf.server_group
    return None if group is None or group.policy is not GroupPolicy.ANTI_AFFINITY else group.max_servers_per_host or 1


def _too_few(vnf: Vnf, hosts: Sequence[str]) -> Iterator[str]:
    """Whether a VNF's servers, which are to be apart, are more than these hosts can take."""
    each = _most_on_a_host(vnf)
    if each is not None and vnf.count > each * len(hosts):
        here = "1 host has" if len(hosts) == 1 else f"{len(hosts)} hosts have"
        yield f"ServerGroupAntiAffinityFilter: {vnf.count} servers, at most {each} on a host, and {here} room"


def resources(flavor: Flavor) -> dict[str, int]:
    """What a server of a flavor takes of Placement's resource classes."""
    guest = guest_of(flavor)
    wanted = {
        "PCPU": guest.pcpus,
        "VCPU": guest.shared,
        "MEMORY_MB": flavor.memory_mib,
        "DISK_GB": flavor.disk_gib,
    }
    return {name: amount for name, amount in wanted.items() if amount}


def bandwidth(port: VnfPort) -> dict[str, int]:
    """What the bandwidth that a port is promised takes of Placement: Neutron's guaranteed minimum."""
    if port.min_mbps is None:
        return {}
    return dict.fromkeys(("NET_BW_EGR_KILOBIT_PER_SEC", "NET_BW_IGR_KILOBIT_PER_SEC"), port.min_mbps * KBPS)


def candidates(cloud: Connection, wanted: Mapping[str, int]) -> tuple[str, ...]:
    """The hosts that Placement would give all of that to, by name."""
    amounts = ",".join(f"{name}:{amount}" for name, amount in wanted.items())
    answer = _placement(cloud, f"/allocation_candidates?resources={amounts}")
    # What a host has besides has providers of its own below it: cards, and a switch with its bandwidth.
    found = {one["root_provider_uuid"] for one in answer["provider_summaries"].values()}
    return tuple(name for uuid, name in _providers(cloud) if uuid in found)


def shortages(cloud: Connection, wanted: Mapping[str, int]) -> Iterator[str]:
    """What each host lacks of it, with the numbers of its inventory."""
    stocks = {name: inventory(cloud, name) for name in wanted}
    for name, amount in wanted.items():
        if not stocks[name]:
            yield f"Placement: no host has any {name}, and {amount} is asked for"
            continue
        short = [one for one in stocks[name] if one.free < amount]
        for one in short:
            taken = f"{one.used} of {one.total - one.reserved} used"
            kept = f", {one.reserved} reserved" if one.reserved else ""
            yield f"Placement: {name} is short on {one.host}: {amount} asked for, {one.free} free ({taken}{kept})"


def inventory(cloud: Connection, resource_class: str) -> tuple[Stock, ...]:
    """What each host has of a resource class; hosts without any are left out."""
    found = []
    for uuid, name in _providers(cloud):
        inventories = _placement(cloud, f"/resource_providers/{uuid}/inventories")["inventories"]
        if resource_class not in inventories:
            continue
        usages = _placement(cloud, f"/resource_providers/{uuid}/usages")["usages"]
        one = inventories[resource_class]
        found.append(
            Stock(
                host=name,
                total=one["total"],
                reserved=one["reserved"],
                used=usages.get(resource_class, 0),
                ratio=one["allocation_ratio"],
                most=one["max_unit"],
            )
        )
    return tuple(found)


def _providers(cloud: Connection) -> list[tuple[str, str]]:
    answer = _placement(cloud, "/resource_providers")
    return sorted(((one["uuid"], one["name"]) for one in answer["resource_providers"]), key=lambda pair: pair[1])


def _placement(cloud: Connection, path: str) -> dict[str, Any]:
    with asking("Placement", where="Placement"):
        return document(cloud.placement, path, version=_PLACEMENT)


def _amounts(wanted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {amount}" for name, amount in wanted.items())


def _bindings(cloud: Connection, server: Server, ports: Sequence[Port]) -> Iterator[str]:
    """Ports that no agent has bound, on the host that was chosen or on any, and what lives there instead."""
    with asking("Neutron"):
        for port in ports:
            now = cloud.network.get_port(port.id)
            vif, kind = now.binding_vif_type, now.binding_vnic_type
            if vif not in _UNBOUND and (kind, vif) != _MISTAKEN:
                continue
            # Nova takes the host away again from the ports of a server that failed on each.
            host = now.binding_host_id or server.compute_host
            agents = list(cloud.network.agents(host=host) if host else cloud.network.agents(binary=_AGENT))
            if host and vif in _UNBOUND:
                alive = ", ".join(f"{one.agent_type} ({'alive' if one.is_alive else 'dead'})" for one in agents)
                yield f"Neutron: port {now.name} is {vif} on {host}; agents there: {alive or 'none'}"
            if kind not in _BY_SWITCH:
                continue
            physnet = cloud.network.get_network(now.network_id).provider_physical_network
            mapping = [one for one in agents if physnet in (one.configuration or {}).get("bridge_mappings", {})]
            if physnet and not mapping:
                place = f" on {host}" if host else ""
                yield f"Neutron: no agent{place} maps the physical network {physnet} to a bridge (bridge_mappings)"
            userspace = [one.host for one in mapping if (one.configuration or {}).get("datapath_type") == "netdev"]
            if kind == "vdpa" and userspace:
                yield (
                    f"Neutron binds a port of vDPA as vhost-user where Open vSwitch has the userspace data path, as on "
                    f"{', '.join(userspace)}, and libvirt refuses the guest"
                )
