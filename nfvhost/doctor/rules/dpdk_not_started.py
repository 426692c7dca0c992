"""DPDK asked for and not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence
from nfvhost.doctor.finding import DAEMON, DATABASE, Rule, Severity, Sign, need

_ASKED: Final = frozenset({"true", "try"})


def _look(evidence: Evidence) -> Iterator[Sign]:
    database = need(evidence.database, DATABASE)
    need(evidence.switch, DAEMON)
    asked = dict(database.other_config).get("dpdk-init", "")
    if asked.lower() in _ASKED and not database.dpdk_initialized:
        without = ": this build of Open vSwitch has none" if database.dpdk_version is None else ""
        yield Sign(evidence=f"dpdk-init={asked}, and dpdk_initialized is false{without}")


RULE: Final = Rule(
    name="dpdk-not-started",
    severity=Severity.ERROR,
    sees="dpdk-init is set, and DPDK does not run",
    why="every port of type dpdk fails; most often hugepages were missing when it started",
    hint="see the lines of dpdk in the log of ovs-vswitchd, and restart it once there are pages; on Debian the"
    " alternative ovs-vswitchd must be the one with DPDK",
    look=_look,
)
