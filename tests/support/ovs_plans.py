"""Plans for Open vSwitch made by hand."""

from __future__ import annotations

from typing import Any

from nfvhost.model.cpuset import EMPTY
from nfvhost.model.plan import CpuPools, MemoryPlan, OvsBridge, OvsPlan, OvsPort, Plan, PlannedHost
from nfvhost.model.profile import Isolation


class OvsPlans:
    """Plans made by hand that hold nothing but settings of Open vSwitch."""

    @staticmethod
    def port(name: str, kind: str, /, **columns: Any) -> OvsPort:  # noqa: ANN401 - numbers, texts and a map
        """A port: `mtu`, `tag` and `other_config` are columns, all else is an option, with _ for -, but n_rxq."""
        columns = {key: value for key, value in columns.items() if value is not None}
        mtu, tag, other = columns.pop("mtu", None), columns.pop("tag", None), columns.pop("other_config", {})
        options = {key if key.startswith("n_") else key.replace("_", "-"): str(value) for key, value in columns.items()}
        if kind in {"srv6", "vxlan", "geneve", "gre"}:
            options = {key.replace("-", "_"): value for key, value in options.items()}
        return OvsPort(
            name=name,
            type=kind,
            options=tuple(sorted(options.items())),
            other_config=tuple(sorted(other.items())),
            mtu=mtu,
            tag=tag,
            node=None,
            reason="a test asks for it",
        )

    @staticmethod
    def bridge(name: str, *ports: OvsPort, fail_mode: str | None = "secure") -> OvsBridge:
        """A bridge of the userspace data path."""
        return OvsBridge(name=name, datapath_type="netdev", fail_mode=fail_mode, physnet=None, ports=ports)

    @staticmethod
    def plan(*bridges: OvsBridge, version: str = "3.1", **other_config: str) -> Plan:
        """A plan for any machine; keys of other_config with _ for -."""
        keys = tuple(sorted((key.replace("_", "-"), value) for key, value in other_config.items()))
        ovs = OvsPlan(version=version, other_config=keys, socket_dir="/run/vhost", bridges=bridges)
        return Plan(
            profile="by-hand",
            host=PlannedHost(name="any", fingerprint=()),
            cpus=CpuPools(host=EMPTY, shared=EMPTY, pmd=EMPTY, dedicated=EMPTY, idle=EMPTY, isolated=EMPTY),
            memory=MemoryPlan(nodes=()),
            isolation=Isolation.NONE,
            kernel_args=(),
            nics=(),
            ovs=ovs,
            tunnels=(),
            nova=None,
            neutron=None,
            guests=(),
            decisions=(),
            warnings=(),
        )
