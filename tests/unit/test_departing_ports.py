"""Ports that leave Open vSwitch before their functions get another driver."""

from __future__ import annotations

from typing import Final

import ovs_model
from ovs_plans import OvsPlans

from nfvhost.access.ovs_rows import Port
from nfvhost.model.pci import PciAddress
from nfvhost.resources.departing_ports import DepartingPorts, State

LEAVING: Final = PciAddress.parse("0000:10:00.0")
STAYING: Final = PciAddress.parse("0000:10:00.1")
MADE: Final = {"nfvhost": "made options:dpdk-devargs"}


def changes(*ports: Port, held: tuple[PciAddress, ...] = ()) -> list[tuple[str, str | None, str | None]]:
    rows = ovs_model.state(ovs_model.rows(ovs_model.bridge("br-phy", *ports)))
    state = State(leaving=(LEAVING,), held=held, switch=rows)
    return [(one.key, one.before, one.after) for one in DepartingPorts().diff(state, OvsPlans.plan())]


def port(name: str, devargs: str, ids: dict[str, str]) -> Port:
    return ovs_model.port(name, "dpdk", options={"dpdk-devargs": devargs}, port_ids=ids)


def test_the_port_of_a_function_that_leaves_is_dropped_whatever_its_name_is_for_later() -> None:
    assert changes(
        port("dpdk0", f"{LEAVING},mac=02:00:00:00:00:01", MADE), port("dpdk1", str(STAYING), MADE), held=(LEAVING,)
    ) == [("port br-phy/dpdk0", "dpdk", None)]


def test_a_function_that_dpdk_holds_without_a_port_is_let_go_of() -> None:
    assert changes(port("dpdk1", str(STAYING), MADE), held=(LEAVING,)) == [(str(LEAVING), "held by ovs-vswitchd", None)]


def test_a_port_of_someone_else_is_left_alone() -> None:
    assert changes(port("theirs", str(LEAVING), {}), held=(LEAVING,)) == []


def test_virtual_devices_are_no_functions() -> None:
    assert changes(port("null", "net_null0,no-rx=1", MADE), port("none", "", MADE)) == []
