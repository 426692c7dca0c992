"""AF_XDP on veth, by Open vSwitch's own ports and by DPDK's driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nfvhost import sandbox

if TYPE_CHECKING:
    from tests.ovs.conftest import Bed

COUNT = 200


@pytest.mark.parametrize("mode", ["best-effort", "generic", "native"])
def test_a_native_port_carries_each_packet_once_and_whole_in_each_mode(bed: Bed, mode: str) -> None:
    switch = bed.switch
    switch.start_dpdk(bed.cpu)
    switch.add_bridge("br0")
    for number in range(2):
        switch.add_port("br0", f"port{number}", "type=afxdp", f"options:xdp-mode={mode}", "options:n_rxq=1")

    result = sandbox.probe(switch.sandbox, count=COUNT)

    assert (result.sent, result.arrived, result.answered) == (COUNT, COUNT, COUNT)


def test_dpdk_carries_each_packet_once_and_whole(bed: Bed) -> None:
    switch = bed.switch
    switch.start_dpdk(bed.cpu)
    switch.add_bridge("br0")
    for number in range(2):
        switch.add_port(
            "br0", f"dpdk{number}", "type=dpdk", f"options:dpdk-devargs=net_af_xdp{number},iface=port{number}"
        )

    result = sandbox.probe(switch.sandbox, count=COUNT)

    assert (result.sent, result.arrived, result.answered) == (COUNT, COUNT, COUNT)
