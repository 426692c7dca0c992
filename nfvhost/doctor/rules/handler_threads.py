"""More threads of ovs-vswitchd than CPUs that it may use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import DAEMON, Rule, Severity, Sign, UnseenError, need
from nfvhost.model.cpuset import EMPTY, union
from nfvhost.planner.notebook import counted

_NAMES: Final = ("handler", "revalidator")
# As ovs-vswitchd chooses on a machine without isolation: a handler for each CPU, and a revalidator for each four
# (ofproto/ofproto-dpif-upcall.c, udpif_set_threads).
_PER_CPU: Final = 2


def _look(evidence: Evidence) -> Iterator[Sign]:
    threads = [one for one in need(evidence.switch, DAEMON).threads if one.name.startswith(_NAMES)]
    quiet = evidence.unscheduled | (evidence.pmd_cpus or EMPTY)
    if not threads or not quiet:
        raise UnseenError("no CPU is isolated or polls, or ovs-vswitchd has no handler threads")
    kept = union(one.cpus for one in threads) & evidence.host.online - quiet
    if len(threads) > _PER_CPU * len(kept):
        yield Sign(
            evidence=f"{counted(len(threads), 'handler and revalidator thread')} may use {kept.named} besides"
            f" isolated and polling ones"
        )


RULE: Final = Rule(
    name="handler-threads",
    severity=Severity.WARNING,
    sees="more handler and revalidator threads than the CPUs that are left to them",
    why="ovs-vswitchd counts CPUs that it may not use: its threads wait for each other, and new flows with them",
    hint="ovs-vsctl set Open_vSwitch . other_config:n-handler-threads=… other_config:n-revalidator-threads=… to the"
    " number of the host's CPUs",
    look=_look,
)
