"""The order in which resources are applied; rollback goes the other way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from nfvhost.access.machine import Machine
from nfvhost.errors import Problem, UsageError
from nfvhost.resources import Resource
from nfvhost.resources.boot_unit import BootUnit
from nfvhost.resources.cpu_partition import CpuPartition
from nfvhost.resources.departing_ports import DepartingPorts
from nfvhost.resources.driver_binding import DRIVER_BINDING, VF_DRIVER_BINDING
from nfvhost.resources.hugepages import Hugepages
from nfvhost.resources.iommu import Iommu
from nfvhost.resources.irq import Irq
from nfvhost.resources.kernel_cmdline import KernelCmdline
from nfvhost.resources.modules import Modules
from nfvhost.resources.neutron_conf import NEUTRON_CONF
from nfvhost.resources.nova_conf import NOVA_CONF
from nfvhost.resources.ovs_dpdk import OvsDpdk
from nfvhost.resources.packages import Packages
from nfvhost.resources.power import Power
from nfvhost.resources.sriov import SRIOV
from nfvhost.resources.steering import Steering
from nfvhost.resources.tunnels import Tunnels
from nfvhost.resources.underlay import Underlay
from nfvhost.resources.underlay.departing import DepartingUnderlay
from nfvhost.resources.vdpa import VDPA_DEVICES
from nfvhost.resources.vhost_sockets import VhostSockets

# Each resource has a state type of its own, which nobody but itself looks into.
ORDER: Final[tuple[Resource[Any], ...]] = (
    Packages(),
    Modules(),
    KernelCmdline(),
    Iommu(),
    Hugepages(),
    # DPDK lets go of a function before another driver gets it.
    DepartingPorts(),
    DRIVER_BINDING,
    SRIOV,
    VF_DRIVER_BINDING,
    VDPA_DEVICES,
    VhostSockets(),
    # With a bridge they would go unseen.
    DepartingUnderlay(),
    OvsDpdk(),
    CpuPartition(),
    Underlay(),
    Irq(),
    Power(),
    # Behind all that may reconfigure Open vSwitch.
    Tunnels(),
    # Once tunnels send what they shall.
    Steering(),
    NEUTRON_CONF,
    NOVA_CONF,
    BootUnit(),
)
# What a boot makes before Open vSwitch and libvirt start, and has forgotten: it needs no service to be there.
DEVICES: Final = frozenset(
    {"modules", "iommu", "hugepages", "driver_binding", "sriov", "vf_driver_binding", "vdpa"},
)
# What no boot does: it installs nothing, and does not mend what started it.
_NOT_AT_BOOT: Final = frozenset({"packages", "boot_unit"})
# What a private database is asked for: the machine around it is not its own.
_OF_A_DATABASE: Final = frozenset({OvsDpdk().name})


def resources_for(
    machine: Machine, *, only: Collection[str] = (), skip: Collection[str] = ()
) -> tuple[Resource[Any], ...]:
    """What is applied to this machine, in order; to a private database Open vSwitch alone, unless `only` names others.

    UsageError for a name that no resource has.
    """
    found = chosen(ORDER, only=only, skip=skip)
    return tuple(one for one in found if only or not machine.private or one.name in _OF_A_DATABASE)


def resources_at_boot(resources: Sequence[Resource[Any]], *, devices_alone: bool) -> tuple[Resource[Any], ...]:
    """What a boot makes, in order; with `devices_alone`, what comes before the services."""
    return tuple(
        one for one in resources if one.name not in _NOT_AT_BOOT and (not devices_alone or one.name in DEVICES)
    )


def chosen(
    resources: Sequence[Resource[Any]], *, only: Collection[str] = (), skip: Collection[str] = ()
) -> tuple[Resource[Any], ...]:
    """The resources of these names, or all, without those to skip; UsageError for a name that none has."""
    names = [resource.name for resource in resources]
    unknown = [
        Problem(what=f"there is no resource {name}", where=option, hint=f"there are: {', '.join(names)}")
        for option, given in (("--only", only), ("--skip", skip))
        for name in given
        if name not in names
    ]
    if unknown:
        raise UsageError.of(tuple(unknown))
    return tuple(one for one in resources if (not only or one.name in only) and one.name not in skip)
