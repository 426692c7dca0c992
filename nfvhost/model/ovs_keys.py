"""Which release of Open vSwitch knows which key of its database.

Source: vswitchd/vswitch.xml of v2.13.0 to v3.7.0 and of the main branch (4.0), release by release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_RELEASE: Final = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsKey:
    """One key of Open_vSwitch.other_config and the releases that know it."""

    name: str
    first: tuple[int, int] | None = None  # None: 2.13 or earlier
    last: tuple[int, int] | None = None  # None: still there in 4.0
    successor: str | None = None  # the key that took over after `last`
    restart: bool = False  # read when DPDK or the daemon starts, and never again

    def known_to(self, version: tuple[int, int]) -> bool:
        """Whether that release reads the key."""
        return (self.first is None or self.first <= version) and (self.last is None or version <= self.last)


KEYS: Final = (
    OvsKey(name="bundle-idle-timeout"),
    OvsKey(name="dpdk-alloc-mem", restart=True),
    OvsKey(name="dpdk-extra", restart=True),
    OvsKey(name="dpdk-hugepage-dir", restart=True),
    OvsKey(name="dpdk-init", restart=True),
    # 3.7 hands it to DPDK as --lcores, earlier releases as -c: the key stayed (lib/dpdk.c, construct_dpdk_options).
    OvsKey(name="dpdk-lcore-mask", restart=True),
    OvsKey(name="dpdk-probe-at-init", first=(4, 0), restart=True),
    OvsKey(name="dpdk-socket-limit", restart=True),
    OvsKey(name="dpdk-socket-mem", restart=True),
    OvsKey(name="emc-insert-inv-prob"),
    OvsKey(name="enable-statistics"),
    OvsKey(name="explicit-sampled-drops", first=(3, 4)),
    OvsKey(name="flow-limit"),
    OvsKey(name="flow-restore-wait"),
    OvsKey(name="hw-offload", restart=True),
    OvsKey(name="hw-offload-priority", first=(3, 7), restart=True),
    OvsKey(name="ipsec_skb_mark"),
    OvsKey(name="max-idle"),
    OvsKey(name="max-revalidator"),
    OvsKey(name="min-revalidate-pps"),
    OvsKey(name="n-handler-threads"),
    OvsKey(name="n-offload-threads", first=(2, 17), restart=True),
    OvsKey(name="n-revalidator-threads"),
    OvsKey(name="offload-rebalance"),
    OvsKey(name="offloaded-stats-delay", first=(3, 2)),
    OvsKey(name="per-port-memory", restart=True),
    OvsKey(name="pmd-auto-lb"),
    OvsKey(name="pmd-auto-lb-improvement-threshold", first=(2, 15)),
    OvsKey(name="pmd-auto-lb-load-threshold", first=(2, 15)),
    OvsKey(name="pmd-auto-lb-rebal-interval"),
    OvsKey(name="pmd-cpu-mask"),
    # Documented in 3.1 alone; 3.2 and later still read it where pmd-sleep-max is not set.
    OvsKey(name="pmd-maxsleep", first=(3, 1), last=(3, 1), successor="pmd-sleep-max"),
    OvsKey(name="pmd-perf-metrics"),
    OvsKey(name="pmd-rxq-assign"),
    OvsKey(name="pmd-rxq-isolate", first=(2, 16)),
    OvsKey(name="pmd-sleep-max", first=(3, 2)),
    OvsKey(name="shared-mempool-config", first=(3, 0), restart=True),
    OvsKey(name="smc-enable"),
    OvsKey(name="stats-update-interval"),
    OvsKey(name="tc-policy"),
    OvsKey(name="tx-flush-interval"),
    OvsKey(name="userspace-tso-enable", restart=True),
    OvsKey(name="vhost-iommu-support", restart=True),
    OvsKey(name="vhost-postcopy-support", restart=True),
    OvsKey(name="vhost-sock-dir", restart=True),
    OvsKey(name="vlan-limit"),
)
_BY_NAME: Final = {key.name: key for key in KEYS}

# Interface.options of the ports that a plan can hold.
# Source: the same files, and lib/netdev-{dpdk,afxdp,vport}.c.
_TUNNEL: Final = ("csum", "df_default", "egress_pkt_mark", "in_key", "key", "local_ip", "out_key", "packet_type")
INTERFACE_OPTIONS: Final[dict[str, frozenset[str]]] = {
    "dpdk": frozenset(
        {
            "dpdk-devargs",
            "dpdk-lsc-interrupt",
            "dpdk-vf-mac",
            "flow-ctrl-autoneg",
            "n_rxq",
            "n_rxq_desc",
            "n_txq_desc",
            "rx-flow-ctrl",
            "rx-steering",
            "tx-flow-ctrl",
        }
    ),
    "dpdkvhostuserclient": frozenset({"tx-retries-max", "vhost-max-queue-pairs", "vhost-server-path"}),
    "afxdp": frozenset({"n_rxq", "use-need-wakeup", "xdp-mode"}),
    "patch": frozenset({"peer"}),
    "srv6": frozenset({*_TUNNEL, "remote_ip", "srv6_flowlabel", "srv6_segs", "tos", "ttl"}),
    "vxlan": frozenset({*_TUNNEL, "dst_port", "exts", "remote_ip", "tos", "ttl"}),
    "geneve": frozenset({*_TUNNEL, "dst_port", "remote_ip", "tos", "ttl"}),
    "gre": frozenset({*_TUNNEL, "remote_ip", "seq", "tos", "ttl"}),
    "system": frozenset(),
    "internal": frozenset(),
}

# (first, last) of the options that came or went after 2.13.
_OPTION_RELEASES: Final = {
    "rx-steering": ((3, 2), None),
    "srv6_flowlabel": ((3, 2), None),
    "srv6_segs": ((3, 2), None),
    "use-need-wakeup": (None, (3, 6)),
    "vhost-max-queue-pairs": ((3, 5), None),
}

# From the first release that has ports of type afxdp wherever libxdp is there (NEWS, v3.1.0); Debian's builds have it.
AFXDP_SINCE: Final = (3, 1)

# The first release with srv6 ports (NEWS, v3.2.0).
SRV6_SINCE: Final = (3, 2)


def release(version: str) -> tuple[int, int] | None:
    """The release (3, 1) that `3.1.0` or `3.1` names; None for a text that names none."""
    match = _RELEASE.match(version)
    return (int(match[1]), int(match[2])) if match else None


def key_known(name: str, version: tuple[int, int]) -> bool:
    """Whether that release reads `name` in Open_vSwitch.other_config."""
    key = _BY_NAME.get(name)
    return key is not None and key.known_to(version)


def option_known(port_type: str, option: str, version: tuple[int, int]) -> bool:
    """Whether an interface of that type reads the option in that release."""
    first, last = _OPTION_RELEASES.get(option, (None, None))
    return (
        option in INTERFACE_OPTIONS.get(port_type, frozenset())
        and (first is None or first <= version)
        and (last is None or version <= last)
    )
