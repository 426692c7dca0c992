"""Settings of nova-compute.

Source: nova.conf of the service, by oslo.config's rules; nova/conf/compute.py, nova/conf/pci.py.
"""

from __future__ import annotations

import json
from typing import Final

from nfvhost.model.plan import PciDeviceSpec, Plan
from nfvhost.resources.oslo import OsloConf, Setting, State
from nfvhost.resources.oslo.service import Service

RESOURCE: Final = "nova_conf"
_SERVICE: Final = Service(program="nova-compute", project="nova", units=("nova-compute", "openstack-nova-compute"))


def _settings(plan: Plan, state: State) -> tuple[Setting, ...]:
    del state
    if plan.nova is None:
        return ()
    reserved = plan.nova.reserved_host_memory_mib
    single = {
        ("compute", "cpu_dedicated_set"): str(plan.nova.cpu_dedicated_set),
        ("compute", "cpu_shared_set"): str(plan.nova.cpu_shared_set),
        ("DEFAULT", "reserved_host_memory_mb"): str(reserved) if reserved is not None else "",
    }
    pages = [f"node:{one.node},size:{one.size_kib},count:{one.count}" for one in plan.nova.reserved_huge_pages]
    settings = [
        Setting(section=section, name=name, label=None, value=value)
        for (section, name), value in single.items()
        if value
    ]
    settings += [
        Setting(section="DEFAULT", name="reserved_huge_pages", label=_pool(value), value=value) for value in pages
    ]
    settings += [
        Setting(section="pci", name="device_spec", label=str(spec.address), value=_device_spec(spec))
        for spec in plan.nova.pci_device_specs
    ]
    return tuple(settings)


def _device_spec(spec: PciDeviceSpec) -> str:
    """Nova wants texts everywhere in it, `"trusted": "true"` too (nova/pci/devspec.py)."""
    fields = {"address": str(spec.address)}
    if spec.physical_network is not None:
        fields["physical_network"] = spec.physical_network
    if spec.trusted:
        fields["trusted"] = "true"
    return json.dumps(fields)


def _pool(value: str) -> str:
    """Node and size of `node:0,size:2048,count:64`, whatever their order."""
    pairs = sorted(part.strip() for part in value.split(",") if not part.strip().startswith("count:"))
    return ",".join(pairs)


def _address(value: str) -> str:
    """The address that a device_spec is for; all of it where it names none, or a pattern."""
    try:
        fields = json.loads(value)
    except ValueError:
        return value
    address = fields.get("address") if isinstance(fields, dict) else None
    return address if isinstance(address, str) else value


NOVA_CONF: Final = OsloConf(
    resource=RESOURCE,
    service=_SERVICE,
    settings=_settings,
    options=frozenset(
        {
            ("compute", "cpu_dedicated_set"),
            ("compute", "cpu_shared_set"),
            ("DEFAULT", "reserved_host_memory_mb"),
            ("DEFAULT", "reserved_huge_pages"),
            ("pci", "device_spec"),
        }
    ),
    labels={("DEFAULT", "reserved_huge_pages"): _pool, ("pci", "device_spec"): _address},
    # nova/virt/hardware.py, get_vcpu_pin_set: nova-compute does not start with both.
    excluded=(("DEFAULT", "vcpu_pin_set", "nova-compute does not start with it and cpu_dedicated_set"),),
)
"""Settings of nova-compute.

Which CPUs pinned and floating guests get, the memory and hugepages that are not theirs, and the VFs to give away.

Configured: a drop-in file of nfvhost's own in the last folder of drop-ins that nova-compute reads.
Active: what oslo.config makes of all files of nova-compute, in their order.
Keys: section and option: `[compute] cpu_dedicated_set`; of those with several values, with what tells them apart:
    `[pci] device_spec 0000:21:00.0`.
Effect: at the next start of nova-compute; now where it does not run.
Refuses: a file that is read later and says otherwise, by its name and value; `vcpu_pin_set` beside
    `cpu_dedicated_set`; a nova-compute in a container, whose deployer gets the settings (docs/openstack.md); a value
    with the end of a line or a `$` in it.
Rollback: the drop-in as it was, or none.
Source: the command line and unit of nova-compute; nova/conf/compute.py, nova/conf/pci.py.
"""

__all__ = ["NOVA_CONF"]
