"""Differences between what is and what the plan says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Activation(StrEnum):
    """When a change takes effect."""

    NOW = "now"
    RESTART = "restart"  # of the service that reads it
    REBOOT = "reboot"


class Disruption(StrEnum):
    """What stops for a moment while the change is made."""

    NONE = "none"
    LINK = "link"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One key of one resource, before and after; None is absence."""

    resource: str  # ovs_dpdk
    key: str  # "other_config:pmd-cpu-mask", "bridge br-phy", "port br-phy/dpdk0 options:n_rxq"
    before: str | None
    after: str | None
    activation: Activation
    disruption: Disruption
    reason: str

    @classmethod
    def now(
        cls,
        resource: str,
        key: str,
        before: str | None,
        after: str | None,
        reason: str,
        *,
        disruption: Disruption = Disruption.NONE,
    ) -> Self:
        """One that takes effect at once, and stops nothing unless it says so."""
        return cls(
            resource=resource,
            key=key,
            before=before,
            after=after,
            activation=Activation.NOW,
            disruption=disruption,
            reason=reason,
        )

    @property
    def where(self) -> str:
        """How problems name it."""
        return f"{self.resource}: {self.key}"
