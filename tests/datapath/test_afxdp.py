"""AF_XDP on veth, by Open vSwitch's own ports and by DPDK's driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nfvhost import sandbox
from nfvhost.errors import PreconditionError

if TYPE_CHECKING:
    from ovs_plans import OvsPlans

    from nfvhost.model.plan import Plan
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


def planned(bed: Bed, ovs: OvsPlans, *, queues: int) -> Plan:
    """As the planner makes it of a card that DPDK does not drive."""
    wakes = "true" if bed.release < (3, 7) else None
    ports = [
        ovs.port(f"port{number}", "afxdp", n_rxq=queues, xdp_mode="best-effort", use_need_wakeup=wakes)
        for number in range(2)
    ]
    release = ".".join(map(str, bed.release))
    return ovs.plan(ovs.bridge("br0", *ports, fail_mode=None), version=release, **bed.keys)


@pytest.mark.field_failure(28)
def test_a_plan_on_queues_that_are_not_there_is_refused_and_one_on_those_that_are_carries_packets(
    bed: Bed, ovs: OvsPlans
) -> None:
    with pytest.raises(PreconditionError) as refused:
        bed.apply(planned(bed, ovs, queues=2))
    assert "2 of port0's receive queues, and it has 1" in str(refused.value)
    assert bed.switch.vsctl("list-br") == ""

    bed.apply(planned(bed, ovs, queues=1))
    assert bed.drifts(planned(bed, ovs, queues=1)) == ()
    # What came of best-effort: veth has XDP of its own, and no zero-copy.
    assert bed.switch.vsctl("get", "Interface", "port0", "status:xdp-mode").strip('"') == "native"
    result = sandbox.probe(bed.switch.sandbox, count=COUNT)
    assert (result.sent, result.arrived, result.answered) == (COUNT, COUNT, COUNT)
