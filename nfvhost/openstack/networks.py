"""Networks and ports: made where they are missing, found by name and mark where they are there.

Source: Neutron's API v2, with its extensions provider, mtu, port-security, binding, qos and
standard-attr-description.
"""

from __future__ import annotations

from typing import Final

from openstack.connection import Connection
from openstack.network.v2.network import Network
from openstack.network.v2.port import Port
from openstack.network.v2.qos_policy import QoSPolicy

from nfvhost.errors import PreconditionError
from nfvhost.model.profile import PortType
from nfvhost.model.vnf import Vnf, VnfPort
from nfvhost.openstack.connect import asking
from nfvhost.openstack.marks import description, is_described

# neutron_lib/api/definitions/portbindings.py, VNIC_TYPES.
VNIC_TYPES: Final = {
    PortType.VHOSTUSER: "normal",
    PortType.NORMAL: "normal",
    PortType.SRIOV: "direct",
    PortType.SRIOV_PHYSICAL: "direct-physical",
    PortType.VDPA: "vdpa",
}
# RFC 2544, for tests of network devices: routed nowhere, so that an address that a guest does not use harms nobody.
UNUSED_CIDR: Final = "198.18.0.0/16"
KBPS: Final = 1000


def network_name(port: VnfPort) -> str:
    """The network of a port: the one that it names, or the one that is made for its physnet and VLAN."""
    if port.network is not None:
        return port.network
    return f"nfvhost-{port.physnet}-{port.vlan if port.vlan is not None else 'flat'}"


def ensure_network(cloud: Connection, port: VnfPort) -> tuple[Network, bool]:
    """The network of a port, and whether it was made just now.

    A network that is named has to be there. For a physnet, one of that physnet and VLAN serves whoever made it, since
    Neutron has each of them once.
    """
    name = network_name(port)
    with asking("Neutron", where=f"network {name}"):
        if port.network is not None:
            found = list(cloud.network.networks(name=name))
            if len(found) != 1:
                what = "is not there" if not found else f"is the name of {len(found)} networks"
                raise PreconditionError(what, where=f"network {name}", hint="`openstack network list` shows what is")
            return found[0], False
        segment = {
            "provider_network_type": "flat" if port.vlan is None else "vlan",
            "provider_physical_network": port.physnet,
            **({} if port.vlan is None else {"provider_segmentation_id": port.vlan}),
        }
        found = list(cloud.network.networks(**segment))
        network = found[0] if found else None
        made = network is None
        if network is None:
            mtu = {} if port.mtu is None else {"mtu": port.mtu}
            network = cloud.network.create_network(name=name, description=description(), **segment, **mtu)
        if port.subnet is not None:
            network = _ensure_subnet(cloud, network, port.subnet)
        elif made and not _addressless(cloud):
            network = _ensure_subnet(cloud, network, UNUSED_CIDR)
        return network, made


def _ensure_subnet(cloud: Connection, network: Network, cidr: str) -> Network:
    if any(one.cidr == cidr for one in cloud.network.subnets(network_id=network.id)):
        return network
    cloud.network.create_subnet(
        network_id=network.id,
        name=f"{network.name}-{cidr}",
        cidr=cidr,
        ip_version=6 if ":" in cidr else 4,
        enable_dhcp=False,
        gateway_ip=None,
    )
    return cloud.network.get_network(network.id)


def _addressless(cloud: Connection) -> bool:
    """Whether Nova will take ports without an address.

    It does where Neutron tells it so by `ip_allocation`, which Neutron does with its service plugin `segments` alone
    (nova/network/neutron.py, PortRequiresFixedIP).
    """
    return any(one.alias == "ip_allocation" for one in cloud.network.extensions())


def port_name(server: str, port: VnfPort, at: int) -> str:
    """The name of a server's port: by what it is called, or by its number."""
    return f"{server}-{port.name if port.name is not None else at}"


