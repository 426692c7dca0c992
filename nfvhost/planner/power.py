"""How isolated CPUs save power, where the profile asks for it."""

from __future__ import annotations

from nfvhost.model.plan import CpuPools, PowerPlan
from nfvhost.model.profile import CpuGovernor, Profile
from nfvhost.planner.notebook import Notebook


def plan_power(profile: Profile, pools: CpuPools, notes: Notebook) -> PowerPlan | None:
    """Governor and idle states of the isolated CPUs; None where the profile says nothing, or none is isolated."""
    wish = profile.power
    if wish.governor is None and wish.max_idle_latency_us is None:
        return None
    if not pools.isolated:
        notes.warn("the profile's `power` is left out: no CPU is isolated on this machine that it could be for")
        return None
    cpus = pools.isolated.named
    if wish.governor is not None:
        notes.decide("power.governor", wish.governor.value, f"the profile asks for it on {cpus}; others stay")
        if wish.governor is not CpuGovernor.PERFORMANCE and pools.pmd:
            notes.warn(
                f"the governor {wish.governor.value} lowers the clock of PMD threads as it likes: their rate is no "
                "longer the same from one second to the next"
            )
    if wish.max_idle_latency_us is not None:
        notes.decide(
            "power.maxIdleLatencyUs",
            str(wish.max_idle_latency_us),
            f"the profile lets {cpus} sleep only where they wake within that many µs; deeper idle states are turned "
            "off there, and the others stay",
        )
    return PowerPlan(cpus=pools.isolated, governor=wish.governor, max_idle_latency_us=wish.max_idle_latency_us)
