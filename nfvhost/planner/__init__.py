"""(Host, Profile) -> Plan, pure: the same input gives the same bytes."""

from __future__ import annotations

from nfvhost.errors import DocumentError, PreconditionError
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Profile
from nfvhost.planner import (
    booted,
    cores,
    guards,
    guests,
    hugepages,
    kernel_args,
    nics,
    no_iommu,
    nova,
    ovs,
    power,
    tunnels,
)
from nfvhost.planner.notebook import Notebook
from nfvhost.planner.planned_host import planned_host

__all__ = ["make_plan"]


def make_plan(host: Host, profile: Profile) -> Plan:
    """The plan of this profile for this machine, with a reason for each decision.

    Raises DocumentError where a wish is beyond the machine and PreconditionError where only unsafe wishes stand
    in the way; either carries all problems at once, `where` being the path in the profile.
    """
    notes = Notebook()
    nic_plans = nics.assign_roles(host, profile, notes)
    ports = ovs.dpdk_ports(host, profile, nic_plans, notes)
    pools = cores.split(host, profile, ports, notes)
    ports = ovs.queues(profile, ports, pools, host)
    memory = hugepages.divide(host, profile, ports, pools, notes)
    placed = guests.place(host, profile, pools, memory, nic_plans, notes)
    switch = ovs.plan_ovs(host, profile, nic_plans, ports, pools, memory, notes)
    tunnel_plans, switch = tunnels.plan_tunnels(host, profile, switch, notes)
    unsafe = no_iommu.plan_no_iommu(host, profile, nic_plans, notes)
    kernel = kernel_args.plan_kernel_args(host, profile, pools, memory, nic_plans, notes)
    booted.warn_of_present(host, pools, memory, nic_plans, kernel, notes)
    saving = power.plan_power(profile, pools, notes)
    compute = nova.plan_nova(host, profile, pools, memory, nic_plans, notes)
    agent = nova.plan_neutron(profile, switch, nic_plans, notes)
    _refuse(notes)
    plan = Plan(
        profile=profile.name,
        host=planned_host(host),
        cpus=pools,
        memory=memory,
        isolation=profile.isolation,
        kernel_args=kernel,
        nics=nic_plans,
        ovs=switch,
        tunnels=tunnel_plans,
        nova=compute,
        neutron=agent,
        guests=placed,
        decisions=tuple(notes.decisions),
        warnings=tuple(notes.warnings),
        power=saving,
        unsafe_no_iommu=unsafe,
    )
    guards.check(host, plan)
    return plan


def _refuse(notes: Notebook) -> None:
    """Raises all problems in the order of planning, where there are any."""
    problems = tuple(notes.problems + notes.dangers)
    if notes.problems:
        raise DocumentError.of(problems)
    if notes.dangers:
        raise PreconditionError.of(problems)