def ensure_port(
    cloud: Connection, vnf: Vnf, server: str, at: int, *, network: Network, policy: QoSPolicy | None
) -> Port:
    """The port with that number of a server; one that a launch before this one left is made again.

    PreconditionError where a port of that name is not nfvhost's.
    """
    wish = vnf.ports[at]
    name = port_name(server, wish, at)
    with asking("Neutron", where=f"port {name}"):
        for old in cloud.network.ports(name=name):
            _demand_mark(old, name)
            cloud.network.delete_port(old)
        profile = {"trusted": "true"} if wish.trusted else {}
        settings: dict[str, object] = {"binding_profile": profile} if profile else {}
        if not network.subnet_ids:
            # Said, and not left out: only so does Neutron call it a port without an address.
            settings["fixed_ips"] = []
        elif wish.address is not None:
            settings["fixed_ips"] = [{"ip_address": wish.address}]
        if wish.mac is not None:
            settings["mac_address"] = wish.mac
        if not wish.secured:
            settings |= {"port_security_enabled": False, "security_group_ids": []}
        if policy is not None:
            settings["qos_policy_id"] = policy.id
        return cloud.network.create_port(
            name=name,
            description=description(vnf.name),
            network_id=network.id,
            binding_vnic_type=VNIC_TYPES[wish.type],
            **settings,
        )


def ensure_policy(cloud: Connection, vnf: Vnf, at: int) -> tuple[QoSPolicy | None, bool]:
    """The bandwidth of a port as a QoS policy of the VNF's servers, and whether it was made just now.

    None where the port has neither limit nor promise. PreconditionError where a policy of that name is not nfvhost's.
    """
    wish = vnf.ports[at]
    if wish.min_mbps is None and wish.max_mbps is None:
        return None, False
    name = port_name(vnf.name, wish, at)
    with asking("Neutron", where=f"QoS policy {name}"):
        for old in cloud.network.qos_policies(name=name):
            _demand_mark(old, name)
            if list(cloud.network.ports(qos_policy_id=old.id)):
                return old, False
            # Its rules may be those of an older document, or not all there.
            cloud.network.delete_qos_policy(old)
        policy = cloud.network.create_qos_policy(name=name, description=description(vnf.name))
        for direction in ("egress", "ingress"):
            if wish.max_mbps is not None:
                most = wish.max_mbps * KBPS
                cloud.network.create_qos_bandwidth_limit_rule(policy, max_kbps=most, direction=direction)
            if wish.min_mbps is not None:
                least = wish.min_mbps * KBPS
                cloud.network.create_qos_minimum_bandwidth_rule(policy, min_kbps=least, direction=direction)
        return policy, True


def _demand_mark(found: Port | QoSPolicy, name: str) -> None:
    if not is_described(found.description):
        raise PreconditionError("is there and is not nfvhost's", where=name, hint="give the VNF another name")


def ports_of(cloud: Connection, vnf: str, server: str | None = None) -> list[Port]:
    """The ports that nfvhost has made for a VNF, or for one server of it."""
    with asking("Neutron"):
        found = list(cloud.network.ports(description=description(vnf)))
    return [port for port in found if server is None or port.name.startswith(f"{server}-")]


def delete_ports(cloud: Connection, ports: list[Port]) -> None:
    """Nothing, with those ports gone."""
    with asking("Neutron"):
        for port in ports:
            cloud.network.delete_port(port, ignore_missing=True)


def delete_leftovers(cloud: Connection, vnf: str) -> tuple[str, ...]:
    """The networks of nfvhost's and the policies of the VNF that no port is on any more, which are gone then.

    Networks are shared by VNFs: one goes with the last of them.
    """
    gone = []
    with asking("Neutron"):
        for policy in cloud.network.qos_policies(description=description(vnf)):
            if not list(cloud.network.ports(qos_policy_id=policy.id)):
                cloud.network.delete_qos_policy(policy, ignore_missing=True)
                gone.append(f"QoS policy {policy.name}")
        for network in cloud.network.networks(description=description()):
            if not list(cloud.network.ports(network_id=network.id)):
                cloud.network.delete_network(network, ignore_missing=True)
                gone.append(f"network {network.name}")
    return tuple(gone)
