"""Settings of Neutron's Open vSwitch agent.

Source: neutron.conf and openvswitch_agent.ini of the service, by oslo.config's rules;
neutron/conf/plugins/ml2/drivers/ovs_conf.py.
"""

from __future__ import annotations

from typing import Final

from nfvhost.model.plan import Plan
from nfvhost.resources.oslo import OsloConf, Setting, State
from nfvhost.resources.oslo.service import Service

RESOURCE: Final = "neutron_conf"
_SERVICE: Final = Service(program="neutron-openvswitch-agent", project="neutron", units=("neutron-openvswitch-agent",))


def _settings(plan: Plan, state: State) -> tuple[Setting, ...]:
    if plan.neutron is None:
        return ()
    # One value for all physical networks: those of others stay in it.
    mappings = _mappings(state.effective("ovs", "bridge_mappings")) | dict(plan.neutron.bridge_mappings)
    values = {
        "datapath_type": plan.neutron.datapath_type,
        "vhostuser_socket_dir": plan.neutron.vhostuser_socket_dir,
        "bridge_mappings": ",".join(f"{physnet}:{bridge}" for physnet, bridge in sorted(mappings.items())),
    }
    return tuple(Setting(section="ovs", name=name, label=None, value=value) for name, value in values.items() if value)


def _mappings(value: str | None) -> dict[str, str]:
    pairs = (part.strip().partition(":") for part in (value or "").split(","))
    return {physnet: bridge for physnet, separator, bridge in pairs if separator}


NEUTRON_CONF: Final = OsloConf(
    resource=RESOURCE,
    service=_SERVICE,
    settings=_settings,
    options=frozenset({("ovs", "datapath_type"), ("ovs", "vhostuser_socket_dir"), ("ovs", "bridge_mappings")}),
    labels={},
)
"""Settings of Neutron's Open vSwitch agent.

The data path, the folder of vhost-user sockets, and which bridge is which physical network; mappings of others stay.

Configured: a drop-in file of nfvhost's own in the last folder of drop-ins that the agent reads.
Active: what oslo.config makes of all files of the agent, in their order.
Keys: section and option: `[ovs] bridge_mappings`.
Effect: at the next start of neutron-openvswitch-agent; now where it does not run.
Refuses: a file that is read later and says otherwise, by its name and value; an agent in a container, whose deployer
    gets the settings (docs/openstack.md); a value with the end of a line or a `$` in it.
Rollback: the drop-in as it was, or none.
Source: the command line and unit of neutron-openvswitch-agent; neutron/conf/plugins/ml2/drivers/ovs_conf.py.
"""

__all__ = ["NEUTRON_CONF"]
